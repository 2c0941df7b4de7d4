// Tickets in stock, refilled in the background before they run out; how many follows the demand, up
// to a bound.

import { Refused } from "./failures.js";

const [SIZE_MIN, LULL, RETRY_AFTER] = [16, 10_000, 1000];

/** Gives a function that gives one ticket each time; `fetch(count)` gives runs of them. */
export function cached(most, fetch) {
  // The next one comes last.
  let stock = [];
  let size = Math.min(SIZE_MIN, most);
  let restUntil = 0;
  let refill;

  /** Gives the error, if there is one: nobody may be waiting for it. */
  async function fill() {
    const count = Math.max(size - stock.length, 1);
    try {
      const run = [...(await fetch(count))].reverse();
      const now = performance.now();
      if (restUntil && stock.length <= size / 4) {
        // It came too late, or nearly so.
        size = Math.min(2 * size, most);
      } else if (now - restUntil > LULL) {
        size = Math.max(Math.trunc(size / 2), Math.min(SIZE_MIN, most));
      }
      restUntil = now;
      stock = run.concat(stock);
    } catch (error) {
      restUntil = performance.now() + RETRY_AFTER;
      if (!(error instanceof Refused) || count === 1) return error;
      // The server issues fewer tickets at once.
      most = Math.trunc(count / 2);
      size = Math.min(size, most);
      return fill();
    }
  }

  return async function next() {
    for (let waited = false; ; waited = true) {
      const ticket = stock.pop();
      const isLow = stock.length <= size / 2 && performance.now() >= restUntil;
      const begins = !refill && (!stock.length || isLow);
      if (begins) refill = fill().finally(() => (refill = undefined));
      if (ticket !== undefined) return ticket;
      const error = await refill;
      // One that had begun before may have failed before a server came back.
      if (error && (begins || waited)) throw error;
    }
  };
}
