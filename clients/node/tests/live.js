// The real server, started with a private MySQL server by `tickr dev`.

import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import { join } from "node:path";

import { Client, TickrError } from "tickr-tickets";

const DEADLINE = 60_000;

export class Tickr {
  #process;

  static async start(args = [], password) {
    const tickr = new Tickr();
    tickr.folder = fs.mkdtempSync(join(os.tmpdir(), "tickr"));
    tickr.url = `unix:${tickr.folder}/tickr.sock`;
    tickr.mysqlSocket = `${tickr.folder}/data/mysql/mysql.sock`;
    tickr.password = password;
    tickr.args = ["dev", "--data-dir", `${tickr.folder}/data`, "--listen", tickr.url];
    tickr.args.push("--database-pool-timeout", "20", ...args);
    await tickr.start();
    return tickr;
  }

  async start() {
    const log = fs.openSync(`${this.folder}/log`, "a");
    this.#process = spawn(process.env.TICKR, this.args, { stdio: ["ignore", log, log] });
    fs.closeSync(log);
    process.once("exit", this.#end);
    const end = Date.now() + DEADLINE;
    const client = new Client([this.url], { password: this.password, timeout: DEADLINE });
    try {
      for (;;) {
        try {
          return await client.next();
        } catch (error) {
          if (!(error instanceof TickrError)) throw error;
          if (this.#process.exitCode !== null || Date.now() > end) {
            const said = fs.readFileSync(`${this.folder}/log`, "utf8");
            throw new Error(`tickr does not start:\n${said}`);
          }
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
      }
    } finally {
      client.close();
    }
  }

  #end = () => this.#process.kill();

  async stop() {
    process.off("exit", this.#end);
    if (this.#process.exitCode !== null) return;
    const ended = once(this.#process, "exit");
    this.#process.kill();
    await ended;
  }

  async close() {
    await this.stop();
    fs.rmSync(this.folder, { recursive: true });
  }
}
