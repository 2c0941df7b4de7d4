"""An HTTP/1 answer and the tickets in it. Interim answers are passed over, and a body has a length
or comes in chunks (RFC 9112, sections 6 and 7).

http.client would do, but it has no deadline for a whole answer, wants a file, which asyncio does
not have, and believes an answer with two lengths."""

from __future__ import annotations

import json
import re
from typing import Any, Awaitable, Callable

LENGTH_MAX, INTERIM_MAX, DETAIL_MAX, TICKET_MAX = 64 * 1024, 8, 200, 2**64 - 1

_HEAD = re.compile(rb"HTTP/1\.([01]) (\d{3})(?: [^\r\n]*)?((?:\r\n[!#-'*+.^-z|~\w-]+:[^\r\n]*)*)")
_FRAMING = re.compile(rb"content-length:[ \t]*(\d{1,9})[ \t]*|transfer-encoding:[ \t]*chunked[ \t]*")
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,8})[ \t]*(?:;[^\r\n]*)?")


class Failure(Exception):
    """Why one server gave no tickets, as the end of a sentence that its name begins."""


class Stale(Failure):
    """The reason may be that the connection is an old one."""


class Answer:
    """An answer on its way in."""

    status = 0
    reusable = False

    def __init__(self, receive: Callable[[], Awaitable[bytes]]) -> None:
        self._receive, self._buffer, self._received = receive, b"", 0

    async def read(self) -> dict[str, Any]:
        """The JSON object in the body. What became of an explanation matters less than the
        status."""
        try:
            head = await self._read_head()
            self.status = int(head[2])
            body = json.loads(await self._read_body(head))
            return body if isinstance(body, dict) else {}
        except (Failure, OSError, ValueError, RecursionError) as error:
            if self.status not in (0, 200):
                return {}
            if isinstance(error, (Failure, OSError)):
                raise
            raise not_tickr("the body is not JSON") from None

    async def _read_head(self) -> re.Match[bytes]:
        for _ in range(INTERIM_MAX + 1):
            head = _HEAD.fullmatch(await self._until(b"\r\n\r\n"))
            if not head:
                raise not_tickr("not an HTTP/1 response")
            # 101 is final: what follows it is another protocol.
            if head[2] >= b"200" or head[2] == b"101":
                return head
        raise not_tickr("too many interim responses")

    async def _read_body(self, head: re.Match[bytes]) -> bytes:
        fields = head[3].lower().split(b"\r\n")
        framing = [field for field in fields if re.match(b"content-length:|transfer-encod", field)]
        framed = _FRAMING.fullmatch(b"\n".join(framing))
        if not framed or (head[1] == b"0" and not framed[1]):
            raise not_tickr("it does not say how long its body is")
        body = await (self._exactly(int(framed[1])) if framed[1] else self._chunks())
        closes = head[1] == b"0" or any(re.match(rb"connection:.*\bclose\b", f) for f in fields)
        self.reusable = not closes and not self._buffer
        return body

    async def _chunks(self) -> bytes:
        body = b""
        while chunk := _CHUNK.fullmatch(await self._until(b"\r\n")):
            size = int(chunk[1], 16)
            if not size:
                # The trailer ends with an empty line; nothing in it is needed.
                while await self._until(b"\r\n"):
                    pass
                return body
            body += await self._exactly(size)
            if await self._exactly(2) != b"\r\n":
                break
        raise not_tickr("a chunk of the body is malformed")

    async def _until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            await self._more()
        part, _, self._buffer = self._buffer.partition(end)
        return part

    async def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            await self._more()
        part, self._buffer = self._buffer[:count], self._buffer[count:]
        return part

    async def _more(self) -> None:
        data = await self._receive()
        if not data:
            raise ConnectionError("end of stream")
        self._buffer += data
        self._received += len(data)
        if self._received > LENGTH_MAX:
            raise not_tickr("the response is too long")


def tickets(body: dict[str, Any], count: int) -> range:
    """The tickets in a body; nothing is believed that could not be so."""
    first, increment, counted = (body.get(key) for key in ("first", "increment", "count"))
    if (
        type(first) is type(increment) is type(counted) is int
        and first >= 0
        and increment >= 1
        and counted == count
        and first + (count - 1) * increment <= TICKET_MAX
    ):
        return range(first, first + count * increment, increment)
    raise not_tickr("the body is not the range asked for")


def not_tickr(reason: str) -> Failure:
    return Failure(f"did not respond like a Tickr server: {reason}")


def printable(text: str) -> str:
    """Text from elsewhere on one line: it must not steer a terminal or forge a line of a log."""
    return "".join(c if c.isprintable() else " " for c in text[:DETAIL_MAX])
