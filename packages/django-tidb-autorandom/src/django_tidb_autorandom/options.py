"""
The options of ``class Meta`` that control how TiDB makes a table's row ids:

``tidb_auto_id_cache``
    The number of AUTO_INCREMENT ids that each TiDB server reserves at a time;
    1 or more.
    https://docs.pingcap.com/tidb/stable/auto-increment#cache-size-control
``tidb_clustered``
    True if the rows are stored in the order of the primary key, else False.
    https://docs.pingcap.com/tidb/stable/clustered-indexes
``tidb_shard_row_id_bits``
    The rows of a table without a clustered key are spread over 2**n shards;
    n is 1 to 15.
    https://docs.pingcap.com/tidb/stable/shard-row-id-bits
``tidb_pre_split_regions``
    A new table is split into 2**n regions; n is 1 to ``tidb_shard_row_id_bits``
    (or to the shard bits of the AUTO_RANDOM key).
    https://docs.pingcap.com/tidb/stable/sql-statement-split-region
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import Model

    from django_tidb.definition import TableDefinition

__all__ = [
    "OPTION_NAMES",
    "SHARDING",
    "clustering",
    "has_auto_random",
    "invalid_values",
    "option_values",
    "read_options",
    "table_options",
]

#: The format in which information_schema reports the shard bits and the range.
SHARDING = re.compile(r"PK_AUTO_RANDOM_BITS=(\d+)(?:, RANGE BITS=(\d+))?")
#: The SQL keyword and the largest value of each option that is a number.
NUMBERS: dict[str, tuple[str, int]] = {
    "tidb_auto_id_cache": ("AUTO_ID_CACHE", 2**63 - 1),
    "tidb_shard_row_id_bits": ("SHARD_ROW_ID_BITS", 15),
    "tidb_pre_split_regions": ("PRE_SPLIT_REGIONS", 15),
}
#: The names of the options in ``class Meta``.
OPTION_NAMES = (*NUMBERS, "tidb_clustered")


def option_values(model: type[Model]) -> dict[str, Any]:
    """Return the options that ``class Meta`` of `model` sets, with their values."""
    return {
        name: value
        for name in OPTION_NAMES
        if (value := getattr(model._meta, name, None)) is not None
    }


def invalid_values(values: dict[str, Any]) -> dict[str, str]:
    """
    Return the names of the invalid options, each with the rule that its value breaks,
    in the form "must be ...".
    """
    wrong = {}
    for name, value in values.items():
        if name == "tidb_clustered":
            if type(value) is not bool:
                wrong[name] = "must be True or False"
            continue
        largest = NUMBERS[name][1]
        if type(value) is not int or not 1 <= value <= largest:
            wrong[name] = f"must be an integer from 1 to {largest}"
    return wrong


def table_options(model: type[Model]) -> Iterable[str]:
    """
    Yield the table options of this plugin for CREATE TABLE.

    Raises ValueError if an option has a value that is not allowed.
    """
    values = option_values(model)
    for name, must in invalid_values(values).items():
        raise ValueError(
            f"{model._meta.label}.Meta.{name} is {values[name]!r}; it {must}."
        )
    for name, (keyword, _) in NUMBERS.items():
        if name in values:
            yield f"{keyword} {values[name]}"


def clustering(model: type[Model]) -> str:
    """
    Return CLUSTERED or NONCLUSTERED if ``Meta.tidb_clustered`` is set, else an
    empty string.

    An AUTO_RANDOM key is always CLUSTERED, because TiDB requires it; the
    server's variable ``tidb_enable_clustered_index`` may have another default.
    """
    from .fields import BigAutoRandomField

    clustered = getattr(model._meta, "tidb_clustered", None)
    if clustered is None:
        if isinstance(model._meta.auto_field, BigAutoRandomField):
            return "CLUSTERED"
        return ""
    return "CLUSTERED" if clustered else "NONCLUSTERED"


def is_auto_random(connection: BaseDatabaseWrapper, table: str) -> bool:
    """
    Return whether `table` has an AUTO_RANDOM key in the database.

    The answer comes from SHOW CREATE TABLE, because information_schema does not
    report the AUTO_RANDOM column of a composite key before TiDB 8.5.

    Raises ``DatabaseError`` if there is no such table.
    """
    # django_tidb.introspection imports the driver, so it must not be imported when the
    # plugin is loaded.
    from django_tidb.introspection import read_definition

    return has_auto_random(read_definition(connection, table, exact=False))


def has_auto_random(definition: TableDefinition) -> bool:
    """Return whether the definition of a table has an AUTO_RANDOM column."""
    return any(column.is_auto_random for column in definition.columns)


def read_options(connection: BaseDatabaseWrapper, table: str) -> dict[str, Any]:
    """
    Return the options that `table` has in the database, by their names in
    ``class Meta``. Options that the server does not report are left out.

    Raises ``DatabaseError`` if there is no such table.
    """
    # django_tidb.introspection imports the driver, so it must not be imported when the
    # plugin is loaded.
    from django_tidb.introspection import read_definition

    definition = read_definition(connection, table, exact=False)
    found: dict[str, Any] = {"tidb_clustered": bool(definition.clustered_key)}
    for name, (keyword, _) in NUMBERS.items():
        if value := definition.option(keyword):
            found[name] = int(value)
    return found
