// A child of processes.test.js, as a process or as a thread: takes tickets with a client of its
// own that has a cache, and sends them to its parent as text.

import { parentPort } from "node:worker_threads";

import { Client } from "tickr-tickets";

const [server, count] = process.argv.slice(2);
const client = new Client([server], { cache: Number(count) });
const taken = [];
while (taken.length < Number(count)) taken.push(String(await client.next()));
client.close();
if (parentPort) parentPort.postMessage(taken);
else process.send(taken, () => process.exit());
