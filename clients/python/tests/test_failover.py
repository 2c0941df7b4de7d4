"""What the conformance suite can not see of fail-over: clocks, resolvers, bounds and close."""

import pickle
import socket
import threading
import time
import unittest
from unittest import mock

from tickr_tickets import Client, Refused, TickrError, Unavailable, _servers

from .clients import Cases, no_leaks, with_both
from .faulty import Faulty, Good, answer, tickets


class FailOver(Cases):
    def test_a_resolver_that_hangs_ends_with_the_time_out(self):
        good, resolve, stop = self.server(Good(7)), socket.getaddrinfo, threading.Event()

        def hang(host, *arguments, **settings):
            if host == "hangs":
                stop.wait(60)
            return resolve(host, *arguments, **settings)

        with mock.patch("socket.getaddrinfo", hang):
            client = self.client(["http://hangs", good.url], timeout=0.5)
            self.assertEqual(client.next(), 7)
            stop.set()
            client.close()

    def test_what_only_looks_like_a_name_is_passed_over(self):
        good = self.server(Good(7))
        self.assertEqual(self.client(["http://a..b", good.url]).next(), 7)

    def test_chunks_are_not_believed_of_http_1_0(self):
        chunks = b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        body = tickets(1, 1).partition(b"\r\n\r\n")[2]
        chunks += b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        bad, good = self.server(Faulty(chunks)), self.server(Good(7))
        self.assertEqual(self.client([bad.url, good.url]).next(), 7)

    def test_an_explanation_that_can_not_be_read_hides_no_status(self):
        for body in (b"[" * 60_000, b'{"detail":', b"[7]", b"7", b"{}", b"\xff"):
            server = self.server(Faulty(answer(body, "503 No")))
            with self.assertRaises(Unavailable) as raised:
                self.client([server.url]).next()
            self.assertEqual(raised.exception.attempts, [(server.url, "responded 503")])

    def test_every_address_of_a_name_is_tried(self):
        good = self.server(Good(7))
        port = int(good.url.rpartition(":")[2])
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in ("127.0.0.2", "127.0.0.1")
        ]
        with mock.patch("socket.getaddrinfo", lambda *_, **__: found):
            self.assertEqual(self.client([f"http://two.example:{port}"]).next(), 7)

    def test_who_failed_comes_last_for_a_while(self):
        with mock.patch.object(_servers, "PAUSE_MIN", 60.0):
            bad, good = self.server(Faulty(answer(b"", "503 No"))), self.server(Good())
            client = self.client([bad.url, good.url])
        self.assertEqual([client.next() for _ in range(5)], [1, 2, 3, 4, 5])
        self.assertEqual(len(bad.requests), 1)
        good.close()
        with self.assertRaises(Unavailable) as raised:
            client.next()
        # It is still asked when nobody else is left.
        self.assertEqual([server for server, _ in raised.exception.attempts], [good.url, bad.url])

    def test_who_is_back_is_preferred_again(self):
        responses = iter([answer(b"", "503 No")])
        numbers = iter(range(1000, 2000))
        first = self.server(
            Faulty(lambda _, count: next(responses, None) or tickets(next(numbers), count))
        )
        second = self.server(Good())
        with mock.patch.object(_servers, "PAUSE_MIN", 0.0):
            client = self.client([first.url, second.url])
            self.assertEqual([client.next(), client.next()], [1, 1000])
        with self.subTest("and its next pause is short again"):
            mine = getattr(client, "client", client)._own.servers[0]
            mine.pause = 8.0
            client.next()
            self.assertEqual(mine.pause, _servers.PAUSE_MIN)


FailOverBlocking, FailOverAsyncio = with_both(FailOver)
del FailOver


def new_server():
    return _servers.Server("http://tickr", 60, None, True)


class Settings(unittest.TestCase):
    def test_urls_are_read_and_shown(self):
        for url, name in [
            ("http://tickr", "http://tickr:80"),
            ("http://tickr:8080/", "http://tickr:8080"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("http://[0:0::1]", "http://[::1]:80"),
            ("unix:/run/tickr.sock", "unix:/run/tickr.sock"),
            ("unix:tickr.sock", "unix:tickr.sock"),
        ]:
            self.assertEqual(repr(Client([url])), f"Client(['{name}'])")

    def test_what_can_not_be_is_refused(self):
        for servers, settings in [
            ("http://tickr", {}),
            ([], {}),
            (["http://tickr"] * 257, {}),
            (["http://tickr"], {"timeout": float("nan")}),
            (["http://tickr"], {"cache": -1}),
        ]:
            with self.subTest(servers=servers, settings=settings), self.assertRaises(ValueError):
                Client(servers, **settings)
        for count in (0, -1):
            with self.assertRaises(ValueError):
                Client(["http://tickr"]).take(count)

    def test_errors_survive_a_queue(self):
        for error in [Unavailable([("http://a:80", "is away")]), Refused("http://a:80", "no")]:
            copy = pickle.loads(pickle.dumps(error))
            self.assertIsInstance(copy, TickrError)
            self.assertEqual((str(copy), vars(copy)), (str(error), vars(error)))

    def test_a_pause_doubles_within_a_bound(self):
        server = new_server()
        pauses = []
        for _ in range(7):
            server.blame()
            pauses.append(round(server.paused_until - time.monotonic()))
            # A second failure at the same time is the same failure.
            server.blame()
            server.paused_until = 0.0
        self.assertEqual(pauses, [1, 2, 4, 8, 16, 30, 30])

    def test_what_is_remembered_is_bounded(self):
        server = new_server()
        for number in range(1, 1000):
            server.admit(range(number, number + number, number), [])
            server.admit(range(100 * number, 100 * number + 1), [])
        self.assertEqual(len(server.runs), 64)
        # The latest ones.
        with self.assertRaises(_servers.Stale):
            server.admit(range(100 * 980, 100 * 980 + 1), [])


class Connections(unittest.TestCase):
    def setUp(self):
        no_leaks(self)

    def wire(self, *addresses, clock=lambda: None, answers=(), failure=None):
        """Sockets that are none; the seconds that each wait may take are in `self.seconds`."""
        self.seconds, case = [], self

        class Wire:
            def __init__(self, *_):
                case.wires.append(self)
                self.is_closed = False

            def settimeout(self, seconds):
                case.seconds.append(seconds)
                clock()

            def connect(self, _):
                if failure:
                    raise failure

            def sendall(self, _):
                pass

            def recv(self, _):
                return answers.pop(0)

            def close(self):
                self.is_closed = True

        self.wires = []
        found = [(socket.AF_INET, 1, 6, "", (address, 80)) for address in addresses]
        for patch in [
            mock.patch("socket.socket", Wire),
            mock.patch("socket.getaddrinfo", lambda *_, **__: found),
        ]:
            patch.start()
            self.addCleanup(patch.stop)

    def test_a_silent_address_leaves_time_for_the_next(self):
        server = new_server()
        # What is no failure of the server is passed on at once.
        for failure, tried in [(socket.timeout(), 2), (KeyboardInterrupt(), 1)]:
            with self.subTest(failure=failure):
                self.wire("127.0.0.2", "127.0.0.3", failure=failure)
                with self.assertRaises(type(failure)):
                    server._connect(time.monotonic() + 60)
                self.assertEqual([wire.is_closed for wire in self.wires], [True] * tried)
                self.assertLess(self.seconds[0], 31)
                self.assertTrue(all(seconds > 31 for seconds in self.seconds[1:]))

    def test_each_wait_has_what_is_left_of_the_time(self):
        now = [100.0]
        answers = [tickets(1, 1), *map(bytes, zip(tickets(2, 1))), b""]

        def half_a_second():
            now[0] += 0.5

        self.wire("127.0.0.2", clock=half_a_second, answers=answers)
        server = _servers.Server("http://tickr", 2.5, None, True)
        with mock.patch("time.monotonic", lambda: now[0]):
            self.assertEqual(server.fetch(1), range(1, 2))
            self.assertEqual(self.seconds, [2.5, 2.0, 1.5])
            self.seconds.clear()
            with self.assertRaisesRegex(_servers.Failure, "did not answer in time"):
                server.fetch(1)
            self.assertEqual(self.seconds, [2.5, 2.0, 1.5, 1.0, 0.5])
            # A new connection instead of an old one takes no more time than that.
            answers[:] = [tickets(2, 1), b"", tickets(3, 1)]
            server.fetch(1)
            self.seconds.clear()
            self.assertEqual(server.fetch(1), range(3, 4))
            self.assertEqual(self.seconds, [2.5, 2.0, 1.5, 1.0, 0.5])

    def together(self, count):
        """A server that answers when this many requests are there, and threads that wait for it."""
        arrived = threading.Barrier(count + 1)
        go_on = threading.Event()
        good = iter(range(1, 100))

        def respond(connection, asked):
            arrived.wait(60)
            go_on.wait(60)
            return tickets(next(good), asked)

        server = Faulty(respond)
        client = Client([server.url], timeout=60, check_order=False)
        threads = [threading.Thread(target=client.next) for _ in range(count)]
        for thread in threads:
            thread.start()
        arrived.wait(60)
        return server, client, threads, go_on

    def test_a_request_that_outlives_its_client_keeps_no_connection(self):
        server, client, threads, go_on = self.together(1)
        with server:
            client.close()
            go_on.set()
            threads[0].join()
            self.assertEqual(client._own.servers[0].idle, [])
            self.assertTrue(server.left.wait(60))

    def test_a_request_that_outlives_its_client_makes_no_connection(self):
        asked, go_on, errors = threading.Event(), threading.Event(), []

        def respond(connection, count):
            if server.requests[1:]:
                asked.set()
                go_on.wait(60)
                return None
            return tickets(1, count)

        def ask():
            try:
                client.next()
            except RuntimeError as error:
                errors.append(str(error))

        with Faulty(respond) as server, Client([server.url], timeout=60) as client:
            client.next()
            thread = threading.Thread(target=ask)
            thread.start()
            self.assertTrue(asked.wait(60))
            client.close()
            go_on.set()
            thread.join()
            self.assertEqual((errors, server.connections), (["the client is closed"], 1))
