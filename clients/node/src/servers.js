// The servers of a client: in which order they are asked, and what is believed of their answers.

import http from "node:http";
import net from "node:net";
import { Failure, exchange } from "./answer.js";

const PAUSE_MIN = 1000;
const PAUSE_MAX = 30_000;
const IDLE_MAX = 8;
const SOCKETS_MAX = 64;
const NODES_MAX = 64;
const RUNS_MAX = 32;
const SERVERS_MAX = 256;
const PATH_MAX = 107;
const TIMER_MAX = 2 ** 31 - 1;

const URL = /^http:\/\/(?:\[([\da-fA-F:.]+)\]|([A-Za-z\d._-]+))(?::(\d{1,5}))?\/?$/;
// The text is not repeated in errors: it may hold a password.
const USAGE = "invalid server URL: use http://HOST:PORT or unix:PATH; a password is an option";

/** No ticket. */
export class TickrError extends Error {}

/** Every server was tried and none gave tickets; trying again later is safe. */
export class Unavailable extends TickrError {
  name = "Unavailable";

  constructor(attempts) {
    const lines = attempts.map(({ server, reason }) => `\n  ${server} ${reason}`);
    super(`no server issued tickets; it is safe to retry:${lines.join("")}`);
    this.attempts = attempts;
  }
}

/** A server calls the request itself wrong (400); the others were not asked. */
export class Refused extends TickrError {
  name = "Refused";
  status = 400;

  constructor(server, detail) {
    super(`${server} responded 400: ${detail}`);
    Object.assign(this, { server, detail });
  }
}

/** A server, and how it has been doing. */
export class Server {
  /** It is the last choice until then. */
  pausedUntil = 0;
  pause = PAUSE_MIN;
  /** Of each node behind this address, told apart by increment and remainder: its highest ticket,
   * and its latest runs. */
  nodes = new Map();

  constructor(url, { password, timeout }) {
    if (typeof url !== "string") throw new TypeError(USAGE);
    let host = "localhost";
    if (url.startsWith("unix:")) {
      const socketPath = url.slice(5);
      const bytes = Buffer.byteLength(socketPath);
      if (!bytes || bytes > PATH_MAX || socketPath.includes("\0")) {
        throw new TypeError("invalid server URL: no Unix socket can have this path");
      }
      this.name = url;
      this.place = { socketPath };
    } else {
      const [matched, address, name, digits] = URL.exec(url) ?? [];
      const port = Number(digits ?? 80);
      if (!matched || port < 1 || port > 65535 || (address && !net.isIPv6(address))) {
        throw new TypeError(USAGE);
      }
      host = `${address ? `[${address}]` : name}:${port}`;
      this.name = `http://${host}`;
      this.place = { host: address ?? name, port };
    }
    this.headers = { Host: host, Accept: "application/json" };
    if (password !== undefined) {
      const credentials = Buffer.from(`tickr:${password}`).toString("base64");
      this.headers.Authorization = `Basic ${credentials}`;
    }
    this.agent = new http.Agent({
      keepAlive: true,
      maxSockets: SOCKETS_MAX,
      maxFreeSockets: IDLE_MAX,
      // An address that is silent leaves time for the others.
      autoSelectFamily: true,
      autoSelectFamilyAttemptTimeout: Math.max(10, Math.trunc(timeout / 4)),
    });
  }

  marks() {
    return new Map([...this.nodes].map(([key, { highest }]) => [key, highest]));
  }

  /** Takes note of a run, or refuses it: when it holds a ticket of a recent one, or is not above
   * what its node had issued when the request was sent. */
  admit(run, marks) {
    const { first, last, increment } = run;
    const key = `${increment} ${first % increment}`;
    const node = this.nodes.get(key) ?? { highest: 0n, runs: [] };
    const mark = marks?.get(key);
    const behind = mark !== undefined && first <= mark;
    const repeated = node.runs.find((old) => first <= old.last && old.first <= last);
    if (behind || repeated) {
      throw new Failure(
        `issued ${first} after ${behind ? mark : repeated.last}, and tickets must not go ` +
          "backwards: its counter may have been set back, or several processes share this address",
        { stale: true },
      );
    }
    if (!this.nodes.has(key) && this.nodes.size === NODES_MAX) {
      this.nodes.delete(this.nodes.keys().next().value);
    }
    this.nodes.set(key, node);
    node.runs.push(run);
    if (node.runs.length > RUNS_MAX) node.runs.shift();
    if (last > node.highest) node.highest = last;
    this.pausedUntil = 0;
    this.pause = PAUSE_MIN;
  }

  blame(now = performance.now()) {
    this.disconnect();
    if (this.pausedUntil > now) return;
    this.pausedUntil = now + this.pause;
    this.pause = Math.min(2 * this.pause, PAUSE_MAX);
  }

  /** Ends the connections that nobody uses. */
  disconnect() {
    for (const socket of Object.values(this.agent.freeSockets).flat()) socket.destroy();
  }
}

export class Servers {
  #aborts = new Set();
  #timeout;
  #checkOrder;
  closed = false;

  constructor(urls, { timeout = 2000, password, checkOrder = true }) {
    if (!Array.isArray(urls) || urls.length < 1 || urls.length > SERVERS_MAX) {
      throw new RangeError(`a client takes a list of 1 to ${SERVERS_MAX} servers`);
    }
    if (!(timeout > 0)) throw new RangeError("the time-out must be greater than zero");
    this.#timeout = Math.min(timeout, TIMER_MAX);
    this.#checkOrder = checkOrder;
    this.list = urls.map((url) => new Server(url, { password, timeout: this.#timeout }));
  }

  close() {
    this.closed = true;
    for (const abort of this.#aborts) abort(new Failure("was not waited for"));
    for (const { agent } of this.list) {
      // Requests that have waited for a connection may still get one.
      agent.keepSocketAlive = () => false;
      agent.destroy();
    }
  }

  assertOpen() {
    if (this.closed) throw new Error("the client is closed");
  }

  /** Asks the servers, one after the other and each once, for one run of tickets: by preference,
   * but those that have failed lately come last. */
  async fetch(count) {
    const now = performance.now();
    const isPaused = (server) => Number(server.pausedUntil > now);
    const attempts = [];
    for (const server of [...this.list].sort((one, other) => isPaused(one) - isPaused(other))) {
      try {
        return await this.#ask(server, count);
      } catch (failure) {
        this.assertOpen();
        if (!(failure instanceof Failure)) throw failure;
        if (failure.status === 400) throw new Refused(server.name, failure.detail);
        server.blame();
        attempts.push({ server: server.name, reason: failure.message });
      }
    }
    throw new Unavailable(attempts);
  }

  async #ask(server, count) {
    const deadline = performance.now() + this.#timeout;
    for (;;) {
      this.assertOpen();
      const marks = this.#checkOrder ? server.marks() : undefined;
      const left = Math.max(deadline - performance.now(), 1);
      const admit = (run) => server.admit(run, marks);
      try {
        return await exchange(server, count, left, this.#aborts, admit);
      } catch (failure) {
        // A kept connection may have been closed meanwhile, or lead to a process that is about to
        // end while its successor has moved on.
        if (!failure.stale || performance.now() >= deadline) throw failure;
        server.disconnect();
      }
    }
  }
}
