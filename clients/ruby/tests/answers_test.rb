# frozen_string_literal: true

# What is believed of an answer, whatever pieces it comes in.

require_relative "helper"

class AnswersTest < Case
  # A socket that gives these, and then its end.
  Pieces = Struct.new(:pieces) do
    def read_nonblock(*)
      pieces.shift
    end
  end

  BODY = '{"first":7,"increment":4,"count":5}'
  GOOD = (7..23).step(4)
  CHUNKED = "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n" \
            "5;name=value\r\n#{BODY[0, 5]}\r\n1E \r\n#{BODY[5..-1]}\r\n" \
            "0\r\nTrailer: x\r\nAnother: y\r\n\r\n"
  INTERIM = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"

  def read(*pieces, count: 5)
    answer = Tickr::Answer.new(Pieces.new(pieces.map(&:b)), Tickr::Deadline.new(60))
    answer.read
    [answer.tickets(count), answer.reusable]
  end

  def refused(words, *pieces)
    error = assert_raises(Tickr::Failure, pieces.first[0, 80]) { read(*pieces) }
    assert_match words, error.message, pieces.first[0, 80]
    error
  end

  def test_every_split_gives_the_same
    whole = run_of(7, 5, 4)
    [whole, CHUNKED, INTERIM + whole, INTERIM + CHUNKED].each do |bytes|
      (1...bytes.size).each do |at|
        assert_equal [GOOD, true], read(bytes[0, at], bytes[at..-1])
      end
      assert_equal [GOOD, true], read(*bytes.chars)
    end
  end

  def test_every_prefix_is_no_answer
    [run_of(7, 5, 4), CHUNKED, INTERIM + CHUNKED].each do |bytes|
      (1...bytes.size).each { |length| assert refused(/early/, *bytes[0, length].chars).stale }
    end
  end

  def test_a_connection_is_kept_only_when_that_is_sound
    fields = "HTTP/1.1 200 OK\r\nContent-Length: #{BODY.size}\r\n"
    [
      [fields, "", true],
      ["#{fields}Connection: keep-alive\r\n", "", true],
      ["#{fields}Connection: close\r\n", "", false],
      ["#{fields}connection: x, Close\r\n", "", false],
      ["#{fields}connection: x\r\nConnection: close\r\n", "", false],
      [fields.sub("/1.1", "/1.0"), "", false],
      [fields, "more", false]
    ].each do |head, rest, reusable|
      assert_equal [GOOD, reusable], read("#{head}\r\n#{BODY}#{rest}"), head
    end
  end

  def test_what_can_not_be_framed_is_refused
    ok, length = "HTTP/1.1 200 OK\r\n", "Content-Length: #{BODY.size}\r\n"
    chunked = "Transfer-Encoding: chunked\r\n"
    [
      ok, ok + length * 2, ok + length + chunked, "#{ok}Transfer-Encoding: gzip, chunked\r\n",
      ok + chunked * 2, "HTTP/1.0 200 OK\r\n#{chunked}", "#{ok}Content-Length: +#{BODY.size}\r\n",
      "#{ok}#{length} folded\r\n", "#{ok}no colon\r\n#{length}", "#{ok}Content-Length : 35\r\n",
      "HTTP/2 200 OK\r\n#{length}", "SSH-2.0-OpenSSH\r\n", INTERIM * 5 + ok + length,
      "#{ok}Content-Length: 35\n\r\n#{length}\r\n"
    ].each { |head| refused(/did not respond like a Tickr server/, "#{head}\r\n#{BODY}") }
    [
      "x\r\n", "1\r\n{}\r\n0\r\n\r\n", "1\r\n{}}0\r\n\r\n", "-1\r\n", "\r\n", "0x1\r\n", "1\n\r\n"
    ].each do |chunks|
      refused(/malformed/, "#{ok}#{chunked}\r\n#{chunks}")
    end
  end

  def test_an_answer_has_a_bound
    [
      "HTTP/1.1 200 OK\r\nX: ",
      "HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    ].each do |start|
      pieces = ["x" * 4096] * 100
      refused(/too long/, start, *pieces)
    end
  end

  def test_a_body_that_is_no_range_is_refused
    run = { first: 7, increment: 4, count: 5 }
    [
      "<html>", "", "7", "null", "[7,11,15,19,23]", "\xff", "{", "[" * 50_000, "\"\xff\"",
      %({"first":#{"9" * 5000},"increment":4,"count":5}), '{"first":NaN,"increment":4,"count":5}',
      { first: 7, increment: 4 }, { ticket: 7 },
      { first: "7", increment: "4", count: "5" },
      run.merge(first: 7.0), run.merge(first: true), run.merge(first: -1), run.merge(first: nil),
      run.merge(increment: 0), run.merge(increment: -4), run.merge(count: 4), run.merge(count: 6),
      run.merge(count: 5.0), run.merge(first: 2**64 - 16)
    ].each { |body| refused(/did not respond like a Tickr server: the body is not/, answer(body)) }
  end

  def test_numbers_keep_64_bits
    [0, 2**53 - 2, 2**53 + 1, 2**63 - 2, 2**63 + 1, 2**64 - 17].each do |first|
      run, = read(run_of(first, 5, 4))
      assert_equal Array.new(5) { |index| first + 4 * index }, run.to_a
      assert_equal 5, run.size
    end
  end

  def test_an_explanation_can_not_steer_a_terminal
    detail = "a\e[2J\r\nb\u202e\u2028#{"c" * 1000}"
    error = refused(/\Aresponded 503: a \[2J  b  c+…\z/, answer({ detail: detail }, "503 No"))
    assert_equal 200, error.detail.size
    assert_equal "é\ufffd", Tickr::Answer.printable("é\xff")
    assert_equal "\ufffd\ufffd", Tickr::Answer.printable("é".b)
  end
end
