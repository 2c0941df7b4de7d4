// The cache: off unless asked for, as large as the demand, filled in time, shared by all callers.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client, Refused, Unavailable } from "tickr-tickets";
import { Run } from "../src/answer.js";
import { Cache } from "../src/cache.js";
import { answer, counts, faulty, gate, good, tickets, until } from "./faulty.js";

function clientOf(t, server, options) {
  const client = new Client([server.url], options);
  t.after(() => client.close());
  return client;
}

async function take(client, count) {
  const taken = [];
  while (taken.length < count) taken.push(await client.next());
  return taken;
}

const from = (first, count) => Array.from({ length: count }, (_, index) => BigInt(first + index));

test("it is off unless asked for", async (t) => {
  const server = await good(t);
  assert.deepEqual(await take(clientOf(t, server), 9), from(1, 9));
  assert.deepEqual(counts(server), Array(9).fill(1));
});

test("it keeps to its bound", async (t) => {
  const server = await good(t);
  assert.deepEqual(await take(clientOf(t, server, { cache: 300 }), 20_000), from(1, 20_000));
  assert.equal(counts(server)[0], 16);
  assert(Math.max(...counts(server)) > 100 && Math.max(...counts(server)) <= 300);
  const small = clientOf(t, await good(t), { cache: 3 });
  assert.deepEqual(await take(small, 50), from(1, 50));
  const least = clientOf(t, await good(t), { cache: 1 });
  assert.deepEqual(await take(least, 50), from(1, 50));
});

test("it is refilled before it is dry", async (t) => {
  const go = gate();
  const server = await faulty(t, async (count) => {
    const number = server.requests.length;
    if (number > 1) await go;
    return tickets(number * 1000, count);
  });
  const client = clientOf(t, server, { cache: 16, timeout: 60_000 });
  assert.deepEqual(await take(client, 8), from(1000, 8));
  await until(() => server.requests.length === 2);
  // The rest is issued while the server takes its time.
  assert.deepEqual(await take(client, 8), from(1008, 8));
  assert.equal(server.requests.length, 2);
  go.open();
  assert.equal(await client.next(), 2000n);
});

test("many callers share it, and no ticket", async (t) => {
  for (const [cache, count] of [[2000, 40_000], [3, 480], [0, 480]]) {
    const client = clientOf(t, await good(t), { cache, timeout: 60_000 });
    const all = Array.from({ length: 8 }, () => take(client, count / 8));
    const each = await Promise.all(all);
    for (const mine of each) assert(mine.every((ticket, at) => !at || ticket > mine[at - 1]));
    assert.equal(new Set(each.flat()).size, count);
    const atOnce = await Promise.all(Array.from({ length: count }, () => client.next()));
    assert.equal(new Set([...each.flat(), ...atOnce]).size, 2 * count);
  }
});

test("what is left outlives the servers", async (t) => {
  const server = await good(t);
  const client = clientOf(t, server, { cache: 16 });
  const taken = [await client.next()];
  await server.close();
  await assert.rejects(async () => {
    for (;;) taken.push(await client.next());
  }, Unavailable);
  assert.deepEqual(taken, from(1, 16));
  await assert.rejects(client.next(), Unavailable);
});

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

test("less is asked for where a server issues less", async (t) => {
  let next = 1;
  const server = await faulty(t, (count) => {
    if (count > 2) return answer({ detail: "too many" }, "400 Bad Request");
    next += count;
    return tickets(next - count, count);
  });
  assert.deepEqual(await take(clientOf(t, server, { cache: 1000 }), 6), from(1, 6));
  assert.deepEqual(counts(server).slice(0, 4), [16, 8, 4, 2]);
  const strict = await faulty(t, answer({ detail: "no" }, "400 Bad Request"));
  await assert.rejects(clientOf(t, strict, { cache: 1000 }).next(), Refused);
});

test("a batch comes straight from a server", async (t) => {
  const client = clientOf(t, await good(t), { cache: 16 });
  await client.next();
  assert.deepEqual([...(await client.take(5))], from(17, 5));
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
