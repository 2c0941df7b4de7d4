# frozen_string_literal: true

# What the conformance suite can not see of the cache: its size, its clock, and its settings.

require_relative "helper"

class CacheTest < Case
  def test_it_is_refilled_where_it_is_told_to
    server = good
    client = client([server.url], cache_size: 100, replenish_cache_at: 10)
    takes(89, client)
    assert_equal [100], server.counts
    client.get_ticket
    wait_for_refill(client)
    assert_equal [100, 90], server.counts
    assert_equal 100, cache(client).tickets.size
    zero = client([good.url], cache_size: 5, replenish_cache_at: 0)
    assert_equal [*1..5], takes(5, zero)
  end

  def test_a_refill_that_failed_is_not_tried_with_each_ticket
    responses = [run_of(1, 16)]
    server = server { responses.shift || answer("", "503 No") }
    client = client([server.url], cache_size: 16)
    takes(8, client)
    refill = cache(client).refill
    wait_for_refill(client)
    cache(client).instance_variable_set(:@again_at, Tickr.now + 60)
    assert_equal [*9..15], takes(7, client)
    assert_same refill, cache(client).refill
    # The last one makes a new one worth its while.
    assert_equal 16, client.get_ticket
    refute_same refill, cache(client).refill
  end

  def small
    number = 1
    server do |_, count|
      next answer({ detail: "too many" }, "400 Bad Request") if count > 2

      number += count
      run_of(number - count, count)
    end
  end

  def test_the_cache_shrinks_to_what_a_server_issues_at_once
    server = small
    client = client([server.url], cache_size: 1000, replenish_cache_at: 500)
    assert_equal 1, client.get_ticket
    wait_for_refill(client)
    assert_equal [1000, 500, 250, 125, 62, 31, 15, 7, 3, 1, 1], server.counts
    assert_equal [*2..4], takes(3, client)
  end

  def test_without_a_thread_for_it_a_ticket_comes_straight_from_a_server
    server = good
    client = client([server.url], cache_size: 16)
    client.get_ticket
    none = ->(*) { raise ThreadError, "can't create Thread" }
    Thread.stub(:new, none) { assert_equal [*2..20], takes(19, client) }
    assert_equal [16, 1, 1, 1, 1], server.counts
  end

  def test_who_came_later_does_not_see_an_old_failure
    asked, go_on = Queue.new, Queue.new
    responses = [answer("", "503 No")]
    server = server do |_, count|
      next run_of(1, count) if responses.empty?

      asked << true
      go_on.pop
      responses.shift
    end
    client = client([server.url], cache_size: 16, timeout: 60_000)
    first = Thread.new { assert_raises(Tickr::Unavailable) { client.get_ticket } }
    asked.pop
    second = Thread.new { client.get_ticket }
    Thread.pass until second.stop?
    go_on << true
    first.join
    assert_equal 1, second.value
  end
end

class DemandTest < Case
  def setup
    super
    @now, number = 1000.0, 0
    fetch = lambda do |count|
      number += count
      (number - count + 1..number).step(1)
    end
    @cache = Tickr::Cache.new(1000, nil, &fetch)
  end

  # The size after each of so many refills, when what there is before one lasts for so long.
  def sizes(count, seconds)
    Array.new(count) do
      @now += seconds
      Tickr.stub(:now, @now) do
        # Down to where it is refilled.
        refill = @cache.refill
        @cache.take while @cache.refill.equal?(refill)
        @cache.refill.value
      end
      # One is asked for even where there are enough.
      assert_operator @cache.tickets.size, :<=, @cache.size + 1
      @cache.size
    end
  end

  def test_what_went_soon_makes_the_next_one_larger
    assert_equal [16, 32, 64, 128, 256, 512, 1000, 1000], sizes(8, 0.05)
  end

  def test_what_lasted_leaves_it_as_it_is
    assert_equal [16] * 5, sizes(5, 1)
  end

  def test_a_lull_halves_it
    sizes(8, 0.05)
    assert_equal [500, 250, 125, 62, 31, 16, 16], sizes(7, 11)
  end
end
