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
    cache(client).refill.join
    assert_equal [100, 90], server.counts
    assert_equal 100, cache(client).left
    zero = client([good.url], cache_size: 5, replenish_cache_at: 0)
    assert_equal [*1..5], takes(5, zero)
  end

  def test_a_refill_that_failed_is_not_tried_with_each_ticket
    responses = [run_of(1, 16)]
    server = server { responses.shift || answer("", "503 No") }
    client = client([server.url], cache_size: 16)
    takes(8, client)
    refill = cache(client).refill
    refill.join
    cache(client).instance_variable_set(:@again_at, Tickr::Deadline.now + 60)
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
    cache(client).refill.join
    assert_equal [1000, 500, 250, 125, 62, 31, 15, 7, 3, 1, 1], server.counts
    assert_equal [*2..4], takes(3, client)
  end

  def test_without_a_thread_for_it_a_ticket_comes_straight_from_a_server
    server = good
    client = client([server.url], cache_size: 16)
    client.get_ticket
    mine = cache(client)
    mine.define_singleton_method(:begin_refill) {}
    assert_equal [*2..20], takes(19, client)
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
  Endless = Struct.new(:first) do
    def fetch(count)
      self.first += count
      (first - count..first - 1).step(1)
    end
  end

  def setup
    super
    @cache = Tickr::Cache.new(Endless.new(1), 1000, nil)
  end

  def fill
    assert_nil @cache.fill
    @cache.size
  end

  def pop(until_left:)
    @cache.pop while @cache.left > until_left
  end

  def test_a_refill_that_comes_too_late_makes_the_next_one_larger
    # As it begins, it is empty; that is not late.
    assert_equal 16, fill
    sizes = Array.new(8) do
      pop(until_left: 0)
      fill
    end
    assert_equal [32, 64, 128, 256, 512, 1000, 1000, 1000], sizes
    assert_operator @cache.left, :<=, 1000
  end

  def test_one_in_time_leaves_it_as_it_is
    fill
    8.times do
      refute @cache.hungry?
      pop(until_left: 8)
      assert @cache.hungry?
      assert_equal 16, fill
    end
  end

  def test_a_lull_halves_it
    @cache.size = 1000
    fill
    sizes = Array.new(7) do
      pop(until_left: @cache.size / 2)
      @cache.instance_variable_set(:@landed_at, Tickr::Deadline.now - Tickr::Cache::LULL - 1)
      fill
    end
    assert_equal [500, 250, 125, 62, 31, 16, 16], sizes
  end
end
