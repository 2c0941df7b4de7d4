# frozen_string_literal: true

# Servers that are dead, wrong, slow or broken: somebody else is asked, and the error names all.

require_relative "helper"

class FailOverTest < Case
  def test_a_dead_server_is_passed_over
    good = good(11, 4)
    closed = TCPServer.new("127.0.0.1", 0)
    nobody = "http://127.0.0.1:#{closed.addr[1]}"
    closed.close
    Dir.mktmpdir do |folder|
      client = client([nobody, "unix:#{folder}/none", good.url])
      assert_equal 11, client.get_ticket
      assert_equal [15, 19, 23], client.tickets(3).to_a
    end
  end

  def test_a_wrong_server_is_passed_over
    problem = { title: "No", detail: "not now" }
    [
      [answer("", "302 Found", "Location: http://127.0.0.1/"), "responded 302"],
      [answer(problem, "401 Unauthorized"), "responded 401: not now"],
      [answer("<h1>no</h1>", "404 Not Found"), "responded 404"],
      [answer(problem, "500 Oops"), "responded 500: not now"],
      [answer(problem, "503 Service Unavailable", "Retry-After: 1"), "responded 503: not now"],
      ["HTTP/1.1 204 No Content\r\n\r\n", "responded 204"],
      ["HTTP/1.1 101 Switching\r\n\r\n", "responded 101"],
      ["HTTP/1.1 503 No\r\nContent-Length: 99\r\n\r\n", "responded 503"],
      [answer("<html>It works!</html>"), "the body is not JSON"],
      [answer({ ok: true }), "not the range asked for"],
      [answer([1]), "not the range asked for"],
      ["SSH-2.0-OpenSSH_9.2\r\n\r\n", "not an HTTP/1 response"]
    ].each do |response, words|
      wrong = server do |connection, _|
        connection.write(response)
        nil
      end
      assert_equal [5, 6], client([wrong.url, good(5).url]).tickets(2).to_a
      error = unavailable { client([wrong.url]).get_ticket }
      assert_equal [wrong.url], error.attempts.map(&:first)
      assert_includes error.attempts[0][1], words
    end
  end

  def test_a_400_is_raised_at_once
    strict = server(answer({ detail: "over the largest batch" }, "400 Bad Request"))
    good = good()
    client = client([strict.url, good.url])
    3.times do
      error = assert_raises(Tickr::Refused) { client.tickets(10**9) }
      assert_equal [strict.url, 400], [error.server, error.status]
      assert_equal "over the largest batch", error.detail
      assert_equal "#{strict.url} responded 400: over the largest batch", error.message
      assert_kind_of Tickr::Error, error
    end
    assert_equal [3, []], [strict.requests.size, good.requests]
  end

  def test_the_last_error_names_every_server
    urls = Array.new(3) { |number| server(answer("", "#{500 + number} No")).url }
    expected = urls.each_with_index.map { |url, number| [url, "responded #{500 + number}"] }
    client = client(urls)
    2.times do
      error = unavailable { client.tickets(1) }
      assert_equal expected, error.attempts
      error.attempts.each { |url, failure| assert_includes error.message, "\n  #{url} #{failure}" }
      assert_equal error.attempts, Marshal.load(Marshal.dump(error)).attempts
    end
  end

  def test_a_connection_cut_at_each_byte
    whole = run_of(1, 2)
    length = 0
    broken = server do |connection, _|
      connection.write(whole[0, length])
      nil
    end
    good = good(1001)
    (0...whole.size).each do |cut|
      length = cut
      client = client([broken.url, good.url])
      assert_operator client.tickets(2).begin, :>, 1000, "cut at #{cut}"
    end
    length = whole.size
    assert_equal 1, client([broken.url, good.url]).tickets(2).begin
  end

  def test_a_kept_connection_that_breaks_is_made_anew
    whole, number, length = run_of(1, 1), 0, 0
    server = server do |connection, _|
      number += 1
      next run_of(number, 1) if number.odd?

      connection.write(whole[0, length])
      nil
    end
    client = client([server.url])
    whole.size.times do |cut|
      length = cut
      client.get_ticket
    end
    assert_equal whole.size, server.connections
  end

  def test_an_error_on_a_kept_connection_is_an_error
    responses = [run_of(1, 1), answer("", "503 No")]
    server = server { responses.shift }
    client = client([server.url])
    client.get_ticket
    unavailable(/responded 503/) { client.get_ticket }
    assert_equal 2, server.requests.size
  end

  def test_connections_are_kept
    good = good()
    assert_equal [*1..20], takes(20, client([good.url]))
    assert_equal 1, good.connections
    assert_equal "GET /tickets/create/1?format=range HTTP/1.1\r\nHost: #{good.url[7..-1]}\r\n" \
                 "Accept: application/json\r\n\r\n", good.requests[0]
  end

  def test_a_slow_drip_is_cut_short
    slow = server do |connection, _|
      run_of(1, 1).each_char do |byte|
        connection.write(byte)
        sleep 0.05
      end
      nil
    end
    assert_equal 7, client([slow.url, good(7).url], timeout: 300).get_ticket
    unavailable(/did not answer in time/) { client([slow.url], timeout: 300).get_ticket }
  end

  def test_silence_ends_with_the_time_out
    # Accepted by the kernel and by nobody else.
    silent = ending(TCPServer.new("127.0.0.1", 0))
    unavailable(/did not answer in time/) do
      client(["http://127.0.0.1:#{silent.addr[1]}"], timeout: 200).get_ticket
    end
  end

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

  def test_every_address_of_a_name_is_tried
    good = good(7)
    port = good.url[/\d+\z/]
    found = ["127.0.0.2", "127.0.0.1"].map { |address| Addrinfo.tcp(address, port) }
    Addrinfo.stub(:getaddrinfo, ->(*) { found }) do
      assert_equal 7, client(["http://two.example:#{port}"]).get_ticket
    end
  end

  def test_a_silent_address_leaves_time_for_the_next
    server = Tickr::Server.new("http://two.example", nil)
    seconds = []
    server.define_singleton_method(:connect_to) do |_, deadline|
      seconds << deadline.left
      deadline.stub(:left, -> { raise Tickr::Failure, "did not answer in time" }) { deadline.left }
    end
    addresses = [Addrinfo.tcp("127.0.0.2", 80), Addrinfo.tcp("127.0.0.3", 80)]
    Addrinfo.stub(:getaddrinfo, ->(*) { addresses }) do
      assert_raises(Tickr::Failure) { server.connect(Tickr::Deadline.new(60)) }
    end
    assert_operator seconds[0], :<, 31
    assert_operator seconds[1], :>, 31
  end

  def test_a_name_that_can_not_be_is_passed_over
    good = good(7)
    [["a" * 70, 7], ["a..b", 8]].each do |name, ticket|
      assert_equal ticket, client(["http://#{name}", good.url]).get_ticket
    end
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

  def test_who_is_back_is_preferred_again
    responses, number = [answer("", "503 No")], 999
    first = server { |_, count| responses.shift || run_of(number += 1, count) }
    client = client([first.url, good.url])
    assert_equal 1, client.get_ticket
    mine = list(client)[0]
    mine.paused_until = 0.0
    assert_equal 1000, client.get_ticket
    assert_equal Tickr::Server::PAUSE_MIN, mine.instance_variable_get(:@pause)
  end

  def test_numbers_that_go_backwards_are_refused
    good = good()
    [101, 91, 97, 105].each do |again|
      firsts = [101, again, again]
      back = server { |_, count| run_of(firsts.shift, count) }
      client = client([back.url, good.url])
      assert_equal [*101..105], client.tickets(5).to_a
      assert_operator client.tickets(5).end, :<, 90
      firsts = [101, again, again]
      alone = client([back.url])
      alone.tickets(5)
      unavailable(/issued #{again} after 105/) { alone.tickets(5) }
    end
  end

  def test_without_an_order_only_repeated_numbers_are_refused
    firsts = [101, 1, 50, 103, 103]
    server = server { |_, count| run_of(firsts.shift, count) }
    client = client([server.url], check_order: false)
    assert_equal([101, 1, 50], Array.new(3) { client.tickets(5).begin })
    unavailable(/issued 103 after 105/) { client.tickets(5) }
  end

  def test_nodes_behind_one_address_are_told_apart
    firsts = [101, 2, 121, 22, 42, 141]
    expected = firsts.dup
    server = server { |_, count| run_of(firsts.shift, count, 4) }
    client = client([server.url])
    assert_equal(expected, Array.new(6) { client.tickets(5).begin })
  end

  def test_a_kept_connection_that_fell_behind_is_made_anew
    firsts = [100, 50, 200]
    server = server { |_, count| run_of(firsts.shift, count) }
    assert_equal [100, 200], takes(2, client([server.url]))
    assert_equal 2, server.connections
  end

  def test_an_interim_answer_and_a_chunked_body
    body = '{"first":9,"increment":1,"count":1}'
    server = server("HTTP/1.1 100 Continue\r\n\r\n" \
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" \
                    "#{body.size.to_s(16)}\r\n#{body}\r\n0\r\n\r\n")
    assert_equal 9, client([server.url]).get_ticket
  end

  def test_large_tickets_come_unchanged
    [2**53 + 1, 2**63 + 1, 2**64 - 3].each do |first|
      server = server { |_, count| run_of(first, count) }
      assert_equal first, client([server.url]).get_ticket
      assert_equal first, client([server.url], cache_size: 3).get_ticket
      assert_equal [first, first + 1, first + 2], client([server.url]).tickets(3).to_a
    end
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
    unavailable { client([server.url]).get_ticket }
    refute_includes server.requests.last, "Authorization"
  end

  def test_a_unix_socket
    Dir.mktmpdir do |folder|
      server = good(5, path: "#{folder}/a socket")
      assert_equal [5, 6], takes(2, client([server.url]))
      assert_includes server.requests[0], "\r\nHost: localhost\r\n"
      assert_equal 1, server.connections
    end
  end

  def test_close_ends_the_connections_and_the_client
    [0, 100].each do |size|
      server = good
      client = client([server.url], cache_size: size)
      client.get_ticket
      client.close
      server.wait_until_left
      client.close
      [-> { client.get_ticket }, -> { client.tickets(1) }].each do |call|
        assert_match(/closed/, assert_raises(IOError, &call).message)
      end
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
    [
      "tickr:8080", "https://tickr", "unix:", "unix:/a\0b", "unix:/#{"secret" * 18}",
      "http://tickr/status", "http://tickr?x", "http://tickr#x", "http://:8080", "http://[tickr]:1",
      "http://[127.0.0.1]", "http://[::1::]", "http://ti ckr", "http://tickr:", "http://tickr:0",
      "http://tickr:+80", "http://tickr:65536", "http://tickr:123456", "http://me:secret@tickr",
      "http://secret@tickr",
      "http://tickr\r\nX: y", "http://tickr\n", "", { host: "me:secret@tickr" }, { port: 80 }, nil
    ].each do |url|
      error = assert_raises(ArgumentError, url) { client([url]) }
      refute_includes error.message, "secret"
    end
    ok = ["http://tickr"]
    [
      [[], {}], ["http://tickr", {}], [ok * 257, {}], [ok, { timeout: 0 }], [ok, { timeout: 2 }],
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
    server = Tickr::Server.new("http://tickr", nil)
    pauses = Array.new(7) do
      server.blame
      pause = (server.paused_until - Tickr::Deadline.now).round
      # A second failure at the same time is the same failure.
      server.blame
      server.paused_until = 0.0
      pause
    end
    assert_equal [1, 2, 4, 8, 16, 30, 30], pauses
  end

  def test_what_is_remembered_is_bounded
    server = Tickr::Server.new("http://tickr", nil)
    (1..999).each do |number|
      server.admit((number..number).step(number), {})
      server.admit((100 * number..100 * number).step(1), {})
    end
    runs = server.instance_variable_get(:@runs)
    assert_equal 64, runs.size
    assert_equal runs.keys, server.highest.keys
    assert_equal 32, runs.values.map(&:size).max
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

  def test_only_so_many_connections_are_kept
    _, client, threads, go_on = together(20)
    go_on.call
    threads.each(&:join)
    assert_equal Tickr::Servers::IDLE_MAX, list(client)[0].idle.size
  end

  def test_a_request_that_outlives_its_client_keeps_no_connection
    server, client, threads, go_on = together(1)
    client.close
    go_on.call
    threads.each(&:join)
    assert_empty list(client)[0].idle
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
