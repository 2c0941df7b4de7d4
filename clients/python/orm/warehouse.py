"""The recipe for SQLAlchemy: a model whose primary key is a ticket."""

import os

import sqlalchemy as sa
from sqlalchemy import orm
from tickets import next_ticket

Base = orm.declarative_base()
# SQLAlchemy 2 has a new name for it.
mapped_column = getattr(orm, "mapped_column", sa.Column)


class Order(Base):
    __tablename__ = "orders"
    id = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False, default=next_ticket)
    item = mapped_column(sa.String(40), nullable=False)


def engine():
    socket = os.environ["MYSQL_SOCKET"]
    url = f"mysql+pymysql://tickr:tickr@localhost/recipe_sqlalchemy?unix_socket={socket}"
    return sa.create_engine(url)
