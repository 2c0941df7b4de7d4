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

/** Why one server gave no tickets, as the end of a sentence that its name begins. */
export class Failure extends Error {}

export const closed = () => new Error("the client is closed");

export const notTickr = (reason) => new Failure(`did not respond like a Tickr server: ${reason}`);

/** The failure that an error of Node.js amounts to. */
export function explained(error) {
  if (error instanceof Failure) return error;
  const { code = error.message, syscall, errors } = error;
  // With `errors`, each address of a name has failed.
  if (errors || /^(connect|getaddrinfo)/.test(syscall)) {
    return new Failure(`can't be reached (${code})`);
  }
  // Node.js's names of what is wrong with the syntax; the exception is an end that comes too soon.
  if (/^HPE_(?!INVALID_EOF_STATE)/.test(code)) return notTickr(`not HTTP/1 (${code})`);
  return new Failure(`closed the connection early (${code})`);
}
