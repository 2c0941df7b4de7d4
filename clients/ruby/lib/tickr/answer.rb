# frozen_string_literal: true

# An HTTP/1 answer. Interim answers are passed over, and a body has a length or comes in chunks
# (RFC 9112, sections 6 and 7).
#
# Net::HTTP would do, but it has no deadline for a whole answer and no bound for its length.

require "io/wait"
require "json"

module Tickr
  LATE = "did not answer in time"

  # Why one server gave no tickets, as the end of a sentence that its name begins.
  class Failure < StandardError; end

  # The reason may be that the connection is an old one.
  class Stale < Failure; end

  def self.now
    Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end

  # Seconds until a time, of which there must be some.
  def self.left(deadline)
    seconds = deadline - now
    seconds.positive? ? seconds : raise(Failure, LATE)
  end

  # Its errors are for who waits for it.
  def self.thread
    Thread.new do
      Thread.current.name, Thread.current.report_on_exception = "tickr-client", false
      yield
    end
  end

  # Text from elsewhere on one line: it must not steer a terminal or forge a line of a log.
  def self.printable(text)
    text.to_s.dup.force_encoding("UTF-8").scrub.gsub(/[\p{C}\p{Z}]/u, " ")[0, 200]
  end

  # An answer on its way in.
  class Answer
    LENGTH_MAX, INTERIM_MAX, TICKET_MAX = 64 * 1024, 8, 2**64 - 1
    # 101 is final: what follows it is another protocol.
    INTERIM = %r{\AHTTP/1\.[01] 1(?!01)\d\d\b}n
    HEAD = %r{\AHTTP/1\.([01]) (\d{3})(?: [^\r\n]*)?((?:\r\n[!#-'*+.^-z|~A-Z0-9-]+:[^\r\n]*)*)\z}n

    attr_reader :status

    def initialize(socket, deadline)
      @socket, @deadline, @buffer, @received = socket, deadline, "".b, 0
      text = up_to("\r\n\r\n")
      INTERIM_MAX.times { text = up_to("\r\n\r\n") if INTERIM.match?(text) }
      head = HEAD.match(text) unless INTERIM.match?(text)
      wrong("not an HTTP/1 response, or too many interim ones") unless head
      @old, @status, @fields = head[1] == "0", head[2].to_i, head[3].downcase.split("\r\n")
    end

    # The tickets in the body; nothing is believed that could not be so.
    def tickets(count)
      first, increment, counted = object.values_at("first", "increment", "count")
      last = first + (count - 1) * increment if [first, increment, counted].all?(Integer)
      unless last && first >= 0 && increment >= 1 && counted == count && last <= TICKET_MAX
        wrong("the body is not the range asked for")
      end
      (first..last).step(increment)
    rescue JSON::JSONError
      wrong("the body is not JSON")
    end

    # What became of an explanation matters less than the status.
    def detail
      Tickr.printable(object["detail"])
    rescue Failure, SystemCallError, JSON::JSONError
      ""
    end

    # Whether the connection can't be used again: it closes, or more came than was asked for.
    def last?
      @old || @fields.grep(/\Aconnection:.*\bclose\b/).any? || !@buffer.empty?
    end

    private

    def wrong(reason)
      raise Failure, "did not respond like a Tickr server: #{reason}"
    end

    def object
      framing = @fields.grep(/\A(content-length|transfer-encoding):/)
      case framing.one? && framing[0]
      when /\Acontent-length:[ \t]*(\d{1,9})[ \t]*\z/ then body = exactly($1.to_i)
      when /\Atransfer-encoding:[ \t]*chunked[ \t]*\z/ then body = chunks
      else wrong("it does not say how long its body is")
      end
      body = JSON.parse(body.force_encoding("UTF-8").scrub)
      body.is_a?(Hash) ? body : {}
    end

    def chunks
      body = "".b
      until (length = up_to("\r\n")[/\A(\h{1,8})[ \t]*(?:;.*)?\z/, 1]&.hex)&.zero?
        body << exactly(length) if length
        wrong("a chunk of the body is malformed") unless length && exactly(2) == "\r\n"
      end
      # The trailer ends with an empty line; nothing in it is needed.
      nil until up_to("\r\n").empty?
      body
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
      case data = @socket.read_nonblock(4096, exception: false)
      when :wait_readable then @socket.wait_readable(Tickr.left(@deadline))
      when nil then raise Stale, "closed the connection early (end of stream)"
      else
        @buffer << data
        wrong("the response is too long") if (@received += data.size) > LENGTH_MAX
      end
    end
  end
end
