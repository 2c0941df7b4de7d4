// The types of the package, kept by hand beside index.js.

export interface Options {
  /** Milliseconds that one server may take to respond, including connecting. Default: 2000. */
  timeout?: number;
  /** The servers' TICKR_HTTP_AUTH_PASSWORD. */
  password?: string;
  /** How many tickets `next` may have in stock; what a process has when it ends is never issued.
   * Default: 0, each ticket is asked for. */
  cache?: number;
  /** Refuse tickets that go backwards. False where several processes of one node share an address;
   * repeated tickets are refused all the same. Default: true. */
  checkOrder?: boolean;
}

/** Tickets at equal distances: `first`, `first + increment`, …, `count` of them. */
export interface Run extends Iterable<bigint> {
  readonly first: bigint;
  readonly last: bigint;
  readonly increment: bigint;
  readonly count: number;
}

/** Tickets from one or more servers. Make one for the whole program: it keeps its connections. */
export class Client {
  /** The preferred server first: `http://HOST:PORT` or `unix:PATH`. Connects to nothing yet. */
  constructor(servers: readonly string[], options?: Options);

  /** A ticket that nobody else gets. */
  next(): Promise<bigint>;

  /** This many tickets as one run, straight from a server; at most its TICKR_MAX_BATCH. */
  take(count: number): Promise<Run>;

  /** Ends the connections and what is under way; what is left of the cache is never issued. */
  close(): void;
}

/** No ticket. */
export class TickrError extends Error {}

/** Every server was tried and none gave tickets; trying again later is safe. */
export class Unavailable extends TickrError {
  /** Each server, and why it gave none, in the order in which they were tried. */
  readonly attempts: readonly { readonly server: string; readonly reason: string }[];
}

/** A server calls the request itself wrong (400); the others were not asked. */
export class Refused extends TickrError {
  readonly server: string;
  readonly status: 400;
  readonly detail: string;
}
