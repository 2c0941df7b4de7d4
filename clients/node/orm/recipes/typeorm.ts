// The recipe for TypeORM: an entity whose primary key is a ticket.

import "reflect-metadata";
import { BeforeInsert, Column, DataSource, Entity, PrimaryColumn } from "typeorm";
import { client } from "./tickets.js";

@Entity("orders")
class Order {
  @PrimaryColumn({ type: "bigint" })
  id!: string;

  @Column({ length: 40 })
  item!: string;

  @BeforeInsert()
  async takeTicket() {
    this.id ??= String(await client.next());
  }
}

const source = new DataSource({
  type: "mysql",
  socketPath: process.env.MYSQL_SOCKET,
  username: "tickr",
  password: "tickr",
  database: "recipe_typeorm",
  entities: [Order],
});

export async function create() {
  await source.initialize();
  await source.synchronize();
}
export const end = () => source.destroy();

export async function insert(item: string, rows: number) {
  if (!source.isInitialized) await source.initialize();
  const orders = source.getRepository(Order);
  const order = await orders.save(orders.create({ item }));
  for (let row = 1; row < rows / 2; row++) await orders.save(orders.create({ item }));
  await orders.save(Array.from({ length: rows / 2 }, () => orders.create({ item })));
  return (await orders.findOneByOrFail({ id: order.id })).id;
}
