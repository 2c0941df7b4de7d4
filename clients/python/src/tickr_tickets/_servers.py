"""The servers of a client: how they are asked, and what is believed of their answers.

http.client would do for HTTP, but it has no deadline for a whole answer, takes the end of a
connection for the end of an answer, and believes an answer with two lengths."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import socket
import threading
import time
from base64 import b64encode
from collections import deque
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial
from typing import Any, Callable, Optional, TypeVar

T = TypeVar("T")

PAUSE_MIN, PAUSE_MAX, LENGTH_MAX, INTERIM_MAX, DETAIL_MAX = 1.0, 30.0, 64 * 1024, 8, 200
IDLE_MAX, RUNS_MAX, ADDRESSES_MAX, PATH_MAX, TICKET_MAX = 8, 64, 8, 107, 2**64 - 1
THREADS_MAX = 32

_URL = re.compile(
    r"unix:([^\0]+)|http://(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?/?"
)
# The text is not repeated in errors: it may hold a password, which belongs in `password`.
_USAGE = "invalid server URL: use http://HOST:PORT, without a user, or unix:PATH, 107 bytes at most"

# 101 is final: what follows it is another protocol.
_INTERIM = re.compile(rb"HTTP/1\.[01] 1(?!01)\d\d\b")
_HEAD = re.compile(rb"HTTP/1\.([01]) (\d{3})(?: [^\r\n]*)?((?:\r\n[!#-'*+.^-z|~\w-]+:[^\r\n]*)*)")
# How long the body is, which exactly one field has to say.
_FRAMES = re.compile(rb"\n(content-length:.*|transfer-encoding:.*)")
_FRAMING = re.compile(rb"content-length:\s*(\d{1,9})\s*|transfer-encoding:\s*chunked\s*")
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,8})[ \t]*(?:;[^\r\n]*)?")
# What json raises; of arrays in arrays, the latter.
_NOT_JSON = (ValueError, RecursionError)


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


class Failure(Exception):
    """Why one server gave no tickets, as the end of a sentence that its name begins."""


class Stale(Failure):
    """The reason may be that the connection is an old one."""


class Answer:
    """An HTTP/1 answer on its way in: interim ones are passed over, and a body has a length or
    comes in chunks (RFC 9112, sections 6 and 7)."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock, self._deadline, self._data, self._at = sock, deadline, b"", 0
        for _ in range(INTERIM_MAX + 1):
            text = self._part(rb"(.*?)\r\n\r\n")[1]
            if not _INTERIM.match(text):
                break
        head = _HEAD.fullmatch(text)
        if not head or _INTERIM.match(text):
            raise not_tickr("not an HTTP/1 response, or too many interim ones")
        self._is_old, self.status, self._fields = head[1] == b"0", int(head[2]), head[3].lower()

    def read(self) -> bytes:
        """The body."""
        framing = _FRAMING.fullmatch(b"".join(_FRAMES.findall(self._fields)))
        if not framing or (self._is_old and not framing[1]):
            raise not_tickr("it does not say how long its body is")
        length = framing[1] and rb"(.{%d})" % int(framing[1])
        return self._part(length)[1] if length else self._chunks()

    def is_last(self) -> bool:
        """Whether the connection can't be used again: it closes, or more came than was asked."""
        closes = re.search(rb"\nconnection:.*\bclose\b", self._fields)
        return self._is_old or bool(closes) or self._at < len(self._data)

    def _chunks(self) -> bytes:
        body = b""
        while chunk := _CHUNK.fullmatch(self._part(rb"(.*?)\r\n")[1]):
            size = int(chunk[1], 16)
            if not size:
                # The trailer ends with an empty line; nothing in it is needed.
                self._part(rb"(?:[^\r\n]+\r\n)*\r\n")
                return body
            body += self._part(rb"(.{%d})" % size)[1]
            if self._part(rb"..")[0] != b"\r\n":
                break
        raise not_tickr("a chunk of the body is malformed")

    def _part(self, pattern: bytes) -> re.Match[bytes]:
        """What comes next, as soon as all of it is there."""
        while not (part := re.compile(pattern, re.DOTALL).match(self._data, self._at)):
            self._sock.settimeout(left(self._deadline))
            data = self._sock.recv(4096)
            if not data:
                raise ConnectionError("end of stream")
            self._data += data
            if len(self._data) > LENGTH_MAX:
                raise not_tickr("the response is too long")
        self._at = part.end()
        return part


class Server:
    """A server, and how it has been doing."""

    closed = False

    def __init__(self, url: str, timeout: float, password: Optional[str], ordered: bool) -> None:
        match = _URL.fullmatch(url)
        port = int(match[4] or 80) if match else 0
        if not match or not 1 <= port <= 65535 or len(os.fsencode(match[1] or "")) > PATH_MAX:
            raise ValueError(_USAGE)
        self._path, self._place = match[1], (match[2] or match[3], port)
        host = f"[{ipaddress.IPv6Address(match[2])}]" if match[2] else match[3]
        self.name = url if self._path else f"http://{host}:{port}"
        host = "localhost" if self._path else self.name[7:]
        self._head = f"Host: {host}\r\nAccept: application/json\r\n"
        if password is not None:
            credentials = b64encode(f"tickr:{password}".encode()).decode()
            self._head += f"Authorization: Basic {credentials}\r\n"
        self._timeout, self._ordered, self.lock = timeout, ordered, threading.Lock()
        self.idle: list[socket.socket] = []
        #: It is the last choice until then.
        self.paused_until, self.pause = 0.0, PAUSE_MIN
        #: The latest runs, in a list that is never changed, only replaced.
        self.runs: list[range] = []

    def fetch(self, count: int) -> range:
        """A run of tickets. An old connection may have been closed meanwhile, or lead to a process
        that is about to end while its successor has moved on: a new one is worth a try."""
        deadline = time.monotonic() + self._timeout
        while True:
            with self.lock:
                if self.closed:
                    raise RuntimeError("the client is closed")
                idle = self.idle.pop() if self.idle else None
                known = self.runs if self._ordered else []
            what = "can't be reached"
            try:
                sock = idle or self._connect(deadline)
                what = "closed the connection early"
                return self._ask(sock, count, known, deadline)
            # A text that looks like a host name may be none (UnicodeError).
            except (Failure, OSError, UnicodeError, FutureTimeout) as error:
                failure = error if isinstance(error, Failure) else _explain(error, what)
                with self.lock:
                    self.disconnect()
                    if not (idle and isinstance(failure, Stale)):
                        self.blame()
                        raise failure from None

    def _connect(self, deadline: float) -> socket.socket:
        """Tries the addresses of a host in the resolver's order; one that is silent leaves time
        for the next."""
        found: list[Any] = [(getattr(socket, "AF_UNIX", 0), self._path)]
        if not self._path:
            # The resolver has time-outs of its own, longer than ours; a thread is left with them.
            look_up = partial(socket.getaddrinfo, *self._place, type=socket.SOCK_STREAM)
            found = Threads().begin(look_up).result(left(deadline))[:ADDRESSES_MAX]
        while True:
            family, *_, address = found.pop(0)
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.settimeout(left(deadline) / (len(found) + 1))
                sock.connect(address)
                return sock
            except BaseException as error:
                sock.close()
                if not found or not isinstance(error, OSError):
                    raise

    def _ask(self, sock: socket.socket, count: int, known: list[range], deadline: float) -> range:
        request = f"GET /tickets/create/{count}?format=range HTTP/1.1\r\n{self._head}\r\n"
        kept = False
        try:
            sock.settimeout(left(deadline))
            sock.sendall(request.encode())
            answer, detail = Answer(sock, deadline), ""
            if answer.status != 200:
                # What became of an explanation matters less than the status.
                with contextlib.suppress(Failure, OSError, LookupError, TypeError, *_NOT_JSON):
                    detail = printable(str(json.loads(answer.read())["detail"]))
                if answer.status == 400:
                    raise Refused(self.name, detail)
                raise Failure(f"responded {answer.status}" + (detail and f": {detail}"))
            run = tickets(answer.read(), count)
            with self.lock:
                self.admit(run, known)
                self.paused_until, self.pause = 0.0, PAUSE_MIN
                kept = not (answer.is_last() or self.closed) and len(self.idle) < IDLE_MAX
                self.idle += [sock] if kept else []
            return run
        finally:
            if not kept:
                sock.close()

    def admit(self, run: range, known: list[range]) -> None:
        """Takes note of a run, or refuses it: when it holds a ticket of a recent one, or is not
        above those of its node that were known when the request was sent. Nodes are told apart by
        increment and remainder."""
        for old in self.runs:
            is_same_node = old.step == run.step and (old[0] - run[0]) % run.step == 0
            is_behind = run[0] <= old[-1] and (old[0] <= run[-1] or old in known)
            if is_same_node and is_behind:
                raise Stale(
                    f"issued {run[0]} after {old[-1]}, and tickets must not go backwards: its "
                    "counter may have been set back, or several processes share this address"
                )
        self.runs = [*self.runs[1 - RUNS_MAX :], run]

    def blame(self) -> None:
        now = time.monotonic()
        if self.paused_until <= now:
            self.paused_until, self.pause = now + self.pause, min(2 * self.pause, PAUSE_MAX)

    def disconnect(self) -> None:
        while self.idle:
            self.idle.pop().close()


def tickets(body: bytes, count: int) -> range:
    """The tickets in a body; nothing is believed that could not be so."""
    try:
        answer = json.loads(body)
    except _NOT_JSON:
        raise not_tickr("the body is not JSON") from None
    fields: Any = answer if isinstance(answer, dict) else {}
    first, increment, counted = (fields.get(key) for key in ("first", "increment", "count"))
    is_whole = type(first) is type(increment) is type(counted) is int
    if is_whole and first >= 0 and increment >= 1 and counted == count:
        run = range(first, first + count * increment, increment)
        if run[-1] <= TICKET_MAX:
            return run
    raise not_tickr("the body is not the range asked for")


def not_tickr(reason: str) -> Failure:
    return Failure(f"did not respond like a Tickr server: {reason}")


def printable(text: str) -> str:
    """Text from elsewhere on one line: it must not steer a terminal or forge a line of a log."""
    return "".join(c if c.isprintable() else " " for c in text[:DETAIL_MAX])


def left(deadline: float) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise socket.timeout
    return seconds


def _explain(error: Exception, what: str) -> Failure:
    # They are one class from Python 3.11 on.
    if isinstance(error, (socket.timeout, FutureTimeout)):
        return Failure("did not answer in time")
    return Stale(f"{what} ({getattr(error, 'strerror', None) or error})")


class Threads:
    """Does work in at most THREADS_MAX threads; what is more waits for its turn. An executor would
    do, but for one thing: the program can't end before its threads do."""

    def __init__(self) -> None:
        self._lock, self._running = threading.Lock(), 0
        self._waiting: deque[Callable[[], None]] = deque()

    def begin(self, work: Callable[[], T]) -> Future[T]:
        done: Future[T] = Future()
        # From here on, who waits for it and is cancelled does not cancel it for the others.
        done.set_running_or_notify_cancel()

        def do() -> None:
            try:
                done.set_result(work())
            except BaseException as error:
                done.set_exception(error)

        with self._lock:
            self._waiting.append(do)
            if self._running == THREADS_MAX:
                return done
            self._running += 1
        try:
            threading.Thread(target=self._run, name="tickr-client", daemon=True).start()
        except RuntimeError:
            # No thread is to be had.
            self._run()
        return done

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._running -= 1
                    return
                do = self._waiting.popleft()
            do()
