"""Each case is tried with both clients: the one for asyncio looks like the other one here."""

import asyncio
import gc
import unittest
import warnings
from unittest import mock

import tickr_tickets


class Waiter:
    """An AsyncClient with a loop of its own, to be used like a Client."""

    def __init__(self, *arguments, **settings):
        self.client = tickr_tickets.AsyncClient(*arguments, **settings)
        self._loop = asyncio.new_event_loop()

    def next(self):
        return self._loop.run_until_complete(self.client.next())

    def take(self, count):
        return self._loop.run_until_complete(self.client.take(count))

    def close(self):
        if not self._loop.is_closed():
            self._loop.run_until_complete(self.client.close())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    def __repr__(self):
        return repr(self.client)


def no_leaks(test):
    """Fails the test when it leaves a socket to the garbage collector."""
    leaks = []
    warned = warnings.catch_warnings()
    warned.__enter__()
    test.addCleanup(warned.__exit__, None, None, None)
    warnings.simplefilter("error", ResourceWarning)
    hook = mock.patch("sys.unraisablehook", lambda leak: leaks.append(str(leak.exc_value)))
    hook.start()

    def check():
        gc.collect()
        hook.stop()
        test.assertEqual(leaks, [])

    test.addCleanup(check)


class Cases(unittest.TestCase):
    """A case says `self.client(...)`; a subclass says which one that is."""

    kind = None

    def setUp(self):
        no_leaks(self)

    def client(self, servers, **settings):
        client = self.kind(servers, **settings)
        self.addCleanup(client.close)
        return client

    def server(self, server):
        self.addCleanup(server.close)
        return server


def with_both(cases):
    """The same cases for both clients, as two classes."""

    def named(kind, name):
        members = {"kind": kind, "__module__": cases.__module__}
        return type(f"{cases.__name__}{name}", (cases,), members)

    return named(tickr_tickets.Client, "Blocking"), named(Waiter, "Asyncio")
