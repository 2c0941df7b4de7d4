"""The clients: tickets straight from a server, or from a cache that is refilled in the background.

A process that forks must not issue its parent's cache again, so that a client in a child starts
anew: with an empty cache and connections of its own."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Awaitable, Callable, Coroutine, Iterable, Optional

from ._servers import Failure, Refused, Server, Threads, TickrError, Unavailable

SERVERS_MAX, CACHE_MIN, SOON, LULL, RETRY_AFTER = 256, 16, 0.1, 10.0, 1.0

# One more for each fork on the way from the first process to this one. A process ID alone does not
# tell: a child of a child may get that of a process that has ended. Nor does Python alone: some
# servers fork without telling it, as uWSGI does unless told to.
_forks: list[int] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _forks.append(1))


class _Own:
    """What a client consists of in one process: its servers, and the cache."""

    def __init__(self, servers: list[Server], most: int) -> None:
        self.process, self.servers, self._most = (os.getpid(), len(_forks)), servers, most
        self.tickets: deque[int] = deque()
        self.threads = Threads()
        #: How many tickets to have; it follows the demand.
        self.size = CACHE_MIN
        # One refill at a time. It needs no lock: what it changes is its own, or changes at once.
        self._lock = threading.RLock()
        self.refill: Optional[Future[Optional[TickrError]]] = None
        self._filled_at = self._again_at = 0.0

    def fetch(self, count: int) -> range:
        """Asks the servers, one after the other and each once, for one run of tickets: by
        preference, but those that have failed lately come last."""
        if count < 1:
            raise ValueError("a batch must have at least one ticket")
        now, attempts = time.monotonic(), []
        for server in sorted(self.servers, key=lambda server: server.paused_until > now):
            try:
                return server.fetch(count)
            except Failure as failure:
                attempts.append((server.name, str(failure)))
        raise Unavailable(attempts)

    async def next(self, wait: Callable[[Any], Awaitable[Optional[TickrError]]]) -> int:
        may_fail = False
        while True:
            with self._lock:
                ticket = self.tickets.popleft() if self.tickets else None
                if self._is_hungry():
                    self.refill, may_fail = self.threads.begin(self.fill), True
                refill = self.refill
            if ticket is not None:
                return ticket
            error = await wait(refill)
            # One that had begun before may have failed before a server came back.
            if error and may_fail:
                raise error
            may_fail = True

    def _is_hungry(self) -> bool:
        is_low = len(self.tickets) <= self.size // 2 and time.monotonic() >= self._again_at
        return (is_low or not self.tickets) and (not self.refill or self.refill.done())

    def fill(self) -> Optional[TickrError]:
        """Fetches more when the last ones went soon, fewer after a lull."""
        now = time.monotonic()
        if self._filled_at:
            lasted = now - self._filled_at
            self.size = self.size * 2 if lasted < SOON else self.size // (1 + (lasted > LULL))
        self._filled_at, self._again_at = 0.0, now + RETRY_AFTER
        self.size = min(max(self.size, CACHE_MIN), self._most)
        count = max(self.size - len(self.tickets), 1)
        try:
            self.tickets.extend(self.fetch(count))
        except TickrError as error:
            if count == 1 or not isinstance(error, Refused):
                return error
            # The server issues fewer tickets at once.
            self._most = count // 2
            return self.fill()
        self._filled_at, self._again_at = time.monotonic(), 0.0
        return None


class _Base:
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

        def start() -> _Own:
            return _Own([Server(url, timeout, password, check_order) for url in urls], cache)

        self._start, self._own, self._has_cache, self._closed = start, start(), cache > 0, False

    def _mine(self) -> _Own:
        if self._closed:
            raise RuntimeError("the client is closed")
        if self._own.process != (os.getpid(), len(_forks)):
            # The parent's connections end here without a word to the server. No lock is taken: a
            # thread that is not in this process may hold it.
            for server in self._own.servers:
                server.disconnect()
            self._own = self._start()
        return self._own

    def _close(self) -> None:
        self._closed = True
        for server in self._own.servers:
            with server.lock:
                server.closed = True
                server.disconnect()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({[server.name for server in self._own.servers]})"


class Client(_Base, AbstractContextManager["Client"]):
    """Blocking; may be shared between threads."""

    def next(self) -> int:
        """A ticket that nobody else gets."""
        own = self._mine()
        return int(_run(own.next(_block))) if self._has_cache else own.fetch(1)[0]

    def take(self, count: int) -> range:
        """This many tickets as one run, straight from a server; at most its TICKR_MAX_BATCH."""
        return self._mine().fetch(count)

    def close(self) -> None:
        """Closes the connections; what is left of the cache is never issued."""
        self._close()

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(_Base, AbstractAsyncContextManager["AsyncClient"]):
    """The same for asyncio. Threads ask the servers; whoever is cancelled does not wait for them,
    and what they bring is for the others, or a gap."""

    async def next(self) -> int:
        """A ticket that nobody else gets."""
        own = self._mine()
        return await own.next(asyncio.wrap_future) if self._has_cache else (await self.take(1))[0]

    async def take(self, count: int) -> range:
        """This many tickets as one run, straight from a server; at most its TICKR_MAX_BATCH."""
        own = self._mine()
        return await asyncio.wrap_future(own.threads.begin(lambda: own.fetch(count)))

    async def close(self) -> None:
        """Closes the connections; what is left of the cache is never issued."""
        self._close()

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def _block(refill: Future[Optional[TickrError]]) -> Optional[TickrError]:
    return refill.result()


def _run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that never waits for a loop."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
