"""What is believed of an answer, whatever pieces it comes in."""

import json
import time
import unittest

from tickr_tickets._answer import Answer, Failure
from tickr_tickets._waiting import Blocking, run

from .faulty import answer, tickets


class Pieces(Blocking):
    """A socket that gives these, and then its end."""

    def __init__(self, pieces):
        self._pieces = iter(pieces)

    async def use(self, sock, method, argument, seconds):
        return next(self._pieces, b"")


def read(*pieces, count=5):
    taken = Answer(None, Pieces(pieces), time.monotonic() + 60)
    run(taken.read())
    return taken.run(count), taken.reusable


BODY = json.dumps({"first": 7, "increment": 4, "count": 5}).encode()
GOOD = range(7, 27, 4)
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"
    b"5;name=value\r\n" + BODY[:5] + b"\r\n%X \r\n" % len(BODY[5:]) + BODY[5:] + b"\r\n"
    b"0\r\nTrailer: x\r\nAnother: y\r\n\r\n"
)
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"


class Answers(unittest.TestCase):
    def test_every_split_gives_the_same(self):
        for whole in (tickets(7, 5, 4), CHUNKED, INTERIM + tickets(7, 5, 4), INTERIM + CHUNKED):
            for at in range(1, len(whole)):
                self.assertEqual(read(whole[:at], whole[at:]), (GOOD, True))
            self.assertEqual(read(*(bytes([byte]) for byte in whole)), (GOOD, True))

    def test_every_prefix_is_no_answer(self):
        for whole in (tickets(7, 5, 4), CHUNKED, INTERIM + CHUNKED):
            for end in range(len(whole)):
                with self.assertRaises(Failure) as raised:
                    read(*[whole[:end]] if end else [])
                self.assertTrue(raised.exception.stale, whole[:end])

    def test_a_connection_is_kept_only_when_that_is_sound(self):
        fields = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(BODY)
        for head, rest, reusable in [
            (fields, b"", True),
            (fields + b"Connection: keep-alive\r\n", b"", True),
            (fields + b"Connection: close\r\n", b"", False),
            (fields + b"connection: x, Close\r\n", b"", False),
            (fields.replace(b"/1.1", b"/1.0"), b"", False),
            (fields, b"more", False),
        ]:
            with self.subTest(head=head, rest=rest):
                self.assertEqual(read(head + b"\r\n" + BODY + rest), (GOOD, reusable))

    def test_what_can_not_be_framed_is_refused(self):
        length = b"Content-Length: %d\r\n" % len(BODY)
        chunked = b"Transfer-Encoding: chunked\r\n"
        for head in [
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 200 OK\r\n" + length + length,
            b"HTTP/1.1 200 OK\r\n" + length + chunked,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n",
            b"HTTP/1.1 200 OK\r\n" + chunked + chunked,
            b"HTTP/1.0 200 OK\r\n" + chunked,
            b"HTTP/1.1 200 OK\r\nContent-Length: +%d\r\n" % len(BODY),
            b"HTTP/1.1 200 OK\r\n" + length + b" folded\r\n",
            b"HTTP/1.1 200 OK\r\nno colon\r\n" + length,
            b"HTTP/1.1 200 OK\r\nContent-Length : %d\r\n" % len(BODY),
            b"HTTP/2 200 OK\r\n" + length,
            b"SSH-2.0-OpenSSH\r\n",
            INTERIM * 5 + b"HTTP/1.1 200 OK\r\n" + length,
        ]:
            with self.subTest(head=head), self.assertRaises(Failure) as raised:
                read(head + b"\r\n" + BODY)
            self.assertIn("did not respond like a Tickr server", str(raised.exception))
        for chunks in [b"x\r\n", b"1\r\n{}\r\n0\r\n\r\n", b"-1\r\n", b"\r\n", b"0x1\r\n"]:
            with self.subTest(chunks=chunks), self.assertRaisesRegex(Failure, "malformed"):
                read(b"HTTP/1.1 200 OK\r\n" + chunked + b"\r\n" + chunks)

    def test_an_answer_has_a_bound(self):
        for start in [
            b"HTTP/1.1 200 OK\r\nX: ",
            b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        ]:
            with self.subTest(start=start), self.assertRaisesRegex(Failure, "too long"):
                read(start, *[b"x" * 4096] * 100)

    def test_a_body_that_is_no_range_is_refused(self):
        for body in [
            b"<html>", b"", b"7", b"null", b"[7,11,15,19,23]", b"\xff", b"{", b"[" * 50_000,
            b'{"first":%s,"increment":4,"count":5}' % (b"9" * 5000),
            {"first": 7, "increment": 4}, {"ticket": 7},
            {"first": "7", "increment": "4", "count": "5"},
            {"first": 7.0, "increment": 4, "count": 5},
            {"first": True, "increment": 4, "count": 5},
            {"first": -1, "increment": 4, "count": 5},
            {"first": 7, "increment": 0, "count": 5},
            {"first": 7, "increment": -4, "count": 5},
            {"first": 7, "increment": 4, "count": 4},
            {"first": 7, "increment": 4, "count": 6},
            {"first": 7, "increment": 4, "count": None},
            {"first": 2**64 - 16, "increment": 4, "count": 5},
        ]:  # fmt: skip
            with (
                self.subTest(body=str(body)[:60]),
                self.assertRaisesRegex(Failure, "did not respond like"),
            ):
                read(answer(body))

    def test_numbers_keep_64_bits(self):
        for first in [0, 2**53 - 2, 2**53 + 1, 2**63 - 2, 2**63 + 1, 2**64 - 17]:
            run, _ = read(tickets(first, 5, 4))
            self.assertEqual(list(run), [first + 4 * index for index in range(5)])

    def test_an_explanation_can_not_steer_a_terminal(self):
        with self.assertRaises(Failure) as raised:
            read(answer({"detail": "a\x1b[2J\r\nb\u202e" + "c" * 1000}, "503 No"))
        self.assertTrue(str(raised.exception).isprintable())
        self.assertEqual(len(raised.exception.detail), 200)
