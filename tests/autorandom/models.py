from __future__ import annotations

from django.db import models

from django_tidb_autorandom import BigAutoRandomField


class Event(models.Model):
    id = BigAutoRandomField(primary_key=True)
    name = models.CharField(max_length=20, blank=True)


class ShortEvent(models.Model):
    id = BigAutoRandomField(primary_key=True, shard_bits=3, range=54)


class Comment(models.Model):
    event = models.ForeignKey(Event, models.CASCADE)


class Ticket(models.Model):
    title = models.CharField(max_length=20, blank=True)

    class Meta:
        tidb_auto_id_cache = 1
