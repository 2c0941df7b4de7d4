"""The clients: tickets straight from a server, or from a cache that is refilled in the background.

A process that forks must not issue its parent's cache again, so that a client in a child starts
anew: with an empty cache and connections of its own."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from typing import Any, Iterable, Iterator, Optional

from ._servers import Refused, Servers, TickrError
from ._waiting import Asyncio, Blocking, run

CACHE_MIN = 16
LULL = 10.0
RETRY_AFTER = 1.0


class _Own:
    """What a client consists of in one process: its servers, and the cache."""

    def __init__(self, servers: Servers, most: int, waiting: Blocking) -> None:
        self.pid = os.getpid()
        self.servers, self.waiting, self.most = servers, waiting, most
        # A refill begins while it is held, and takes it: in this thread, when there is no other.
        self.lock = threading.RLock()
        self.refill: Any = None
        #: How many tickets to have; it follows the demand.
        self.size = min(CACHE_MIN, most)
        self.left = 0
        self._runs: deque[Iterator[int]] = deque()
        self._refills = 0
        self._landed_at = self._again_at = 0.0

    def pop(self) -> Optional[int]:
        while self._runs:
            for ticket in self._runs[0]:
                self.left -= 1
                return ticket
            self._runs.popleft()
        return None

    def is_hungry(self) -> bool:
        now = time.monotonic()
        return not self.left or (self.left <= self.size // 2 and now >= self._again_at)

    async def fill(self) -> Optional[Exception]:
        while True:
            with self.lock:
                # After a lull, half of it will do.
                if self._landed_at and time.monotonic() - self._landed_at > LULL:
                    self.size = max(self.size // 2, min(CACHE_MIN, self.most))
                self._landed_at = 0.0
                self._refills += 1
                count = max(self.size - self.left, 1)
            try:
                tickets = await self.servers.fetch(count, self.waiting)
            except TickrError as error:
                with self.lock:
                    if isinstance(error, Refused) and count > 1:
                        # The server issues fewer tickets at once.
                        self.most = count // 2
                        self.size = min(self.size, self.most)
                        continue
                    self._again_at = time.monotonic() + RETRY_AFTER
                return error
            with self.lock:
                # It came too late, or nearly so: the next one is larger.
                if self._refills > 1 and self.left < (self.size + 3) // 4:
                    self.size = min(2 * self.size, self.most)
                self._landed_at, self._again_at = time.monotonic(), 0.0
                self.left += count
                self._runs.append(iter(tickets))
            return None


class _Base:
    _waiting: Blocking

    def __init__(
        self,
        servers: Iterable[str],
        *,
        timeout: float = 2.0,
        password: Optional[str] = None,
        cache: int = 0,
        check_order: bool = True,
    ) -> None:
        """A client of these servers, the preferred one first: `http://HOST:PORT` or `unix:PATH`.

        timeout: seconds that one server may take to respond, including connecting.
        password: the servers' TICKR_HTTP_AUTH_PASSWORD, where the URL has none.
        cache: how many tickets `next` may have in stock; a crash wastes them. 0 asks a server for
        each ticket.
        check_order: refuse tickets that go backwards. False where several processes of one node
        share an address; repeated tickets are refused all the same.
        """
        if isinstance(servers, str) or cache < 0:
            raise ValueError("a client takes a list of servers, and a cache of 0 or more tickets")
        self._settings = (list(servers), timeout, password, check_order)
        self._cache = cache
        self._closed = False
        self._start()
        _clients.add(self)

    def _start(self) -> None:
        self._own = _Own(Servers(*self._settings), self._cache, self._waiting)

    def _start_in_child(self) -> None:
        # The parent's connections end here without a word to the server. No lock is taken: a
        # thread that is not in this process may hold it.
        for server in self._own.servers.list:
            server.disconnect()
        self._start()

    def _mine(self) -> _Own:
        if self._closed:
            raise RuntimeError("the client is closed")
        # Some servers fork without telling Python, as uWSGI does unless told to.
        if self._own.pid != os.getpid():
            self._start_in_child()
        return self._own

    async def _take(self, count: int) -> range:
        if count < 1:
            raise ValueError("a batch must have at least one ticket")
        return await self._mine().servers.fetch(count, self._waiting)

    async def _next(self) -> int:
        if not self._cache:
            return (await self._take(1))[0]
        own, waiting = self._mine(), self._waiting
        failed = False
        while True:
            begun = False
            with own.lock:
                ticket = own.pop()
                if own.is_hungry() and (own.refill is None or waiting.is_over(own.refill)):
                    own.refill, begun = waiting.begin(own.fill), True
                refill = own.refill
            if ticket is not None:
                return ticket
            error = await waiting.outcome(refill)
            # One that had begun before may have failed before a server came back.
            if error and (begun or failed):
                raise error
            failed = failed or error is not None

    def _close(self) -> None:
        self._closed = True
        self._own.servers.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({[server.name for server in self._own.servers.list]})"


class Client(_Base):
    """Blocking; may be shared between threads."""

    _waiting = Blocking()

    def next(self) -> int:
        """A ticket that nobody else gets."""
        return run(self._next())

    def take(self, count: int) -> range:
        """This many tickets as one run, straight from a server; at most its TICKR_MAX_BATCH."""
        return run(self._take(count))

    def close(self) -> None:
        """Closes the connections; what is left of the cache is never issued."""
        self._close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(_Base):
    """The same for asyncio."""

    _waiting = Asyncio()

    async def next(self) -> int:
        """A ticket that nobody else gets."""
        return await self._next()

    async def take(self, count: int) -> range:
        """This many tickets as one run, straight from a server; at most its TICKR_MAX_BATCH."""
        return await self._take(count)

    async def close(self) -> None:
        """Closes the connections; what is left of the cache is never issued."""
        self._close()
        refill = self._own.refill
        if refill and not self._waiting.is_over(refill):
            refill.cancel()
            await self._waiting.outcome(refill)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _start_all_in_child() -> None:
    for client in list(_clients):
        client._start_in_child()


_clients: weakref.WeakSet[_Base] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_all_in_child)
