# frozen_string_literal: true

# Forks in ways that the conformance suite does not have.

require_relative "helper"

class ForkTest < Case
  CHILDREN, EACH = 20, 1000

  def fork_client(**settings)
    client([good.url], timeout: 60_000, **settings)
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
    assert_operator cache(client).tickets.size, :>, 0, "there is something to issue twice"
    taken
  end

  # As where a child of a child gets the number of a process that has ended.
  def test_ruby_reports_a_fork_where_a_process_id_does_not
    skip "Ruby reports forks from 3.1 on" unless Process.respond_to?(:_fork)
    client = fork_client(cache_size: 10_000)
    taken = warm(client)
    Process.stub(:pid, Process.pid) { taken += in_children { takes(EACH, client) } }
    assert_unique taken + takes(100, client)
  end

  # As in Ruby 2.7, and where the C program around Ruby forks.
  def test_a_process_id_reports_a_fork_where_ruby_does_not
    client = fork_client(cache_size: 10_000)
    taken = warm(client)
    taken += in_children do
      Tickr::FORKS.clear
      takes(EACH, client)
    end
    assert_unique taken + takes(5000, client)
  end

  def test_threads_of_the_parent_lock_nothing_in_a_child
    client = fork_client(cache_size: 10_000)
    taken = warm(client)
    locked, go_on = Queue.new, Queue.new
    locking = [cache(client), list(client)[0]]
    mutexes = locking.map { |each| each.instance_variable_get(:@mutex) }
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
    client = fork_client(cache_size: 1000)
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
    client = fork_client(cache_size: 1000)
    taken = warm(client)
    taken += in_children(5) do
      Array.new(4) { Thread.new { takes(EACH / 4, client) } }.flat_map(&:value)
    end
    assert_unique taken
  end

  def test_connections_of_the_parent_end_in_the_child_alone
    client = fork_client
    client.get_ticket
    parents = idle(client)
    sizes = in_children(1) do
      client.get_ticket
      [parents.size] * EACH
    end
    assert_equal [0, 1], [sizes[0], parents.size]
    client.get_ticket
    assert_equal 1, parents.size
  end

  def test_grandchildren_neither
    client = fork_client(cache_size: 10_000)
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
    client = fork_client(cache_size: 100)
    client.get_ticket
    client.close
    in_children(1) do
      assert_raises(IOError) { client.get_ticket }
      [0] * EACH
    end
  end
end
