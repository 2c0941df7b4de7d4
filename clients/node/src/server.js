// One server: its connections, what it answers, and what of that is believed. Everything has a
// bound: the time, the head, the body, the interim answers, and what is remembered.

import { once } from "node:events";
import http from "node:http";
import net from "node:net";
import { Failure, Refused, closed, explained, notTickr } from "./failures.js";

const [PAUSE_MIN, PAUSE_MAX] = [1000, 30_000];
const [CONNECTIONS_MAX, IDLE_MAX] = [64, 8];
const [HEAD_MAX, BODY_MAX, DETAIL_MAX, INTERIM_MAX] = [8 * 1024, 64 * 1024, 200, 8];
const [PATH_MAX, PORT_MAX, RUNS_MAX, TICKET_MAX] = [107, 65_535, 256, 2n ** 64n - 1n];

const NUMBER = /^(?:0|[1-9]\d{0,19})$/;
const SERVER = /^(?:unix:([^\0]+)|http:\/\/(?:([\w.-]+)|\[([\da-fA-F:.]+)\])(?::(\d{1,5}))?\/?)$/;
// The URL is not repeated: it may hold a password.
const USAGE =
  `invalid server URL: use http://HOST:PORT or unix:PATH, of at most ${PATH_MAX} bytes; ` +
  "a password is an option";

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
  /** The latest runs, and how many there were before each of them. */
  latest = [];
  admitted = 0;
  #settings;
  #options;
  #underWay = new Set();
  #closed = false;

  constructor(url, settings) {
    const [, path, name, ipv6, port = "80"] = SERVER.exec(url) ?? [];
    const isHost = (name || net.isIPv6(ipv6)) && port >= 1 && port <= PORT_MAX;
    if (path ? Buffer.byteLength(path) > PATH_MAX : !isHost) throw new TypeError(USAGE);
    this.name = path ? `unix:${path}` : `http://${name ?? `[${ipv6}]`}:${Number(port)}`;
    this.#settings = settings;
    const connections = { maxSockets: CONNECTIONS_MAX, maxFreeSockets: IDLE_MAX };
    this.#options = {
      ...(path ? { socketPath: path } : { host: name ?? ipv6, port }),
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
    const asked = this.#settings.checkOrder ? this.admitted : 0;
    const answer = await this.#exchange(count, Math.max(deadline - performance.now(), 1));
    try {
      return this.admit(read(this.name, answer, count), asked);
    } catch (failure) {
      // A kept connection may have been closed meanwhile, or lead to a process that is about to
      // end while its successor has moved on.
      const isStale = answer.reused && answer.status === 200 && failure instanceof Failure;
      if (!isStale || performance.now() >= deadline) throw failure;
      this.#disconnect();
      return this.ask(count, deadline);
    }
  }

  /** What comes of a request: the response and its text, as far as they came, and an error. */
  async #exchange(count, milliseconds) {
    let response, text = "", error, interim = 0;
    const path = `/tickets/create/${count}?format=range-string`;
    const request = http.get({ ...this.#options, path });
    const stop = (reason) => {
      error ??= reason;
      request.destroy().emit("error", reason);
    };
    // When the program was busy for too long, the answer may be there all the same.
    const late = () => setImmediate(stop, new Failure("did not answer in time"));
    const timer = setTimeout(late, milliseconds);
    this.#underWay.add(stop);
    request.on("error", (thrown) => (error ??= explained(thrown)));
    request.on("upgrade", () => stop(new Failure("responded 101")));
    request.on("information", () => {
      if (++interim > INTERIM_MAX) stop(notTickr("too many interim responses"));
    });
    try {
      [response] = await once(request, "response");
      for await (const chunk of response.setEncoding("utf8")) {
        text += chunk;
        if (text.length > BODY_MAX) throw notTickr("the response is too long");
      }
    } catch (thrown) {
      error ??= explained(thrown);
    }
    clearTimeout(timer);
    this.#underWay.delete(stop);
    const { statusCode: status = 200, httpVersionMajor: version, headers } = response ?? {};
    return { status, version, headers, text, error, reused: request.reusedSocket };
  }

  /** Takes note of a run, or refuses it: when it holds a ticket of a recent one, or is not above
   * one that was there when it was asked for. Several nodes may share an address: their tickets
   * differ by increment and remainder. */
  admit(run, asked) {
    const { first, last, increment } = run;
    const before = this.latest.find(
      (old) =>
        first <= old.last && (old.first <= last || old.number < asked) &&
        increment === old.increment && (first - old.first) % increment === 0n,
    );
    if (before) {
      const reason =
        `issued ${first} after ${before.last}, and tickets must not go backwards: ` +
        "its counter may have been set back, or several processes share this address";
      throw new Failure(reason);
    }
    this.latest.push({ ...run, number: this.admitted++ });
    if (this.latest.length > RUNS_MAX) this.latest.shift();
    this.pausedUntil = 0;
    this.#pause = PAUSE_MIN;
    return run;
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
    for (const stop of this.#underWay) stop(closed());
    const { agent } = this.#options;
    // Requests that have waited for a connection may still get one.
    agent.keepSocketAlive = () => false;
    agent.destroy();
  }
}

/** The tickets of an answer; nothing is believed that could not be so. */
function read(server, { status, version, headers, text, error }, count) {
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    error ??= notTickr("the body is not JSON");
  }
  if (status !== 200) {
    // What became of an explanation matters less than the status.
    const detail = typeof body?.detail === "string" ? printable(body.detail) : "";
    if (status === 400) throw new Refused(server, detail);
    throw new Failure(`responded ${status}${detail && `: ${detail}`}`);
  }
  if (error) throw error;
  const coding = headers["transfer-encoding"]?.toLowerCase();
  if (version !== 1 || !(coding ? coding === "chunked" : headers["content-length"])) {
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

/** Text from elsewhere on one line: it must not steer a terminal or forge a line of a log. */
const printable = (text) => text.slice(0, DETAIL_MAX).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, " ");
