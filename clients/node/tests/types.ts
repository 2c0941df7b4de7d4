// What the types promise; compiled, never run.

import { Client, Refused, TickrError, Unavailable } from "tickr-tickets";

export async function use(servers: readonly string[]): Promise<bigint[]> {
  const client = new Client(servers, { timeout: 2000, password: "p", cache: 10, checkOrder: false });
  const ticket: bigint = await client.next();
  const { first, last, increment, count } = await client.take(5);
  const all: bigint[] = [ticket, first, last, increment, BigInt(count), ...(await client.take(5))];
  try {
    // @ts-expect-error
    await client.take("5");
  } catch (error) {
    if (error instanceof Unavailable) error.attempts.map(({ server, reason }) => server + reason);
    if (error instanceof Refused) error.server + error.status.toFixed() + error.detail;
    if (error instanceof TickrError) throw error;
  }
  client.close();
  // @ts-expect-error
  new Client("http://tickr");
  // @ts-expect-error
  new Client(servers, { time: 1 });
  // @ts-expect-error
  const number: number = await client.next();
  return all;
}
