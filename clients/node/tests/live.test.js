// The real server: passwords, sockets, large numbers, restarts under load, and other processes.

import assert from "node:assert/strict";
import { fork } from "node:child_process";
import cluster from "node:cluster";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";

import { Client, Refused } from "tickr-tickets";
import { Tickr } from "./live.js";

const TAKER = fileURLToPath(new URL("taker.js", import.meta.url));
const CHILDREN = 20;
const EACH = 1000;

async function take(client, count) {
  const taken = [];
  while (taken.length < count) taken.push(await client.next());
  return taken;
}

async function started(t, ...settings) {
  const tickr = await Tickr.start(...settings);
  t.after(() => tickr.close());
  return tickr;
}

const skip = process.env.TICKR ? false : "TICKR is not the path of a server";

describe("one server", { skip }, () => {
  let tickr, client;

  before(async () => {
    tickr = await Tickr.start(["--max-nodes", "4"]);
    client = new Client([tickr.url], { cache: 10_000, timeout: 30_000 });
  });
  after(async () => {
    client.close();
    await tickr.close();
  });

  test("tickets and batches", async () => {
    const direct = new Client([tickr.url], { timeout: 30_000 });
    const [one, run] = [await direct.next(), await direct.take(1000)];
    assert.deepEqual([[...run].length, run.count, run.increment], [1000, 1000, 4n]);
    assert.equal([...run].at(-1), run.last);
    assert(run.first > one && (await direct.next()) > run.last);
    await assert.rejects(direct.take(10 ** 9), (error) => {
      assert(error instanceof Refused);
      return error.detail.includes("TICKR_MAX_BATCH");
    });
    direct.close();
  });

  // Each starts an interpreter of its own: nothing of the parent's cache is in it.
  const kinds = {
    "child_process.fork": () => fork(TAKER, [tickr.url, EACH]),
    cluster: () => {
      cluster.setupPrimary({ exec: TAKER, args: [tickr.url, EACH] });
      return cluster.fork();
    },
    worker_threads: () => new Worker(TAKER, { workerData: [tickr.url, EACH] }),
  };
  for (const [name, start] of Object.entries(kinds)) {
    test(`no ticket of the parent comes again: ${name}`, { timeout: 300_000 }, async () => {
      const taken = await take(client, 5000);
      const children = Array.from({ length: CHILDREN }, start);
      const theirs = await Promise.all(children.map((child) => once(child, "message")));
      taken.push(...(await take(client, 5000)));
      for (const [tickets] of theirs) {
        assert.equal(tickets.length, EACH);
        taken.push(...tickets.map(BigInt));
      }
      assert.equal(new Set(taken).size, taken.length);
    });
  }
});

describe("other servers", { skip }, () => {
  test("passwords", async (t) => {
    const password = "s p:@ß";
    const tickr = await started(t, ["--http-auth-password", password], password);
    const client = new Client([tickr.url], { password });
    await client.next();
    client.close();
    for (const wrong of [undefined, "", "wrong"]) {
      await assert.rejects(new Client([tickr.url], { password: wrong }).next(), /responded 401/);
    }
  });

  test("large tickets", async (t) => {
    for (const offset of [2n ** 53n, 2n ** 63n]) {
      const tickr = await started(t, ["--starting-offset", String(offset)]);
      const client = new Client([tickr.url], { timeout: 30_000 });
      const cached = new Client([tickr.url], { cache: 100, timeout: 30_000 });
      const taken = [...(await take(client, 50)), ...(await take(cached, 50))];
      taken.push(...(await client.take(50)));
      assert.equal(new Set(taken).size, 150);
      for (const ticket of taken) assert(ticket >= offset && ticket % 4n === offset % 4n);
      client.close();
      cached.close();
    }
  });

  test("restarts under load without an error seen", async (t) => {
    const [first, second] = [
      await started(t, ["--node-number", "0"]),
      await started(t, ["--node-number", "1"]),
    ];
    const urls = [first.url, second.url];
    const clients = [new Client(urls), new Client(urls, { cache: 200 })];
    let stopped = false;
    const takers = clients.flatMap((client) =>
      Array.from({ length: 5 }, async () => {
        const mine = [];
        while (!stopped) {
          mine.push(await client.next());
          // A cached ticket costs no turn of the loop, in which the rest of this test runs.
          if (mine.length % 100 === 0) await new Promise(setImmediate);
        }
        return mine;
      }),
    );
    // A failure is to end the test, whenever it comes.
    const all = Promise.all(takers);
    const restarts = (async () => {
      for (const server of [first, second, first]) {
        await server.stop();
        await server.start();
      }
    })();
    await Promise.race([all, restarts]);
    stopped = true;
    const taken = (await all).flat();
    await restarts;
    for (const client of clients) client.close();
    assert.equal(new Set(taken).size, taken.length);
    assert.deepEqual(new Set(taken.map((ticket) => ticket % 4n)), new Set([1n, 2n]));
  });
});
