// What goes wrong. What is public is described in index.d.ts.

export class TickrError extends Error {}

export class Unavailable extends TickrError {
  name = "Unavailable";

  constructor(attempts) {
    const lines = attempts.map(({ server, reason }) => `\n  ${server} ${reason}`);
    super(`no server issued tickets; it is safe to retry:${lines.join("")}`);
    this.attempts = attempts;
  }
}

export class Refused extends TickrError {
  name = "Refused";
  status = 400;

  constructor(server, detail) {
    super(`${server} responded 400: ${detail}`);
    Object.assign(this, { server, detail });
  }
}

/** Why one server gave no tickets, as the end of a sentence that its name begins. A stale
 * connection may be the reason: a new one is worth a try. */
export class Failure extends Error {
  constructor(reason, stale = false) {
    super(reason);
    this.stale = stale;
  }
}
