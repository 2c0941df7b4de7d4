# frozen_string_literal: true

# What all tests share: clients and servers that end with the test, and a check for leaks.

require "minitest/autorun"
require "minitest/mock"
require "tickr/tickets"
require "timeout"
require "tmpdir"
require_relative "faulty"

# A test that hangs is a failure; none takes nearly as long.
DEADLINE = 120

class Case < Minitest::Test
  include Answers

  def setup
    @ends = []
  end

  def teardown
    @ends.reverse_each(&:call)
    open = ObjectSpace.each_object(Socket).reject(&:closed?)
    assert_empty open, "a connection was left to the garbage collector"
  end

  def run
    Timeout.timeout(DEADLINE) { super }
  end

  def client(servers, **settings)
    client = Tickr::Client.new(servers: servers, **settings)
    @ends << lambda do
      client.close
      wait_for_refill(client)
    end
    client
  end

  def wait_for_refill(client)
    cache(client).refill&.value
  rescue Tickr::Error, IOError
    nil
  end

  def server(*arguments, &respond)
    ending(Faulty.new(*arguments, &respond))
  end

  def good(*arguments, **settings)
    ending(Good.new(*arguments, **settings))
  end

  def ending(server)
    @ends << -> { server.close }
    server
  end

  def cache(client)
    client.instance_variable_get(:@own).cache
  end

  # What the client knows of its servers.
  def list(client)
    client.instance_variable_get(:@own).servers
  end

  def idle(client)
    list(client)[0].instance_variable_get(:@idle)
  end

  def takes(count, client)
    Array.new(count) { client.get_ticket }
  end

  def unavailable(words = //, &block)
    error = assert_raises(Tickr::Unavailable, &block)
    assert_match words, error.message
    error
  end
end
