"""The real server: passwords, sockets, large numbers, restarts under load, and forks."""

import array
import asyncio
import os
import threading
import unittest
from unittest import mock

from tickr_tickets import AsyncClient, Client, Refused, Unavailable, _client

from .live import Tickr

CHILDREN = 20
EACH = 1000


@unittest.skipUnless(os.environ.get("TICKR"), "TICKR is not the path of a server")
class Live(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tickr = Tickr("--max-nodes", "4")
        cls.addClassCleanup(cls.tickr.close)

    def client(self, **settings):
        client = Client([self.tickr.url], timeout=30, **settings)
        self.addCleanup(client.close)
        return client

    def test_tickets_and_batches(self):
        client = self.client()
        one, run = client.next(), client.take(1000)
        self.assertEqual((len(run), run.step), (1000, 4))
        self.assertGreater(run[0], one)
        self.assertGreater(client.next(), run[-1])
        with self.assertRaisesRegex(Refused, "TICKR_MAX_BATCH"):
            client.take(10**9)

    def fork(self, take, children=CHILDREN):
        """The tickets of children that each take some; they run at the same time."""
        readers = []
        for _ in range(children):
            reader, writer = os.pipe()
            pid = os.fork()
            if not pid:
                status = 1
                try:
                    with open(writer, "wb") as pipe:
                        array.array("Q", take()).tofile(pipe)
                    status = 0
                finally:
                    os._exit(status)
            os.close(writer)
            readers.append((pid, reader))
        taken = []
        for pid, reader in readers:
            with open(reader, "rb") as pipe:
                tickets = array.array("Q")
                tickets.frombytes(pipe.read())
            self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)
            self.assertEqual(len(tickets), EACH)
            taken += tickets
        return taken

    def assert_unique(self, taken):
        self.assertEqual(len(set(taken)), len(taken))

    def warm(self, client):
        taken = [client.next() for _ in range(5000)]
        self.assertGreater(client._own.left, 0, "there is something to hand out twice")
        return taken

    def test_children_do_not_issue_what_the_parent_has(self):
        client = self.client(cache=10_000)
        taken = self.warm(client)
        taken += self.fork(lambda: [client.next() for _ in range(EACH)])
        taken += [client.next() for _ in range(5000)]
        self.assert_unique(taken)

    def test_python_tells_of_a_fork_before_a_process_id_does(self):
        client = self.client(cache=10_000)
        taken = self.warm(client)
        # As where a child of a child gets the number of a parent that is gone.
        with mock.patch("os.getpid", lambda: 1):
            client._own.pid = 1
            taken += self.fork(lambda: [client.next() for _ in range(EACH)])
        taken += [client.next() for _ in range(100)]
        self.assert_unique(taken)

    def test_connections_of_the_parent_end_in_the_child_alone(self):
        client = self.client()
        client.next()
        parents = client._own.servers.list[0].idle
        left = self.fork(lambda: [len(parents)] * EACH, 1)
        self.assertEqual((left[0], len(parents)), (0, 1))
        client.next()

    def test_nor_where_python_was_not_told_of_the_fork(self):
        client = self.client(cache=10_000)
        taken = self.warm(client)
        _client._clients.discard(client)
        taken += self.fork(lambda: [client.next() for _ in range(EACH)])
        taken += [client.next() for _ in range(5000)]
        self.assert_unique(taken)

    def test_nor_while_threads_are_in_the_client(self):
        client = self.client(cache=1000)
        taken, stop = [], threading.Event()

        def take():
            mine = []
            while not stop.is_set():
                mine.append(client.next())
            taken.extend(mine)

        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        children = self.fork(lambda: [client.next() for _ in range(EACH)])
        stop.set()
        for thread in threads:
            thread.join()
        self.assert_unique(taken + children)

    def test_nor_with_asyncio(self):
        client = AsyncClient([self.tickr.url], cache=10_000, timeout=30)

        async def take(count=EACH):
            return [await client.next() for _ in range(count)]

        taken = asyncio.run(take(5000))
        self.assertGreater(client._own.left, 0)
        taken += self.fork(lambda: asyncio.run(take()))
        taken += asyncio.run(take(5000))
        asyncio.run(client.close())
        self.assert_unique(taken)

    def test_grandchildren_neither(self):
        client = self.client(cache=10_000)
        taken = self.warm(client)

        def take():
            mine = [client.next() for _ in range(EACH - 100)]
            reader, writer = os.pipe()
            if not os.fork():
                with open(writer, "wb") as pipe:
                    array.array("Q", [client.next() for _ in range(50)]).tofile(pipe)
                os._exit(0)
            os.close(writer)
            mine += [client.next() for _ in range(50)]
            with open(reader, "rb") as pipe:
                theirs = array.array("Q")
                theirs.frombytes(pipe.read())
            os.wait()
            return mine + list(theirs)

        taken += self.fork(take, 3)
        self.assert_unique(taken)


@unittest.skipUnless(os.environ.get("TICKR"), "TICKR is not the path of a server")
class LiveElsewhere(unittest.TestCase):
    def test_passwords(self):
        password = "s p:@ß"
        with Tickr("--http-auth-password", password, password=password) as tickr:
            with Client([tickr.url], password=password) as client:
                client.next()
            for wrong in (None, "", "wrong"):
                with Client([tickr.url], password=wrong) as client:
                    with self.assertRaisesRegex(Unavailable, "responded 401"):
                        client.next()

    def test_large_tickets(self):
        for offset in (2**53, 2**63):
            with Tickr("--starting-offset", str(offset)) as tickr:
                with Client([tickr.url]) as client, Client([tickr.url], cache=100) as cached:
                    taken = [client.next() for _ in range(50)]
                    taken += [cached.next() for _ in range(50)]
                    taken += client.take(50)
            self.assertGreaterEqual(min(taken), offset)
            self.assertEqual(len(set(taken)), 150)
            self.assertEqual({ticket % 4 for ticket in taken}, {offset % 4})

    def test_restarts_under_load_without_an_error_seen(self):
        with Tickr("--node-number", "0") as first, Tickr("--node-number", "1") as second:
            taken, errors, stop = [], [], threading.Event()

            def take(client):
                mine = []
                try:
                    while not stop.is_set():
                        mine.append(client.next())
                except Exception as error:
                    errors.append(error)
                taken.extend(mine)

            async def take_more(client):
                mine = []
                try:
                    while not stop.is_set():
                        mine += await asyncio.gather(*(client.next() for _ in range(5)))
                except Exception as error:
                    errors.append(error)
                await client.close()
                taken.extend(mine)

            urls = [first.url, second.url]
            plain, cached = Client(urls), Client(urls, cache=200)
            threads = [
                threading.Thread(target=take, args=(client,))
                for client in (plain, plain, cached, cached)
            ]
            waiter = AsyncClient(urls)
            threads.append(threading.Thread(target=lambda: asyncio.run(take_more(waiter))))
            for thread in threads:
                thread.start()
            for server in (first, second, first):
                server.stop()
                server.start()
            stop.set()
            for thread in threads:
                thread.join()
            plain.close()
            cached.close()
            self.assertEqual(errors, [])
            self.assertEqual(len(set(taken)), len(taken))
            self.assertEqual({ticket % 4 for ticket in taken}, {1, 2}, "both were of use")
