# frozen_string_literal: true

# The client: tickets straight from a server, or from a cache that is refilled in the background.
#
# A process that forks must not issue its parent's cache again, so that a client in a child starts
# anew: with an empty cache and connections of its own.

require_relative "servers"

module Tickr
  # Blocking; may be shared between threads.
  class Client
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
      unless servers.is_a?(Array) && servers.size.between?(1, Servers::SERVERS_MAX)
        raise ArgumentError, "a client takes an array of 1 to #{Servers::SERVERS_MAX} servers"
      end
      # Nobody means 2 ms, but 2 s is easily meant.
      raise ArgumentError, "timeout: is in milliseconds, 10 or more" unless (10..1e9) === timeout
      unless cache_size.is_a?(Integer) && cache_size >= 0
        raise ArgumentError, "cache_size: is an integer, 0 or more"
      end
      unless cache_size.zero? || [nil, 0...cache_size].any? { |good| good === replenish_cache_at }
        raise ArgumentError, "replenish_cache_at: is an integer, 0 or more and below cache_size:"
      end

      servers = servers.dup
      @start = lambda do
        mine = Servers.new(servers, timeout / 1000.0, password, check_order)
        Cache.new(mine, cache_size, replenish_cache_at)
      end
      @cache_size = cache_size
      @own = @start.call
    end

    # A ticket that nobody else gets.
    def get_ticket
      @cache_size.zero? ? tickets(1).begin : own.take
    end

    # This number of tickets as one arithmetic sequence, straight from a server; at most its
    # TICKR_MAX_BATCH.
    def tickets(count)
      unless count.is_a?(Integer) && count.positive?
        raise ArgumentError, "a batch must have at least one ticket"
      end

      own.servers.fetch(count)
    end

    # Closes the connections; what is left of the cache is never issued.
    def close
      @closed = true
      @own.servers.close
    end

    # Without the password.
    def inspect
      "#<#{self.class} #{@own.servers.list.map(&:name).join(", ")}>"
    end

    private

    def own
      raise IOError, "the client is closed" if @closed

      if @own.inherited?
        # The parent's connections end here without a word to the server.
        @own.servers.list.each(&:disconnect)
        @own = @start.call
      end
      @own
    end
  end

  # What a client consists of in one process: its servers, and its tickets.
  class Cache
    SIZE_MIN, LULL, RETRY_AFTER = 16, 10.0, 1.0

    attr_reader :servers, :refill
    # How many tickets to have; it follows the demand.
    attr_accessor :size

    def initialize(servers, most, refill_at)
      @pid, @forks = Process.pid, Tickr.forks
      @servers, @most, @refill_at = servers, most, refill_at
      @size = refill_at ? most : [SIZE_MIN, most].min
      @mutex = Mutex.new
      @runs, @refills, @again_at = [], 0, 0.0
    end

    def inherited?
      @pid != Process.pid || @forks != Tickr.forks
    end

    def take
      failed = false
      loop do
        begun = false
        ticket = @mutex.synchronize do
          taken = pop
          @refill, begun = begin_refill, true if hungry? && !@refill&.alive?
          taken
        end
        return ticket if ticket
        # No thread is to be had.
        return @servers.fetch(1).begin unless (refill = @refill)

        error = refill.value
        # One that had begun before may have failed before a server came back.
        raise error if error && (begun || failed)

        failed ||= error
      end
    end

    def left
      @runs.sum { |first, last, increment| (last - first) / increment + 1 }
    end

    def hungry?
      remaining = left
      remaining.zero? || (remaining <= (@refill_at || @size / 2) && Deadline.now >= @again_at)
    end

    # One assignment takes a ticket, so that an exception from another thread, as of Timeout, leaves
    # a gap and nothing worse.
    def pop
      return unless (run = @runs.first)

      ticket = run[0]
      run[0] = ticket + run[2]
      @runs.shift if run[0] > run[1]
      ticket
    end

    # Nil, or why there are no more tickets.
    def fill
      count = @mutex.synchronize { begin_fetch }
      begin
        tickets = @servers.fetch(count)
      rescue Refused
        # The server issues fewer tickets at once.
        raise if count == 1

        @mutex.synchronize do
          @size = [@size, @most = count / 2].min
          @refill_at = nil
        end
        return fill
      end
      @mutex.synchronize { land(tickets) }
      nil
    rescue StandardError => error
      @mutex.synchronize { @again_at = Deadline.now + RETRY_AFTER }
      error
    end

    private

    def begin_refill
      Thread.new do
        Thread.current.name = "tickr-client"
        fill
      end
    rescue ThreadError
      nil
    end

    def begin_fetch
      # After a lull, half of it will do.
      lull = @landed_at && Deadline.now - @landed_at > LULL
      @size = [@size / 2, [SIZE_MIN, @most].min].max if lull && !@refill_at
      @landed_at = nil
      @refills += 1
      [@size - left, 1].max
    end

    def land(tickets)
      # It came too late, or nearly so: the next one is larger.
      @size = [2 * @size, @most].min if @refills > 1 && left < (@size + 3) / 4
      @landed_at, @again_at = Deadline.now, 0.0
      @runs << [tickets.begin, tickets.end, tickets.step]
    end
  end
end
