"""
Vector search: a QuerySet and a manager that find the rows with the nearest
vectors.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

from django.core.exceptions import FieldError
from django.db import models

from .fields import VectorField
from .functions import CosineDistance, Distance
from .indexes import has_index

__all__ = ["VectorManager", "VectorQuerySet"]

_Model = TypeVar("_Model", bound=models.Model)


class VectorQuerySet(models.QuerySet[_Model]):
    """A QuerySet with :meth:`nearest`; see :class:`VectorManager`."""

    def nearest(
        self,
        field: str,
        vector: Any,
        *,
        k: int = 10,
        metric: type[Distance] = CosineDistance,
        max_distance: float | None = None,
        candidates: int | None = None,
        distance_name: str = "distance",
    ) -> VectorQuerySet[_Model]:
        """
        Return the `k` rows whose `field`, the name of a VectorField, is nearest
        to `vector`. The nearest comes first, and each row has its distance as
        attribute `distance_name`. `max_distance` limits the distance.

        Without `candidates`, the filters of this QuerySet are applied first.
        The answer is exact, and the server reads all rows that pass the
        filters. With `candidates`, the server finds that many nearest rows of
        the whole table, with a vector index if ``Meta.indexes`` has one for the
        metric, and the filters choose among them; fewer than `k` rows, or none,
        may be left.

        Rows without a vector are left out, and so are rows whose distance is
        NULL: the cosine distance is NULL if either vector has length 0. The
        result is sliced, so it cannot be filtered any further.

        Raises FieldError if `field` is no VectorField, TypeError if `metric` is
        no distance, and ValueError if `vector` does not fit, `k` or
        `candidates` is not an integer of 1 or more, or `max_distance` is not
        finite.
        """
        found = self.model._meta.get_field(field)
        if not isinstance(found, VectorField):
            raise FieldError(f"{found} is a {type(found).__name__}, not a VectorField.")
        if not (isinstance(metric, type) and issubclass(metric, Distance)):
            raise TypeError(
                f"metric is {metric!r}; it must be a class such as CosineDistance."
            )
        if vector is None:
            raise ValueError("vector is None; nothing is near to that.")
        for name, number in (("k", k), ("candidates", candidates)):
            if (number is not None or name == "k") and (
                type(number) is not int or number < 1
            ):
                raise ValueError(
                    f"{name} is {number!r}; it must be an integer of 1 or more."
                )
        if max_distance is not None and not math.isfinite(max_distance):
            raise ValueError(f"max_distance is {max_distance!r}; it must be finite.")
        distance = metric(field, vector)

        def with_distance(rows: Any) -> Any:
            rows = rows.annotate(**{distance_name: distance})
            # NULL is less than all distances in the ordering, so rows without a
            # distance would come first.
            if max_distance is not None:
                return rows.filter(**{f"{distance_name}__lte": max_distance})
            if issubclass(metric, CosineDistance):
                return rows.filter(**{f"{distance_name}__isnull": False})
            if found.null:
                return rows.filter(**{f"{field}__isnull": False})
            return rows

        rows = self
        if candidates is not None:
            if candidates < k:
                raise ValueError(
                    f"candidates is {candidates}; it must be {k}, as k is, or more."
                )
            inner = self.model._base_manager.using(self.db)
            # The server uses a vector index only for ORDER BY distance LIMIT, without a
            # condition. The index has no entries for NULL.
            if not has_index(self.model, self.db, field, metric):
                inner = with_distance(inner)
            inner = inner.order_by(distance)
            rows = rows.filter(pk__in=inner.values("pk")[:candidates])
        return with_distance(rows).order_by(distance_name)[:k]


class VectorManager(models.Manager.from_queryset(VectorQuerySet)):  # type: ignore[misc]
    """A manager with ``nearest()``: ``objects = VectorManager()``."""
