# frozen_string_literal: true

# The real server: passwords, sockets, large numbers, restarts under load, and forks.

require_relative "helper"
require_relative "live"

class LiveTest < Case
  CHILDREN, EACH = 20, 1000

  def setup
    skip "TICKR is not the path of a server" unless ENV["TICKR"]
    super
  end

  def teardown
    super if @ends
  end

  # One for all tests that change nothing about it.
  def self.shared
    @shared ||= LiveServer.new.tap { |server| Minitest.after_run { server.close } }
  end

  def shared
    LiveTest.shared
  end

  def live(*arguments, **settings)
    ending(LiveServer.new(*arguments, **settings))
  end

  def live_client(server, **settings)
    client([server.url], timeout: 30_000, **settings)
  end

  def test_tickets_and_batches
    client = live_client(shared)
    one, run = client.get_ticket, client.tickets(1000)
    assert_equal [1000, 4], [run.size, run.step]
    assert_operator run.begin, :>, one
    assert_operator client.get_ticket, :>, run.end
    error = assert_raises(Tickr::Refused) { client.tickets(10**9) }
    assert_includes error.message, "TICKR_MAX_BATCH"
  end

  # The tickets of children that each take some; they run at the same time.
  def in_children(children = CHILDREN, &take)
    readers = Array.new(children) do
      reader, writer = IO.pipe(binmode: true)
      pid = fork { in_child(writer, &take) }
      writer.close
      [pid, reader]
    end
    readers.flat_map do |pid, reader|
      tickets = reader.read.unpack("Q*")
      reader.close
      assert_predicate Process.wait2(pid)[1], :success?
      assert_equal EACH, tickets.size
      tickets
    end
  end

  # Leaves without what minitest does when a process ends.
  def in_child(writer)
    status = false
    writer.write(yield.pack("Q*"))
    writer.close
    status = true
  rescue StandardError => error
    warn error.full_message
  ensure
    exit!(status)
  end

  def assert_unique(taken)
    assert_equal taken.size, taken.uniq.size
  end

  def warm(client)
    taken = takes(5000, client)
    assert_operator cache(client).left, :>, 0, "there is something to issue twice"
    taken
  end

  def test_children_do_not_issue_what_the_parent_has
    client = live_client(shared, cache_size: 10_000)
    taken = warm(client)
    taken += in_children { takes(EACH, client) }
    assert_unique taken + takes(5000, client)
  end

  # As where a child of a child gets the number of a process that has ended.
  def test_ruby_reports_a_fork_where_a_process_id_does_not
    skip "Ruby reports forks from 3.1 on" unless Process.respond_to?(:_fork)
    client = live_client(shared, cache_size: 10_000)
    taken = warm(client)
    Process.stub(:pid, Process.pid) { taken += in_children { takes(EACH, client) } }
    assert_unique taken + takes(100, client)
  end

  # As in Ruby 2.7, and where the C program around Ruby forks.
  def test_a_process_id_reports_a_fork_where_ruby_does_not
    client = live_client(shared, cache_size: 10_000)
    taken = warm(client)
    Tickr.stub(:forks, 0) { taken += in_children { takes(EACH, client) } }
    assert_unique taken + takes(5000, client)
  end

  def test_threads_of_the_parent_lock_nothing_in_a_child
    client = live_client(shared, cache_size: 10_000)
    taken = warm(client)
    locked, go_on = Queue.new, Queue.new
    mutexes = [cache(client), cache(client).servers].map { |of| of.instance_variable_get(:@mutex) }
    holder = Thread.new do
      mutexes[0].synchronize do
        mutexes[1].synchronize do
          locked << true
          go_on.pop
        end
      end
    end
    locked.pop
    taken += in_children(3) do
      mine = takes(EACH, client)
      client.close
      mine
    end
    go_on << true
    holder.join
    assert_unique taken + takes(100, client)
  end

  def test_nor_while_threads_are_in_the_client
    client = live_client(shared, cache_size: 1000)
    stop = false
    threads = Array.new(4) do
      Thread.new do
        mine = []
        mine << client.get_ticket until stop
        mine
      end
    end
    children = in_children { takes(EACH, client) }
    stop = true
    assert_unique threads.flat_map(&:value) + children
  end

  def test_threads_of_a_child_share_its_client
    client = live_client(shared, cache_size: 1000)
    taken = warm(client)
    taken += in_children(5) do
      Array.new(4) { Thread.new { takes(EACH / 4, client) } }.flat_map(&:value)
    end
    assert_unique taken
  end

  def test_connections_of_the_parent_end_in_the_child_alone
    client = live_client(shared)
    client.get_ticket
    parents = list(client)[0].idle
    sizes = in_children(1) do
      client.get_ticket
      [parents.size] * EACH
    end
    assert_equal [0, 1], [sizes[0], parents.size]
    client.get_ticket
    assert_equal 1, parents.size
  end

  def test_grandchildren_neither
    client = live_client(shared, cache_size: 10_000)
    taken = warm(client)
    taken += in_children(3) do
      mine = takes(EACH - 100, client)
      reader, writer = IO.pipe(binmode: true)
      pid = fork { in_child(writer) { takes(50, client) } }
      writer.close
      mine += takes(50, client) + reader.read.unpack("Q*")
      Process.wait(pid)
      mine
    end
    assert_unique taken
  end

  def test_a_closed_client_stays_closed_in_a_child
    client = live_client(shared, cache_size: 100)
    client.get_ticket
    client.close
    in_children(1) do
      assert_raises(IOError) { client.get_ticket }
      [0] * EACH
    end
  end

  def test_passwords
    password = "s p:@ß"
    server = live("--http-auth-password", password, password: password)
    live_client(server, password: password).get_ticket
    [nil, "", "wrong"].each do |wrong|
      unavailable(/responded 401/) { live_client(server, password: wrong).get_ticket }
    end
  end

  def test_large_tickets
    [2**53, 2**63].each do |offset|
      server = live("--starting-offset", offset.to_s)
      client = live_client(server)
      taken = takes(50, client) + takes(50, live_client(server, cache_size: 100))
      taken += client.tickets(50).to_a
      assert_operator taken.min, :>=, offset
      assert_unique taken
      assert_equal [offset % 4], taken.map { |ticket| ticket % 4 }.uniq
    end
  end

  def test_a_preforked_batch_over_tcp
    port = TCPServer.open("127.0.0.1", 0) { |listener| listener.addr[1] }
    server = live
    server.stop
    server.instance_variable_get(:@command)[5] += ",127.0.0.1:#{port}"
    server.start
    client = client([{ host: "127.0.0.1", port: port }], timeout: 30_000)
    taken = takes(10, client)
    taken += in_children { client.tickets(EACH).to_a }
    assert_unique taken + takes(10, client)
  end

  def test_restarts_under_load_without_an_error_seen
    servers = [live("--node-number", "0"), live("--node-number", "1")]
    urls = servers.map(&:url)
    plain, cached = client(urls), client(urls, cache_size: 200)
    stop = false
    threads = [plain, plain, cached, cached].map do |client|
      Thread.new do
        mine = []
        mine << client.get_ticket until stop
        mine
      end
    end
    servers.values_at(0, 1, 0).each do |server|
      server.stop
      server.start
    end
    stop = true
    taken = threads.flat_map(&:value)
    assert_unique taken
    assert_equal [1, 2], taken.map { |ticket| ticket % 4 }.uniq.sort, "both were of use"
  end
end
