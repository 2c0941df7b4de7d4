// Servers that are dead, wrong, slow or broken: somebody else is asked, and the error names all.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import dns from "node:dns";
import { once } from "node:events";
import fs from "node:fs/promises";
import net from "node:net";
import os from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { inspect } from "node:util";

import { Client, Refused, TickrError, Unavailable } from "tickr-tickets";
import { Run } from "../src/answer.js";
import { Server } from "../src/servers.js";
import { answer, faulty, gate, good, range, tickets, until } from "./faulty.js";

function clientOf(t, servers, options) {
  const client = new Client(servers.map((server) => server.url ?? server), options);
  t.after(() => client.close());
  return client;
}

async function folder(t) {
  const path = await fs.mkdtemp(join(os.tmpdir(), "tickr"));
  t.after(() => fs.rm(path, { recursive: true }));
  return path;
}

/** An address where nobody listens. */
async function nobody() {
  const listener = net.createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address();
  await new Promise((resolve) => listener.close(resolve));
  return `http://127.0.0.1:${port}`;
}

const oks = (...responses) => () => responses.shift();

test("a dead server is passed over", async (t) => {
  const dead = [await nobody(), `unix:${await folder(t)}/none`];
  const client = clientOf(t, [...dead, await good(t, 11, 4)]);
  assert.equal(await client.next(), 11n);
  assert.deepEqual([...(await client.take(3))], [15n, 19n, 23n]);
  await assert.rejects(clientOf(t, dead).next(), ({ attempts }) => {
    assert.deepEqual(attempts.map(({ server }) => server), dead);
    assert.equal(attempts[0].reason, "can't be reached (ECONNREFUSED)");
    assert.equal(attempts[1].reason, "can't be reached (ENOENT)");
    return true;
  });
});

const PROBLEM = { title: "No", detail: "not now" };
const WHOLE = range(7, 2);
const CHUNKED =
  "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" +
  "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5;name=value\r\n" +
  `${JSON.stringify(WHOLE).slice(0, 5)}\r\n${(JSON.stringify(WHOLE).length - 5).toString(16)}\r\n` +
  `${JSON.stringify(WHOLE).slice(5)}\r\n0\r\nTrailer: x\r\n\r\n`;
const ODD = "not the range asked for";
for (const [words, response] of [
  ["responded 302", answer("", "302 Found", "Location: http://127.0.0.1/")],
  ["responded 401: not now", answer(PROBLEM, "401 Unauthorized")],
  ["responded 404", answer("<h1>no</h1>", "404 Not Found")],
  ["responded 500: not now", answer(PROBLEM, "500 Oops")],
  ["responded 503", answer(PROBLEM, "503 Service Unavailable", "Retry-After: 1")],
  ["responded 204", "HTTP/1.1 204 No Content\r\n\r\n"],
  ["responded 101", "HTTP/1.1 101 Switching\r\n\r\n"],
  ["responded 101", "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"],
  ["responded 503", "HTTP/1.1 503 No\r\nContent-Length: 99\r\n\r\n"],
  ["the body is not JSON", answer("<html>It works!</html>")],
  ["the body is not JSON", answer("")],
  ["the body is not JSON", answer('{"first":')],
  ["the body is not", answer("[".repeat(50_000))],
  ...[
    { ok: true }, [1], 7, null, ["7", "8"], { first: 7, increment: 1, count: 2 },
    { ...WHOLE, first: undefined }, { ...WHOLE, first: "-1" }, { ...WHOLE, first: "1e3" },
    { ...WHOLE, first: "0x7" }, { ...WHOLE, first: "" }, { ...WHOLE, first: " 7" },
    { ...WHOLE, first: ["7"] }, { ...WHOLE, first: "9".repeat(5000) }, { ...WHOLE, first: "007" },
    { ...WHOLE, increment: "0" }, { ...WHOLE, increment: "-1" }, { ...WHOLE, count: "1" },
    { ...WHOLE, count: "3" }, { ...WHOLE, first: 2n ** 64n - 1n + "" }, { ...WHOLE, first: "7.0" },
  ].map((body) => [ODD, answer(body)]),
  ["not an HTTP/1 response", "SSH-2.0-OpenSSH_9.2\r\n\r\n"],
  ["not an HTTP/1 response", tickets(7, 2).replace("/1.1", "/2.0")],
  ["not an HTTP/1 response", `${tickets(7, 2)}more`],
  ["not an HTTP/1 response", answer(WHOLE, "200 OK", "Content-Length: 43")],
  ["not an HTTP/1 response", answer(WHOLE, "200 OK", "Transfer-Encoding: chunked")],
  ["not an HTTP/1 response", answer(WHOLE, "200 OK", "no colon")],
  ["how long its body is", `HTTP/1.1 200 OK\r\n\r\n${JSON.stringify(WHOLE)}`],
  ["how long its body is", CHUNKED.replace("Chunked", "gzip, chunked")],
  ["too long", answer(WHOLE, "200 OK", `X: ${"x".repeat(10_000)}`)],
  ["too long", answer("x".repeat(70_000))],
  ["too long", `HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n${"x".repeat(70_000)}`],
  ["too many interim responses", "HTTP/1.1 100 Continue\r\n\r\n".repeat(9) + tickets(7, 2)],
]) {
  test(`passed over: ${words}, ${response.slice(0, 160)}`, async (t) => {
    const ends = !/Content-Length: (?!99)/.test(response);
    const wrong = await faulty(t, (count, socket) => {
      socket.write(response);
      return ends ? null : "";
    });
    assert.deepEqual([...(await clientOf(t, [wrong, await good(t, 5)]).take(2))], [5n, 6n]);
    await assert.rejects(clientOf(t, [wrong]).take(2), (error) => {
      assert(error instanceof Unavailable && error instanceof TickrError);
      assert.equal(error.attempts[0].server, wrong.url);
      assert(error.attempts[0].reason.includes(words), error.message);
      return true;
    });
    await until(() => wrong.open.size === 0);
  });
}

test("a 400 is raised at once", async (t) => {
  const strict = await faulty(t, answer({ detail: "over the largest batch" }, "400 Bad Request"));
  const other = await good(t);
  const client = clientOf(t, [strict, other]);
  for (let time = 0; time < 3; time++) {
    await assert.rejects(client.take(10 ** 9), (error) => {
      assert(error instanceof Refused && error instanceof TickrError);
      assert.deepEqual([error.server, error.status], [strict.url, 400]);
      assert.equal(error.message, `${strict.url} responded 400: over the largest batch`);
      return true;
    });
  }
  assert.deepEqual([strict.requests.length, other.requests.length], [3, 0]);
});

test("the last error names every server", async (t) => {
  const bad = await Promise.all([0, 1, 2].map((n) => faulty(t, answer("", `${500 + n} No`))));
  const client = clientOf(t, bad);
  for (let time = 0; time < 2; time++) {
    await assert.rejects(client.take(1), (error) => {
      const attempts = bad.map(({ url }, n) => ({ server: url, reason: `responded ${500 + n}` }));
      assert.deepEqual(error.attempts, attempts);
      for (const { server, reason } of attempts) assert(error.message.includes(`${server} ${reason}`));
      return true;
    });
  }
});

for (const [name, whole] of [["plain", tickets(7, 2)], ["interim and chunked", CHUNKED]]) {
  test(`a connection cut at each byte: ${name}`, async (t) => {
    let end;
    const broken = await faulty(t, (count, socket) => {
      socket.write(whole.slice(0, end));
      return null;
    });
    const other = await good(t, 1001);
    for (end = 0; end < whole.length; end++) {
      const client = clientOf(t, [broken, other]);
      assert((await client.take(2)).first > 1000n, whole.slice(0, end));
      client.close();
    }
    assert.deepEqual([...(await clientOf(t, [broken, other]).take(2))], [7n, 8n]);
  });

  test(`a kept connection that is cut at each byte is made anew: ${name}`, async (t) => {
    let number = 0, end = 0;
    const server = await faulty(t, (count, socket) => {
      if (++number % 2) return tickets(100 * number, count);
      socket.write(whole.slice(0, end));
      return null;
    });
    const client = clientOf(t, [server], { checkOrder: false });
    await client.take(2);
    for (; end < whole.length; end++) {
      assert.equal((await client.take(2)).first, BigInt(100 * number), whole.slice(0, end));
    }
    assert.equal(server.connections, whole.length + 1);
  });

  test(`every split gives the same: ${name}`, async (t) => {
    let at = 1;
    const server = await faulty(t, async (count, socket) => {
      socket.setNoDelay();
      socket.write(whole.slice(0, at));
      await new Promise(setImmediate);
      return whole.slice(at);
    });
    for (; at < whole.length; at++) {
      assert.deepEqual([...(await clientOf(t, [server]).take(2))], [7n, 8n]);
    }
  });
}

test("an error on a kept connection is an error", async (t) => {
  const server = await faulty(t, oks(tickets(1, 1), answer("", "503 No")));
  const client = clientOf(t, [server]);
  await client.next();
  await assert.rejects(client.next(), /responded 503/);
  assert.equal(server.requests.length, 2);
});

test("connections are kept, and only so many", async (t) => {
  const server = await good(t);
  const client = clientOf(t, [server]);
  for (let ticket = 1n; ticket <= 20n; ticket++) assert.equal(await client.next(), ticket);
  assert.equal(server.connections, 1);

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

test("a connection is given up when its answer says so, or more comes", async (t) => {
  for (const respond of [
    (first, count) => answer(range(first, count), "200 OK", "Connection: close"),
    (first, count) => tickets(first, count).replace("/1.1", "/1.0"),
    (first, count) => tickets(first, count) + tickets(first + 1000, count),
  ]) {
    let first = 1;
    const server = await faulty(t, (count) => respond(first++, count));
    const client = clientOf(t, [server]);
    assert.equal(await client.next(), 1n);
    await until(() => server.open.size === 0);
    assert.equal(await client.next(), 2n);
  }
});

test("a slow drip and silence end with the time-out", async (t) => {
  const stopped = gate();
  t.after(stopped.open);
  const slow = await faulty(t, async (count, socket) => {
    for (const byte of tickets(1, 1)) {
      await Promise.race([stopped, new Promise((resolve) => setTimeout(resolve, 20))]);
      socket.write(byte);
    }
    return "";
  });
  const silent = await faulty(t, () => stopped.then(() => null));
  for (const bad of [slow, silent]) {
    assert.equal(await clientOf(t, [bad, await good(t, 7)], { timeout: 200 }).next(), 7n);
    const client = clientOf(t, [bad], { timeout: 200 });
    await assert.rejects(client.next(), /did not answer in time/);
    await until(() => bad.open.size === 0);
  }
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

test("who failed comes last for a while", async (t) => {
  const bad = await faulty(t, answer("", "503 No"));
  const other = await good(t);
  const client = clientOf(t, [bad, other]);
  t.mock.method(performance, "now", () => 5000);
  for (let ticket = 1n; ticket <= 5n; ticket++) assert.equal(await client.next(), ticket);
  assert.equal(bad.requests.length, 1);
  await other.close();
  // It is still asked when nobody else is left.
  await assert.rejects(client.next(), ({ attempts }) => {
    assert.deepEqual(attempts.map(({ server }) => server), [other.url, bad.url]);
    return true;
  });
});

test("who is back is preferred again", async (t) => {
  let next = 1000;
  const first = await faulty(t, (count) =>
    first.requests.length === 1 ? answer("", "503 No") : tickets(next++, count),
  );
  const client = clientOf(t, [first, await good(t)]);
  assert.equal(await client.next(), 1n);
  for (const end = Date.now() + 60_000; (await client.next()) < 1000n; ) assert(Date.now() < end);
});

test("a pause doubles within a bound", () => {
  const server = new Server("http://tickr", {});
  const pauses = [];
  let now = 1000;
  for (let time = 0; time < 7; time++) {
    server.blame(now);
    pauses.push(server.pausedUntil - now);
    // A second failure at the same time is the same failure.
    server.blame(now + 1);
    now = server.pausedUntil;
  }
  assert.deepEqual(pauses, [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
  server.admit(new Run(1n, 1n, 1));
  assert.deepEqual([server.pausedUntil, server.pause], [0, 1000]);
});

test("numbers that go backwards are refused", async (t) => {
  const other = await good(t);
  for (const again of [101, 91, 97, 105]) {
    const server = await faulty(t, (count) =>
      tickets(server.requests.length === 1 ? 101 : again, count),
    );
    const client = clientOf(t, [server, other]);
    assert.deepEqual([...(await client.take(5))], [101n, 102n, 103n, 104n, 105n]);
    assert((await client.take(5)).last < 90n);
    // It has been asked again over a new connection.
    assert.equal(server.connections, 2);
    const alone = clientOf(t, [server]);
    server.requests.length = 0;
    await alone.take(5);
    await assert.rejects(alone.take(5), new RegExp(`issued ${again} after 105`));
  }
});

test("without an order only repeated numbers are refused", async (t) => {
  const firsts = [101, 1, 50, 103, 103];
  const server = await faulty(t, (count) => tickets(firsts.shift(), count));
  const client = clientOf(t, [server], { checkOrder: false });
  for (const first of [101n, 1n, 50n]) assert.equal((await client.take(5)).first, first);
  await assert.rejects(client.take(5), /issued 103 after 105/);
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

test("nodes behind one address are told apart", async (t) => {
  const firsts = [101, 2, 121, 22, 42, 141];
  const server = await faulty(t, (count) => tickets(firsts.shift(), count, 4));
  const client = clientOf(t, [server]);
  for (const first of [...firsts]) assert.equal((await client.take(5)).first, BigInt(first));
});

test("a kept connection that fell behind is made anew", async (t) => {
  const firsts = [100, 50, 200];
  const server = await faulty(t, (count) => tickets(firsts.shift(), count));
  const client = clientOf(t, [server]);
  assert.deepEqual([await client.next(), await client.next()], [100n, 200n]);
  assert.equal(server.connections, 2);
});

test("what is remembered is bounded", () => {
  const server = new Server("http://tickr", {});
  for (let number = 1n; number < 1000n; number++) {
    server.admit(new Run(number, number, 1));
    server.admit(new Run(100n * number, 1n, 1));
  }
  assert(server.nodes.size <= 64);
  assert(Math.max(...[...server.nodes.values()].map(({ runs }) => runs.length)) <= 32);
});

test("numbers keep 64 bits", async (t) => {
  for (const first of [0n, 2n ** 53n - 1n, 2n ** 53n + 1n, 2n ** 63n - 1n, 2n ** 63n + 1n, 2n ** 64n - 9n]) {
    const server = await faulty(t, (count) => tickets(first, count, 4));
    assert.equal(await clientOf(t, [server]).next(), first);
    assert.equal(await clientOf(t, [server], { cache: 3 }).next(), first);
    const run = await clientOf(t, [server]).take(3);
    assert.deepEqual([...run], [first, first + 4n, first + 8n]);
    assert.deepEqual([...run], [...run], "it can be gone through again");
    const { last, increment, count } = run;
    assert.deepEqual({ last, increment, count }, { last: first + 8n, increment: 4n, count: 3 });
    assert.throws(() => (run.first = 1n), TypeError);
  }
});

test("an explanation can not steer a terminal", async (t) => {
  const detail = `a\x1b[2J\r\nb\u202e\ud800${"c".repeat(1000)}`;
  for (const [body, expected] of [[{ detail }, /^[ -~…]{200}$/], [{ detail: 7 }, /^7$/], ["x", /^$/]]) {
    const server = await faulty(t, answer(body, "400 No"));
    await assert.rejects(clientOf(t, [server]).next(), (error) => expected.test(error.detail));
  }
});

test("the password is sent and never shown", async (t) => {
  const server = await faulty(t, answer("", "401 No"));
  const client = clientOf(t, [server], { password: "s ü:@" });
  await assert.rejects(client.next(), ({ attempts }) => {
    assert.deepEqual(attempts, [{ server: server.url, reason: "responded 401" }]);
    return true;
  });
  assert(server.requests.at(-1).includes("\r\nAuthorization: Basic dGlja3I6cyDDvDpA"));
  assert.doesNotMatch(inspect(client, { depth: 9, showHidden: true }), /s ü|dGlja3I6/);
  await assert.rejects(clientOf(t, [server], { password: "" }).next());
  assert(server.requests.at(-1).includes("\r\nAuthorization: Basic dGlja3I6\r\n"));
  await assert.rejects(clientOf(t, [server]).next());
  assert.doesNotMatch(server.requests.at(-1), /authorization/i);
});

test("a Unix socket", async (t) => {
  const server = await good(t, 5, 1, `${await folder(t)}/a socket`);
  const client = clientOf(t, [server]);
  assert.deepEqual([await client.next(), await client.next()], [5n, 6n]);
  assert.match(server.requests[0], /\r\nHost: localhost\r\n/);
  assert.equal(server.connections, 1);
});

test("a name that can not be is passed over", async (t) => {
  for (const name of ["a".repeat(70), "a..b"]) {
    assert.equal(await clientOf(t, [`http://${name}`, await good(t, 7)]).next(), 7n);
  }
});

test("every address of a name is tried", async (t) => {
  const server = await good(t, 7);
  const { port } = new URL(server.url);
  const all = [{ address: "127.0.0.2", family: 4 }, { address: "127.0.0.1", family: 4 }];
  t.mock.method(dns, "lookup", (name, options, done) => done(null, all));
  assert.equal(await clientOf(t, [`http://two.example:${port}`]).next(), 7n);
});

test("close ends the connections, what is under way, and the client", async (t) => {
  const server = await good(t);
  for (const cache of [0, 100]) {
    const client = clientOf(t, [server], { cache });
    await client.next();
    client.close();
    client.close();
    await until(() => server.open.size === 0);
    await assert.rejects(client.next(), /^Error: the client is closed$/);
    await assert.rejects(client.take(1), /^Error: the client is closed$/);
  }
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

test("URLs are read and shown", () => {
  for (const [url, name] of [
    ["http://tickr", "http://tickr:80"],
    ["http://tickr:8080/", "http://tickr:8080"],
    ["http://[::1]:8080", "http://[::1]:8080"],
    ["http://[::1]", "http://[::1]:80"],
    ["unix:/run/tickr.sock", "unix:/run/tickr.sock"],
    ["unix:tickr.sock", "unix:tickr.sock"],
  ]) {
    assert.equal(new Server(url, {}).name, name);
  }
});

test("what can not be is refused without showing it", async () => {
  for (const url of [
    "tickr:8080", "https://tickr", "unix:", "unix:/a\0b", `unix:/${"secret".repeat(18)}`, "",
    "http://tickr/status", "http://tickr?x", "http://tickr#x", "http://:8080", "http://[tickr]:1",
    "http://[::1::]", "http://ti ckr", "http://tickr:", "http://tickr:0", "http://tickr:+80",
    "http://tickr:65536", "http://tickr:123456", "http://secret@tickr", "http://me:secret@tickr",
    "http://:secret@tickr:80", "http://tickr\r\nX: y", "http://tickr\n", 7, null, undefined,
    new URL("http://me:secret@tickr"),
  ]) {
    assert.throws(
      () => new Client([url]),
      (error) => error instanceof TypeError && !error.message.includes("secret"),
      String(url),
    );
  }
  for (const [servers, options] of [
    [[], {}], ["http://tickr", {}], [undefined, {}], [Array(257).fill("http://tickr"), {}],
    [["http://tickr"], { timeout: 0 }], [["http://tickr"], { timeout: NaN }],
    [["http://tickr"], { cache: -1 }], [["http://tickr"], { cache: 1.5 }],
  ]) {
    assert.throws(() => new Client(servers, options), RangeError);
  }
  for (const count of [0, -1, 1.5, "5", 5n, undefined, 2 ** 53]) {
    await assert.rejects(new Client(["http://tickr"]).take(count), RangeError);
  }
});
