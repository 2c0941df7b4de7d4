"""The servers of a client: in which order they are asked, and what is believed of their answers."""

from __future__ import annotations

import base64
import ipaddress
import os
import re
import socket
import threading
import time
from typing import Any, Optional

from ._answer import Answer, Failure, Stale, printable, tickets
from ._waiting import Blocking

PAUSE_MIN, PAUSE_MAX = 1.0, 30.0
IDLE_MAX, NODES_MAX, RUNS_MAX, ADDRESSES_MAX, PATH_MAX = 8, 64, 32, 8, 107

_URL = re.compile(
    r"unix:([^\0]+)|http://(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?/?"
)
# The text is not repeated in errors: it may hold a password, which belongs in `password`.
_USAGE = "invalid server URL: use http://HOST:PORT, without a user, or unix:PATH, 107 bytes at most"


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

    _closed = False

    def __init__(
        self, url: str, timeout: float, password: Optional[str], check_order: bool
    ) -> None:
        self._timeout, self._check_order = timeout, check_order
        match = _URL.fullmatch(url)
        port = int(match[4] or 80) if match else 0
        if not match or not 1 <= port <= 65535 or len(os.fsencode(match[1] or "")) > PATH_MAX:
            raise ValueError(_USAGE)
        self._path, self._host, self._port = match[1], match[2] or match[3], port
        host = f"[{ipaddress.IPv6Address(match[2])}]" if match[2] else self._host
        self.name = url if self._path else f"http://{host}:{port}"
        host = "localhost" if self._path else f"{host}:{port}"
        self._head = f"Host: {host}\r\nAccept: application/json\r\n"
        if password is not None:
            credentials = base64.b64encode(f"tickr:{password}".encode()).decode()
            self._head += f"Authorization: Basic {credentials}\r\n"
        self._lock = threading.Lock()
        self.idle: list[socket.socket] = []
        #: It is the last choice until then.
        self.paused_until, self.pause = 0.0, PAUSE_MIN
        #: The latest runs of each node behind this address, numbered as they came.
        self.runs: dict[tuple[int, int], list[tuple[range, int]]] = {}
        self._admitted = 0

    async def fetch(self, count: int, waiting: Blocking) -> range:
        """A run of tickets. An old connection may have been closed meanwhile, or lead to a process
        that is about to end while its successor has moved on: a new one is worth a try."""
        deadline = time.monotonic() + self._timeout
        while True:
            with self._lock:
                if self._closed:
                    raise RuntimeError("the client is closed")
                idle = self.idle.pop() if self.idle else None
                sent_at = self._admitted if self._check_order else 0
            what = "can't be reached"
            try:
                sock = idle or await self._connect(waiting, deadline)
                what = "closed the connection early"
                return await self._ask(sock, count, sent_at, waiting, deadline)
            # A text that looks like a host name may be none (UnicodeError).
            except (Failure, OSError, UnicodeError) as error:
                failure = error if isinstance(error, Failure) else _explain(error, what)
                with self._lock:
                    self.disconnect()
                    if not (idle and isinstance(failure, Stale)):
                        self.blame()
                        raise failure from None

    async def _connect(self, waiting: Blocking, deadline: float) -> socket.socket:
        """Tries the addresses of a host in the resolver's order; one that is silent leaves time
        for the next."""
        found: list[Any] = [(getattr(socket, "AF_UNIX", 0), self._path)]
        if not self._path:
            found = await waiting.resolve(self._host, self._port, left(deadline))
        found = found[:ADDRESSES_MAX]
        while True:
            family, *_, address = found.pop(0)
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                await waiting.use(sock, "connect", address, left(deadline) / (len(found) + 1))
                return sock
            except BaseException as error:
                sock.close()
                if not found or not isinstance(error, OSError):
                    raise

    async def _ask(
        self, sock: socket.socket, count: int, sent_at: int, waiting: Blocking, deadline: float
    ) -> range:
        request = f"GET /tickets/create/{count}?format=range HTTP/1.1\r\n{self._head}\r\n"
        answer = Answer(lambda: waiting.use(sock, "recv", 4096, left(deadline)))
        kept = False
        try:
            await waiting.use(sock, "sendall", request.encode(), left(deadline))
            body = await answer.read()
            if answer.status != 200:
                detail = printable(str(body.get("detail", "")))
                if answer.status == 400:
                    raise Refused(self.name, detail)
                raise Failure(f"responded {answer.status}" + (detail and f": {detail}"))
            run = tickets(body, count)
            with self._lock:
                self.admit(run, sent_at)
                self.paused_until, self.pause = 0.0, PAUSE_MIN
                kept = answer.reusable and len(self.idle) < IDLE_MAX and not self._closed
                self.idle += [sock] if kept else []
            return run
        finally:
            if not kept:
                sock.close()

    def admit(self, run: range, sent_at: int) -> None:
        """Takes note of a run, or refuses it: when it holds a ticket of a recent one, or is not
        above those that its node had issued when the request was sent. Nodes are told apart by
        increment and remainder."""
        node = (run.step, run[0] % run.step)
        runs = self.runs.get(node, [])
        for old, number in reversed(runs):
            if run[0] <= old[-1] and (old[0] <= run[-1] or number <= sent_at):
                raise Stale(
                    f"issued {run[0]} after {old[-1]}, and tickets must not go backwards: its "
                    "counter may have been set back, or several processes share this address"
                )
        self._admitted += 1
        self.runs.pop(node, None)
        self.runs[node] = [*runs[1 - RUNS_MAX :], (run, self._admitted)]
        if len(self.runs) > NODES_MAX:
            del self.runs[next(iter(self.runs))]

    def blame(self) -> None:
        now = time.monotonic()
        if self.paused_until <= now:
            self.paused_until, self.pause = now + self.pause, min(2 * self.pause, PAUSE_MAX)

    def disconnect(self) -> None:
        while self.idle:
            self.idle.pop().close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self.disconnect()


def left(deadline: float) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def _explain(error: Exception, what: str) -> Failure:
    # Two classes in Python 3.9.
    if isinstance(error, (TimeoutError, socket.timeout)):
        return Failure("did not answer in time")
    return Stale(f"{what} ({getattr(error, 'strerror', None) or error})")
