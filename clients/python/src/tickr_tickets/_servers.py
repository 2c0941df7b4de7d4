"""The servers of a client: in which order they are asked, and what is believed of their answers."""

from __future__ import annotations

import base64
import ipaddress
import os
import re
import socket
import threading
import time
from collections import deque
from typing import Any, Iterable, Optional

from ._answer import Answer, Failure, left
from ._waiting import TIMED_OUT, Blocking

PAUSE_MIN, PAUSE_MAX = 1.0, 30.0
IDLE_MAX, NODES_MAX, RUNS_MAX, ADDRESSES_MAX, SERVERS_MAX, PATH_MAX = 8, 64, 32, 8, 256, 107

_URL = re.compile(
    r"http://(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?/?"
)
# The text is not repeated in errors: it may hold a password, which belongs in `password`.
_USAGE = "invalid server URL: use http://HOST:PORT or unix:PATH, without user name and password"
Marks = dict[tuple[int, int], int]


class TickrError(Exception):
    """No ticket."""


class Unavailable(TickrError):
    """Every server was tried and none gave tickets; trying again later is safe."""

    def __init__(self, attempts: list[tuple[str, str]]) -> None:
        super().__init__(attempts)
        #: The URL of each server, and why it gave none, in the order in which they were tried.
        self.attempts = attempts

    def __str__(self) -> str:
        lines = (f"\n  {server} {failure}" for server, failure in self.attempts)
        return "no server issued tickets; it is safe to retry:" + "".join(lines)


class Refused(TickrError):
    """A server calls the request itself wrong (400); the others were not asked."""

    def __init__(self, server: str, detail: str) -> None:
        super().__init__(server, detail)
        self.server, self.status, self.detail = server, 400, detail

    def __str__(self) -> str:
        return f"{self.server} responded {self.status}: {self.detail}"


class Server:
    """A server, and how it has been doing."""

    def __init__(self, url: str, password: Optional[str]) -> None:
        self.name, self.path = url, url[5:] if url[:5] == "unix:" else ""
        if self.path:
            if len(os.fsencode(url)) > 5 + PATH_MAX or "\0" in url:
                raise ValueError("invalid server URL: no Unix socket can have this path")
        else:
            match = _URL.fullmatch(url)
            if not match or not 1 <= int(match[3] or 80) <= 65535:
                raise ValueError(_USAGE)
            self.host, self.port = match[1] or match[2], int(match[3] or 80)
            host = f"[{ipaddress.IPv6Address(match[1])}]" if match[1] else self.host
            self.name = f"http://{host}:{self.port}"
        host = self.name[7:] if not self.path else "localhost"
        self.head = f"Host: {host}\r\nAccept: application/json"
        if password is not None:
            credentials = base64.b64encode(f"tickr:{password}".encode()).decode()
            self.head += f"\r\nAuthorization: Basic {credentials}"
        self.idle: list[socket.socket] = []
        #: It is the last choice until then.
        self.paused_until, self.pause = 0.0, PAUSE_MIN
        #: Of each node behind this address, told apart by increment and remainder: the highest
        #: ticket, and the latest runs.
        self.highest: Marks = {}
        self.runs: dict[tuple[int, int], deque[range]] = {}

    def admit(self, run: range, marks: Marks) -> None:
        """Takes note of a run, or refuses it: when it holds a ticket of a recent one, or is not
        above what its node had issued when the request was sent."""
        node = (run.step, run[0] % run.step)
        runs = self.runs.get(node, deque(maxlen=RUNS_MAX))
        issued = [old[-1] for old in runs if run[0] <= old[-1] and old[0] <= run[-1]]
        issued += [marks[node]] if run[0] <= marks.get(node, -1) else []
        if issued:
            raise Failure(
                f"issued {run[0]} after {issued[-1]}, and tickets must not go backwards: its "
                "counter may have been set back, or several processes share this address",
                stale=True,
            )
        if node not in self.runs and len(self.runs) == NODES_MAX:
            oldest = next(iter(self.runs))
            del self.runs[oldest], self.highest[oldest]
        runs.append(run)
        self.runs[node], self.highest[node] = runs, max(run[-1], self.highest.get(node, 0))

    def blame(self) -> None:
        self.disconnect()
        now = time.monotonic()
        if self.paused_until <= now:
            self.paused_until, self.pause = now + self.pause, min(2 * self.pause, PAUSE_MAX)

    def disconnect(self) -> None:
        while self.idle:
            self.idle.pop().close()


class Servers:
    def __init__(
        self, urls: Iterable[str], timeout: float, password: Optional[str], check_order: bool
    ) -> None:
        self.list = [Server(url, password) for url in urls]
        if not 1 <= len(self.list) <= SERVERS_MAX:
            raise ValueError(f"a client takes 1 to {SERVERS_MAX} servers")
        if not timeout > 0:
            raise ValueError("the time-out must be greater than zero")
        self._timeout, self._check_order = timeout, check_order
        self._lock = threading.Lock()
        self._closed = False

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for server in self.list:
                server.disconnect()

    async def fetch(self, count: int, waiting: Blocking) -> range:
        """Asks the servers, one after the other and each once, for one run of tickets: by
        preference, but those that have failed lately come last."""
        now = time.monotonic()
        attempts = []
        for server in sorted(self.list, key=lambda server: server.paused_until > now):
            try:
                return await self._ask(server, count, waiting)
            except Failure as failure:
                if failure.status == 400:
                    raise Refused(server.name, failure.detail) from None
                with self._lock:
                    server.blame()
                attempts.append((server.name, str(failure)))
        raise Unavailable(attempts)

    async def _ask(self, server: Server, count: int, waiting: Blocking) -> range:
        deadline = time.monotonic() + self._timeout
        while True:
            with self._lock:
                if self._closed:
                    raise RuntimeError("the client is closed")
                idle = server.idle.pop() if server.idle else None
                marks = server.highest.copy() if self._check_order else {}
            sock = idle or await _connect(server, waiting, deadline)
            keep = False
            try:
                answer = await _exchange(server, sock, count, waiting, deadline)
                run = answer.run(count)
                with self._lock:
                    server.admit(run, marks)
                    server.paused_until, server.pause = 0.0, PAUSE_MIN
                    keep = answer.reusable and len(server.idle) < IDLE_MAX and not self._closed
                    server.idle += [sock] if keep else []
                return run
            except Failure as failure:
                # An old connection may have been closed meanwhile, or lead to a process that is
                # about to end while its successor has moved on.
                if not (idle and failure.stale):
                    raise
                with self._lock:
                    server.disconnect()
            finally:
                if not keep:
                    sock.close()


async def _exchange(
    server: Server, sock: socket.socket, count: int, waiting: Blocking, deadline: float
) -> Answer:
    request = f"GET /tickets/create/{count}?format=range HTTP/1.1\r\n{server.head}\r\n\r\n"
    answer = Answer(sock, waiting, deadline)
    try:
        await waiting.use(sock, "sendall", request.encode(), left(deadline))
        await answer.read()
    except (Failure, OSError, *TIMED_OUT) as error:
        # What became of the explanation matters less than the status.
        if answer.status in (0, 200):
            raise _failure(error, "closed the connection early", stale=True) from None
    return answer


async def _connect(server: Server, waiting: Blocking, deadline: float) -> socket.socket:
    """Tries the addresses of a host in the resolver's order; one that is silent leaves time for
    the next."""
    error: Exception = OSError("the host name has no address")
    try:
        addresses: list[tuple[int, Any]] = [(getattr(socket, "AF_UNIX", 0), server.path)]
        if not server.path:
            found = await waiting.resolve(server.host, server.port, left(deadline))
            addresses = [(family, address) for family, *_, address in found[:ADDRESSES_MAX]]
        for index, (family, address) in enumerate(addresses):
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                if not server.path:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                seconds = left(deadline) / (len(addresses) - index)
                await waiting.use(sock, "connect", address, seconds)
                return sock
            except (OSError, *TIMED_OUT) as failed:
                sock.close()
                error = failed
            except BaseException:
                sock.close()
                raise
    # A text that looks like a host name may be none (UnicodeError).
    except (OSError, UnicodeError, *TIMED_OUT) as failed:
        error = failed
    raise _failure(error, "can't be reached")


def _failure(error: Exception, what: str, stale: bool = False) -> Failure:
    if isinstance(error, Failure):
        return error
    if isinstance(error, TIMED_OUT):
        return Failure("did not answer in time")
    return Failure(f"{what} ({getattr(error, 'strerror', None) or error})", stale=stale)
