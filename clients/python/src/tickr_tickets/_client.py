"""The clients: tickets straight from a server, or from a cache that is refilled in the background.

A process that forks must not issue its parent's cache again, so that a client in a child starts
anew: with an empty cache and connections of its own."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from typing import Any, Iterable, Optional

from ._answer import Failure
from ._servers import Refused, Server, TickrError, Unavailable
from ._waiting import Asyncio, Blocking, run

SERVERS_MAX, CACHE_MIN, SOON, LULL, RETRY_AFTER = 256, 16, 0.1, 10.0, 1.0


class _Own:
    """What a client consists of in one process: its servers, and the cache."""

    def __init__(self, servers: Iterable[Server], most: int, waiting: Blocking) -> None:
        self.pid, self.servers, self.waiting = os.getpid(), list(servers), waiting
        self.tickets: deque[int] = deque()
        #: How many tickets to have; it follows the demand.
        self.size, self._most = CACHE_MIN, most
        # One refill at a time. It needs no lock: what it changes is its own, or changes at once.
        self._lock = threading.RLock()
        self.refill: Any = None
        self._filled_at = self._again_at = 0.0

    async def fetch(self, count: int) -> range:
        """Asks the servers, one after the other and each once, for one run of tickets: by
        preference, but those that have failed lately come last."""
        if count < 1:
            raise ValueError("a batch must have at least one ticket")
        now = time.monotonic()
        attempts = []
        for server in sorted(self.servers, key=lambda server: server.paused_until > now):
            try:
                return await server.fetch(count, self.waiting)
            except Failure as failure:
                attempts.append((server.name, str(failure)))
        raise Unavailable(attempts)

    async def next(self) -> int:
        if not self._most:
            return (await self.fetch(1))[0]
        waited = False
        while True:
            with self._lock:
                ticket = self.tickets.popleft() if self.tickets else None
                begun = self._is_hungry()
                if begun:
                    self.refill = self.waiting.begin(self.fill())
                refill = self.refill
            if ticket is not None:
                return ticket
            error = await self.waiting.outcome(refill)
            # One that had begun before may have failed before a server came back.
            if error and (begun or waited):
                raise error
            waited = True

    def _is_hungry(self) -> bool:
        if self.refill and not self.waiting.is_over(self.refill):
            return False
        low = len(self.tickets) <= self.size // 2 and time.monotonic() >= self._again_at
        return low or not self.tickets

    async def fill(self) -> Optional[Exception]:
        count = self._wanted()
        try:
            tickets = await self.fetch(count)
        except TickrError as error:
            if count == 1 or not isinstance(error, Refused):
                return error
            # The server issues fewer tickets at once.
            self._most = count // 2
            return await self.fill()
        self._filled_at, self._again_at = time.monotonic(), 0.0
        self.tickets.extend(tickets)
        return None

    def _wanted(self) -> int:
        """How many tickets to fetch: more when the last ones went soon, fewer after a lull."""
        now = time.monotonic()
        if self._filled_at:
            lasted = now - self._filled_at
            self.size = self.size * 2 if lasted < SOON else self.size // (1 + (lasted > LULL))
        self._filled_at, self._again_at = 0.0, now + RETRY_AFTER
        self.size = min(max(self.size, CACHE_MIN), self._most)
        return max(self.size - len(self.tickets), 1)


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
        password: the servers' TICKR_HTTP_AUTH_PASSWORD, which no URL may contain.
        cache: how many tickets `next` may have in stock; a crash wastes them. 0 asks a server for
        each ticket.
        check_order: refuse tickets that go backwards. False where several processes of one node
        share an address; repeated tickets are refused all the same.
        """
        urls = [] if isinstance(servers, str) else list(servers)
        if not 1 <= len(urls) <= SERVERS_MAX or not timeout > 0 or cache < 0:
            raise ValueError(
                f"a client takes a list of 1 to {SERVERS_MAX} servers, a time-out above 0, and a "
                "cache of 0 or more tickets"
            )

        def make() -> _Own:
            made = (Server(url, timeout, password, check_order) for url in urls)
            return _Own(made, cache, self._waiting)

        self._make, self._own, self._closed = make, make(), False
        _clients.add(self)

    def _start_in_child(self) -> None:
        # The parent's connections end here without a word to the server. No lock is taken: a
        # thread that is not in this process may hold it.
        for server in self._own.servers:
            server.disconnect()
        self._own = self._make()

    def _mine(self) -> _Own:
        if self._closed:
            raise RuntimeError("the client is closed")
        # Some servers fork without telling Python, as uWSGI does unless told to.
        if self._own.pid != os.getpid():
            self._start_in_child()
        return self._own

    def _close(self) -> None:
        self._closed = True
        for server in self._own.servers:
            server.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({[server.name for server in self._own.servers]})"


class Client(_Base):
    """Blocking; may be shared between threads."""

    _waiting = Blocking()

    def next(self) -> int:
        """A ticket that nobody else gets."""
        return run(self._mine().next())

    def take(self, count: int) -> range:
        """This many tickets as one run, straight from a server; at most its TICKR_MAX_BATCH."""
        return run(self._mine().fetch(count))

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
        return await self._mine().next()

    async def take(self, count: int) -> range:
        """This many tickets as one run, straight from a server; at most its TICKR_MAX_BATCH."""
        return await self._mine().fetch(count)

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
