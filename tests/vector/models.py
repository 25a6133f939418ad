from __future__ import annotations

from django.db import models

from django_tidb_vector import VectorField, VectorManager


class Item(models.Model):
    embedding = VectorField(dimensions=3, null=True, blank=True)
    other = VectorField(null=True, blank=True)

    objects = VectorManager()
