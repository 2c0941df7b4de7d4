// Tries the recipes with the real libraries: four processes insert 10,000 rows into MariaDB through
// each of them, and no id may come twice or lose digits: they are above 2^53. Started by ../test,
// which installs and compiles them.
//
// The processes are started by one that has tickets in its cache. Needs TICKR, the path of the
// server's program.

import { fork } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import mysql from "mysql2/promise";

import { Tickr } from "../tests/live.js";

const PROCESSES = 4;
const ROWS = 2500;
const HERE = fileURLToPath(import.meta.url);

async function insert(recipe, number) {
  const { insert, end } = await import(`./built/${recipe}.js`);
  const { client } = await import("./built/tickets.js");
  await insert(`of process ${number}`, ROWS);
  await end();
  client.close();
}

/** How many rows there are, how many ids, and whether they are what they should be. */
async function attempt(recipe, database) {
  await database.query(`CREATE DATABASE recipe_${recipe}`);
  const { create, insert, end } = await import(`./built/${recipe}.js`);
  await create();
  const first = await insert("of the parent", 2);
  const children = Array.from({ length: PROCESSES }, (_, number) => fork(HERE, [recipe, number]));
  const codes = await Promise.all(children.map((child) => once(child, "exit")));
  await insert("of the parent", 2);
  await end();
  const [[found]] = await database.query(
    `SELECT COUNT(*) AS counted, COUNT(DISTINCT id) AS ids, MIN(id) AS least,
       COUNT(DISTINCT item) AS items FROM recipe_${recipe}.orders`,
  );
  const { counted, ids, least, items } = found;
  // All of them come as text.
  const all = String(PROCESSES * ROWS + 4);
  const done = codes.every(([code]) => code === 0) && items === String(PROCESSES + 1);
  return { counted, ids, ok: done && counted === all && ids === all && least === first };
}

async function main() {
  const tickr = await Tickr.start(["--starting-offset", String(2n ** 53n)]);
  Object.assign(process.env, { TICKR_SERVERS: tickr.url, MYSQL_SOCKET: tickr.mysqlSocket });
  const account = { user: "tickr", password: "tickr", socketPath: tickr.mysqlSocket };
  Object.assign(account, { supportBigNumbers: true, bigNumberStrings: true });
  const database = await mysql.createConnection(account);
  const recipes = ["sequelize", "typeorm", "prisma"];
  let failed = 0;
  for (const recipe of recipes) {
    const { counted, ids, ok } = await attempt(recipe, database);
    const about = new URL(`node_modules/${recipe}/package.json`, import.meta.url);
    const { version } = JSON.parse(readFileSync(about));
    const words = `${counted} rows, ${ids} ids, from ${PROCESSES} processes`;
    console.log(`${recipe} ${version}: ${words}: ${ok ? "ok" : "failed"}`);
    if (!ok) failed++;
  }
  const { client } = await import("./built/tickets.js");
  client.close();
  await database.end();
  await tickr.close();
  console.log(`${recipes.length - failed} passed, ${failed} failed`);
  process.exitCode = failed;
}

await (process.send ? insert(...process.argv.slice(2)) : main());
