"""
The options of ``class Meta`` that say how TiDB makes a table's row ids:

``tidb_auto_id_cache``
    How many AUTO_INCREMENT ids each TiDB server takes at a time; 1 or more.
    https://docs.pingcap.com/tidb/stable/auto-increment#cache-size-control
``tidb_clustered``
    Whether the rows are stored in the order of the primary key; True or False.
    https://docs.pingcap.com/tidb/stable/clustered-indexes
``tidb_shard_row_id_bits``
    Spreads the rows of a table that is not clustered over 2**n places; 1 to 15.
    https://docs.pingcap.com/tidb/stable/shard-row-id-bits
``tidb_pre_split_regions``
    Splits a new table into 2**n regions from the start; 1 to the shard bits.
    https://docs.pingcap.com/tidb/stable/sql-statement-split-region
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import Model

__all__ = [
    "OPTION_NAMES",
    "SHARDING",
    "clustering",
    "invalid_values",
    "option_values",
    "read_options",
    "table_options",
]

#: information_schema's words for the shard bits and the range of a table.
SHARDING = re.compile(r"PK_AUTO_RANDOM_BITS=(\d+)(?:, RANGE BITS=(\d+))?")
#: Each number's keyword in SQL, and its largest value.
NUMBERS: dict[str, tuple[str, int]] = {
    "tidb_auto_id_cache": ("AUTO_ID_CACHE", 2**63 - 1),
    "tidb_shard_row_id_bits": ("SHARD_ROW_ID_BITS", 15),
    "tidb_pre_split_regions": ("PRE_SPLIT_REGIONS", 15),
}
#: The names that ``class Meta`` accepts.
OPTION_NAMES = (*NUMBERS, "tidb_clustered")


def option_values(model: type[Model]) -> dict[str, Any]:
    """Return the options that `model` has set."""
    return {
        name: value
        for name in OPTION_NAMES
        if (value := getattr(model._meta, name, None)) is not None
    }


def invalid_values(values: dict[str, Any]) -> dict[str, str]:
    """Return what is wrong with which of the `values`: "must be ..."."""
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
    Yield the table options that CREATE TABLE ends with.

    Raises ValueError if one has a value that is not allowed.
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
    Return CLUSTERED or NONCLUSTERED if ``Meta.tidb_clustered`` says so.

    An AUTO_RANDOM key has to be CLUSTERED, whatever the server's
    ``tidb_enable_clustered_index``.
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
    Return whether `table` has an AUTO_RANDOM key in the database. Before TiDB
    8.5, information_schema does not show this of a composite key.

    Raises ``DatabaseError`` if there is no such table.
    """
    # This module needs the driver, so it cannot be imported with the plugin.
    from django_tidb.introspection import read_definition

    definition = read_definition(connection, table, exact=False)
    return any(column.is_auto_random for column in definition.columns)


def read_options(connection: BaseDatabaseWrapper, table: str) -> dict[str, Any]:
    """
    Return the options that `table` has in the database, by their names in
    ``class Meta``; those that the server does not show are left out.

    Raises ``DatabaseError`` if there is no such table.
    """
    # This module needs the driver, so it cannot be imported with the plugin.
    from django_tidb.introspection import read_definition

    definition = read_definition(connection, table, exact=False)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tidb_pk_type FROM information_schema.tables "
            "WHERE table_schema = DATABASE() AND LOWER(table_name) = LOWER(%s)",
            [table],
        )
        (pk_type,) = cursor.fetchone()
    found: dict[str, Any] = {"tidb_clustered": pk_type == "CLUSTERED"}
    for name, (keyword, _) in NUMBERS.items():
        if value := definition.option(keyword):
            found[name] = int(value)
    return found
