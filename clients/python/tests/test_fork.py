"""Forks in ways that the conformance suite does not have."""

import array
import os
import threading
import unittest
from unittest import mock

from tickr_tickets import Client, _client

from .faulty import Good

CHILDREN = 20
EACH = 1000


class Forks(unittest.TestCase):
    def setUp(self):
        self.server = Good()
        self.addCleanup(self.server.close)

    def client(self, **settings):
        client = Client([self.server.url], timeout=60, **settings)
        self.addCleanup(client.close)
        return client

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
        self.assertTrue(client._own.tickets, "there is something to hand out twice")
        return taken

    def test_python_tells_of_a_fork_before_a_process_id_does(self):
        client = self.client(cache=10_000)
        taken = self.warm(client)
        # As where a child of a child gets the number of a parent that is gone.
        with mock.patch("os.getpid", lambda: client._own.process[0]):
            taken += self.fork(lambda: [client.next() for _ in range(EACH)])
        taken += [client.next() for _ in range(100)]
        self.assert_unique(taken)

    def test_connections_of_the_parent_end_in_the_child_alone(self):
        client = self.client()
        client.next()
        parents = client._own.servers[0].idle
        left = self.fork(lambda: [client.next() and len(parents)] * EACH, 1)
        self.assertEqual((left[0], len(parents)), (0, 1))
        client.next()

    def test_nothing_is_issued_twice_where_python_was_not_told_of_the_fork(self):
        client = self.client(cache=10_000)
        taken = self.warm(client)

        def take():
            _client._forks.clear()
            return [client.next() for _ in range(EACH)]

        taken += self.fork(take)
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
