// A server that misbehaves as it is told, for tests: what it sends is up to the test.

import { once } from "node:events";
import net from "node:net";

/** The bytes of a whole answer. */
export function answer(body, status = "200 OK", ...fields) {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const length = `Content-Length: ${Buffer.byteLength(text)}`;
  return [`HTTP/1.1 ${status}`, length, ...fields, "", text].join("\r\n");
}

export const range = (first, count, increment = 1) => ({
  first: String(first),
  increment: String(increment),
  count: String(count),
});

export const tickets = (...run) => answer(range(...run));

/** Calls `respond(count, socket)` for each request; what that gives is sent, and null closes the
 * connection. With a text instead of a function, that is sent each time. */
export async function faulty(t, respond, path) {
  const sockets = new Set();
  const server = { requests: [], connections: 0, open: sockets };
  const listener = net.createServer((socket) => {
    server.connections++;
    sockets.add(socket);
    let received = "";
    socket.on("close", () => sockets.delete(socket)).on("error", () => {});
    socket.on("data", async (data) => {
      received += data;
      for (let end; (end = received.indexOf("\r\n\r\n")) >= 0; ) {
        const request = received.slice(0, end);
        received = received.slice(end + 4);
        server.requests.push(request);
        const count = Number(/^GET \/tickets\/create\/(\d+)\?format=range-string /.exec(request)[1]);
        const response = typeof respond === "string" ? respond : await respond(count, socket);
        if (response === null) socket.end();
        else socket.write(response);
      }
    });
  });
  listener.listen(...(path ? [path] : [0, "127.0.0.1"]));
  await once(listener, "listening");
  server.url = path ? `unix:${path}` : `http://127.0.0.1:${listener.address().port}`;
  server.close = () => {
    for (const socket of sockets) socket.destroy();
    return new Promise((resolve) => listener.close(resolve));
  };
  t.after(server.close);
  return server;
}

/** Issues tickets as it should, from this one on. */
export function good(t, first = 1, increment = 1, path) {
  let next = BigInt(first);
  return faulty(
    t,
    (count) => {
      const run = tickets(next, count, increment);
      next += BigInt(count) * BigInt(increment);
      return run;
    },
    path,
  );
}

/** Waits for a state. */
export async function until(is) {
  for (const end = Date.now() + 60_000; !is(); await new Promise(setImmediate)) {
    if (Date.now() > end) throw new Error(`this does not come true: ${is}`);
  }
}

/** Something that a test lets happen. */
export function gate() {
  let open;
  return Object.assign(new Promise((resolve) => (open = resolve)), { open });
}
