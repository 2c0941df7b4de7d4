// The driver for ../../conformance. Callers at the same time are its threads; a child of a fork is
// an interpreter of its own, and is told the settings.

import { fork } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { Client, Refused, Unavailable } from "tickr-tickets";

let client, settings;

function open({ do: _, servers, timeout, check_order: checkOrder, ...rest }) {
  const options = { ...rest, ...(timeout !== null && { timeout }) };
  if (checkOrder !== undefined) options.checkOrder = checkOrder;
  client = new Client(servers, options);
}

async function take(count, path, taken = []) {
  while (taken.length < count || (path && !existsSync(path))) {
    taken.push(await client.next());
    if (path) await setTimeout(1);
  }
  return taken;
}

async function threads(number, count, path) {
  const all = Array.from({ length: number }, () => take(count, path));
  return (await Promise.all(all)).flat();
}

async function forks(number, count) {
  const child = () => fork(fileURLToPath(import.meta.url), [JSON.stringify({ settings, count })]);
  const children = Array.from({ length: number }, child);
  const messages = await Promise.all(children.map((each) => once(each, "message")));
  return messages.flatMap(([taken]) => taken);
}

function tell(error) {
  const { attempts, server, detail } = error;
  if (error instanceof Unavailable) {
    return { kind: "unavailable", attempts: attempts.map((each) => [each.server, each.reason]) };
  }
  if (error instanceof Refused) return { kind: "refused", server, detail };
  if (error instanceof TypeError || error instanceof RangeError) return { kind: "invalid" };
  if (error.message === "the client is closed") return { kind: "closed" };
  throw error;
}

async function main() {
  for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    const { count = 0, until } = command;
    let taken = [], error = null;
    try {
      if (command.do === "open") open((settings = command));
      else if (command.do === "next") await take(count, undefined, taken);
      else if (command.do === "take") taken = [...(await client.take(count))];
      else if (command.do === "threads") taken = await threads(command.threads, count, until);
      else if (command.do === "fork") taken = await forks(command.fork, count);
      else client.close();
    } catch (thrown) {
      error = { ...tell(thrown), message: thrown.message };
    }
    console.log(JSON.stringify({ tickets: taken.map(String), error }));
  }
  process.exit();
}

if (process.send) {
  const told = JSON.parse(process.argv[2]);
  open(told.settings);
  process.send((await take(told.count)).map(String), () => process.exit());
} else {
  await main();
}
