# frozen_string_literal: true

# What a program requires.

require_relative "client"
require_relative "primary_key"
require_relative "version"
