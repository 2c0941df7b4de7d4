// One request to one server, and the tickets in its answer. Everything has a bound: the time, the
// head, the body, the interim answers. Numbers come as strings, since a JSON number loses digits
// above 2^53.

import http from "node:http";

const HEAD_MAX = 8 * 1024;
const BODY_MAX = 64 * 1024;
const INTERIM_MAX = 8;
const DETAIL_MAX = 200;
const TICKET_MAX = 2n ** 64n - 1n;
const NUMBER = /^(?:0|[1-9]\d{0,19})$/;

/** Why one server gave no tickets, as the end of a sentence that its name begins. A stale
 * connection may be the reason: a new one is worth a try. */
export class Failure extends Error {
  constructor(reason, { stale = false, status = 0, detail = "" } = {}) {
    super(reason);
    Object.assign(this, { stale, status, detail });
  }
}

/** Tickets at equal distances, as one answer has them. */
export class Run {
  constructor(first, increment, count) {
    Object.assign(this, { first, increment, count });
    Object.freeze(this);
  }

  get last() {
    return this.first + BigInt(this.count - 1) * this.increment;
  }

  *[Symbol.iterator]() {
    for (let index = 0, ticket = this.first; index < this.count; index++) {
      yield ticket;
      ticket += this.increment;
    }
  }
}

/** Asks for a run, and has `admit` say whether it is believed. `aborts` is a set of functions that
 * end a request; this one is in it while it lasts. */
export function exchange(server, count, milliseconds, aborts, admit) {
  return new Promise((resolve, reject) => {
    const path = `/tickets/create/${count}?format=range-string`;
    const { place, agent, headers } = server;
    const bounds = { maxHeaderSize: HEAD_MAX, insecureHTTPParser: false };
    const request = http.get({ ...place, agent, headers, path, ...bounds });
    let response, over, interim = 0, length = 0;
    const chunks = [];

    const finish = (failure) => {
      if (over) return;
      over = true;
      clearTimeout(timer);
      aborts.delete(finish);
      try {
        // What became of an explanation matters less than the status.
        if (failure && (response?.statusCode ?? 200) === 200) throw failure;
        const run = read(response, Buffer.concat(chunks).toString(), count);
        admit(run, request.reusedSocket);
        resolve(run);
      } catch (error) {
        request.destroy();
        error.stale &&= request.reusedSocket;
        reject(error);
      }
    };
    aborts.add(finish);
    // When the program was busy for too long, the answer may be there all the same.
    const late = () => setImmediate(finish, new Failure("did not answer in time"));
    const timer = setTimeout(late, milliseconds);

    request.on("error", (error) => finish(failed(error)));
    request.on("close", () => response?.complete || finish(cut()));
    request.on("upgrade", () => finish(new Failure("responded 101")));
    request.on("information", () => {
      if (++interim > INTERIM_MAX) finish(notTickr("too many interim responses"));
    });
    request.on("response", (begun) => {
      response = begun;
      response.on("data", (chunk) => {
        length += chunk.length;
        if (length > BODY_MAX) finish(notTickr("the response is too long"));
        else chunks.push(chunk);
      });
      response.on("end", () => finish(response.complete ? undefined : cut()));
      response.on("error", (error) => finish(failed(error)));
    });
  });
}

/** The tickets; nothing is believed that could not be so. */
function read({ statusCode: status, httpVersionMajor, headers }, text, count) {
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    if (status === 200) throw notTickr("the body is not JSON");
  }
  if (status !== 200) {
    const detail = printable(body?.detail ?? "");
    throw new Failure(`responded ${status}${detail && `: ${detail}`}`, { status, detail });
  }
  if (httpVersionMajor !== 1) throw notTickr("not an HTTP/1 response");
  const coding = headers["transfer-encoding"];
  if (coding === undefined ? !headers["content-length"] : !/^chunked$/i.test(coding)) {
    throw notTickr("it does not say how long its body is");
  }
  const numbers = [body?.first, body?.increment, body?.count];
  if (numbers.every((number) => typeof number === "string" && NUMBER.test(number))) {
    const [first, increment, counted] = numbers.map(BigInt);
    const run = new Run(first, increment, count);
    if (increment > 0n && counted === BigInt(count) && run.last <= TICKET_MAX) return run;
  }
  throw notTickr("the body is not the range asked for");
}

function failed(error) {
  const code = error.code ?? error.message;
  if (code === "HPE_HEADER_OVERFLOW") return notTickr("the response is too long");
  if (/^HPE_(?!INVALID_EOF_STATE)/.test(code)) return notTickr("not an HTTP/1 response");
  // Several addresses have failed, each with an error of its own.
  const codes = error.errors ? [...new Set(error.errors.map((each) => each.code))].join(", ") : code;
  if (error.errors || /^(connect|getaddrinfo)/.test(error.syscall)) {
    return new Failure(`can't be reached (${codes})`);
  }
  return cut(codes);
}

const cut = (why = "end of stream") =>
  new Failure(`closed the connection early (${why})`, { stale: true });

const notTickr = (reason) => new Failure(`did not respond like a Tickr server: ${reason}`);

/** Text from elsewhere on one line: it must not steer a terminal or forge a line of a log. */
function printable(text) {
  const shown = String(text).slice(0, DETAIL_MAX + 1).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, " ");
  return shown.length <= DETAIL_MAX ? shown : `${shown.slice(0, DETAIL_MAX - 1)}…`;
}
