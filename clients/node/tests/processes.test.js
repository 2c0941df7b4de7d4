// No ticket twice among the processes and threads of a program that has a cache. Node.js never
// copies the memory of a running program: `fork` starts a new interpreter, so that a child has no
// cache of its parent to issue again. This shows it with each way to start one.

import assert from "node:assert/strict";
import { fork } from "node:child_process";
import cluster from "node:cluster";
import { once } from "node:events";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";

import { Client } from "tickr-tickets";
import { good } from "./faulty.js";

const CHILD = fileURLToPath(new URL("child.js", import.meta.url));
const CHILDREN = 4;
const COUNT = 1000;

const ways = {
  "child_process.fork": (args) => fork(CHILD, args),
  "cluster.fork": (args) => {
    cluster.setupPrimary({ exec: CHILD, args });
    return cluster.fork();
  },
  "a worker thread": (args) => new Worker(CHILD, { argv: args }),
};

for (const [name, start] of Object.entries(ways)) {
  test(`${name} issues nothing that its parent or another has`, { timeout: 60_000 }, async (t) => {
    const server = await good(t);
    const client = new Client([server.url], { cache: COUNT });
    t.after(() => client.close());
    const all = [];
    // There are tickets in stock as the children start.
    for (let ticket = 0; ticket < 100; ticket++) all.push(await client.next());
    const children = Array.from({ length: CHILDREN }, () => start([server.url, COUNT]));
    t.after(() => children.forEach((child) => child.kill?.()));
    const taken = Promise.all(children.map(async (child) => (await once(child, "message"))[0]));
    for (let ticket = 0; ticket < COUNT; ticket++) all.push(await client.next());
    for (const tickets of await taken) all.push(...tickets.map(BigInt));
    assert.equal(all.length, 100 + (CHILDREN + 1) * COUNT);
    assert.equal(new Set(all).size, all.length, "a ticket came twice");
    assert(server.requests.length < all.length / 4, "they had no cache");
  });
}

test("a client can't be handed to a thread", () => {
  const copy = structuredClone(new Client(["http://tickr"], { cache: COUNT }));
  assert.deepEqual([copy.next, Object.keys(copy)], [undefined, []]);
});
