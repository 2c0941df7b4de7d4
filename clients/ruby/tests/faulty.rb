# frozen_string_literal: true

# A server that misbehaves as it is told, for tests: what it sends is up to the test.

require "json"
require "socket"

module Answers
  # The bytes of a whole answer.
  def answer(body, status = "200 OK", *fields)
    body = JSON.generate(body) unless body.is_a?(String)
    lines = ["HTTP/1.1 #{status}", "Content-Length: #{body.bytesize}", *fields, "", ""]
    (lines.join("\r\n") + body).b
  end

  def run_of(first, count, increment = 1)
    answer({ first: first, increment: increment, count: count })
  end
end

# Calls the block for each request, with the connection and the number of tickets it asks for; what
# that returns is sent, and nil closes the connection. With bytes instead of a block, these are sent
# each time.
class Faulty
  include Answers

  attr_reader :url, :requests, :connections

  def initialize(bytes = nil, path: nil, &respond)
    @respond = respond || ->(_, _) { bytes }
    @requests, @open, @connections = [], [], 0
    @left = Queue.new
    @listener = path ? UNIXServer.new(path) : TCPServer.new("127.0.0.1", 0)
    @listener.listen(1024)
    @url = path ? "unix:#{path}" : "http://127.0.0.1:#{@listener.addr[1]}"
    @accepting = Thread.new { accept }
  end

  # Waits until a client has closed a connection.
  def wait_until_left
    @left.pop
  end

  def counts
    @requests.map { |request| count_of(request) }
  end

  def close
    @listener.close
    @accepting.join
    @open.each do |connection|
      connection.shutdown
    rescue SystemCallError, IOError
      nil
    end
  end

  private

  def count_of(request)
    request[%r{/(\d+)\?}, 1].to_i
  end

  def accept
    loop do
      connection = @listener.accept
      @connections += 1
      @open << connection
      Thread.new { serve(connection) }
    end
  rescue IOError, SystemCallError
    nil
  end

  def serve(connection)
    while (request = connection.gets("\r\n\r\n"))
      @requests << request
      # Another connection may have added one meanwhile.
      response = @respond.call(connection, count_of(request)) or return
      connection.write(response)
    end
    @left << true
  rescue SystemCallError, IOError
    @left << true
  ensure
    connection.close
  end
end

# Issues tickets as it should, from this one on.
class Good < Faulty
  def initialize(first = 1, increment = 1, path: nil)
    mutex = Mutex.new
    super(path: path) do |_, count|
      mutex.synchronize do
        mine = first
        first += count * increment
        run_of(mine, count, increment)
      end
    end
  end
end
