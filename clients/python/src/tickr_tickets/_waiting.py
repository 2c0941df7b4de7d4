"""Everything that takes time: a name to be resolved, a socket, a refill in the background.

The rest of the package is written once, as coroutines. Those of `Blocking` never wait for a loop,
so that `run` gets their result in one step; those of `Asyncio` are what asyncio expects."""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import threading
from typing import Any, Coroutine, TypeVar, cast

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits for a loop."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return cast(T, stop.value)
    raise AssertionError("it waits for a loop")


class Blocking:
    async def resolve(self, host: str, port: int, seconds: float) -> Any:
        async def look_up() -> Any:
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)

        # The resolver has time-outs of its own, longer than ours; a thread is left with them.
        found = self.begin(look_up())
        if not concurrent.futures.wait([found], seconds).done:
            raise TimeoutError
        return found.result()

    async def use(self, sock: socket.socket, method: str, argument: Any, seconds: float) -> Any:
        """`connect`, `sendall` or `recv`, in time."""
        sock.settimeout(seconds)
        return getattr(sock, method)(argument)

    def begin(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Not an executor: that waits for its threads when the program ends."""
        done: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def do() -> None:
            try:
                done.set_result(run(work))
            except BaseException as error:
                done.set_exception(error)

        try:
            threading.Thread(target=do, name="tickr-client", daemon=True).start()
        except RuntimeError:
            # No thread is to be had.
            do()
        return done

    def is_over(self, refill: Any) -> bool:
        return bool(refill.done())

    async def outcome(self, refill: Any) -> Any:
        return refill.result()


class Asyncio(Blocking):
    async def resolve(self, host: str, port: int, seconds: float) -> Any:
        return await self._within(seconds, "getaddrinfo", host, port, type=socket.SOCK_STREAM)

    async def use(self, sock: socket.socket, method: str, argument: Any, seconds: float) -> Any:
        sock.setblocking(False)
        return await self._within(seconds, f"sock_{method}", sock, argument)

    async def _within(self, seconds: float, method: str, *arguments: Any, **more: Any) -> Any:
        """Not `asyncio.wait_for`, which loses a cancellation before Python 3.12."""
        work = getattr(asyncio.get_running_loop(), method)(*arguments, **more)
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task}, timeout=seconds)
        finally:
            # The loop has to be done with a socket before that is closed.
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        if task.cancelled():
            raise TimeoutError
        return task.result()

    def begin(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.get_running_loop().create_task(work)

    def is_over(self, refill: Any) -> bool:
        # What a loop that has ended left undone stays undone.
        return bool(refill.done() or refill.get_loop() is not asyncio.get_running_loop())

    async def outcome(self, refill: Any) -> Any:
        # Whoever is cancelled here does not cancel it for the others.
        await asyncio.wait({refill})
        return None if refill.cancelled() else refill.result()
