# frozen_string_literal: true

# The servers of a client: in which order they are asked, and what is believed of their answers.

require "ipaddr"
require "socket"
require_relative "answer"

module Tickr
  # No ticket.
  class Error < StandardError; end

  # Every server was tried and none gave tickets; trying again later is safe.
  class Unavailable < Error
    # The URL of each server, and why it gave none, in the order in which they were tried.
    attr_reader :attempts

    def initialize(attempts)
      @attempts = attempts
      lines = attempts.map { |server, failure| "\n  #{server} #{failure}" }
      super("no server issued tickets; it is safe to retry:#{lines.join}")
    end
  end

  # A server calls the request itself wrong (400); the others were not asked.
  class Refused < Error
    attr_reader :server, :status, :detail

    def initialize(server, detail)
      @server, @status, @detail = server, 400, detail
      super("#{server} responded 400: #{detail}")
    end
  end

  # A server, and how it has been doing.
  class Server
    PAUSE_MIN, PAUSE_MAX = 1.0, 30.0
    NODES_MAX, RUNS_MAX, ADDRESSES_MAX, PATH_MAX = 64, 32, 8, 107
    URL = %r{\Ahttp://(?:\[([\h:.]+)\]|([A-Za-z0-9._-]+))(?::(\d{1,5}))?/?\z}
    # The text is not repeated in errors: it may hold a password.
    USAGE = "invalid server URL: use http://HOST:PORT or unix:PATH, and password: for a password"

    attr_reader :name, :idle, :highest
    # It is the last choice until then.
    attr_accessor :paused_until

    def initialize(place, password)
      if place.is_a?(Hash)
        place = place.transform_keys(&:to_sym)
        password = place.fetch(:http_auth_password, password)
        host = place[:host].to_s
        place = "http://#{host.include?(":") ? "[#{host}]" : host}:#{place.fetch(:port, 80)}"
      end
      place = place.to_s
      @name = place.start_with?("unix:") ? read_path(place) : read(place)
      @head = "Host: #{@path ? "localhost" : @name[7..-1]}\r\nAccept: application/json\r\n"
      @head += "Authorization: Basic #{["tickr:#{password}"].pack("m0")}\r\n" if password
      @idle, @runs, @highest = [], {}, {}
      praise
    end

    # Takes note of a run, or refuses it: when it holds a ticket of a recent one, or is not above
    # what its node had issued when the request was sent. Nodes behind one address are told apart
    # by increment and remainder.
    def admit(run, marks)
      node = [run.step, run.begin % run.step]
      runs = @runs.fetch(node, [])
      repeated = runs.find { |first, last| run.begin <= last && first <= run.end }
      issued = repeated ? repeated.last : marks[node]
      if issued && run.begin <= issued
        reason = "issued #{run.begin} after #{issued}, and tickets must not go backwards: its " \
                 "counter may have been set back, or several processes share this address"
        raise Failure.new(reason, stale: true)
      end
      [@runs, @highest].each(&:shift) if @runs.size == NODES_MAX && !@runs.key?(node)
      @highest[node] = [run.end, @highest.fetch(node, 0)].max
      @runs[node] = runs.last(RUNS_MAX - 1) << [run.begin, run.end]
    end

    def praise
      @paused_until, @pause = 0.0, PAUSE_MIN
    end

    def blame
      disconnect
      now = Deadline.now
      return if @paused_until > now

      @paused_until, @pause = now + @pause, [2 * @pause, PAUSE_MAX].min
    end

    def disconnect
      while (socket = @idle.pop)
        socket.close
      end
    end

    # Tries the addresses of a host in the resolver's order; one that is silent leaves time for the
    # next.
    def connect(deadline)
      addresses = @path ? [Addrinfo.unix(@path)] : resolve(deadline)
      addresses.each_with_index do |address, index|
        return connect_to(address, Deadline.new(deadline.left / (addresses.size - index)))
      rescue Failure, SystemCallError
        raise if index == addresses.size - 1
      end
    rescue SystemCallError, SocketError, ThreadError => error
      raise Failure, "can't be reached (#{Answer.printable(error.message)})"
    end

    def exchange(socket, count, deadline)
      request = "GET /tickets/create/#{count}?format=range HTTP/1.1\r\n#{@head}\r\n"
      answer = Answer.new(socket, deadline)
      begin
        until request.empty?
          sent = deadline.wait(socket) { socket.write_nonblock(request, exception: false) }
          request = request.byteslice(sent..-1)
        end
        answer.read
      rescue Failure, SystemCallError => error
        # What became of the explanation matters less than the status.
        if [0, 200].include?(answer.status)
          raise error if error.is_a?(Failure)

          raise Failure.new("closed the connection early (#{error.message})", stale: true)
        end
      end
      answer
    end

    private

    def read(url)
      match = URL.match(url)
      raise ArgumentError, USAGE unless match && (1..65_535).cover?((match[3] || 80).to_i)

      @host, @port = match[1] || match[2], (match[3] || 80).to_i
      "http://#{match[1] ? "[#{IPAddr.new(@host, Socket::AF_INET6)}]" : @host}:#{@port}"
    end

    def read_path(url)
      @path = url.delete_prefix("unix:")
      return url if (1..PATH_MAX).cover?(@path.bytesize) && !@path.include?("\0")

      raise ArgumentError, "invalid server URL: no Unix socket can have this path"
    end

    def resolve(deadline)
      # The resolver has time-outs of its own, longer than ours; a thread is left with them.
      lookup = Thread.new do
        Addrinfo.getaddrinfo(@host, @port, nil, :STREAM).first(ADDRESSES_MAX)
      rescue SocketError => error
        error
      end
      lookup.join(deadline.left) || deadline.left
      lookup.value.is_a?(Array) ? lookup.value : raise(lookup.value)
    end

    def connect_to(address, deadline)
      socket = Socket.new(address.pfamily, :STREAM)
      socket.setsockopt(:TCP, :NODELAY, 1) unless @path
      begin
        deadline.wait(socket) { socket.connect_nonblock(address, exception: false) }
      rescue Errno::EISCONN
        # That is how a connection that took a while says that it is there.
      end
      connected = socket
    ensure
      socket&.close unless connected
    end
  end

  class Servers
    IDLE_MAX, SERVERS_MAX = 8, 256

    attr_reader :list

    def initialize(places, seconds, password, check_order)
      @list = places.map { |place| Server.new(place, password) }
      @seconds, @check_order = seconds, check_order
      @mutex = Mutex.new
    end

    def close
      @mutex.synchronize do
        @closed = true
        @list.each(&:disconnect)
      end
    end

    # Asks the servers, one after the other and each once, for one run of tickets: by preference,
    # but those that have failed lately come last.
    def fetch(count)
      now = Deadline.now
      attempts = []
      @list.partition { |server| server.paused_until <= now }.flatten.each do |server|
        return ask(server, count)
      rescue Failure => failure
        raise Refused.new(server.name, failure.detail) if failure.status == 400

        @mutex.synchronize { server.blame }
        attempts << [server.name, failure.message]
      end
      raise Unavailable, attempts
    end

    private

    def ask(server, count)
      deadline = Deadline.new(@seconds)
      loop do
        idle, marks = @mutex.synchronize do
          raise IOError, "the client is closed" if @closed

          [server.idle.pop, @check_order ? server.highest.dup : {}]
        end
        keep = false
        begin
          socket = idle || server.connect(deadline)
          answer = server.exchange(socket, count, deadline)
          tickets = answer.tickets(count)
          @mutex.synchronize do
            server.admit(tickets, marks)
            server.praise
            keep = answer.reusable && server.idle.size < IDLE_MAX && !@closed
            server.idle << socket if keep
          end
          return tickets
        rescue Failure => failure
          # An old connection may have been closed meanwhile, or lead to a process that is about to
          # end while its successor has moved on.
          raise unless idle && failure.stale

          @mutex.synchronize { server.disconnect }
        ensure
          socket&.close unless keep
        end
      end
    end
  end
end
