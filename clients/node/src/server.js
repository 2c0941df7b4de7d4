// One server: its connections, what it answers, and what of that is believed. Everything has a
// bound: the time, the head, the body, the interim answers, and what is remembered.

import { once } from "node:events";
import http from "node:http";
import net from "node:net";
import { Failure, Refused, notTickr } from "./failures.js";

const [PAUSE_MIN, PAUSE_MAX] = [1000, 30_000];
const [CONNECTIONS_MAX, IDLE_MAX] = [64, 8];
const [HEAD_MAX, BODY_MAX, DETAIL_MAX, INTERIM_MAX] = [8 * 1024, 64 * 1024, 200, 8];
const [PATH_MAX, PORT_MAX, RUNS_MAX, TICKET_MAX] = [107, 65_535, 1000, 2n ** 64n - 1n];

const NUMBER = /^(?:0|[1-9]\d{0,19})$/;
const URL = /^(?:unix:([^\0]+)|http:\/\/(?:([\w.-]+)|\[([\da-fA-F:.]+)\])(?::(\d{1,5}))?\/?)$/;

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
  #timeout;
  #checkOrder;
  #options;
  #underWay = new Set();
  #closed = false;

  constructor(url, { timeout, password, checkOrder }) {
    const [, path, name, ipv6, port = "80"] = URL.exec(url) ?? [];
    const isHost = (name || net.isIPv6(ipv6)) && port >= 1 && port <= PORT_MAX;
    if (path ? Buffer.byteLength(path) > PATH_MAX : !isHost) {
      // The URL is not repeated: it may hold a password.
      throw new TypeError(
        `invalid server URL: use http://HOST:PORT or unix:PATH, of at most ${PATH_MAX} bytes; ` +
          "a password is an option",
      );
    }
    this.name = path ? `unix:${path}` : `http://${name ?? `[${ipv6}]`}:${Number(port)}`;
    this.#timeout = timeout;
    this.#checkOrder = checkOrder;
    this.#options = {
      ...(path ? { socketPath: path } : { host: name ?? ipv6, port }),
      // An address of a name that is silent leaves time for the others.
      agent: new http.Agent({
        keepAlive: true, autoSelectFamily: true, maxSockets: CONNECTIONS_MAX, maxFreeSockets: IDLE_MAX,
      }),
      auth: password === undefined ? undefined : `tickr:${password}`,
      headers: { Accept: "application/json" },
      maxHeaderSize: HEAD_MAX,
      insecureHTTPParser: false,
    };
  }

  /** Asks for a run; all of it, a second try included, ends with the time-out. */
  async ask(count, deadline = performance.now() + this.#timeout) {
    if (this.#closed) throw closed();
    const asked = this.#checkOrder ? this.admitted : 0;
    const { request, ...answer } = await this.#exchange(count, deadline - performance.now());
    try {
      const run = read(this.name, answer, count);
      this.admit(run, asked);
      return run;
    } catch (failure) {
      // A kept connection may have been closed meanwhile, or lead to a process that is about to
      // end while its successor has moved on.
      if (!failure.stale || !request.reusedSocket || performance.now() >= deadline) throw failure;
      this.#disconnect();
      return this.ask(count, deadline);
    }
  }

  /** What comes of a request: the head of the response, its text as far as it came, an error. */
  async #exchange(count, milliseconds) {
    const controller = new AbortController();
    const { signal } = controller;
    const stop = (reason) => controller.abort(reason);
    // When the program was busy for too long, the answer may be there all the same.
    const late = () => setImmediate(stop, new Failure("did not answer in time"));
    const timer = setTimeout(late, Math.max(milliseconds, 1));
    const path = `/tickets/create/${count}?format=range-string`;
    const request = http.get({ ...this.#options, path, signal });
    const came = { request, response: undefined, text: "", error: undefined };
    let interim = 0;
    request.on("error", () => {}).on("upgrade", () => stop(new Failure("responded 101")));
    request.on("information", () => {
      if (++interim > INTERIM_MAX) stop(notTickr("too many interim responses"));
    });
    this.#underWay.add(stop);
    try {
      [came.response] = await once(request, "response", { signal });
      for await (const chunk of came.response.setEncoding("utf8")) {
        if ((came.text += chunk).length > BODY_MAX) throw notTickr("the response is too long");
      }
    } catch (error) {
      came.error = signal.reason ?? error
    } finally {
      clearTimeout(timer);
      this.#underWay.delete(stop);
    }
    return came;
  }

  /** Takes note of a run, or refuses it: when it holds a ticket of a recent one, or is not above
   * what its node had issued when the request was sent. */
  admit(run, asked) {
    const { first, last, increment } = run;
    const isAbove = (old) => first > old.last || (old.first > last && old.number >= asked);
    const isOther = (old) => old.increment !== increment || (first - old.first) % increment !== 0n;
  }
}
