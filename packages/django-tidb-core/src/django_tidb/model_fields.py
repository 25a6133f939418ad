"""Attributes of model fields that not all supported Django versions have."""

from __future__ import annotations

import copy

from django.db.models import NOT_PROVIDED, Field

__all__ = ["has_db_default", "without_db_default"]


def has_db_default(field: Field) -> bool:
    """Return whether `field` has a ``db_default``, which Django 5.0 introduced."""
    return getattr(field, "db_default", NOT_PROVIDED) is not NOT_PROVIDED


def without_db_default(field: Field) -> Field:
    """Return a copy of `field` that has no ``db_default``."""
    field = copy.copy(field)
    field.db_default = NOT_PROVIDED
    return field
