// The recipe for Sequelize: a model whose primary key is a ticket.

import { DataTypes, Model, Sequelize } from "sequelize";
import { client } from "./tickets.js";

const sequelize = new Sequelize("recipe_sequelize", "tickr", "tickr", {
  dialect: "mysql",
  dialectOptions: { socketPath: process.env.MYSQL_SOCKET },
  logging: false,
});

const Order = sequelize.define("Order", {
  id: { type: DataTypes.BIGINT, primaryKey: true },
  item: { type: DataTypes.STRING(40), allowNull: false },
}, { tableName: "orders", timestamps: false });

async function takeTicket(order: Model) {
  if (order.get("id") == null) order.set("id", String(await client.next()));
}
Order.beforeValidate(takeTicket);
Order.beforeBulkCreate(async (orders) => {
  for (const order of orders) await takeTicket(order);
});

export const create = () => sequelize.sync();
export const end = () => sequelize.close();

export async function insert(item: string, rows: number) {
  const order = await Order.create({ item });
  for (let row = 1; row < rows / 2; row++) await Order.create({ item });
  await Order.bulkCreate(Array.from({ length: rows / 2 }, () => ({ item })));
  return (await Order.findByPk(order.get("id") as string))?.get("id");
}
