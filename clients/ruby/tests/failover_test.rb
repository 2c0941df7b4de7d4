# frozen_string_literal: true

# What the conformance suite can not see of fail-over: clocks, resolvers, bounds and close.

require_relative "helper"

class FailOverTest < Case
  def test_a_resolver_that_hangs_ends_with_the_time_out
    good, stop = good(7), Queue.new
    resolve = Addrinfo.method(:getaddrinfo)
    hang = lambda do |host, *arguments|
      stop.pop if host == "hangs"
      resolve.call(host, *arguments)
    end
    Addrinfo.stub(:getaddrinfo, hang) do
      assert_equal 7, client(["http://hangs", good.url], timeout: 500).get_ticket
    end
    stop << true
  end

  def test_another_attempt_has_what_is_left_of_the_time
    now, number = 1000.0, 0
    server = server do |_, count|
      number += 1
      next run_of(number, count) unless number == 2

      now += 61
      nil
    end
    client = client([server.url], timeout: 60_000)
    Tickr.stub(:now, -> { now }) do
      assert_equal 1, client.get_ticket
      unavailable(/did not answer in time/) { client.get_ticket }
    end
  end

  def test_an_explanation_that_can_not_be_read_hides_no_status
    ["[" * 60_000, "{\"detail\":", "[7]", "7", "{}", "\xff"].each do |body|
      server = server(answer(body, "503 No"))
      error = unavailable { client([server.url]).get_ticket }
      assert_equal [[server.url, "responded 503"]], error.attempts
    end
  end

  def test_every_address_of_a_name_is_tried
    good = good(7)
    port = good.url[/\d+\z/]
    found = ["127.0.0.2", "127.0.0.1"].map { |address| Addrinfo.tcp(address, port) }
    Addrinfo.stub(:getaddrinfo, ->(*) { found }) do
      assert_equal 7, client(["http://two.example:#{port}"]).get_ticket
    end
  end

  # An address that takes all the time that it is given.
  Silent = Struct.new(:given) do
    def connect(timeout:)
      given << timeout
      raise Errno::ETIMEDOUT
    end
  end

  def test_a_silent_address_leaves_time_for_the_next
    client = client(["http://two.example"], timeout: 60_000)
    given = []
    Addrinfo.stub(:getaddrinfo, ->(*) { [Silent.new(given)] * 2 }) do
      unavailable(/can't be reached/) { client.get_ticket }
    end
    assert_in_delta 30, given[0], 1
    assert_operator given[1], :>, 31
  end

  def test_who_failed_comes_last_for_a_while
    bad, good = server(answer("", "503 No")), good()
    client = client([bad.url, good.url])
    list(client)[0].instance_variable_set(:@pause, 60.0)
    assert_equal [*1..5], takes(5, client)
    assert_equal 1, bad.requests.size
    good.close
    # It is still asked when nobody else is left.
    error = unavailable { client.get_ticket }
    assert_equal [good.url, bad.url], error.attempts.map(&:first)
  end

  def test_the_password_is_sent_and_never_shown
    server = server(answer("", "401 No"))
    place = { host: "127.0.0.1", port: server.url[/\d+\z/].to_i }
    [
      [server.url, { password: "s ü:@" }],
      [place, { password: "s ü:@" }],
      [place.merge(http_auth_password: "s ü:@"), { password: "another" }],
      [{ "host" => "127.0.0.1", "port" => place[:port], "http_auth_password" => "s ü:@" }, {}]
    ].each do |url, settings|
      client = client([url], **settings)
      error = unavailable { client.get_ticket }
      assert_includes server.requests.last, "\r\nAuthorization: Basic dGlja3I6cyDDvDpA\r\n"
      assert_equal [[server.url, "responded 401"]], error.attempts
      assert_equal "#<Tickr::Client #{server.url}>", client.inspect
    end
  end
end

class SettingsTest < Case
  def test_urls_are_read_and_shown
    {
      "http://tickr" => "http://tickr:80",
      "http://tickr:8080/" => "http://tickr:8080",
      "http://[::1]:8080" => "http://[::1]:8080",
      "http://[0:0::1]" => "http://[::1]:80",
      "unix:/run/tickr.sock" => "unix:/run/tickr.sock",
      "unix:tickr.sock" => "unix:tickr.sock",
      { host: "10.0.0.1", port: 8080 } => "http://10.0.0.1:8080",
      { host: "::1" } => "http://[::1]:80"
    }.each { |url, name| assert_equal "#<Tickr::Client #{name}>", client([url]).inspect }
  end

  def test_what_can_not_be_is_refused_without_showing_it
    [{ host: "me:secret@tickr" }, { port: 80 }, nil].each do |url|
      error = assert_raises(ArgumentError, url) { client([url]) }
      refute_includes error.message, "secret"
    end
    ok = ["http://tickr"]
    [
      ["http://tickr", {}], [ok * 257, {}], [ok, { timeout: 2 }],
      [ok, { timeout: Float::NAN }], [ok, { timeout: Float::INFINITY }], [ok, { timeout: "2000" }],
      [ok, { cache_size: -1 }], [ok, { cache_size: 1.5 }],
      [ok, { cache_size: 10, replenish_cache_at: 10 }],
      [ok, { cache_size: 10, replenish_cache_at: -1 }], [ok, { cache_size: nil }]
    ].each do |servers, settings|
      assert_raises(ArgumentError, settings) { client(servers, **settings) }
    end
    [0, -1, 1.0, "1", nil].each do |count|
      assert_raises(ArgumentError) { client(ok).tickets(count) }
    end
  end

  def test_a_pause_doubles_within_a_bound
    server = list(client(["http://tickr"]))[0]
    now, pauses = 1000.0, []
    7.times do
      Tickr.stub(:now, now) do
        server.send(:blame)
        # A second failure at the same time is the same failure.
        server.send(:blame)
      end
      pauses << server.paused_until - now
      now = server.paused_until
    end
    assert_equal [1, 2, 4, 8, 16, 30, 30], pauses
  end

  def test_who_is_back_has_a_short_pause_again
    server = good
    client = client([server.url])
    mine = list(client)[0]
    mine.instance_variable_set(:@pause, 30.0)
    mine.send(:blame)
    client.get_ticket
    assert_equal 0, mine.paused_until
    Tickr.stub(:now, 1000.0) { mine.send(:blame) }
    assert_equal 1001, mine.paused_until
  end

  def test_what_is_remembered_is_bounded
    server = list(client(["http://tickr"]))[0]
    (1..80).each do |number|
      server.send(:admit, (number..number).step(number), [])
      server.send(:admit, (100 * number..100 * number).step(1), [])
    end
    assert_equal 64, server.instance_variable_get(:@runs).size
    # The latest ones.
    assert_raises(Tickr::Stale) { server.send(:admit, (5000..5000).step(1), []) }
  end
end

class ConnectionsTest < Case
  # A server that answers when this many requests are there, and threads that wait for it.
  def together(count)
    arrived, go_on, number = Queue.new, Queue.new, 0
    server = server do |_, asked|
      arrived << true
      go_on.pop
      run_of(number += 1, asked)
    end
    client = client([server.url], timeout: 60_000, check_order: false)
    threads = Array.new(count) { Thread.new { client.get_ticket } }
    count.times { arrived.pop }
    [server, client, threads, -> { count.times { go_on << true } }]
  end

  def test_a_request_that_outlives_its_client_keeps_no_connection
    server, client, threads, go_on = together(1)
    client.close
    go_on.call
    threads.each(&:join)
    assert_empty idle(client)
    server.wait_until_left
  end

  def test_a_request_that_outlives_its_client_makes_no_connection
    asked, go_on = Queue.new, Queue.new
    server = server do |_, count|
      next run_of(1, count) unless server.requests[1]

      asked << true
      go_on.pop
      nil
    end
    client = client([server.url], timeout: 60_000)
    client.get_ticket
    thread = Thread.new { assert_raises(IOError) { client.get_ticket } }
    asked.pop
    client.close
    go_on << true
    thread.join
    assert_equal 1, server.connections
  end

  def test_who_is_interrupted_leaves_a_connection_with_an_answer_on_its_way
    arrived, number = Queue.new, 0
    go_on = Queue.new
    server = server do |_, count|
      number += 1
      if number == 1
        arrived << true
        go_on.pop
      end
      run_of(number, count)
    end
    client = client([server.url], timeout: 60_000)
    thread = Thread.new { assert_raises(Timeout::Error) { client.get_ticket } }
    arrived.pop
    thread.raise(Timeout::Error)
    thread.join
    go_on << true
    # The late answer is no other request's.
    assert_equal [2, 3], takes(2, client)
    assert_equal 2, server.connections
  end
end
