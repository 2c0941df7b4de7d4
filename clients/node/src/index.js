// Unique 64-bit tickets from Tickr servers. What is public is described in index.d.ts.

import { Cache } from "./cache.js";
import { Refused, Servers, TickrError, Unavailable } from "./servers.js";

export { Refused, TickrError, Unavailable };

export class Client {
  #servers;
  #cache;

  constructor(servers, { cache = 0, ...options } = {}) {
    if (!Number.isSafeInteger(cache) || cache < 0) {
      throw new RangeError("a cache has 0 or more tickets");
    }
    this.#servers = new Servers(servers, options);
    if (cache) this.#cache = new Cache(cache, (count) => this.#servers.fetch(count));
  }

  async next() {
    this.#servers.assertOpen();
    if (this.#cache) return this.#cache.next();
    return (await this.#servers.fetch(1)).first;
  }

  async take(count) {
    if (!Number.isSafeInteger(count) || count < 1) {
      throw new RangeError("a batch must have at least one ticket");
    }
    this.#servers.assertOpen();
    return this.#servers.fetch(count);
  }

  close() {
    this.#servers.close();
  }
}
