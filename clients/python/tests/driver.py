"""The driver for ../../conformance: of Client, or of AsyncClient with the argument `asyncio`."""

import asyncio
import json
import os
import sys
import threading
import time

from tickr_tickets import AsyncClient, Client, Refused, Unavailable


class Waiter:
    """An AsyncClient that is used like a Client. Its loop has a thread, in each process."""

    def __init__(self, *arguments, **settings):
        self._client, self._pid = AsyncClient(*arguments, **settings), None

    def _wait(self, coroutine):
        if self._pid != os.getpid():
            self._pid, self._loop = os.getpid(), asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, daemon=True).start()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def next(self):
        return self._wait(self._client.next())

    def take(self, count):
        return self._wait(self._client.take(count))

    def close(self):
        self._wait(self._client.close())


def take(client, count=0, until=None):
    taken = []
    while len(taken) < count or (until and not os.path.exists(until)):
        taken.append(client.next())
        time.sleep(0.001 if until else 0)
    return taken


def threads(client, number, count, until):
    mine = [[] for _ in range(number)]
    errors = []

    def run(index):
        try:
            mine[index] = take(client, count, until)
        except Exception as error:
            errors.append(error)

    running = [threading.Thread(target=run, args=(index,)) for index in range(number)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if errors:
        raise errors[0]
    return sum(mine, [])


def forks(client, number, count):
    readers, taken = [], []
    for _ in range(number):
        reader, writer = os.pipe()
        if not os.fork():
            try:
                with open(writer, "w") as pipe:
                    json.dump(take(client, count), pipe)
            finally:
                os._exit(0)
        os.close(writer)
        readers.append(reader)
    for reader in readers:
        with open(reader) as pipe:
            taken += json.load(pipe)
        os.wait()
    return taken


def tell(error):
    if isinstance(error, Unavailable):
        return {"kind": "unavailable", "attempts": error.attempts}
    if isinstance(error, Refused):
        return {"kind": "refused", "server": error.server, "detail": error.detail}
    if isinstance(error, (ValueError, RuntimeError)):
        return {"kind": "invalid" if isinstance(error, ValueError) else "closed"}
    raise error


def main():
    kind = Waiter if "asyncio" in sys.argv else Client
    client = None
    for line in sys.stdin:
        command = json.loads(line)
        do, count, taken, error = command["do"], command.get("count", 0), [], None
        try:
            if do == "open":
                settings = {key: command[key] for key in command if key not in ("do", "timeout")}
                if command["timeout"] is not None:
                    settings["timeout"] = command["timeout"] / 1000
                client = kind(settings.pop("servers"), **settings)
            elif do == "next":
                while len(taken) < count:
                    taken.append(client.next())
            elif do == "take":
                taken = client.take(count)
            elif do == "threads":
                taken = threads(client, command["threads"], count, command.get("until"))
            elif do == "fork":
                taken = forks(client, command["fork"], count)
            else:
                client.close()
        except Exception as raised:
            error = {**tell(raised), "message": str(raised)}
        print(json.dumps({"tickets": list(map(str, taken)), "error": error}), flush=True)


if __name__ == "__main__":
    main()
