"""A model whose primary key is a ticket."""

from django.db import models

from tickets import next_ticket


class Order(models.Model):
    # The name of the function goes into the migration: keep it importable.
    id = models.BigIntegerField(primary_key=True, default=next_ticket, editable=False)
    item = models.CharField(max_length=40)
