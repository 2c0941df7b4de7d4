"""The one client of a program, and what its models call for an id."""

import os

from tickr_tickets import Client

client = Client(os.environ["TICKR_SERVERS"].split(","), cache=1000)


def next_ticket() -> int:
    return client.next()
