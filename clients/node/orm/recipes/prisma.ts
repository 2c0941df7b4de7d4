// The recipe for Prisma: an extension that gives each new row a ticket.

import { PrismaMariaDb } from "@prisma/adapter-mariadb";
import { Prisma, PrismaClient } from "@prisma/client";
import { client } from "./tickets.js";

const tickets = Prisma.defineExtension({
  query: {
    order: {
      async create({ args, query }) {
        args.data.id ??= await client.next();
        return query(args);
      },
      async createMany({ args, query }) {
        for (const row of [args.data].flat()) row.id ??= await client.next();
        return query(args);
      },
    },
  },
});

const adapter = new PrismaMariaDb({
  socketPath: process.env.MYSQL_SOCKET,
  user: "tickr",
  password: "tickr",
  database: "recipe_prisma",
});
const prisma = new PrismaClient({ adapter }).$extends(tickets);

export async function create() {
  await prisma.$executeRaw`CREATE TABLE orders (id BIGINT PRIMARY KEY, item VARCHAR(40) NOT NULL)`;
}
export const end = () => prisma.$disconnect();

export async function insert(item: string, rows: number) {
  const order = await prisma.order.create({ data: { item } });
  for (let row = 1; row < rows / 2; row++) await prisma.order.create({ data: { item } });
  await prisma.order.createMany({ data: Array.from({ length: rows / 2 }, () => ({ item })) });
  return String((await prisma.order.findUniqueOrThrow({ where: { id: order.id } })).id);
}
