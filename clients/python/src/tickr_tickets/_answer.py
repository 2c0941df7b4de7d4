"""An HTTP/1 answer and the tickets in it. Interim answers are passed over, and a body has a length
or comes in chunks (RFC 9112, sections 6 and 7).

http.client would do, but it has no deadline for a whole answer, wants a file, which asyncio does
not have, and believes an answer with two lengths."""

from __future__ import annotations

import json
import re
import socket
import time
from typing import Any

from ._waiting import Blocking

ANSWER_MAX = 64 * 1024
INTERIM_MAX = 8
DETAIL_MAX = 200
TICKET_MAX = 2**64 - 1

_HEAD = re.compile(rb"HTTP/1\.([01]) (\d{3})(?: [^\r\n]*)?((?:\r\n[!#-'*+.^-z|~\w-]+:[^\r\n]*)*)")
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,8})[ \t]*(?:;[^\r\n]*)?")


class Failure(Exception):
    """Why one server gave no tickets, as the end of a sentence that its name begins.

    A stale connection may be the reason: a new one is worth a try."""

    def __init__(self, reason: str, *, stale: bool = False, status: int = 0, detail: str = ""):
        super().__init__(reason)
        self.stale, self.status, self.detail = stale, status, detail


class Answer:
    """An answer on its way in."""

    status = 0
    reusable = False
    body = b""

    def __init__(self, sock: socket.socket, waiting: Blocking, deadline: float) -> None:
        self._sock, self._waiting, self._deadline = sock, waiting, deadline
        self._buffer = b""
        self._received = 0

    async def read(self) -> None:
        for _ in range(INTERIM_MAX + 1):
            head = _HEAD.fullmatch(await self._until(b"\r\n\r\n"))
            if not head:
                raise not_tickr("not an HTTP/1 response")
            # 101 is final: what follows it is another protocol.
            if int(head[2]) >= 200 or int(head[2]) == 101:
                break
        else:
            raise not_tickr("too many interim responses")
        self.status = int(head[2])
        fields: dict[bytes, list[bytes]] = {}
        for line in head[3].lower().split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            fields.setdefault(name, []).append(value.strip())
        lengths = fields.get(b"content-length", [])
        codings = fields.get(b"transfer-encoding", [])
        if len(lengths) == 1 and not codings and re.fullmatch(rb"\d{1,9}", lengths[0]):
            self.body = await self._exactly(int(lengths[0]))
        elif codings == [b"chunked"] and not lengths and head[1] == b"1":
            await self._read_chunks()
        else:
            raise not_tickr("it does not say how long its body is")
        closes = re.search(rb"(^|[, \t])close($|[, \t])", b",".join(fields.get(b"connection", [])))
        self.reusable = head[1] == b"1" and not closes and not self._buffer

    async def _read_chunks(self) -> None:
        while chunk := _CHUNK.fullmatch(await self._until(b"\r\n")):
            size = int(chunk[1], 16)
            if not size:
                # The trailer ends with an empty line; nothing in it is needed.
                while await self._until(b"\r\n"):
                    pass
                return
            self.body += await self._exactly(size)
            if await self._exactly(2) != b"\r\n":
                break
        raise not_tickr("a chunk of the body is malformed")

    async def _until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            await self._receive()
        part, _, self._buffer = self._buffer.partition(end)
        return part

    async def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            await self._receive()
        part, self._buffer = self._buffer[:count], self._buffer[count:]
        return part

    async def _receive(self) -> None:
        data = await self._waiting.use(self._sock, "recv", 4096, left(self._deadline))
        if not data:
            raise Failure("closed the connection early (end of stream)", stale=True)
        self._buffer += data
        self._received += len(data)
        if self._received > ANSWER_MAX:
            raise not_tickr("the response is too long")

    def run(self, count: int) -> range:
        """The tickets; nothing is believed that could not be so."""
        body: Any = None
        try:
            body = json.loads(self.body)
        except (ValueError, RecursionError):
            if self.status == 200:
                raise not_tickr("the body is not JSON") from None
        body = body if isinstance(body, dict) else {}
        if self.status != 200:
            detail = _printable(str(body.get("detail", "")))
            reason = f"responded {self.status}" + (f": {detail}" if detail else "")
            raise Failure(reason, status=self.status, detail=detail)
        first, increment, counted = (body.get(key) for key in ("first", "increment", "count"))
        if (
            not type(first) is type(increment) is type(counted) is int
            or first < 0
            or increment < 1
            or counted != count
            or first + (count - 1) * increment > TICKET_MAX
        ):
            raise not_tickr("the body is not the range asked for")
        return range(first, first + count * increment, increment)


def not_tickr(reason: str) -> Failure:
    return Failure(f"did not respond like a Tickr server: {reason}")


def left(deadline: float) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def _printable(text: str) -> str:
    """Text from elsewhere on one line: it must not steer a terminal or forge a line of a log."""
    shown = "".join(c if c.isprintable() else " " for c in text[: DETAIL_MAX + 1])
    return shown if len(shown) <= DETAIL_MAX else shown[: DETAIL_MAX - 1] + "…"
