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
      lines = attempts.map { |attempt| "\n  #{attempt.join(" ")}" }
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
    IDLE_MAX, RUNS_MAX, ADDRESSES_MAX, PATH_MAX = 8, 64, 8, 107
    URL = %r{\A(?:unix:([^\0]+)|http://(?:\[([\h:.]+)\]|([A-Za-z0-9._-]+))(?::(\d{1,5}))?/?)\z}
    # The text is not repeated in errors: it may hold a password.
    USAGE = "invalid server URL: use http://HOST:PORT or unix:PATH, and password: for a password"

    # It is the last choice until paused_until.
    attr_reader :name, :paused_until

    def initialize(place, seconds, password, check_order)
      if place.is_a?(Hash)
        place = place.transform_keys(&:to_sym)
        password = place.fetch(:http_auth_password, password)
        host = place[:host].to_s
        place = "http://#{host.include?(":") ? "[#{host}]" : host}:#{place.fetch(:port, 80)}"
      end
      _, @path, ipv6, name, port = *URL.match(place.to_s)
      @host, @port = ipv6 || name, (port || 80).to_i
      good = @path ? @path.bytesize <= PATH_MAX : @host && (1..65_535).cover?(@port)
      raise ArgumentError, USAGE unless good

      host = ipv6 ? "[#{IPAddr.new(ipv6, Socket::AF_INET6)}]" : name
      @name = @path ? place : "http://#{host}:#{@port}"
      @head = "Host: #{@path ? "localhost" : @name[7..-1]}\r\nAccept: application/json\r\n"
      @head += "Authorization: Basic #{["tickr:#{password}"].pack("m0")}\r\n" if password
      @seconds, @check_order = seconds, check_order
      # The latest runs, in an array that is never changed, only replaced.
      @mutex, @idle, @runs = Mutex.new, [], []
      @paused_until, @pause = 0.0, PAUSE_MIN
    end

    # A run of tickets. An idle connection may have been closed meanwhile, or lead to a process that
    # is about to end while its successor has moved on: the next one, or a new one, is worth a try.
    def fetch(count)
      # Another attempt has what is left of the time.
      deadline ||= Tickr.now + @seconds
      idle, known = @mutex.synchronize do
        raise IOError, "the client is closed" if @closed

        [@idle.pop, @check_order ? @runs : []]
      end
      ask(idle || connect(deadline), count, known, deadline)
    rescue Failure => failure
      retry if idle && failure.is_a?(Stale)
      @mutex.synchronize { blame }
      raise
    end

    def close
      @closed = true
      @mutex.synchronize { disconnect }
    end

    def disconnect
      @idle.pop.close until @idle.empty?
    end

    private

    def blame(now = Tickr.now)
      disconnect
      return if @paused_until > now

      @paused_until, @pause = now + @pause, [2 * @pause, PAUSE_MAX].min
    end

    # Tries the addresses of a host in the resolver's order; one that is silent leaves time for the
    # next.
    def connect(deadline)
      addresses ||= @path ? [Addrinfo.unix(@path)] : resolve(deadline)
      addresses.shift.connect(timeout: Tickr.left(deadline) / (addresses.size + 1))
    rescue SystemCallError, IOError, SocketError, ThreadError => error
      retry if addresses&.any?
      raise Failure, "can't be reached (#{Tickr.printable(error.message)})"
    end

    # The resolver has time-outs of its own, longer than ours; a thread is left with them.
    def resolve(deadline)
      lookup = Tickr.thread { Addrinfo.getaddrinfo(@host, @port, nil, :STREAM) }
      lookup.join(Tickr.left(deadline)) || raise(Failure, LATE)
      lookup.value.first(ADDRESSES_MAX)
    end

    def ask(socket, count, known, deadline)
      # It fits into the buffer of a connection where nothing else waits to be read.
      socket.write_nonblock("GET /tickets/create/#{count}?format=range HTTP/1.1\r\n#{@head}\r\n")
      answer = Answer.new(socket, deadline)
      detail = answer.detail unless answer.status == 200
      raise Refused.new(@name, detail) if answer.status == 400
      raise Failure, "responded #{answer.status}: #{detail}".delete_suffix(": ") if detail

      run, kept = answer.tickets(count), false
      @mutex.synchronize do
        admit(run, known)
        @paused_until, @pause = 0.0, PAUSE_MIN
        kept = !answer.last? && @idle.size < IDLE_MAX && !@closed
        @idle << socket if kept
      end
      run
    rescue SystemCallError => error
      raise Stale, "closed the connection early (#{error.message})"
    ensure
      socket.close unless kept
    end

    # Takes note of a run, or refuses it: when it holds a ticket of a recent one, or is not above
    # those of its node that were known when the request was sent. Nodes behind one address are told
    # apart by increment and remainder.
    def admit(run, known)
      ahead = @runs.find do |old|
        same_node = old.step == run.step && ((old.begin - run.begin) % run.step).zero?
        same_node && run.begin <= old.end && (old.begin <= run.end || known.include?(old))
      end
      if ahead
        raise Stale, "issued #{run.begin} after #{ahead.end}, and tickets must not go backwards: " \
                     "its counter may have been set back, or several processes share this address"
      end
      @runs = @runs.last(RUNS_MAX - 1) << run
    end
  end

  # Asks the servers, one after the other and each once, for one run of tickets: by preference, but
  # those that have failed lately come last.
  def self.fetch(servers, count)
    now = Tickr.now
    attempts = []
    servers.partition { |server| server.paused_until <= now }.flatten.each do |server|
      return server.fetch(count)
    rescue Failure => failure
      attempts << [server.name, failure.message]
    end
    raise Unavailable, attempts
  end
end
