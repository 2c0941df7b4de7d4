// The samples of the page: the first is run as it stands, against servers at other addresses, and
// each line of the others is one of the recipes that are tried with the real libraries.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Client } from "tickr-tickets";
import { good } from "./faulty.js";

const read = (name) => readFileSync(new URL(`../${name}`, import.meta.url), "utf8");
const samples = (language) => {
  const found = read("README.md").matchAll(new RegExp(`\`\`\`${language}\\n(.*?)\`\`\``, "gs"));
  return [...found].map(([, sample]) => sample);
};

test("the sample works", async (t) => {
  const [sample, ...others] = samples("js");
  assert.equal(others.length, 0);
  const server = await good(t);
  const said = [];
  const code = sample.replace(/^import.*/, "").replace(/"(unix|http):[^"]*"/g, `"${server.url}"`);
  assert.equal(code.split(server.url).length, 3);
  const body = `${code}\nclient.close(); return [ticket, first, increment, count];`;
  const AsyncFunction = (async () => {}).constructor;
  const values = await AsyncFunction("Client", "console", body)(Client, { log: (x) => said.push(x) });
  assert.deepEqual(values, [1n, 2n, 1n, 1000]);
  assert.deepEqual(said, [1002n, 1003n, 1004n, 1005n, 1006n]);
});

test("the recipes are those that are tried", () => {
  const recipes = ["recipes/sequelize.ts", "recipes/typeorm.ts", "recipes/prisma.ts"];
  const found = [...samples("ts"), ...samples("prisma")];
  assert.equal(found.length, 4);
  [...recipes, "prisma/schema.prisma"].forEach((name, at) => {
    const lines = read(`orm/${name}`).split("\n");
    for (const line of found[at].split("\n")) assert(lines.includes(line), `${name}: ${line}`);
  });
});

test("a program ends without closing its client", { timeout: 60_000 }, async (t) => {
  const { spawn } = await import("node:child_process");
  const server = await good(t);
  const code = `import { Client } from "tickr-tickets";
    console.log(await new Client(["${server.url}"], { cache: 16 }).next());`;
  const settings = { cwd: new URL(".", import.meta.url), stdio: "inherit" };
  const child = spawn(process.execPath, ["--input-type=module", "-e", code], settings);
  assert.equal(await new Promise((resolve) => child.on("exit", resolve)), 0);
});
