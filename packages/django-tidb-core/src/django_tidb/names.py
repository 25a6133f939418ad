"""
Names of tables, as ``Meta.db_table`` gives them.

Django's MySQL backend puts a name in backticks unless it stands in them
already, and does nothing else to it. So a table of another database is written
``other`.`name`` or ```other`.`name```, and a backtick in a name is written
twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["TableName", "escaped", "in_format", "quote"]

_NAME = r"`((?:[^`]|``)+)`"
_QUOTED = re.compile(_NAME)
_TABLE = re.compile(rf"(?:{_NAME}\.)?{_NAME}")


def quote(name: str) -> str:
    """Return a name in backticks."""
    return f"`{escaped(name)}`"


def escaped(name: str) -> str:
    """
    Return a name as ``quote_name()`` of Django's MySQL backend takes it: that
    adds the outer backticks only.
    """
    return name.replace("`", "``")


def in_format(sql: str) -> str:
    """
    Return SQL as it is sent with parameters: the percent signs in its quoted
    names are doubled, and the others stay.
    """
    if "%" not in sql:
        return sql
    return _QUOTED.sub(lambda match: match[0].replace("%", "%%"), sql)


@dataclass(frozen=True)
class TableName:
    """The name of a table, with its database if that is not the current one."""

    name: str
    database: str = ""

    @classmethod
    def of(cls, db_table: str) -> TableName:
        """
        Return the name that ``db_table`` of a model, or a quoted name, is.

        Raises ValueError if Django would write no name for it.
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
        """The name in backticks, after that of the database if there is one."""
        return ".".join(map(quote, filter(None, (self.database, self.name))))

    def is_same(self, other: TableName) -> bool:
        """Return whether both name the same table: upper and lower case are equal."""
        return (self.database.lower(), self.name.lower()) == (
            other.database.lower(),
            other.name.lower(),
        )
