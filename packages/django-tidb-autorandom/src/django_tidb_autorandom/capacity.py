"""The number and share of ids that each table has used."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import DEFAULT_DB_ALIAS, connections

from django_tidb import is_tidb
from django_tidb.names import TableName

from .options import SHARDING

if TYPE_CHECKING:
    from django_tidb.base import DatabaseWrapper

__all__ = ["DEFAULT_THRESHOLD", "IdUsage", "id_usage", "report"]

#: The share of a table's ids above which the check warns, unless OPTIONS of
#: the database has another ``id_usage_threshold``.
DEFAULT_THRESHOLD = 0.8

_INTEGER_BITS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}
_INTEGER = re.compile(r"(\w+?int|int)(?:\(\d+\))?( unsigned)?")


@dataclass(frozen=True)
class IdUsage:
    """The ids that one table has used."""

    #: The name of the table, in the form that was passed to :func:`id_usage`, or as the
    #: server writes it if no name was passed.
    table: str
    #: The name of the column that holds the ids.
    column: str
    #: "AUTO_RANDOM" or "AUTO_INCREMENT".
    kind: str
    #: The number of used ids. It includes ids that TiDB servers have reserved (about
    #: 30,000 at a time) and lose on a restart.
    used: int
    #: The total number of ids. For an AUTO_RANDOM key it is the number of values of the
    #: counter, which excludes the random bits.
    capacity: int

    @property
    def share(self) -> float:
        """The share of ids that are used, from 0 to 1."""
        return self.used / self.capacity


def id_usage(
    using: str | None = None, tables: Iterable[str] | None = None
) -> list[IdUsage]:
    """
    Return the used ids of each table in the database `using` (the default
    database if it is None), or of the given `tables` only. These are names as
    in ``Meta.db_table``, so a table can be in another database of the server.
    The list is sorted by share, with the largest share first.

    This function runs one query for each table with an AUTO_RANDOM or
    AUTO_INCREMENT column:
    https://docs.pingcap.com/tidb/stable/sql-statement-show-table-next-rowid

    Raises ValueError if the database is not a TiDB.
    """
    alias = using or DEFAULT_DB_ALIAS
    connection = connections[alias]
    if not is_tidb(connection):
        raise ValueError(f"The database {alias!r} is not a TiDB.")
    # This maps each database to a mapping of its tables' names in lower case to the
    # names that the caller gave.
    given: dict[str, dict[str, str]] = {}
    for each in tables or ():
        name = TableName.of(each)
        given.setdefault(name.database, {})[name.name.lower()] = each
    usage = [
        each
        for database in ([""] if tables is None else given)
        for each in _usage_of_database(connection, database, given.get(database))
    ]
    return sorted(usage, key=lambda each: (-each.share, each.table))


def _usage_of_database(
    connection: DatabaseWrapper, database: str, given: dict[str, str] | None
) -> Iterator[IdUsage]:
    """
    Yield the used ids of tables in one database, or in the current database if
    `database` is empty.

    `given` maps names in lower case to the names that the caller gave. Only these
    tables are read, or all tables if `given` is None.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.table_name, c.column_name, c.column_type, c.extra, "
            "IFNULL(t.tidb_row_id_sharding_info, '') "
            "FROM information_schema.columns c JOIN information_schema.tables t "
            "ON t.table_schema = c.table_schema AND t.table_name = c.table_name "
            "LEFT JOIN information_schema.statistics s "
            "ON s.table_schema = c.table_schema AND s.table_name = c.table_name "
            "AND s.column_name = c.column_name AND s.index_name = 'PRIMARY' "
            f"WHERE c.table_schema = {'%s' if database else 'DATABASE()'} "
            "AND (c.extra LIKE %s OR (t.tidb_row_id_sharding_info LIKE %s "
            "AND s.seq_in_index = 1))",
            [*filter(None, [database]), "%auto_increment%", "PK_AUTO_RANDOM_BITS%"],
        )
        for table, *row in cursor.fetchall():
            if given is None:
                yield _usage(cursor, table, TableName(table, database), *row)
            elif table.lower() in given:
                name = given[table.lower()]
                yield _usage(cursor, name, TableName(table, database), *row)


def _usage(
    cursor: Any,
    name: str,
    table: TableName,
    column: str,
    column_type: str,
    extra: str,
    row_id_sharding: str,
) -> IdUsage:
    sharding = SHARDING.match(row_id_sharding)
    if sharding and "auto_increment" not in extra:
        kind = "AUTO_RANDOM"
        bits = int(sharding[2] or 64) - int(sharding[1])
    else:
        kind = "AUTO_INCREMENT"
        integer = _INTEGER.match(column_type)
        # The type of an AUTO_INCREMENT column may also be FLOAT or DOUBLE, which counts
        # as 64 bits.
        bits = _INTEGER_BITS[integer[1]] if integer else 64
    unsigned = " unsigned" in column_type
    capacity = 2 ** (bits if unsigned else bits - 1) - 1
    cursor.execute(f"SHOW TABLE {table.sql} NEXT_ROW_ID")
    # The result has one row for each counter of the table, some of which may be unused.
    used = max(int(number) for _, _, _, number, _ in cursor.fetchall()) - 1
    return IdUsage(name, column, kind, min(used, capacity), capacity)


def report(connection: DatabaseWrapper) -> dict[str, list[dict[str, Any]]]:
    """Return this plugin's section of the report that ``manage.py tidb`` prints."""
    return {
        "Ids used": [
            {
                "column": f"{each.table}.{each.column}",
                "kind": each.kind,
                "used": each.used,
                "capacity": each.capacity,
                "percent": round(100 * each.share, 2),
            }
            for each in id_usage(connection.alias)
        ]
    }
