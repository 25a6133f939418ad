"""What TiDB's information_schema tells beyond MySQL's."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

from django.db.backends.mysql.introspection import (
    DatabaseIntrospection as MySQLDatabaseIntrospection,
)
from django.db.backends.mysql.introspection import FieldInfo as MySQLFieldInfo

from .plugins import get_plugins

__all__ = ["DatabaseIntrospection", "FieldInfo"]

#: Django's, and what plugins recognise their columns by: ``column_type``, such
#: as "vector(3)", its position in the ``primary_key``, which is 0 for a column
#: that is not part of it, and the table's ``row_id_sharding``, such as
#: "PK_AUTO_RANDOM_BITS=5".
FieldInfo = namedtuple(  # type: ignore[misc]  # Django's names, whatever they are
    "FieldInfo",
    [*MySQLFieldInfo._fields, "column_type", "primary_key", "row_id_sharding"],
)


class FieldType(str):
    """
    The path of a plugin's field, with its ``arguments``. inspectdb takes no
    more than a name from an introspection, and goes on with an opening
    bracket: the arguments come with it.
    """

    arguments: dict[str, Any]

    def __new__(cls, path: str, arguments: dict[str, Any]) -> FieldType:
        self = super().__new__(cls, path)
        self.arguments = arguments
        return self

    def __add__(self, other: str) -> str:
        arguments = ", ".join(f"{name}={v!r}" for name, v in self.arguments.items())
        return f"{self!s}{other}{arguments if other == '(' else ''}"


class DatabaseIntrospection(MySQLDatabaseIntrospection):
    def get_field_type(self, data_type: int, description: Any) -> Any:
        for plugin in get_plugins():
            if found := plugin.field_type(description, self.connection):
                return FieldType(*found)
        return super().get_field_type(data_type, description)

    def get_table_description(self, cursor: Any, table_name: str) -> list[Any]:
        fields = super().get_table_description(cursor, table_name)
        cursor.execute(
            "SELECT c.column_name, c.column_type, IFNULL(s.seq_in_index, 0), "
            "IFNULL(t.tidb_row_id_sharding_info, '') "
            "FROM information_schema.columns c JOIN information_schema.tables t "
            "ON t.table_schema = c.table_schema AND t.table_name = c.table_name "
            "LEFT JOIN information_schema.statistics s "
            "ON s.table_schema = c.table_schema AND s.table_name = c.table_name "
            "AND s.column_name = c.column_name AND s.index_name = 'PRIMARY' "
            "WHERE c.table_schema = DATABASE() AND c.table_name = %s",
            [table_name],
        )
        more = {name: rest for name, *rest in cursor.fetchall()}
        return [FieldInfo(*field, *more[field.name]) for field in fields]
