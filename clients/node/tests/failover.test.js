// What the conformance suite can not see of fail-over: clocks, resolvers, bounds and close.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import dns from "node:dns";
import { once } from "node:events";
import { test } from "node:test";
import { inspect } from "node:util";

import { Client } from "tickr-tickets";
import { Run, Server } from "../src/server.js";
import { answer, faulty, gate, good, tickets, until } from "./faulty.js";

function clientOf(t, servers, options) {
  const client = new Client(servers.map((server) => server.url ?? server), options);
  t.after(() => client.close());
  return client;
}

test("there are only so many connections", async (t) => {
  const go = gate();
  const busy = await faulty(t, (count) => go.then(() => tickets(busy.ticket++, count)));
  busy.ticket = 1;
  const many = clientOf(t, [busy], { timeout: 60_000 });
  const all = Promise.all(Array.from({ length: 200 }, () => many.next()));
  await until(() => busy.requests.length === 64);
  go.open();
  assert.equal(new Set(await all).size, 200);
  assert.equal(busy.connections, 64);
  await until(() => busy.open.size === 8);
});

test("who waits for a connection waits no longer than the time-out", async (t) => {
  const silent = await faulty(t, () => gate());
  const client = clientOf(t, [silent], { timeout: 500 });
  const calls = Array.from({ length: 100 }, () => client.next());
  for (const call of calls) await assert.rejects(call, /did not answer in time/);
  assert(silent.requests.length < 100);
});

test("a program that was busy finds the answer all the same", async (t) => {
  // It comes from another process, which is not held up.
  const script = `let first = 1;
    require("net").createServer((socket) => socket.on("data", () => socket.write(
      ${JSON.stringify(tickets("FIRST", 1))}.replace("FIRST", first++ + 10000))))
      .listen(0, "127.0.0.1", function () { console.log(this.address().port); })`;
  const child = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => child.kill());
  const [port] = await once(child.stdout, "data");
  const client = clientOf(t, [`http://127.0.0.1:${String(port).trim()}`], { timeout: 1000 });
  assert.equal(await client.next(), 10_001n);
  const late = client.next();
  await new Promise(setImmediate);
  for (const end = Date.now() + 3000; Date.now() < end; );
  assert.equal(await late, 10_002n);
});

test("who failed comes last for a while, longer each time within a bound", async (t) => {
  let broken = true;
  const bad = await faulty(t, (count) =>
    broken ? answer("", "503 No") : tickets(1000 + bad.requests.length, count),
  );
  const client = clientOf(t, [bad, await good(t)]);
  let now = 5000;
  t.mock.method(performance, "now", () => now);
  const isAsked = async () => {
    const before = bad.requests.length;
    await client.next();
    return bad.requests.length > before;
  };
  for (const pause of [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]) {
    assert(await isAsked());
    now += pause - 1;
    assert(!(await isAsked()), `it is asked before ${pause} ms are over`);
    now += 1;
  }
  // One success, and it starts anew.
  broken = false;
  assert(await isAsked());
  broken = true;
  assert(await isAsked());
  now += 1000;
  assert(await isAsked());
});

test("failures at the same time are one", async (t) => {
  const bad = await faulty(t, answer("", "503 No"));
  const client = clientOf(t, [bad, await good(t)]);
  let now = 5000;
  t.mock.method(performance, "now", () => now);
  await Promise.all(Array.from({ length: 5 }, () => client.next()));
  assert.equal(bad.requests.length, 5);
  now += 1000;
  await client.next();
  assert.equal(bad.requests.length, 6);
});

test("answers may pass each other", async (t) => {
  const [one, two] = [gate(), gate()];
  const server = await faulty(t, async (count) => {
    const first = server.requests.length === 1 ? 101 : 201;
    await (first === 101 ? one : two);
    return tickets(first, count);
  });
  const client = clientOf(t, [server], { timeout: 60_000 });
  const asked = [client.take(5), client.take(5)];
  await until(() => server.requests.length === 2);
  two.open();
  assert.equal((await Promise.race(asked)).first, 201n);
  one.open();
  const firsts = (await Promise.all(asked)).map(({ first }) => first);
  assert.deepEqual(firsts.sort(), [101n, 201n]);
});

test("what is remembered is bounded", () => {
  const server = new Server("http://tickr", {});
  for (let number = 1n; number < 3000n; number++) server.admit(new Run(number, 1n, 1), 0);
  assert.equal(server.latest.length, 256);
  assert.throws(() => server.admit(new Run(2999n, 1n, 1), 0), /issued 2999 after 2999/);
});

test("a run can be gone through again, and not be changed", async (t) => {
  const run = await clientOf(t, [await good(t, 7, 4)]).take(3);
  assert.deepEqual([...run], [7n, 11n, 15n]);
  assert.deepEqual([...run], [...run]);
  assert.equal(run.last, 15n);
  assert.throws(() => (run.first = 1n), TypeError);
});

test("an explanation that is no text is none", async (t) => {
  const odd = await faulty(t, answer({ detail: { toString: 1 } }, "503 No"));
  assert.equal(await clientOf(t, [odd, await good(t)]).next(), 1n);
});

test("the password is not shown", async (t) => {
  const client = clientOf(t, ["http://tickr"], { password: "s ü:@" });
  assert.doesNotMatch(inspect(client, { depth: 9, showHidden: true }), /s ü|dGlja3I6/);
});

test("every address of a name is tried", async (t) => {
  const server = await good(t, 7);
  const { port } = new URL(server.url);
  const all = [{ address: "127.0.0.2", family: 4 }, { address: "127.0.0.1", family: 4 }];
  t.mock.method(dns, "lookup", (name, options, done) => done(null, all));
  assert.equal(await clientOf(t, [`http://two.example:${port}`]).next(), 7n);
});

test("close ends what is under way", async (t) => {
  const server = await good(t);
  const asked = server.requests.length;
  const silent = await faulty(t, () => gate());
  for (const cache of [0, 16]) {
    silent.requests.length = 0;
    const servers = cache ? [silent] : [silent, server];
    const client = clientOf(t, servers, { cache, timeout: 60_000 });
    const calls = Array.from({ length: 100 }, () => client.next());
    await until(() => silent.requests.length === (cache ? 1 : 64));
    client.close();
    for (const call of calls) await assert.rejects(call, /^Error: the client is closed$/);
    await until(() => silent.open.size === 0);
    assert.equal(silent.requests.length, cache ? 1 : 64);
  }
  assert.equal(server.requests.length, asked, "the next server is not asked");
});

test("what can not be is refused without showing it", async () => {
  for (const url of [7, null, undefined, new URL("http://me:secret@tickr")]) {
    assert.throws(
      () => new Client([url]),
      (error) => error instanceof TypeError && !error.message.includes("secret"),
      String(url),
    );
  }
  for (const [servers, options] of [
    ["http://tickr", {}], [undefined, {}], [Array(257).fill("http://tickr"), {}],
    [["http://tickr"], { timeout: NaN }],
    [["http://tickr"], { cache: -1 }], [["http://tickr"], { cache: 1.5 }],
  ]) {
    assert.throws(() => new Client(servers, options), RangeError);
  }
  for (const count of [0, -1, 1.5, "5", 5n, undefined, 2 ** 53]) {
    await assert.rejects(new Client(["http://tickr"]).take(count), RangeError);
  }
});
