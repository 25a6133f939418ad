"""VectorField: https://docs.pingcap.com/tidb/stable/vector-search-data-types"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from django.apps import apps
from django.core import checks, exceptions
from django.db import IntegrityError, connections, models, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.sql.compiler import (
    SQLCompiler,
    SQLInsertCompiler,
    SQLUpdateCompiler,
)

from django_tidb import is_tidb

from .codec import (
    MAX_DIMENSIONS,
    Vector,
    as_text,
    decode,
    encode,
    numbers,
    parse,
    to_vector,
)
from .forms import EMPTY_VALUES, VectorFormField

__all__ = ["VectorField"]

# The lookups that TiDB supports for vectors. Django's other lookups are for
# text.
LOOKUPS = frozenset({"exact", "gt", "gte", "in", "isnull", "lt", "lte", "range"})


class VectorField(models.Field):
    """
    A vector of single-precision numbers. Needs TiDB 8.4 or later.

    If `dimensions` (1 to 16383) is set, all vectors of the column have that
    number of elements. Otherwise each vector has its own number, and the column
    cannot have a vector index. Any sequence or array of numbers can be
    assigned; values from the database are numpy arrays of dtype float32. Saving
    raises ValueError for a vector of another length and for numbers that are
    not finite in single precision.
    """

    description = "Vector"
    empty_strings_allowed = False
    empty_values = EMPTY_VALUES

    def __init__(
        self, *args: Any, dimensions: int | None = None, **kwargs: Any
    ) -> None:
        self.dimensions = dimensions
        super().__init__(*args, **kwargs)

    def get_default(self) -> Any:
        # Each instance gets a copy, because arrays and lists are mutable.
        default = super().get_default()
        return default.copy() if isinstance(default, list | np.ndarray) else default

    def deconstruct(self) -> tuple[str, str, list[Any], dict[str, Any]]:
        name, _, args, kwargs = super().deconstruct()
        if self.dimensions is not None:
            kwargs["dimensions"] = self.dimensions
        # Migrations need a value that can be written and compared, such as a list.
        for option in ("default", "db_default"):
            if isinstance(kwargs.get(option), np.ndarray):
                kwargs[option] = numbers(kwargs[option])
        return name, "django_tidb_vector.VectorField", args, kwargs

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "vector" if self.dimensions is None else f"vector({self.dimensions:d})"

    def from_db_value(
        self,
        value: str | bytes | None,
        expression: Any,
        connection: BaseDatabaseWrapper,
    ) -> Vector | None:
        return None if value is None else decode(value)

    def to_python(self, value: Any) -> Vector | None:
        if value is None:
            return None
        try:
            if (text := as_text(value)) is not None:
                return parse(text, self.dimensions)
            return to_vector(value, self.dimensions)
        except ValueError as error:
            raise exceptions.ValidationError(
                f"Not a valid vector: {error}.", code="invalid"
            ) from error

    def get_prep_value(self, value: Any) -> Any:
        if value is None or hasattr(value, "resolve_expression"):
            return value
        try:
            if (text := as_text(value)) is not None:
                value = parse(text)
            return encode(value, self.dimensions)
        except ValueError as error:
            raise ValueError(f"{self._describe()}: {error}.") from error

    def _describe(self) -> str:
        # The output field of an expression has no model.
        return str(self) if hasattr(self, "model") else "Vector"

    def get_placeholder(
        self, value: Any, compiler: SQLCompiler, connection: BaseDatabaseWrapper
    ) -> str:
        if (
            value is None
            and not self.null
            and hasattr(self, "model")
            and isinstance(compiler, SQLInsertCompiler | SQLUpdateCompiler)
        ):
            # Without this check, the statement would fail with an OperationalError.
            raise IntegrityError(f"{self._describe()}: a vector is needed, not None.")
        # In INSERT the server converts text to the type of the column. Functions do
        # not: COALESCE truncates the text to as many characters as the vector has
        # dimensions.
        if isinstance(compiler, SQLInsertCompiler) or hasattr(value, "as_sql"):
            return "%s"
        return "VEC_FROM_TEXT(%s)"

    def get_placeholder_sql(
        self, value: Any, compiler: SQLCompiler, connection: BaseDatabaseWrapper
    ) -> tuple[str, tuple[Any, ...]]:
        # Django 6.1 has renamed get_placeholder() to get_placeholder_sql().
        if hasattr(value, "as_sql"):
            sql, params = compiler.compile(value)
            return sql, tuple(params)
        return self.get_placeholder(value, compiler, connection), (value,)

    def get_lookup(self, lookup_name: str) -> Any:
        found = super().get_lookup(lookup_name)
        # Django registers its lookups for every field; those for text are hidden here.
        if lookup_name not in LOOKUPS and (
            found is models.Field.get_class_lookups().get(lookup_name)
        ):
            return None
        return found

    def value_to_string(self, obj: models.Model) -> str | None:
        """
        Return the value for Django's serializers of all formats, as text such
        as ``[1,2.5,-3]``. Deserializing it gives exactly the same vector.
        """
        value = self.value_from_object(obj)
        if (text := as_text(value)) is not None:
            value = parse(text)
        return None if value is None else encode(value)

    def formfield(self, **kwargs: Any) -> Any:
        return super().formfield(
            **{
                "form_class": VectorFormField,
                "dimensions": self.dimensions,
                **kwargs,
            }
        )

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        # The other checks need a valid column type and default.
        if errors := [*self._check_dimensions(), *self._check_defaults()]:
            return errors
        return [
            *super().check(**kwargs),
            *self._check_keys(),
            *self._check_databases(kwargs.get("databases") or ()),
            *self._check_app(),
        ]

    def _check_dimensions(self) -> Iterator[checks.CheckMessage]:
        if self.dimensions is not None and not (
            type(self.dimensions) is int and 1 <= self.dimensions <= MAX_DIMENSIONS
        ):
            yield checks.Error(
                f"'dimensions' is {self.dimensions!r}; it must be None or an integer "
                f"from 1 to {MAX_DIMENSIONS}.",
                obj=self,
                id="tidb_vector.E001",
            )

    def _check_defaults(self) -> Iterator[checks.CheckMessage]:
        for option in ("default", "db_default"):
            # Django has database defaults from version 5.0 on.
            value = getattr(self, option, models.NOT_PROVIDED)
            if (
                value is models.NOT_PROVIDED
                or callable(value)
                or hasattr(value, "resolve_expression")
            ):
                continue
            try:
                self.get_prep_value(value)
            except ValueError as error:
                yield checks.Error(
                    f"The {option} does not fit. {error}",
                    obj=self,
                    id="tidb_vector.E009",
                )

    def _check_keys(self) -> Iterator[checks.CheckMessage]:
        options = [
            name
            for name, is_set in (
                ("primary_key", self.primary_key),
                ("unique", self.unique and not self.primary_key),
                ("db_index", self.db_index),
            )
            if is_set
        ]
        for option in options:
            yield checks.Error(
                f"A vector cannot have {option}=True; TiDB has no keys of vectors.",
                hint="For the nearest vectors use a VectorIndex in Meta.indexes.",
                obj=self,
                id="tidb_vector.E004",
            )
        meta = self.model._meta
        keys: list[tuple[str, Iterable[Any]]] = [
            *(("unique_together", names) for names in meta.unique_together),
            *(("index_together", n) for n in getattr(meta, "index_together", ())),
            *(
                (f"the constraint {constraint.name!r}", _names(constraint))
                for constraint in meta.constraints
                if isinstance(constraint, models.UniqueConstraint)
            ),
            *(
                (f"the index {index.name!r}", [*_names(index), *index.include])
                for index in meta.indexes
                if not getattr(index, "is_vector_index", False)
            ),
        ]
        for key, names in keys:
            if self.name in [name.lstrip("-") for name in names]:
                yield checks.Error(
                    f"A vector cannot be part of {key}; TiDB has no keys of vectors.",
                    hint="For the nearest vectors use a VectorIndex in Meta.indexes.",
                    obj=self,
                    id="tidb_vector.E005",
                )

    def _check_databases(
        self, databases: Iterable[str]
    ) -> Iterator[checks.CheckMessage]:
        for alias in databases:
            if not router.allow_migrate_model(alias, self.model):
                continue
            if not is_tidb(connections[alias]):
                yield checks.Error(
                    f"The database {alias!r} is not a TiDB; only TiDB has vector "
                    "columns.",
                    hint=(
                        "Keep the model away from that database with allow_migrate() "
                        "of a database router."
                    ),
                    obj=self,
                    id="tidb_vector.E002",
                )

    def _check_app(self) -> list[checks.CheckMessage]:
        if apps.is_installed("django_tidb_vector"):
            return []
        return [
            checks.Warning(
                "VectorField is used without its app.",
                hint="Add 'django_tidb_vector' to INSTALLED_APPS.",
                obj=self,
                id="tidb_vector.W001",
            )
        ]


def _names(key: Any) -> list[str]:
    """
    Return the names of the fields in an index or a constraint. Fields inside of
    functions are left out.
    """
    expressions = (
        expression.expression
        if isinstance(expression, models.expressions.OrderBy)
        else expression
        for expression in key.expressions
    )
    columns = [e.name for e in expressions if isinstance(e, models.F)]
    return [*key.fields, *columns]
