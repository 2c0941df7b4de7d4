// One server: its connections, what it answers, and what of that is believed. Everything has a
// bound: the time, the head, the body, the interim answers, and what is remembered.

import http from "node:http";
import net from "node:net";
import { Failure, Refused } from "./failures.js";

const PAUSE_MIN = 1000;
const PAUSE_MAX = 30_000;
const CONNECTIONS_MAX = 64;
const IDLE_MAX = 8;
const HEAD_MAX = 8 * 1024;
const BODY_MAX = 64 * 1024;
const INTERIM_MAX = 8;
const DETAIL_MAX = 200;
const NODES_MAX = 64;
const RUNS_MAX = 32;
const PATH_MAX = 107;
const TICKET_MAX = 2n ** 64n - 1n;

const NUMBER = /^(?:0|[1-9]\d{0,19})$/;
const UNIX = /^unix:(?<path>[^\0]+)$/;
const HTTP = /^http:\/\/(?:\[(?<ipv6>[\da-fA-F:.]+)\]|(?<host>[\w.-]+))(?::(?<port>\d{1,5}))?\/?$/;

/** Tickets at equal distances, as one answer has them. */
export class Run {
  constructor(first, increment, count) {
    const last = first + BigInt(count - 1) * increment;
    Object.freeze(Object.assign(this, { first, last, increment, count }));
  }

  *[Symbol.iterator]() {
    for (let ticket = this.first; ticket <= this.last; ticket += this.increment) yield ticket;
  }
}

export class Server {
  /** It is the last choice until then. */
  pausedUntil = 0;
  #pause = PAUSE_MIN;
  /** Of each node behind this address, told apart by increment and remainder: its highest ticket,
   * and its latest runs. */
  nodes = new Map();
  #settings;
  #options;
  #aborts = new Set();
  #closed = false;

  constructor(url, settings) {
    const { path } = UNIX.exec(url)?.groups ?? {};
    const { ipv6, host = ipv6, port = 80 } = HTTP.exec(url)?.groups ?? {};
    const isHost = host !== undefined && (!ipv6 || net.isIPv6(ipv6)) && port >= 1 && port <= 65535;
    if (path ? Buffer.byteLength(path) > PATH_MAX : !isHost) {
      // The URL is not repeated: it may hold a password.
      throw new TypeError(
        `invalid server URL: use http://HOST:PORT or unix:PATH, of at most ${PATH_MAX} bytes; ` +
          "a password is an option",
      );
    }
    this.name = path ? `unix:${path}` : `http://${ipv6 ? `[${ipv6}]` : host}:${Number(port)}`;
    this.#settings = settings;
    const connections = { maxSockets: CONNECTIONS_MAX, maxFreeSockets: IDLE_MAX };
    this.#options = {
      ...(path ? { socketPath: path } : { host, port }),
      // An address of a name that is silent leaves time for the others.
      agent: new http.Agent({ keepAlive: true, autoSelectFamily: true, ...connections }),
      auth: settings.password === undefined ? undefined : `tickr:${settings.password}`,
      headers: { Accept: "application/json" },
      maxHeaderSize: HEAD_MAX,
      insecureHTTPParser: false,
    };
  }

  /** Asks for a run; all of it, a second try included, ends with the time-out. */
  async ask(count, deadline = performance.now() + this.#settings.timeout) {
    if (this.#closed) throw closed();
    try {
      return await this.#exchange(count, Math.max(deadline - performance.now(), 1));
    } catch (failure) {
      // A kept connection may have been closed meanwhile, or lead to a process that is about to
      // end while its successor has moved on.
      if (!failure.stale || performance.now() >= deadline) throw failure;
      this.#disconnect();
      return this.ask(count, deadline);
    }
  }

  #exchange(count, milliseconds) {
    return new Promise((resolve, reject) => {
      const path = `/tickets/create/${count}?format=range-string`;
      const request = http.get({ ...this.#options, path });
      const marks = this.#settings.checkOrder ? new Map(this.nodes) : undefined;
      let response, text = "", interim = 0;

      const finish = (error) => {
        clearTimeout(timer);
        this.#aborts.delete(finish);
        try {
          const run = this.#read(response, text, count, error);
          this.admit(run, marks);
          resolve(run);
        } catch (failure) {
          request.destroy();
          failure.stale &&= request.reusedSocket;
          reject(failure);
        }
      };
      this.#aborts.add(finish);
      // When the program was busy for too long, the answer may be there all the same.
      const late = () => setImmediate(finish, new Failure("did not answer in time"));
      const timer = setTimeout(late, milliseconds);

      const broken = (error) => finish(explained(error));
      request.on("error", broken);
      request.on("upgrade", () => finish(new Failure("responded 101")));
      request.on("information", () => {
        if (++interim > INTERIM_MAX) finish(notTickr("too many interim responses"));
      });
      request.on("response", (begun) => {
        response = begun.setEncoding("utf8");
        response.on("data", (chunk) => {
          text += chunk;
          if (text.length > BODY_MAX) finish(notTickr("the response is too long"));
        });
        response.on("end", () => finish()).on("error", broken);
      });
    });
  }

  /** The tickets; nothing is believed that could not be so. */
  #read(response, text, count, error) {
    const { statusCode: status = 200, httpVersionMajor, headers } = response ?? {};
    let body;
    try {
      body = JSON.parse(text);
    } catch {
      error ??= notTickr("the body is not JSON");
    }
    if (status !== 200) {
      // What became of an explanation matters less than the status.
      const detail = typeof body?.detail === "string" ? printable(body.detail) : "";
      if (status === 400) throw new Refused(this.name, detail);
      throw new Failure(`responded ${status}${detail && `: ${detail}`}`);
    }
    if (error) throw error;
    const coding = headers["transfer-encoding"]?.toLowerCase();
    const isFramed = coding ? coding === "chunked" : headers["content-length"];
    if (httpVersionMajor !== 1 || !isFramed) {
      throw notTickr("not HTTP/1, or it does not say how long its body is");
    }
    // They come as text: a JSON number loses digits above 2^53.
    const numbers = [body?.first, body?.increment, body?.count];
    if (numbers.every((number) => typeof number === "string" && NUMBER.test(number))) {
      const [first, increment, counted] = numbers.map(BigInt);
      const run = new Run(first, increment, count);
      if (increment > 0n && counted === BigInt(count) && run.last <= TICKET_MAX) return run;
    }
    throw notTickr("the body is not the range asked for");
  }

  /** Takes note of a run, or refuses it: when it holds a ticket of a recent one, or is not above
   * what its node had issued when the request was sent (`marks`). */
  admit(run, marks) {
    const { first, last, increment } = run;
    const node = `${increment} ${first % increment}`;
    const { highest = 0n, runs = [] } = this.nodes.get(node) ?? {};
    const repeated = runs.find((old) => first <= old.last && old.first <= last)?.last;
    const mark = marks?.get(node)?.highest;
    const before = mark >= first ? mark : repeated;
    if (before !== undefined) {
      const reason =
        `issued ${first} after ${before}, and tickets must not go backwards: ` +
        "its counter may have been set back, or several processes share this address";
      throw new Failure(reason, true);
    }
    // Who has not been heard of for longest is forgotten.
    this.nodes.delete(node);
    if (this.nodes.size === NODES_MAX) this.nodes.delete(this.nodes.keys().next().value);
    const latest = [...runs, run].slice(-RUNS_MAX);
    this.nodes.set(node, { highest: last > highest ? last : highest, runs: latest });
    this.pausedUntil = 0;
    this.#pause = PAUSE_MIN;
  }

  blame() {
    this.#disconnect();
    const now = performance.now();
    // A second failure at the same time is the same failure.
    if (this.pausedUntil > now) return;
    this.pausedUntil = now + this.#pause;
    this.#pause = Math.min(2 * this.#pause, PAUSE_MAX);
  }

  /** Ends the connections that nobody uses. */
  #disconnect() {
    for (const socket of Object.values(this.#options.agent.freeSockets).flat()) socket.destroy();
  }

  close() {
    this.#closed = true;
    for (const abort of this.#aborts) abort(closed());
    const { agent } = this.#options;
    // Requests that have waited for a connection may still get one.
    agent.keepSocketAlive = () => false;
    agent.destroy();
  }
}

const closed = () => new Error("the client is closed");

const notTickr = (reason) => new Failure(`did not respond like a Tickr server: ${reason}`);

function explained(error) {
  const { code = error.message, syscall, errors } = error;
  // With `errors`, each address of a name has failed.
  if (errors || /^(connect|getaddrinfo)/.test(syscall)) {
    return new Failure(`can't be reached (${code})`);
  }
  // Node.js's names of what is wrong with the syntax; the exception is an end that comes too soon.
  if (/^HPE_(?!INVALID_EOF_STATE)/.test(code)) return notTickr(`not HTTP/1 (${code})`);
  return new Failure(`closed the connection early (${code})`, true);
}

/** Text from elsewhere on one line: it must not steer a terminal or forge a line of a log. */
const printable = (text) => text.slice(0, DETAIL_MAX).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, " ");
