"""
Distances between vectors.

https://docs.pingcap.com/tidb/stable/vector-search-functions-and-operators
"""

from __future__ import annotations

from typing import Any

from django.db.models import NOT_PROVIDED, FloatField, Func, Value

from .fields import VectorField

__all__ = [
    "CosineDistance",
    "L1Distance",
    "L2Distance",
    "NegativeInnerProduct",
]


class Distance(Func):
    """
    The distance between `expression`, the name of a vector column or an
    expression, and `vector`, a sequence or array of numbers or an expression.
    A float; None if either is NULL. Needs TiDB 8.4 or later.

    Without `vector` it describes what a vector index is for.
    """

    output_field = FloatField()

    def __init__(
        self, expression: Any, vector: Any = NOT_PROVIDED, **extra: Any
    ) -> None:
        if vector is NOT_PROVIDED:
            super().__init__(expression, **extra)
            return
        if not hasattr(vector, "resolve_expression"):
            # As text, for an expression has to be hashable and comparable.
            field = VectorField()
            vector = Value(field.get_prep_value(vector), output_field=field)
        super().__init__(expression, vector, **extra)
        self._constructor_args = ((expression, vector), extra)


class L1Distance(Distance):
    """The sum of the absolute differences (Manhattan distance)."""

    function = "VEC_L1_DISTANCE"


class L2Distance(Distance):
    """The Euclidean distance."""

    function = "VEC_L2_DISTANCE"


class CosineDistance(Distance):
    """
    One minus the cosine of the angle between the two: from 0, same direction,
    to 2, opposite. None if either vector has length 0.
    """

    function = "VEC_COSINE_DISTANCE"


class NegativeInnerProduct(Distance):
    """The inner product, negated so that the most alike come first."""

    function = "VEC_NEGATIVE_INNER_PRODUCT"
