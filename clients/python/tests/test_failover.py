"""Servers that are dead, wrong, slow or broken: somebody else is asked, and the error names all."""

import pickle
import socket
import tempfile
import threading
import time
import unittest
from unittest import mock

from tickr_tickets import Client, Refused, TickrError, Unavailable, _servers
from tickr_tickets._waiting import Blocking, run

from .clients import Cases, no_leaks, with_both
from .faulty import Faulty, Good, answer, tickets


class FailOver(Cases):
    def test_a_dead_server_is_passed_over(self):
        good = self.server(Good(11, 4))
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
            client = self.client([nobody, f"unix:{folder.name}/none", good.url])
            self.assertEqual(client.next(), 11)
            self.assertEqual(client.take(3), range(15, 27, 4))

    def test_a_wrong_server_is_passed_over(self):
        problem = {"title": "No", "detail": "not now"}
        for response, words in [
            (answer(b"", "302 Found", "Location: http://127.0.0.1/"), "responded 302"),
            (answer(problem, "401 Unauthorized"), "responded 401: not now"),
            (answer(b"<h1>no</h1>", "404 Not Found"), "responded 404"),
            (answer(problem, "500 Oops"), "responded 500: not now"),
            (answer(problem, "503 Service Unavailable", "Retry-After: 1"), "responded 503"),
            (b"HTTP/1.1 204 No Content\r\n\r\n", "responded 204"),
            (b"HTTP/1.1 101 Switching\r\n\r\n", "responded 101"),
            (b"HTTP/1.1 503 No\r\nContent-Length: 99\r\n\r\n", "responded 503"),
            (answer(b"<html>It works!</html>"), "the body is not JSON"),
            (answer({"ok": True}), "not the range asked for"),
            (answer([1]), "not the range asked for"),
            (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "not an HTTP/1 response"),
        ]:
            with self.subTest(words=words, response=response):
                lengthless = b"Content-Length: 99" in response or b"Content-Length" not in response

                def respond(connection, count, response=response, ends=lengthless):
                    connection.sendall(response)
                    return None if ends else b""

                with Faulty(respond) as wrong, Good(5) as good:
                    client = self.client([wrong.url, good.url])
                    self.assertEqual(client.take(2), range(5, 7))
                    with self.assertRaises(Unavailable) as raised:
                        self.client([wrong.url]).next()
                    [(server, failure)] = raised.exception.attempts
                    self.assertEqual(server, wrong.url)
                    self.assertIn(words, failure)
                    client.close()

    def test_a_400_is_raised_at_once(self):
        detail = {"detail": "over the largest batch"}
        strict, good = self.server(Faulty(answer(detail, "400 Bad Request"))), self.server(Good())
        client = self.client([strict.url, good.url])
        for _ in range(3):
            with self.assertRaises(Refused) as raised:
                client.take(10**9)
        error = raised.exception
        self.assertEqual((error.server, error.status), (strict.url, 400))
        self.assertEqual(str(error), f"{strict.url} responded 400: over the largest batch")
        self.assertEqual((len(strict.requests), good.requests), (3, []))

    def test_the_last_error_names_every_server(self):
        urls = [self.server(Faulty(answer(b"", f"{500 + n} No"))).url for n in range(3)]
        client = self.client(urls)
        for _ in range(2):
            with self.assertRaises(Unavailable) as raised:
                client.take(1)
            expected = [(url, f"responded {500 + n}") for n, url in enumerate(urls)]
            self.assertEqual(raised.exception.attempts, expected)
            for url, failure in expected:
                self.assertIn(f"\n  {url} {failure}", str(raised.exception))

    def test_a_connection_cut_at_each_byte(self):
        whole = tickets(1, 2)
        good = self.server(Good(1001))

        def cut(connection, count):
            connection.sendall(whole[:end])
            return None

        broken = self.server(Faulty(cut))
        for end in range(len(whole)):
            client = self.client([broken.url, good.url])
            self.assertGreater(client.take(2)[0], 1000, end)
            client.close()
        end = len(whole)
        self.assertEqual(self.client([broken.url, good.url]).take(2), range(1, 3))

    def test_a_kept_connection_that_breaks_is_made_anew(self):
        whole = tickets(1, 1)
        numbers = iter(range(1, 10_000))

        def cut_every_other(connection, count):
            number = next(numbers)
            if number % 2:
                return tickets(number, 1)
            connection.sendall(whole[:end])
            return None

        server = self.server(Faulty(cut_every_other))
        client = self.client([server.url])
        for end in range(len(whole)):
            client.next()
        self.assertEqual(server.connections, len(whole))

    def test_an_error_on_a_kept_connection_is_an_error(self):
        responses = iter([tickets(1, 1), answer(b"", "503 No")])
        server = self.server(Faulty(lambda _, count: next(responses)))
        client = self.client([server.url])
        client.next()
        with self.assertRaisesRegex(Unavailable, "responded 503"):
            client.next()
        self.assertEqual(len(server.requests), 2)

    def test_connections_are_kept(self):
        good = self.server(Good())
        client = self.client([good.url])
        self.assertEqual([client.next() for _ in range(20)], list(range(1, 21)))
        self.assertEqual(good.connections, 1)

    def test_a_slow_drip_is_cut_short(self):
        stop = threading.Event()
        self.addCleanup(stop.set)

        def drip(connection, count):
            for byte in tickets(1, 1):
                if stop.wait(0.05):
                    return None
                connection.sendall(bytes([byte]))
            return b""

        slow, good = self.server(Faulty(drip)), self.server(Good(7))
        self.assertEqual(self.client([slow.url, good.url], timeout=0.3).next(), 7)
        with self.assertRaisesRegex(Unavailable, "did not answer in time"):
            self.client([slow.url], timeout=0.3).next()

    def test_silence_ends_with_the_time_out(self):
        # Accepted by the kernel and by nobody else.
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            with self.assertRaisesRegex(Unavailable, "did not answer in time"):
                self.client([url], timeout=0.2).next()

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

    def test_every_address_of_a_name_is_tried(self):
        good = self.server(Good(7))
        port = int(good.url.rpartition(":")[2])
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in ("127.0.0.2", "127.0.0.1")
        ]
        with mock.patch("socket.getaddrinfo", lambda *_, **__: found):
            self.assertEqual(self.client([f"http://two.example:{port}"]).next(), 7)

    def test_a_name_that_can_not_be_is_passed_over(self):
        good = self.server(Good(7))
        for ticket, name in [(7, "a" * 70), (8, "a..b")]:
            self.assertEqual(self.client([f"http://{name}", good.url]).next(), ticket)

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
            mine = getattr(client, "client", client)._own.servers.list[0]
            mine.pause = 8.0
            client.next()
            self.assertEqual(mine.pause, _servers.PAUSE_MIN)

    def test_numbers_that_go_backwards_are_refused(self):
        good = self.server(Good(1))
        for again in (range(101, 106), range(91, 96), range(97, 102), range(105, 110)):
            runs = iter([range(101, 106), again, again, again])
            back = self.server(Faulty(lambda _, count: tickets(next(runs)[0], count)))
            client = self.client([back.url, good.url])
            self.assertEqual(client.take(5), range(101, 106))
            self.assertLess(client.take(5)[-1], 90)
            with self.assertRaisesRegex(Unavailable, r"issued \d+ after 105"):
                alone = self.client([back.url])
                runs = iter([range(101, 106), again, again])
                self.assertEqual(alone.take(5), range(101, 106))
                alone.take(5)

    def test_without_an_order_only_repeated_numbers_are_refused(self):
        runs = iter([101, 1, 50, 103, 103])
        server = self.server(Faulty(lambda _, count: tickets(next(runs), count)))
        client = self.client([server.url], check_order=False)
        self.assertEqual([client.take(5)[0] for _ in range(3)], [101, 1, 50])
        with self.assertRaisesRegex(Unavailable, "issued 103 after 105"):
            client.take(5)

    def test_nodes_behind_one_address_are_told_apart(self):
        firsts = iter([101, 2, 121, 22, 42, 141])
        server = self.server(Faulty(lambda _, count: tickets(next(firsts), count, 4)))
        client = self.client([server.url])
        self.assertEqual([client.take(5)[0] for _ in range(6)], [101, 2, 121, 22, 42, 141])

    def test_a_kept_connection_that_fell_behind_is_made_anew(self):
        firsts = iter([100, 50, 200])
        server = self.server(Faulty(lambda _, count: tickets(next(firsts), count)))
        client = self.client([server.url])
        self.assertEqual([client.next(), client.next()], [100, 200])
        self.assertEqual(server.connections, 2)

    def test_an_interim_answer_and_a_chunked_body(self):
        body = b'{"first":9,"increment":1,"count":1}'
        response = (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        )
        server = self.server(Faulty(response))
        self.assertEqual(self.client([server.url]).next(), 9)

    def test_large_tickets_come_unchanged(self):
        for first in (2**53 + 1, 2**63 + 1, 2**64 - 3):
            server = self.server(Faulty(lambda _, count: tickets(first, count)))
            self.assertEqual(self.client([server.url]).next(), first)
            self.assertEqual(self.client([server.url], cache=3).next(), first)
            self.assertEqual(list(self.client([server.url]).take(3)), [first, first + 1, first + 2])

    def test_the_password_is_sent_and_never_shown(self):
        server = self.server(Faulty(answer(b"", "401 No")))
        client = self.client([server.url], password="s ü:@")
        with self.assertRaises(Unavailable) as raised:
            client.next()
        self.assertIn("\r\nAuthorization: Basic dGlja3I6cyDDvDpA", server.requests[-1])
        self.assertEqual(raised.exception.attempts, [(server.url, "responded 401")])
        self.assertIn(f"['{server.url}']", repr(client))
        with self.assertRaises(Unavailable):
            self.client([server.url]).next()
        self.assertNotIn("Authorization", server.requests[-1])

    def test_a_unix_socket(self):
        with tempfile.TemporaryDirectory() as folder:
            server = self.server(Good(5, path=f"{folder}/a socket"))
            client = self.client([server.url])
            self.assertEqual([client.next(), client.next()], [5, 6])
            self.assertIn("\r\nHost: localhost\r\n", server.requests[0])
            self.assertEqual(server.connections, 1)

    def test_close_ends_the_connections_and_the_client(self):
        for cache in (0, 100):
            server = self.server(Good())
            client = self.client([server.url], cache=cache)
            client.next()
            client.close()
            self.assertTrue(server.left.wait(60))
            client.close()
        client = self.client([server.url], cache=100)
        client.next()
        getattr(client, "client", client)._close()
        with self.assertRaisesRegex(RuntimeError, "closed"):
            client.next()
        with self.assertRaisesRegex(RuntimeError, "closed"):
            client.take(1)


FailOverBlocking, FailOverAsyncio = with_both(FailOver)
del FailOver


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

    def test_what_can_not_be_is_refused_without_showing_it(self):
        for url in [
            "tickr:8080", "https://tickr", "unix:", "unix:/a\0b", "unix:/" + "secret" * 18,
            "http://tickr/status", "http://tickr?x", "http://tickr#x", "http://:8080",
            "http://[tickr]:1", "http://[::1::]", "http://ti ckr", "http://tickr:",
            "http://tickr:0", "http://tickr:+80", "http://tickr:65536", "http://tickr:123456",
            "http://me:secret@tickr:8080", "http://secret@tickr", "http://a:secret@b@tickr", "http://tickr\r\nX: y", "",
        ]:  # fmt: skip
            with self.subTest(url=url), self.assertRaises(ValueError) as raised:
                Client([url])
            self.assertNotIn("secret", str(raised.exception))
        for servers, settings in [
            ([], {}),
            ("http://tickr", {}),
            (["http://tickr"] * 257, {}),
            (["http://tickr"], {"timeout": 0}),
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
        server = _servers.Server("http://tickr", None)
        pauses = []
        for _ in range(7):
            server.blame()
            pauses.append(round(server.paused_until - time.monotonic()))
            # A second failure at the same time is the same failure.
            server.blame()
            server.paused_until = 0.0
        self.assertEqual(pauses, [1, 2, 4, 8, 16, 30, 30])

    def test_what_is_remembered_is_bounded(self):
        server = _servers.Server("http://tickr", None)
        for number in range(1, 1000):
            server.admit(range(number, number + number, number), {})
            server.admit(range(100 * number, 100 * number + 1), {})
        self.assertLessEqual(len(server.runs), 64)
        self.assertEqual(server.runs.keys(), server.highest.keys())
        self.assertLessEqual(max(map(len, server.runs.values())), 32)


class Connections(unittest.TestCase):
    def setUp(self):
        no_leaks(self)

    def test_a_silent_address_leaves_time_for_the_next(self):
        seconds = []

        class Waiting(Blocking):
            async def resolve(self, host, port, within):
                addresses = [("127.0.0.2", port), ("127.0.0.3", port)]
                return [(socket.AF_INET, 1, 6, "", address) for address in addresses]

            async def use(self, sock, method, argument, within):
                seconds.append(within)
                raise failure

        server = _servers.Server("http://tickr", None)
        failure = socket.timeout()
        with self.assertRaises(_servers.Failure):
            run(_servers._connect(server, Waiting(), time.monotonic() + 60))
        self.assertLess(seconds[0], 31)
        self.assertGreater(seconds[1], 31)
        # What is no failure of the server is passed on, and the socket closed.
        failure = KeyboardInterrupt()
        with self.assertRaises(KeyboardInterrupt):
            run(_servers._connect(server, Waiting(), time.monotonic() + 60))

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

    def test_only_so_many_connections_are_kept(self):
        server, client, threads, go_on = self.together(20)
        with server, client:
            go_on.set()
            for thread in threads:
                thread.join()
            self.assertEqual(len(client._own.servers.list[0].idle), _servers.IDLE_MAX)

    def test_a_request_that_outlives_its_client_keeps_no_connection(self):
        server, client, threads, go_on = self.together(1)
        with server:
            client.close()
            go_on.set()
            threads[0].join()
            self.assertEqual(client._own.servers.list[0].idle, [])
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
