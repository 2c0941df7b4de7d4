// What the conformance suite can not see of the cache: its size and its clock.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client, Unavailable } from "tickr-tickets";
import { cached } from "../src/cache.js";
import { Run } from "../src/server.js";
import { answer, faulty, tickets } from "./faulty.js";

test("a server that is back is asked again", async (t) => {
  const server = await faulty(t, (count) =>
    server.requests.length <= 2 ? answer("", "503 No") : tickets(9, count),
  );
  const client = new Client([server.url], { cache: 16 });
  t.after(() => client.close());
  await assert.rejects(client.next(), Unavailable);
  // One who comes while the refill of another fails has one of its own.
  const results = await Promise.allSettled([client.next(), client.next()]);
  assert.deepEqual(results.map(({ status }) => status), ["rejected", "fulfilled"]);
  assert.equal(results[1].value, 9n);
});

/** A cache with a clock and a server of its own. */
function stocked(t, most) {
  let now = 1000;
  t.mock.method(performance, "now", () => now);
  const next = cached(most, (count) => cache.fetch(count));
  const cache = {
    // One less than nothing while somebody waits.
    left: 0,
    sizes: [],
    fetch: async (count) => {
      cache.sizes.push(Math.max(cache.left, 0) + count);
      await cache.land?.();
      cache.left += count;
      return new Run(1n, 1n, count);
    },
    wait: (milliseconds) => (now += milliseconds),
    take: () => {
      cache.left--;
      return next();
    },
  };
  return cache;
}

const turn = () => new Promise(setImmediate);

/** Takes until the cache has a size of 1000, since each refill lands when there is nothing left. */
async function grow(cache) {
  cache.land = async () => {
    while (cache.land && cache.left > 0) await turn();
  };
  for (let time = 0; time < 10_000 && !cache.sizes.includes(1000); time++) await cache.take();
  cache.land = undefined;
}

test("a refill that comes too late makes the next one larger", async (t) => {
  const cache = stocked(t, 1000);
  await cache.take();
  assert.deepEqual(cache.sizes, [16]);
  await grow(cache);
  assert.deepEqual([...new Set(cache.sizes)], [16, 32, 64, 128, 256, 512, 1000]);
});

test("one in time leaves it as it is", async (t) => {
  const cache = stocked(t, 1000);
  for (let time = 0; time < 100; time++) {
    await cache.take();
    await turn();
  }
  assert(cache.sizes.length > 10);
  assert.deepEqual(new Set(cache.sizes), new Set([16]));
});

test("a lull halves it", async (t) => {
  const cache = stocked(t, 1000);
  await grow(cache);
  cache.sizes.length = 0;
  for (let refills = 0, time = 0; time < 5000; time++) {
    await cache.take();
    await turn();
    if (cache.sizes.length > refills) cache.wait(10_001);
    refills = cache.sizes.length;
  }
  assert.deepEqual([...new Set(cache.sizes)], [1000, 500, 250, 125, 62, 31, 16]);
  assert.equal(cache.sizes.at(-1), 16);
});

test("a refill that failed is not tried with each ticket", async (t) => {
  const cache = stocked(t, 16);
  const { fetch } = cache;
  let asked = 0;
  await cache.take();
  cache.fetch = async () => {
    asked++;
    throw new Unavailable([]);
  };
  for (let time = 0; time < 14; time++) {
    await cache.take();
    await turn();
  }
  assert.equal(asked, 1);
  cache.wait(1001);
  await cache.take();
  await turn();
  assert.equal(asked, 2);
  await assert.rejects(cache.take(), Unavailable);
  assert.equal(asked, 3);
  cache.fetch = fetch;
  assert.equal(await cache.take(), 1n);
});
