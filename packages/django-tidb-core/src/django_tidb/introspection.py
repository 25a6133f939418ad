"""Introspection, including information that only TiDB's information_schema has."""

from __future__ import annotations

import re
from collections import namedtuple
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.db import NotSupportedError
from django.db.backends.mysql.introspection import (
    DatabaseIntrospection as MySQLDatabaseIntrospection,
)
from django.db.backends.mysql.introspection import FieldInfo as MySQLFieldInfo

from .definition import Key, TableDefinition
from .known_issues import KNOWN_ISSUES
from .names import TableName
from .plugins import get_plugins
from .tokens import Reader, split_members

if TYPE_CHECKING:
    from .base import DatabaseWrapper
    from .version import TiDBVersion

__all__ = ["DatabaseIntrospection", "FieldInfo", "read_definition"]

# In a member of ENUM or SET, older servers write a backslash and one of these letters
# in the same way as the control character that the pair stands for.
_AMBIGUOUS = re.compile(r"\\[0nr]")

_FieldInfo = namedtuple(  # type: ignore[misc]  # Django's names, whatever they are
    "_FieldInfo",
    [*MySQLFieldInfo._fields, "column_type", "primary_key", "row_id_sharding"],
)


class FieldInfo(_FieldInfo):
    """
    A column: Django's description, and attributes by which plugins recognise columns of
    their own types.
    """

    __slots__ = ()

    #: The type in DDL, such as "varchar(9)".
    column_type: str
    #: The position in the primary key, from 1; 0 for a column outside of it.
    primary_key: int
    #: The table's spread of row ids, such as "PK_AUTO_RANDOM_BITS=5". It is the same
    #: for all columns of the table.
    row_id_sharding: str


class FieldType(str):
    """
    The path of a plugin's field, with its ``arguments``. inspectdb accepts only
    a name from an introspection and appends an opening bracket to it; the
    arguments are inserted after this bracket.
    """

    arguments: dict[str, Any]

    def __new__(cls, path: str, arguments: dict[str, Any]) -> FieldType:
        self = super().__new__(cls, path)
        self.arguments = arguments
        return self

    def __add__(self, other: str) -> str:
        arguments = ", ".join(f"{name}={v!r}" for name, v in self.arguments.items())
        return f"{self!s}{other}{arguments if other == '(' else ''}"


class _CursorOn:
    """
    A cursor for Django's queries about one table. Django's queries refer to the current
    database; this cursor replaces it by the database of the table.
    """

    def __init__(self, cursor: Any, table_name: str) -> None:
        self._cursor = cursor
        self._given = table_name
        self._table = TableName.of(table_name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def execute(self, sql: str, params: Any = None) -> Any:
        if params is not None:
            params = [self._table.name if p == self._given else p for p in params]
        if database := self._table.database:
            # The server treats this expression as a constant, and it needs no escaping.
            name = f"CONVERT(x'{database.encode().hex()}' USING utf8mb4)"
            sql = sql.replace("DATABASE()", name)
        return self._cursor.execute(sql, params)


class DatabaseIntrospection(MySQLDatabaseIntrospection):
    def identifier_converter(self, name: str) -> str:
        # In names that Django quotes, two backticks stand for one.
        return name.replace("``", "`")

    @property
    def sql_table_name(self) -> str:
        """
        The SQL expression for the name of a table in information_schema, which
        can be compared with names in lower case. TiDB 8.5 needs no LOWER(), with
        which it would read the data of all tables.
        """
        if KNOWN_ISSUES["table-name-case"].affects(self.connection.tidb_version):
            return "LOWER(table_name)"
        return "table_name"

    def get_field_type(self, data_type: int, description: Any) -> Any:
        for plugin in get_plugins():
            if found := plugin.introspect_column(description, self.connection):
                return FieldType(*found)
        return super().get_field_type(data_type, description)

    def get_table_description(self, cursor: Any, table_name: str) -> list[Any]:
        cursor = _CursorOn(cursor, table_name)
        fields = super().get_table_description(cursor, table_name)
        cursor.execute(
            "SELECT c.column_name, c.column_type, IFNULL(s.seq_in_index, 0), "
            "IFNULL(t.tidb_row_id_sharding_info, '') "
            "FROM information_schema.columns c JOIN information_schema.tables t "
            "ON t.table_schema = c.table_schema AND t.table_name = c.table_name "
            "LEFT JOIN information_schema.statistics s "
            "ON s.table_schema = c.table_schema AND s.table_name = c.table_name "
            "AND s.column_name = c.column_name AND s.index_name = 'PRIMARY' "
            # The known issue "table-name-case" makes LOWER() necessary.
            "WHERE c.table_schema = DATABASE() AND LOWER(c.table_name) = LOWER(%s)",
            [table_name],
        )
        more = {name: rest for name, *rest in cursor.fetchall()}
        return [FieldInfo(*field, *more[field.name]) for field in fields]

    def get_constraints(self, cursor: Any, table_name: str) -> dict[str, Any]:
        cursor = _CursorOn(cursor, table_name)
        constraints = super().get_constraints(cursor, table_name)
        for constraint in constraints.values():
            # For an expression, SHOW INDEX returns the string "NULL" as the column;
            # MySQL returns NULL.
            # https://docs.pingcap.com/tidb/stable/sql-statement-show-indexes
            constraint["columns"] = [
                None if column == "NULL" else column for column in constraint["columns"]
            ]
        for key in self._foreign_keys_elsewhere(cursor, table_name):
            # An index can have the same name as its foreign key, so the entry is kept,
            # and only the reference is removed from it.
            if key.name in constraints:
                constraints[key.name]["foreign_key"] = None
        if self.connection.features.can_introspect_check_constraints:
            constraints.update(self._check_constraints(cursor, table_name))
        return constraints

    def get_relations(self, cursor: Any, table_name: str) -> dict[str, Any]:
        cursor = _CursorOn(cursor, table_name)
        relations: dict[str, Any] = super().get_relations(cursor, table_name)
        if relations:
            for key in self._foreign_keys_elsewhere(cursor, table_name):
                for column in key.columns:
                    relations.pop(column, None)
        return relations

    def _foreign_keys_elsewhere(self, cursor: Any, table_name: str) -> list[Key]:
        """
        Return the foreign keys to other databases on servers whose information_schema
        does not name the referenced database. Django leaves such foreign keys out.
        """
        if not KNOWN_ISSUES["foreign-key-database"].affects(
            self.connection.tidb_version
        ):
            return []
        definition = _read(self.connection, cursor, TableName.of(table_name))
        return [
            key
            for key in (definition.keys if definition else ())
            if key.refers_to and key.refers_to.table.database
        ]

    def _check_constraints(self, cursor: Any, table_name: str) -> dict[str, Any]:
        if not (clauses := self._check_clauses(cursor, table_name)):
            return {}
        cursor.execute(
            "SELECT column_name FROM information_schema.columns "
            "WHERE table_schema = DATABASE() AND LOWER(table_name) = LOWER(%s)",
            [table_name],
        )
        columns = {name for (name,) in cursor.fetchall()}
        return {
            name: {
                "columns": self._parse_constraint_columns(clause, columns),
                "primary_key": False,
                "unique": False,
                "foreign_key": None,
                "check": True,
                "index": False,
            }
            for name, clause in clauses
        }

    def _parse_constraint_columns(
        self, check_clause: str, columns: Iterable[str]
    ) -> list[str]:
        # Django's method does not parse every quoted name. The server writes every name
        # in backticks.
        names = (t.name for t in Reader(check_clause) if t.kind == "name")
        return [name for name in dict.fromkeys(names) if name in columns]

    def _check_clauses(self, cursor: Any, table_name: str) -> list[tuple[str, str]]:
        # Django's query reads table_constraints, which has no CHECK constraints on
        # TiDB.
        if not KNOWN_ISSUES["check-constraint-tables"].affects(
            self.connection.tidb_version
        ):
            cursor.execute(
                "SELECT constraint_name, check_clause "
                "FROM information_schema.tidb_check_constraints "
                "WHERE constraint_schema = DATABASE() "
                "AND LOWER(table_name) = LOWER(%s)",
                [table_name],
            )
            return list(cursor.fetchall())
        definition = _read(self.connection, cursor, TableName.of(table_name))
        checks = definition.checks if definition else ()
        return [(key.name, f"({key.parts[0]})") for key in checks]

    def existing(self, names: Iterable[str]) -> set[str]:
        """
        Return those of `names` whose tables exist, in lower case. `names` are values of
        ``Meta.db_table``.
        """
        databases: dict[str, dict[str, list[str]]] = {}
        for given in names:
            name = TableName.of(given)
            tables = databases.setdefault(name.database, {})
            tables.setdefault(name.name.lower(), []).append(given.lower())
        found: set[str] = set()
        for database, tables in databases.items():
            with self.connection.cursor() as cursor:
                cursor.execute(
                    "SELECT LOWER(table_name) FROM information_schema.tables "
                    f"WHERE table_schema = {'%s' if database else 'DATABASE()'} "
                    f"AND {self.sql_table_name} IN %s",
                    [*filter(None, [database]), list(tables)],
                )
                for (table,) in cursor.fetchall():
                    found.update(tables[table])
        return found

    def django_table_names(
        self, only_existing: bool = False, include_views: bool = True
    ) -> list[str]:
        """
        Return the names of the models' tables; with `only_existing`, only of those that
        exist in the database.
        """
        # The query takes TiDB 0.1 ms for each table. A flush between tests should not
        # ask about tables of other apps, so only the tables of models are queried.
        names: list[str] = super().django_table_names(include_views=include_views)
        if not (only_existing and names):
            return names
        types = ("BASE TABLE", "VIEW") if include_views else ("BASE TABLE",)
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT LOWER(table_name) FROM information_schema.tables "
                "WHERE table_schema = DATABASE() "
                f"AND table_type IN %s AND {self.sql_table_name} IN %s",
                [types, [name.lower() for name in names]],
            )
            existing = {name for (name,) in cursor.fetchall()}
        return [name for name in names if name.lower() in existing]

    def sequence_list(self) -> list[dict[str, str]]:
        """
        Return the tables of models that have an AUTO_INCREMENT, and its column.
        """
        # Django's method would send a query for each table. This method sends one query
        # for all tables.
        if not (names := self.django_table_names()):
            return []
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT table_name, column_name FROM information_schema.columns "
                f"WHERE table_schema = DATABASE() AND {self.sql_table_name} IN %s "
                "AND extra LIKE '%%auto_increment%%' ORDER BY table_name",
                [[name.lower() for name in names]],
            )
            return [
                {"table": table, "column": column}
                for table, column in cursor.fetchall()
            ]


def read_definition(
    connection: DatabaseWrapper, table: str | TableName, *, exact: bool = True
) -> TableDefinition:
    """
    Return the definition of a table. `table` is a name or a model; without the name of
    a database, the table is in the current database.

    Raises ``DatabaseError`` if the table does not exist, and ValueError if it is a
    view. If `exact` is true, the table can be created again from the definition: raises
    ``NotSupportedError`` if the server's answer is ambiguous, see the known issues
    "show-create-backslash" and "show-create-enum".
    """
    if isinstance(table, str):
        table = TableName.of(table)
    with connection.cursor() as cursor:
        definition = _read(connection, cursor, table, exact=exact)
    if definition:
        return definition
    raise ValueError(f"{table.sql} is a view, which has no definition of a table.")


def _read(
    connection: DatabaseWrapper, cursor: Any, table: TableName, *, exact: bool = True
) -> TableDefinition | None:
    """Return a table's definition as read_definition() does, or None for a view."""
    version = connection.tidb_version
    # Write this in lower case, because tests look for CREATE TABLE among the queries.
    cursor.execute(f"show create table {table.sql}")
    is_view = cursor.description[0][0].lower() == "view"
    sql = cursor.fetchone()[1]
    if is_view:
        return None
    if "\\" in sql:
        sql = _with_escapes(sql, version, exact=exact)
    definition = TableDefinition.parse(sql)
    definition = replace(
        definition, name=TableName(definition.name.name, table.database)
    )
    database = table.database
    if not database and any(key.refers_to for key in definition.keys):
        cursor.execute("SELECT DATABASE()")
        (database,) = cursor.fetchone()
    return definition.within(database) if database else definition


def _with_escapes(sql: str, version: TiDBVersion, *, exact: bool) -> str:
    """
    Escape the backslashes that older servers leave unescaped in SHOW CREATE TABLE.

    Raises ``NotSupportedError`` if `exact` is true and the answer is ambiguous: a
    backslash may belong to the text or be the escape of another character.
    """
    escapes = not KNOWN_ISSUES["show-create-backslash"].affects(version)
    parts = split_members(sql, escapes=escapes)
    if exact and not escapes and any("\\" in part for part in parts[::2]):
        raise NotSupportedError(
            f"TiDB {version} does not tell backslashes in defaults and "
            "comments from escaped characters, so a table with such a text "
            f"cannot be made anew or altered in several statements: {sql}"
        )
    for members in parts[1::2] if exact else ():
        if _AMBIGUOUS.search(members):
            raise NotSupportedError(
                f"TiDB {version} writes a backslash before 0, n or r in a member of "
                "ENUM or SET as it writes the character NUL, line feed or carriage "
                f"return, so a table with the members ({members}) cannot be made anew "
                f"or altered in several statements: {sql}"
            )
    return "".join(
        part.replace("\\", "\\\\") if number % 2 or not escapes else part
        for number, part in enumerate(parts)
    )
