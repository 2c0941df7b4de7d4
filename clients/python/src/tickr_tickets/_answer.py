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
# How long the body is, which exactly one field has to say.
_FRAMES = re.compile(rb"\n(content-length:.*|transfer-encoding:.*)")
_FRAMING = re.compile(rb"content-length:\s*(\d{1,9})\s*|transfer-encoding:\s*chunked\s*")
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
            head = _HEAD.fullmatch((await self._part(rb"(.*?)\r\n\r\n"))[1])
            if not head:
                raise not_tickr("not an HTTP/1 response")
            # 101 is final: what follows it is another protocol.
            if head[2] >= b"200" or head[2] == b"101":
                return head
        raise not_tickr("too many interim responses")

    async def _read_body(self, head: re.Match[bytes]) -> bytes:
        fields = head[3].lower()
        framing = _FRAMING.fullmatch(b"".join(_FRAMES.findall(fields)))
        if not framing or (head[1] == b"0" and not framing[1]):
            raise not_tickr("it does not say how long its body is")
        length = framing[1] and rb"(.{%d})" % int(framing[1])
        body: bytes = (await self._part(length))[1] if length else await self._chunks()
        closes = head[1] == b"0" or re.search(rb"\nconnection:.*\bclose\b", fields)
        self.reusable = not closes and not self._buffer
        return body

    async def _chunks(self) -> bytes:
        body = b""
        while chunk := _CHUNK.fullmatch((await self._part(rb"(.*?)\r\n"))[1]):
            size = int(chunk[1], 16)
            if not size:
                # The trailer ends with an empty line; nothing in it is needed.
                while (await self._part(rb"(.*?)\r\n"))[1]:
                    pass
                return body
            data, end = (await self._part(rb"(.{%d})(..)" % size)).groups()
            body += data
            if end != b"\r\n":
                break
        raise not_tickr("a chunk of the body is malformed")

    async def _part(self, pattern: bytes) -> re.Match[bytes]:
        """What comes next, as soon as all of it is there."""
        while not (part := re.match(pattern, self._buffer, re.DOTALL)):
            data = await self._receive()
            if not data:
                raise ConnectionError("end of stream")
            self._buffer += data
            self._received += len(data)
            if self._received > LENGTH_MAX:
                raise not_tickr("the response is too long")
        self._buffer = self._buffer[part.end() :]
        return part


def tickets(body: dict[str, Any], count: int) -> range:
    """The tickets in a body; nothing is believed that could not be so."""
    numbers: list[Any] = [body.get(key) for key in ("first", "increment", "count")]
    first, increment, counted = numbers
    whole = all(type(number) is int for number in numbers)
    if whole and first >= 0 and increment >= 1 and counted == count:
        run = range(first, first + count * increment, increment)
        if run[-1] <= TICKET_MAX:
            return run
    raise not_tickr("the body is not the range asked for")


def not_tickr(reason: str) -> Failure:
    return Failure(f"did not respond like a Tickr server: {reason}")


def printable(text: str) -> str:
    """Text from elsewhere on one line: it must not steer a terminal or forge a line of a log."""
    return "".join(c if c.isprintable() else " " for c in text[:DETAIL_MAX])
