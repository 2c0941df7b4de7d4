"""What the conformance suite can not see of the cache: its size, its clock, and asyncio."""

import asyncio
import threading
import time
import unittest
from unittest import mock

from tickr_tickets import AsyncClient, Client, Unavailable, _client, _servers

from .clients import Cases, no_leaks, with_both
from .faulty import Faulty, Good, answer, tickets


class Cache(Cases):
    def test_a_refill_that_failed_is_not_tried_with_each_ticket(self):
        good = [tickets(1, 16)]
        server = self.server(Faulty(lambda _, count: good.pop() if good else answer(b"", "503 No")))
        client = self.client([server.url], cache=16)
        with mock.patch.object(_client, "RETRY_AFTER", 60.0):
            for _ in range(8):
                client.next()
            own = getattr(client, "client", client)._own
            refill = own.refill
            while not refill.done():
                self.loop_once(client)
            self.assertEqual([client.next() for _ in range(7)], list(range(9, 16)))
            self.assertIs(own.refill, refill)
            # The last one makes a new one worth its while.
            self.assertEqual(client.next(), 16)
            self.assertIsNot(own.refill, refill)

    def loop_once(self, client):
        if self.kind is Client:
            time.sleep(0.001)
        else:
            client._loop.run_until_complete(asyncio.sleep(0.001))


CacheBlocking, CacheAsyncio = with_both(Cache)
del Cache


class Demand(unittest.TestCase):
    def setUp(self):
        self.own = _client._Own([], 1000)
        self.asked = []

        def fetch(count):
            self.asked.append(count)
            return range(count)

        self.own.fetch = fetch

    def fill(self, **clock):
        """The size after some refills, as the clock says."""
        sizes = []
        for _ in range(8):
            with mock.patch.multiple(_client, **clock):
                self.assertIsNone(self.own.fill())
            sizes.append(self.own.size)
            while len(self.own.tickets) > self.own.size // 2:
                self.assertFalse(self.own._is_hungry())
                self.own.tickets.popleft()
            self.assertTrue(self.own._is_hungry())
        return sizes

    def test_tickets_that_go_soon_make_the_next_refill_larger(self):
        sizes = self.fill(SOON=60.0)
        self.assertEqual(sizes, [16, 32, 64, 128, 256, 512, 1000, 1000])
        self.assertEqual(self.asked, [16, 24, 48, 96, 192, 384, 744, 500])

    def test_others_leave_it_as_it_is(self):
        self.assertEqual(self.fill(SOON=0.0), [16] * 8)

    def test_a_lull_halves_it(self):
        self.own.size = 1000
        self.assertEqual(self.fill(SOON=0.0, LULL=-1.0), [1000, 500, 250, 125, 62, 31, 16, 16])


class Threads(unittest.TestCase):
    def setUp(self):
        no_leaks(self)

    def test_without_a_thread_for_it_a_refill_takes_the_caller_s(self):
        with Good() as server, Client([server.url], cache=16) as client:
            start = threading.Thread.start

            def start_no_more(thread):
                if thread.name == "tickr-client":
                    raise RuntimeError("can't start new thread")
                start(thread)

            with mock.patch("threading.Thread.start", start_no_more):
                self.assertEqual([client.next() for _ in range(100)], list(range(1, 101)))


class Tasks(unittest.TestCase):
    def setUp(self):
        no_leaks(self)

    def test_who_is_cancelled_takes_no_ticket_from_the_others(self):
        go_on = threading.Event()

        def respond(connection, count):
            go_on.wait(60)
            return tickets(1, count)

        async def cancel(url):
            async with AsyncClient([url], cache=16, timeout=60) as client:
                waiting = [asyncio.ensure_future(client.next()) for _ in range(3)]
                await asyncio.sleep(0)
                waiting[0].cancel()
                go_on.set()
                return await asyncio.gather(*waiting, return_exceptions=True)

        with Faulty(respond) as server:
            cancelled, *taken = asyncio.run(cancel(server.url))
        self.assertIsInstance(cancelled, asyncio.CancelledError)
        self.assertEqual(taken, [1, 2])

    def test_who_came_later_is_not_told_of_an_old_failure(self):
        responses = [answer(b"", "503 No")]

        def respond(connection, count):
            return responses.pop() if responses else tickets(1, count)

        async def ask(url):
            async with AsyncClient([url], cache=16) as client:
                tasks = (client.next() for _ in range(2))
                return await asyncio.gather(*tasks, return_exceptions=True)

        with Faulty(respond) as server:
            first, second = asyncio.run(ask(server.url))
        self.assertIsInstance(first, Unavailable)
        self.assertEqual(second, 1)

    def test_the_late_answer_to_a_cancelled_request_is_nobody_else_s(self):
        go_on, asked = threading.Event(), threading.Event()
        numbers = iter(range(1, 100))

        def respond(connection, count):
            number = next(numbers)
            if number == 1:
                asked.set()
                go_on.wait(60)
            return tickets(number, count)

        async def cancel(url):
            async with AsyncClient([url], timeout=60, check_order=False) as client:
                first = asyncio.ensure_future(client.next())
                await asyncio.get_running_loop().run_in_executor(None, asked.wait)
                first.cancel()
                await asyncio.wait([first])
                second = await client.next()
                go_on.set()
                return first.cancelled(), second, await client.next()

        with Faulty(respond) as server:
            self.assertEqual(asyncio.run(cancel(server.url)), (True, 2, 3))
            self.assertEqual(server.connections, 2)

    def test_many_requests_at_once_have_a_bounded_number_of_threads(self):
        lock, numbers, running, most = threading.Lock(), iter(range(1, 1000)), 0, 0
        full = threading.Event()
        self.addCleanup(full.set)

        def respond(connection, count):
            nonlocal running, most
            with lock:
                running += 1
                most, number = max(most, running), next(numbers)
                if running == _servers.THREADS_MAX:
                    full.set()
            full.wait(60)
            with lock:
                running -= 1
            return tickets(number, count)

        async def take(url):
            async with AsyncClient([url], timeout=60, check_order=False) as client:
                runs = await asyncio.gather(*(client.take(1) for _ in range(200)))
                return sorted(run[0] for run in runs)

        with Faulty(respond) as server:
            self.assertEqual(asyncio.run(take(server.url)), list(range(1, 201)))
        self.assertEqual(most, _servers.THREADS_MAX)

    def test_close_does_not_wait_for_a_refill_and_leaves_no_task(self):
        go_on = threading.Event()
        self.addCleanup(go_on.set)
        good = [tickets(1, 16)]

        def respond(connection, count):
            if good:
                return good.pop()
            go_on.wait(60)

        async def close(url):
            async with AsyncClient([url], cache=16, timeout=60) as client:
                for _ in range(8):
                    await client.next()
            return asyncio.all_tasks() - {asyncio.current_task()}

        with Faulty(respond) as server:
            self.assertEqual(asyncio.run(close(server.url)), set())

    def test_a_client_outlives_a_loop(self):
        first = threading.Event()

        def respond(connection, count):
            if not first.is_set():
                first.set()
                return b""
            return tickets(1, count)

        async def give_up(client):
            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(client.next(), 0.1)

        async def take(client):
            return [await client.next() for _ in range(3)]

        with Faulty(respond) as server:
            client = AsyncClient([server.url], cache=16, timeout=2)
            asyncio.run(give_up(client))
            # A loop that nobody finished properly.
            loop = asyncio.new_event_loop()
            task = loop.create_task(client.next())
            loop.run_until_complete(asyncio.sleep(0.1))
            # The refill that the first one began ends with its time-out.
            self.assertEqual(asyncio.run(take(client)), [1, 2, 3])
            task.cancel()
            for left in asyncio.all_tasks(loop):
                left.cancel()
            loop.run_until_complete(asyncio.sleep(0.05))
            loop.close()
            asyncio.run(client.close())

    def test_a_time_out_of_the_caller_s_does_not_wait_for_the_server(self):
        go_on = threading.Event()

        def respond(connection, count):
            go_on.wait(60)
            return tickets(1, count)

        async def give_up(url, cache):
            async with AsyncClient([url], cache=cache, timeout=60) as client:
                with self.assertRaises(asyncio.TimeoutError):
                    await asyncio.wait_for(client.next(), 0.05)
                with self.assertRaises(asyncio.TimeoutError):
                    await asyncio.wait_for(client.take(1), 0.05)

        with Faulty(respond) as server:
            for cache in (0, 16):
                asyncio.run(give_up(server.url, cache))
            go_on.set()
            for thread in threading.enumerate():
                if thread.name == "tickr-client":
                    thread.join(60)
