from __future__ import annotations

from django.db import models


class Account(models.Model):
    balance = models.BigIntegerField()


class Transfer(models.Model):
    # No constraint makes it unique: a transfer that is made twice must be seen.
    key = models.UUIDField(db_index=True)
    source = models.ForeignKey(Account, models.CASCADE, related_name="+")
    target = models.ForeignKey(Account, models.CASCADE, related_name="+")
    amount = models.IntegerField()
