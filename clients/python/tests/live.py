"""The real server, started with a private MySQL server by `tickr dev`."""

import os
import subprocess
import tempfile
import time

from tickr_tickets import Client, TickrError

DEADLINE = 60


class Tickr:
    def __init__(self, *arguments, password=None):
        self._folder = tempfile.TemporaryDirectory(prefix="tickr")
        self.folder = self._folder.name
        self.url = f"unix:{self.folder}/tickr.sock"
        self._password = password
        self._command = [
            os.environ["TICKR"], "dev", "--data-dir", f"{self.folder}/data",
            "--listen", self.url, "--database-pool-timeout", "20", *arguments,
        ]  # fmt: skip
        self.start()

    @property
    def mysql_socket(self):
        return f"{self.folder}/data/mysql/mysql.sock"

    def start(self):
        with open(f"{self.folder}/log", "ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        end = time.monotonic() + DEADLINE
        with Client([self.url], password=self._password, timeout=DEADLINE) as client:
            while True:
                try:
                    client.next()
                    return
                except TickrError:
                    if self._process.poll() is not None or time.monotonic() > end:
                        with open(f"{self.folder}/log") as log:
                            raise RuntimeError(f"tickr does not start:\n{log.read()}") from None
                    time.sleep(0.05)

    def stop(self):
        self._process.terminate()
        self._process.wait(DEADLINE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.stop()
        self._folder.cleanup()
