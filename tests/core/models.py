from __future__ import annotations

import django
from django.db import models

# Django 5.1 renamed the argument `check` of CheckConstraint to `condition`.
check = "condition" if django.VERSION >= (5, 1) else "check"


class Author(models.Model):
    name = models.CharField(max_length=50, unique=True)
    bio = models.TextField(blank=True)


class Book(models.Model):
    author = models.ForeignKey(Author, models.CASCADE, related_name="books")
    title = models.CharField(max_length=100, db_index=True)
    pages = models.PositiveIntegerField(default=0)
    published = models.DateTimeField(null=True)


class Word(models.Model):
    """Texts in the default collation of CREATE DATABASE and in another collation."""

    text = models.CharField(max_length=50)
    insensitive = models.CharField(max_length=50, db_collation="utf8mb4_general_ci")
    data = models.JSONField(default=dict)


class Shelf(models.Model):
    height = models.IntegerField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                **{check: models.Q(height__gt=0)}, name="shelf_positive"
            )
        ]


class Reader(models.Model):
    """
    A model with an ordering, and a column whose name differs from its field's name.
    """

    author = models.ForeignKey(Author, models.CASCADE, null=True)
    rank = models.IntegerField(db_column="old")
    level = models.IntegerField()

    class Meta:
        ordering = ["-rank"]
