"""What this distribution adds to the backend; see django_tidb.plugins."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django_tidb.plugins import Plugin

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import Field, Model

# As information_schema.columns has it.
_COLUMN_TYPE = re.compile(r"vector(?:\((\d+)\))?", re.IGNORECASE)


def field_type(
    column: Any, connection: BaseDatabaseWrapper
) -> tuple[str, dict[str, Any]] | None:
    """Recognise a vector column, with the number of its dimensions if fixed."""
    found = _COLUMN_TYPE.fullmatch(column.column_type)
    if found is None:
        return None
    arguments = {"dimensions": int(found[1])} if found[1] else {}
    return "django_tidb_vector.VectorField", arguments


def alter_field(
    schema_editor: Any, model: type[Model], old_field: Field, new_field: Field
) -> bool:
    """
    Raise what says why a column cannot become a vector, or one of other
    dimensions: ``NotSupportedError`` if the server has no such change,
    ``DataError`` if there are vectors that would not fit. Else leave it to
    core.
    """
    # Called for every field, in projects without numpy too.
    old_type, new_type = (
        (field.db_type(schema_editor.connection) or "")
        for field in (old_field, new_field)
    )
    was, becomes = map(_COLUMN_TYPE.fullmatch, (old_type, new_type))
    if old_type == new_type or not old_type or not new_type:
        return False
    if was and becomes:
        if becomes[1] and not schema_editor.collect_sql:
            _check_rows(schema_editor, model, old_field, new_field, int(becomes[1]))
    elif was or becomes:
        from django.db import NotSupportedError

        raise NotSupportedError(
            f"{new_field} cannot be changed from {old_type} to {new_type}: TiDB "
            "changes no column from or to a vector. Add another field, fill it, and "
            "remove this one."
        )
    return False


def _check_rows(
    schema_editor: Any,
    model: type[Model],
    old_field: Field,
    new_field: Field,
    dimensions: int,
) -> None:
    from django.db import DataError

    column = schema_editor.quote_name(old_field.column)
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(
            f"SELECT VEC_DIMS({column}), COUNT(*) "
            f"FROM {schema_editor.quote_name(model._meta.db_table)} "
            f"WHERE VEC_DIMS({column}) <> %s GROUP BY 1 ORDER BY 1 LIMIT 4",
            [dimensions],
        )
        found = cursor.fetchall()
    if found:
        counts = ", ".join(
            f"{rows} {'row has' if rows == 1 else 'rows have'} {size}"
            for size, rows in found[:3]
        )
        more = ", and so on" if len(found) > 3 else ""
        raise DataError(
            f"{new_field} cannot have {dimensions} dimensions: {counts}{more}. "
            "Delete those vectors or replace them first."
        )


plugin = Plugin(
    name="vector",
    api_version=1,
    field_type=field_type,
    alter_field=alter_field,
    options=("skip_vector_indexes_without_tiflash",),
    moved={
        f"django_tidb.fields.vector.{name}": f"django_tidb_vector.{name}"
        for name in (
            "CosineDistance",
            "L1Distance",
            "L2Distance",
            "NegativeInnerProduct",
            "VectorField",
            "VectorIndex",
        )
    },
)
