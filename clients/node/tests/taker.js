// Takes tickets in a process or a thread of its own, and tells them to the one that started it.

import cluster from "node:cluster";
import { parentPort, workerData } from "node:worker_threads";

import { Client } from "tickr-tickets";

const [url, count] = workerData ?? process.argv.slice(2);
const client = new Client([url], { cache: 10_000, timeout: 30_000 });
const taken = [];
while (taken.length < count) taken.push(await client.next());
if (parentPort) parentPort.postMessage(taken);
else process.send(taken.map(String), () => (cluster.isWorker ? cluster.worker : process).disconnect());
