# frozen_string_literal: true

# The version of the servers that this client belongs to; the gem's description reads it.
module Tickr
  VERSION = "0.1.0"
end
