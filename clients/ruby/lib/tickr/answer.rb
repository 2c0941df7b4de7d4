# frozen_string_literal: true

# An HTTP/1 answer and the tickets in it. Interim answers are passed over, and a body has a length
# or comes in chunks (RFC 9112, sections 6 and 7).
#
# Net::HTTP would do, but it has no deadline for a whole answer, no bound for its length and no Unix
# sockets.

require "io/wait"
require "json"

module Tickr
  # Why one server gave no tickets, as the end of a sentence that its name begins.
  class Failure < StandardError
    attr_reader :stale, :status, :detail

    # A stale connection may be the reason: a new one is worth a try.
    def initialize(reason, stale: false, status: 0, detail: "")
      super(reason)
      @stale, @status, @detail = stale, status, detail
    end
  end

  class Deadline
    def self.now
      Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end

    def initialize(seconds)
      @at = Deadline.now + seconds
    end

    def left
      seconds = @at - Deadline.now
      seconds.positive? ? seconds : raise(Failure, "did not answer in time")
    end

    # Repeats a step that does not block until it is done.
    def wait(socket)
      loop do
        case result = yield
        when :wait_readable then socket.wait_readable(left)
        when :wait_writable then socket.wait_writable(left)
        else return result
        end
      end
    end
  end

  # An answer on its way in.
  class Answer
    LENGTH_MAX, INTERIM_MAX, DETAIL_MAX, TICKET_MAX = 64 * 1024, 8, 200, 2**64 - 1
    HEAD = %r{\AHTTP/1\.([01]) (\d{3})(?: [^\r\n]*)?((?:\r\n[!#-'*+.^-z|~A-Z0-9-]+:[^\r\n]*)*)\z}n
    CHUNK = /\A(\h{1,8})[ \t]*(?:;[^\r\n]*)?\z/n

    attr_reader :status, :reusable

    def initialize(socket, deadline)
      @socket, @deadline = socket, deadline
      @buffer, @body = "".b, "".b
      @received = @status = 0
    end

    def read
      head = read_head
      fields = head[3].downcase.split("\r\n").drop(1).map { |line| line.split(":", 2).map(&:strip) }
      fields = fields.group_by(&:first).transform_values { |pairs| pairs.map(&:last) }
      lengths, codings = fields["content-length"], fields["transfer-encoding"]
      if !codings && lengths&.one? && lengths[0].match?(/\A\d{1,9}\z/)
        @body = exactly(lengths[0].to_i)
      elsif !lengths && codings == ["chunked"] && head[1] == "1"
        read_chunks
      else
        raise Answer.not_tickr("it does not say how long its body is")
      end
      closes = fields.fetch("connection", []).join(",").split(/[, \t]+/).include?("close")
      @reusable = head[1] == "1" && !closes && @buffer.empty?
    end

    # The tickets; nothing is believed that could not be so.
    def tickets(count)
      body = parsed
      unless status == 200
        detail = Answer.printable(body["detail"].to_s)
        reason = detail.empty? ? "responded #{status}" : "responded #{status}: #{detail}"
        raise Failure.new(reason, status: status, detail: detail)
      end
      first, increment, counted = body.values_at("first", "increment", "count")
      last = first + (count - 1) * increment if [first, increment, counted].all?(Integer)
      unless last && first >= 0 && increment >= 1 && counted == count && last <= TICKET_MAX
        raise Answer.not_tickr("the body is not the range asked for")
      end
      (first..last).step(increment)
    end

    def self.not_tickr(reason)
      Failure.new("did not respond like a Tickr server: #{reason}")
    end

    # Text from elsewhere on one line: it must not steer a terminal or forge a line of a log.
    def self.printable(text)
      shown = text.encode("UTF-8", invalid: :replace, undef: :replace).scrub
      shown = shown.gsub(/[\p{C}\p{Z}]/u, " ")
      shown.size > DETAIL_MAX ? "#{shown[0, DETAIL_MAX - 1]}…" : shown
    end

    private

    def read_head
      (INTERIM_MAX + 1).times do
        head = HEAD.match(up_to("\r\n\r\n")) or raise Answer.not_tickr("not an HTTP/1 response")
        # 101 is final: what follows it is another protocol.
        next if head[2] < "200" && head[2] != "101"

        @status = head[2].to_i
        return head
      end
      raise Answer.not_tickr("too many interim responses")
    end

    def read_chunks
      while (chunk = CHUNK.match(up_to("\r\n")))
        size = chunk[1].hex
        if size.zero?
          # The trailer ends with an empty line; nothing in it is needed.
          nil until up_to("\r\n").empty?
          return
        end
        @body << exactly(size)
        break unless exactly(2) == "\r\n"
      end
      raise Answer.not_tickr("a chunk of the body is malformed")
    end

    def up_to(line_end)
      receive until (length = @buffer.index(line_end))
      @buffer.slice!(0, length + line_end.size)[0, length]
    end

    def exactly(length)
      receive while @buffer.size < length
      @buffer.slice!(0, length)
    end

    def receive
      data = @deadline.wait(@socket) { @socket.read_nonblock(4096, exception: false) }
      raise Failure.new("closed the connection early (end of stream)", stale: true) unless data

      @buffer << data
      @received += data.bytesize
      raise Answer.not_tickr("the response is too long") if @received > LENGTH_MAX
    end

    def parsed
      body = JSON.parse(@body.force_encoding(Encoding::UTF_8))
      body.is_a?(Hash) ? body : {}
    rescue JSON::JSONError, ArgumentError, EncodingError
      raise Answer.not_tickr("the body is not JSON") if status == 200

      {}
    end
  end
end
