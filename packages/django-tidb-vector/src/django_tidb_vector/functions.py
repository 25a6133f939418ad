"""
Vector functions, vectors as expressions, and lookups of vector fields.

https://docs.pingcap.com/tidb/stable/vector-search-functions-and-operators
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import (
    NOT_PROVIDED,
    FloatField,
    Func,
    IntegerField,
    TextField,
    Transform,
    Value,
)
from django.db.models.expressions import Combinable, register_combinable_fields
from django.utils.deconstruct import deconstructible

from .fields import VectorField

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models.sql.compiler import SQLCompiler

__all__ = [
    "CosineDistance",
    "Distance",
    "L1Distance",
    "L2Distance",
    "NegativeInnerProduct",
    "VectorAsText",
    "VectorDims",
    "VectorFromText",
    "VectorNorm",
    "VectorValue",
]

# Vectors are added and subtracted element by element.
for _connector in (Combinable.ADD, Combinable.SUB):
    register_combinable_fields(VectorField, _connector, VectorField, VectorField)


# Creating a field takes time, so all expressions share one.
_ANY_VECTOR = VectorField()


class VectorValue(Value):
    """
    A vector as an expression, in the forms that :class:`.VectorField` accepts:
    ``F("embedding") - VectorValue([1, 2, 3])``.

    Raises ValueError if the value is not a vector.
    """

    def __init__(self, vector: Any, output_field: Any = None) -> None:
        # The value is stored as text, because expressions must be hashable and
        # comparable.
        field = output_field or _ANY_VECTOR
        super().__init__(field.get_prep_value(vector), output_field=field)
        # Django compares expressions by their constructor arguments. Arrays would be
        # compared element by element, so they are replaced by text.
        options = {} if output_field is None else {"output_field": output_field}
        self._constructor_args = ((self.value,), options)


class _Argument(VectorValue):
    """A vector as an argument of a function that converts text to a vector itself."""

    def as_sql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper
    ) -> tuple[str, list[Any]]:
        return "%s", [self.value]


def _expression(value: Any) -> Any:
    if isinstance(value, str) or hasattr(value, "resolve_expression"):
        return value
    return _Argument(value)


def _dimensions(expression: Any) -> int | None:
    """Return the number of dimensions, or None if it is unknown."""
    if isinstance(expression, VectorValue):
        return None if expression.value is None else expression.value.count(",") + 1
    field = getattr(expression, "_output_field_or_none", None)
    return field.dimensions if isinstance(field, VectorField) else None


class Distance(Func):
    """
    The distance between `expression`, which is the name of a vector column or an
    expression, and `vector`, which is a sequence or array of numbers or an expression.
    The result is a float, or None if either is NULL. Needs TiDB 8.4 or later.

    Raises ValueError if `vector` is not a vector or, when used in a query, if its
    number of dimensions differs from the column's. Without `vector`, the object
    describes the distance of a vector index.
    """

    output_field = FloatField()

    def __init__(
        self, expression: Any, vector: Any = NOT_PROVIDED, **extra: Any
    ) -> None:
        if vector is NOT_PROVIDED:
            super().__init__(expression, **extra)
            return
        if isinstance(vector, str):
            try:
                vector = _Argument(vector)
            except ValueError as error:
                raise ValueError(
                    f"{error} For a column write F({vector!r})."
                ) from error
        elif not hasattr(vector, "resolve_expression"):
            vector = _Argument(vector)
        super().__init__(_expression(expression), vector, **extra)
        self._constructor_args = ((expression, vector), extra)

    def resolve_expression(self, *args: Any, **kwargs: Any) -> Any:
        resolved = super().resolve_expression(*args, **kwargs)
        sources = resolved.get_source_expressions()
        sizes = [size for size in map(_dimensions, sources) if size is not None]
        if len(sources) == len(sizes) == 2 and sizes[0] != sizes[1]:
            names = " and ".join(
                f"{getattr(source, 'target', 'a vector')} with {size} dimensions"
                for source, size in zip(sources, sizes, strict=True)
            )
            raise ValueError(
                f"{type(self).__name__} is for vectors of the same number of "
                f"dimensions, not for {names}."
            )
        return resolved


@deconstructible(path="django_tidb_vector.L1Distance")
class L1Distance(Distance):
    """The sum of the absolute differences (Manhattan distance)."""

    function = "VEC_L1_DISTANCE"


@deconstructible(path="django_tidb_vector.L2Distance")
class L2Distance(Distance):
    """The Euclidean distance."""

    function = "VEC_L2_DISTANCE"


@deconstructible(path="django_tidb_vector.CosineDistance")
class CosineDistance(Distance):
    """
    One minus the cosine of the angle between the two vectors: 0 for the same direction,
    2 for opposite directions. The result is None if either vector has length 0.
    """

    function = "VEC_COSINE_DISTANCE"


@deconstructible(path="django_tidb_vector.NegativeInnerProduct")
class NegativeInnerProduct(Distance):
    """The inner product, negated so that the most similar vectors come first."""

    function = "VEC_NEGATIVE_INNER_PRODUCT"


class _OfVector(Transform):
    def __init__(self, expression: Any, **extra: Any) -> None:
        super().__init__(_expression(expression), **extra)
        self._constructor_args = ((expression,), extra)


class VectorDims(_OfVector):
    """The number of dimensions; also the lookup ``embedding__dims``."""

    function = "VEC_DIMS"
    lookup_name = "dims"
    output_field = IntegerField()


class VectorNorm(_OfVector):
    """The Euclidean length; also the lookup ``embedding__norm``."""

    function = "VEC_L2_NORM"
    lookup_name = "norm"
    output_field = FloatField()


class VectorAsText(_OfVector):
    """The vector as TiDB's text, such as ``[1,2.5,-3]``."""

    function = "VEC_AS_TEXT"
    output_field = TextField()


class VectorFromText(Func):
    """
    The vector that a text contains. `expression` is the name of a text column or an
    expression. The server raises an error for a text that is not a vector.
    """

    function = "VEC_FROM_TEXT"
    arity = 1
    output_field = VectorField()


for _transform in (VectorDims, VectorNorm):
    VectorField.register_lookup(_transform)
