// Unique 64-bit tickets from Tickr servers. What is public is described in index.d.ts.

import { cached } from "./cache.js";
import { Failure, Refused, TickrError, Unavailable } from "./failures.js";
import { Server } from "./server.js";

export { Refused, TickrError, Unavailable };

const SERVERS_MAX = 256;
const TIMER_MAX = 2 ** 31 - 1;

const isCount = (value, least) => Number.isSafeInteger(value) && value >= least;

export class Client {
  #servers;
  #cached;

  constructor(urls, { timeout = 2000, password, cache = 0, checkOrder = true } = {}) {
    const isList = Array.isArray(urls) && urls.length >= 1 && urls.length <= SERVERS_MAX;
    if (!isList) throw new RangeError(`a client takes a list of 1 to ${SERVERS_MAX} servers`);
    if (!(timeout > 0)) throw new RangeError("the time-out must be greater than zero");
    if (!isCount(cache, 0)) throw new RangeError("a cache has 0 or more tickets");
    const options = { timeout: Math.min(timeout, TIMER_MAX), password, checkOrder };
    this.#servers = urls.map((url) => new Server(url, options));
    if (cache) this.#cached = cached(cache, (count) => this.#fetch(count));
  }

  async next() {
    return this.#cached ? this.#cached() : (await this.#fetch(1)).first;
  }

  async take(count) {
    if (!isCount(count, 1)) throw new RangeError("a batch must have at least one ticket");
    return this.#fetch(count);
  }

  close() {
    this.#cached = undefined;
    for (const server of this.#servers) server.close();
  }

  /** Asks the servers, one after the other and each once, for one run of tickets: by preference,
   * but those that have failed lately come last. */
  async #fetch(count) {
    const now = performance.now();
    const isPaused = (server) => Number(server.pausedUntil > now);
    const attempts = [];
    for (const server of [...this.#servers].sort((one, other) => isPaused(one) - isPaused(other))) {
      try {
        return await server.ask(count);
      } catch (failure) {
        if (!(failure instanceof Failure)) throw failure;
        server.blame();
        attempts.push({ server: server.name, reason: failure.message });
      }
    }
    throw new Unavailable(attempts);
  }
}
