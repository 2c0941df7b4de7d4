# frozen_string_literal: true

# Tickets in stock, which a thread fetches before they run out.

require_relative "servers"

module Tickr
  # May be shared between threads.
  class Cache
    SIZE_MIN, SOON, LULL, RETRY_AFTER = 16, 0.1, 10.0, 1.0

    # Size: how many tickets to have; it follows the demand.
    attr_reader :tickets, :size, :refill

    def initialize(most, refill_at, &fetch)
      @most, @refill_at, @fetch = most, refill_at, fetch
      @size = refill_at ? most : SIZE_MIN
      @mutex, @tickets, @again_at = Mutex.new, [], 0.0
    end

    def take
      (1..).each do |round|
        ticket, mine, refill = @mutex.synchronize { [@tickets.shift, begin_refill, @refill] }
        return ticket if ticket
        # No thread is to be had.
        return @fetch.call(1).begin unless refill

        begin
          refill.value
        rescue Error
          # One that had begun before may have failed before a server came back.
          raise if mine || round > 1
        end
      end
    end

    private

    def begin_refill
      low = @tickets.size <= (@refill_at || @size / 2) && Tickr.now >= @again_at
      return if @refill&.alive? || !(low || @tickets.empty?)

      @refill = Tickr.thread { fill }
    rescue ThreadError
      @refill = nil
    end

    def fill
      count = @mutex.synchronize { wanted }
      tickets = @fetch.call(count).to_a
      @mutex.synchronize do
        @filled_at, @again_at = Tickr.now, 0.0
        @tickets.concat(tickets)
      end
    rescue Refused
      # The server issues fewer tickets at once.
      raise if count == 1

      @mutex.synchronize { @most, @refill_at = count / 2, nil }
      retry
    end

    # How many tickets to fetch: more when the last ones went soon, or came too late.
    def wanted
      lasted = Tickr.now - @filled_at if @filled_at
      @filled_at, @again_at = nil, Tickr.now + RETRY_AFTER
      @size *= 2 if lasted && lasted < SOON
      @size /= 2 if lasted && lasted > LULL && !@refill_at
      @size = [[@size, SIZE_MIN].max, @most].min
      [@size - @tickets.size, 1].max
    end
  end
end
