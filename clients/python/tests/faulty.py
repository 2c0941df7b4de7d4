"""A server that misbehaves as it is told, for tests: what it sends is up to the test."""

import json
import socket
import threading


def answer(body, status="200 OK", *fields):
    """The bytes of a whole answer."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(lines).encode() + body


def tickets(first, count, increment=1):
    return answer({"first": first, "increment": increment, "count": count})


class Faulty:
    """Calls `respond(connection, count)` for each request; what that returns is sent, and None
    closes the connection. With bytes instead of a function, these are sent each time."""

    def __init__(self, respond, path=None):
        fixed = isinstance(respond, bytes)
        self._respond = (lambda connection, count: respond) if fixed else respond
        self.requests = []
        self.connections = 0
        #: Is set when a client has closed a connection.
        self.left = threading.Event()
        if path:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(path)
            self.url = f"unix:{path}"
        else:
            self._listener = socket.socket()
            self._listener.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._listener.listen(1024)
        self._open = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        received = b""
        with connection:
            try:
                while True:
                    while b"\r\n\r\n" not in received:
                        data = connection.recv(4096)
                        if not data:
                            self.left.set()
                            return
                        received += data
                    request, _, received = received.partition(b"\r\n\r\n")
                    self.requests.append(request.decode())
                    count = int(request.split(b"?")[0].rpartition(b"/")[2])
                    response = self._respond(connection, count)
                    if response is None:
                        return
                    connection.sendall(response)
            except OSError:
                self.left.set()

    def close(self):
        if self._listener.fileno() < 0:
            return
        # Wakes the thread that accepts, which `close` does not.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join()
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Good(Faulty):
    """Issues tickets as it should, from this one on."""

    def __init__(self, first=1, increment=1, path=None):
        self._next, self._increment = first, increment
        self._lock = threading.Lock()
        super().__init__(self._issue, path)

    def _issue(self, connection, count):
        with self._lock:
            first = self._next
            self._next += count * self._increment
        return tickets(first, count, self._increment)
