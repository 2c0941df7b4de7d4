// The one client of a program.

import { Client } from "tickr-tickets";

export const client = new Client(process.env.TICKR_SERVERS!.split(","), { cache: 1000 });
