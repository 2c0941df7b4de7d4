// What the conformance suite can not see of the cache: its size and its clock.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client, Unavailable } from "tickr-tickets";
import { Run } from "../src/answer.js";
import { Cache } from "../src/cache.js";
import { answer, faulty, tickets } from "./faulty.js";

function clientOf(t, server, options) {
  const client = new Client([server.url], options);
  t.after(() => client.close());
  return client;
}

test("a server that is back is asked again", async (t) => {
  const server = await faulty(t, (count) =>
    server.requests.length <= 2 ? answer("", "503 No") : tickets(9, count),
  );
  const client = clientOf(t, server, { cache: 16 });
  await assert.rejects(client.next(), Unavailable);
  // One who comes while the refill of another fails has one of its own.
  const results = await Promise.allSettled([client.next(), client.next()]);
  assert.deepEqual(results.map(({ status }) => status), ["rejected", "fulfilled"]);
  assert.equal(results[1].value, 9n);
});

/** A cache on a clock of its own. */
function stocked(most) {
  let now = 1000;
  const cache = new Cache(most, async (count) => cache.give(count), () => now);
  cache.give = (count) => new Run(1n, 1n, count);
  cache.wait = (milliseconds) => (now += milliseconds);
  cache.popUntil = (left) => {
    while (cache.left > left) cache.pop();
  };
  cache.refill = async () => {
    assert.equal(await cache.fill(), undefined);
    return cache.size;
  };
  return cache;
}

test("a refill that comes too late makes the next one larger", async () => {
  const cache = stocked(1000);
  // As it begins, it is empty; that is not late.
  assert.equal(await cache.refill(), 16);
  const sizes = [];
  for (let time = 0; time < 8; time++) {
    cache.popUntil(0);
    sizes.push(await cache.refill());
  }
  assert.deepEqual(sizes, [32, 64, 128, 256, 512, 1000, 1000, 1000]);
  assert(cache.left <= 1000);
});

test("one in time leaves it as it is, and a lull halves it", async () => {
  const cache = stocked(1000);
  await cache.refill();
  for (let time = 0; time < 8; time++) {
    assert(!cache.isHungry());
    cache.popUntil(8);
    assert(cache.isHungry());
    assert.equal(await cache.refill(), 16);
  }
  cache.size = 1000;
  await cache.refill();
  const sizes = [];
  for (let time = 0; time < 7; time++) {
    cache.wait(10_001);
    cache.popUntil(Math.trunc(cache.size / 2));
    sizes.push(await cache.refill());
  }
  assert.deepEqual(sizes, [500, 250, 125, 62, 31, 16, 16]);
});

test("a refill that failed is not tried with each ticket", async () => {
  const cache = stocked(16);
  let asked = 0;
  const give = cache.give;
  await cache.refill();
  cache.give = () => {
    asked++;
    throw new Unavailable([]);
  };
  for (let time = 0; time < 15; time++) await cache.next();
  await new Promise(setImmediate);
  assert.equal(asked, 1);
  cache.wait(1001);
  // The last one makes a new one worth its while.
  await cache.next();
  await new Promise(setImmediate);
  assert.equal(asked, 2);
  await assert.rejects(cache.next(), Unavailable);
  cache.give = give;
  assert.equal(await cache.next(), 1n);
});
