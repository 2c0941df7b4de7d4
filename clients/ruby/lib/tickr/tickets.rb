# frozen_string_literal: true

# What a program requires. Notices forks also where a process ID says nothing: a child of a child
# may get the number of a process that has ended. Ruby reports forks from 3.1 on.
module Tickr
  @forks = 0

  class << self
    # How many forks lead from the first process to this one.
    attr_accessor :forks
  end

  module ForkHook
    def _fork
      super.tap { |child| Tickr.forks += 1 if child.zero? }
    end
  end

  Process.singleton_class.prepend(ForkHook) if Process.respond_to?(:_fork)
end

require_relative "client"
require_relative "primary_key"
require_relative "version"
