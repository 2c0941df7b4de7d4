// Tickets in stock, refilled in the background before they run out; how many follows the demand, up
// to a bound.

import { Refused } from "./servers.js";

const CACHE_MIN = 16;
const LULL = 10_000;
const RETRY_AFTER = 1000;

export class Cache {
  left = 0;
  #runs = [];
  #refill;
  #refills = 0;
  #landedAt;
  #againAt = 0;

  constructor(most, fetch, now = () => performance.now()) {
    this.size = Math.min(CACHE_MIN, most);
    Object.assign(this, { most, fetch, now });
  }

  async next() {
    let failed = false;
    for (;;) {
      const ticket = this.pop();
      const begun = this.isHungry() && !this.#refill;
      if (begun) this.#refill = this.fill().finally(() => (this.#refill = undefined));
      if (ticket !== undefined) return ticket;
      const error = await this.#refill;
      // One that had begun before may have failed before a server came back.
      if (error && (begun || failed)) throw error;
      failed ||= error !== undefined;
    }
  }

  pop() {
    const { value, done } = this.#runs[0]?.next() ?? {};
    if (done) this.#runs.shift();
    if (done) return this.pop();
    if (value !== undefined) this.left--;
    return value;
  }

  isHungry() {
    return !this.left || (this.left <= this.size / 2 && this.now() >= this.#againAt);
  }

  /** Gives the error, if there is one: nobody may be waiting for it. */
  async fill() {
    for (;;) {
      // After a lull, half of it will do.
      if (this.now() - this.#landedAt > LULL) {
        this.size = Math.max(Math.trunc(this.size / 2), Math.min(CACHE_MIN, this.most));
      }
      this.#landedAt = undefined;
      this.#refills++;
      const count = Math.max(this.size - this.left, 1);
      try {
        this.land(await this.fetch(count));
        return undefined;
      } catch (error) {
        if (!(error instanceof Refused) || count === 1) {
          this.#againAt = this.now() + RETRY_AFTER;
          return error;
        }
        // The server issues fewer tickets at once.
        this.most = Math.trunc(count / 2);
        this.size = Math.min(this.size, this.most);
      }
    }
  }

  land(run) {
    // It came too late, or nearly so: the next one is larger.
    const late = this.#refills > 1 && this.left < this.size / 4;
    if (late) this.size = Math.min(2 * this.size, this.most);
    this.#landedAt = this.now();
    this.#againAt = 0;
    this.left += run.count;
    this.#runs.push(run[Symbol.iterator]());
  }
}
