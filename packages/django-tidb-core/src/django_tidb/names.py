"""
Names of tables, as in ``Meta.db_table``.

Django's MySQL backend encloses a name in backticks unless the name has them already,
and does not change it otherwise. So both "other`.`name" and "`other`.`name`" are the
table "name" of the database "other", and a backtick in a name is doubled.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["TableName", "escaped", "in_format", "names_in", "quote"]

_NAME = r"`((?:[^`]|``)+)`"
_QUOTED = re.compile(_NAME)
_TABLE = re.compile(rf"(?:{_NAME}\.)?{_NAME}")


def quote(name: str) -> str:
    """Return a name in backticks."""
    return f"`{escaped(name)}`"


def escaped(name: str) -> str:
    """
    Return a name in the form that ``quote_name()`` of Django's MySQL backend expects,
    which adds only the outer backticks: backticks in the name are doubled.
    """
    return name.replace("`", "``")


def in_format(sql: str) -> str:
    """
    Return SQL for execution with parameters: the percent signs in quoted names are
    doubled, and all others stay.
    """
    if "%" not in sql:
        return sql
    return _QUOTED.sub(lambda match: match[0].replace("%", "%%"), sql)


def names_in(sql: str) -> set[str]:
    """Return all names in backticks in a statement, in lower case."""
    return {match[1].replace("``", "`").lower() for match in _QUOTED.finditer(sql)}


@dataclass(frozen=True)
class TableName:
    """The name of a table, with its database if that is not the current one."""

    name: str
    database: str = ""

    @classmethod
    def of(cls, db_table: str) -> TableName:
        """
        Parse the ``db_table`` of a model, or a quoted name.

        Raises ValueError if Django would not write `db_table` as a name.
        """
        quoted = db_table
        if not (db_table.startswith("`") and db_table.endswith("`")):
            quoted = f"`{db_table}`"
        match = _TABLE.fullmatch(quoted)
        if match is None:
            raise ValueError(
                f"{db_table!r} is no name of a table: a backtick in a name has to be "
                "written twice, and the name of a table in another database as in "
                "'other`.`name'."
            )
        database, name = ((part or "").replace("``", "`") for part in match.groups())
        return cls(name, database)

    @property
    def sql(self) -> str:
        """
        The name in backticks, with the name of the database in front if there is one.
        """
        return ".".join(map(quote, filter(None, (self.database, self.name))))

    def is_same(self, other: TableName) -> bool:
        """
        Return whether both are names of the same table. The case of letters does not
        matter.
        """
        return (self.database.lower(), self.name.lower()) == (
            other.database.lower(),
            other.name.lower(),
        )
