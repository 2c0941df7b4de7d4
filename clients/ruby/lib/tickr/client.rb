# frozen_string_literal: true

# The client: tickets straight from a server, or from a cache that is refilled in the background.
#
# A process that forks must not issue its parent's cache again, so that a client in a child starts
# anew: with an empty cache and connections of its own.

require_relative "cache"

module Tickr
  # One more for each fork on the way from the first process to this one. A process ID alone does
  # not tell: a child of a child may get that of a process that has ended. Ruby reports forks from
  # 3.1 on.
  FORKS = []

  module ForkHook
    def _fork
      super.tap { |child| FORKS << child if child.zero? }
    end
  end
  Process.singleton_class.prepend(ForkHook) if Process.respond_to?(:_fork)

  # Blocking; may be shared between threads.
  class Client
    SERVERS_MAX = 256

    # What a client consists of in one process.
    Own = Struct.new(:process, :servers, :cache)

    # The constructor of the original's client. servers: http://HOST:PORT or unix:PATH, or
    # {host:, port:, http_auth_password:}, the preferred one first.
    # timeout: milliseconds that one server may take to respond, including connecting.
    # cache_size: how many tickets get_ticket may have in stock; a crash wastes them. 0 asks a
    # server for each ticket.
    # replenish_cache_at: fetch more when this number is left, and keep the cache at its full size;
    # nil adapts the size to the demand.
    # password: the servers' TICKR_HTTP_AUTH_PASSWORD.
    # check_order: refuse tickets that go backwards. False where several processes of one node share
    # an address; repeated tickets are refused all the same.
    def initialize(servers:, timeout: 2000, cache_size: 0, replenish_cache_at: nil, password: nil,
                   check_order: true)
      check "servers: is an array of 1 to #{SERVERS_MAX}",
            servers.is_a?(Array) && servers.size.between?(1, SERVERS_MAX)
      # Nobody means 2 ms, but 2 s is easily meant.
      check "timeout: is in milliseconds, 10 or more", (10..1e9) === timeout
      check "cache_size: is an integer, 0 or more", cache_size.is_a?(Integer) && cache_size >= 0
      check "replenish_cache_at: is an integer, 0 or more and below cache_size:",
            cache_size.zero? || [nil, 0...cache_size].any? { |good| good === replenish_cache_at }
      servers = servers.dup
      @cache_size = cache_size
      @start = lambda do
        mine = servers.map { |place| Server.new(place, timeout / 1000.0, password, check_order) }
        cache = Cache.new(cache_size, replenish_cache_at) { |count| Tickr.fetch(mine, count) }
        Own.new([Process.pid, FORKS.size], mine, cache)
      end
      @own = @start.call
    end

    # A ticket that nobody else gets.
    def get_ticket
      @cache_size.zero? ? tickets(1).begin : own.cache.take
    end

    # This number of tickets as one arithmetic sequence, straight from a server; at most its
    # TICKR_MAX_BATCH.
    def tickets(count)
      check "a batch has at least one ticket", count.is_a?(Integer) && count.positive?
      Tickr.fetch(own.servers, count)
    end

    # Closes the connections; what is left of the cache is never issued.
    def close
      @closed = true
      @own.servers.each(&:close)
    end

    # Without the password.
    def inspect
      "#<#{self.class} #{@own.servers.map(&:name).join(", ")}>"
    end

    private

    def check(rule, holds)
      raise ArgumentError, rule unless holds
    end

    def own
      raise IOError, "the client is closed" if @closed

      if @own.process != [Process.pid, FORKS.size]
        # The parent's connections end here without a word to the server.
        @own.servers.each(&:disconnect)
        @own = @start.call
      end
      @own
    end
  end
end
