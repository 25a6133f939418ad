"""
Statements that have been gathered and not been sent yet, as data.

A change of a table's definition costs TiDB as much as hundreds of rows. So what
is added to a table becomes a clause of its CREATE TABLE as long as that has not
been sent, and several additions to a table that exists become one ALTER TABLE.

Nothing here knows a schema editor or a connection: sending.py says what may be
gathered, and sends it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from django.db import DatabaseError
from django.db.backends.ddl_references import Statement
from django.db.backends.mysql.schema import (
    DatabaseSchemaEditor as MySQLDatabaseSchemaEditor,
)
from django.db.models import Field

from .statements import IndexStatement

__all__ = ["Addition", "Creation", "Pending"]

_ADD = "ALTER TABLE %(table)s ADD "
# The clauses that Django's statements are in an ALTER TABLE with several of them,
# by the templates of the statements. TiDB takes no CHECK there, and a foreign key
# would get an index of its own although another clause brings one.
# https://docs.pingcap.com/tidb/stable/sql-statement-alter-table
_IN_ALTER_TABLE = {
    MySQLDatabaseSchemaEditor.sql_create_index: (
        "INDEX %(name)s (%(columns)s)%(extra)s"
    ),
    MySQLDatabaseSchemaEditor.sql_create_unique_index: (
        "UNIQUE INDEX %(name)s (%(columns)s)"
    ),
    MySQLDatabaseSchemaEditor.sql_create_unique: (
        MySQLDatabaseSchemaEditor.sql_create_unique.removeprefix(_ADD)
    ),
}
# The clauses of CREATE TABLE, by the templates of Django's statements.
_IN_CREATE_TABLE = _IN_ALTER_TABLE | {
    template: template.removeprefix(_ADD)
    for template in (
        MySQLDatabaseSchemaEditor.sql_create_check,
        MySQLDatabaseSchemaEditor.sql_create_fk,
    )
}


@dataclass(eq=False)
class _Gathered:
    """A statement about one table, to which clauses are added until it is sent."""

    command: ClassVar[str]

    #: The name of the table, in quotes.
    table: str
    clauses: list[str] = field(default_factory=list)
    #: The operations of a migration that the clauses belong to, in words.
    origins: list[str] = field(default_factory=list)
    #: The index of the statement in the output of sqlmigrate.
    position: int = 0

    @classmethod
    def clause(cls, statement: Statement) -> str | None:
        """Return the clause for what `statement` adds; None if there is none."""
        raise NotImplementedError

    @property
    def sql(self) -> str:
        raise NotImplementedError

    def add(self, clause: str, origin: str | None = None) -> None:
        self.clauses.append(clause)
        self.belongs_to(origin)

    def belongs_to(self, origin: str | None) -> None:
        if origin and origin not in self.origins:
            self.origins.append(origin)

    @contextmanager
    def named_in_errors(self) -> Iterator[None]:
        """Add the operations to the message of a DatabaseError in this block."""
        try:
            yield
        except DatabaseError as error:
            if self.origins:
                origins = "; ".join(self.origins)
                _add_to_message(error, f"[{self.command} {self.table}: {origins}]")
            raise


@dataclass(eq=False)
class Creation(_Gathered):
    """CREATE TABLE. Its first clause has all columns."""

    command = "CREATE TABLE"

    #: The name of the table, as in Meta.db_table.
    name: str = ""
    #: The text after the clauses.
    end: str = ""
    #: The other tables that it refers to, each with a foreign key.
    targets: Mapping[str, Field[Any, Any]] = field(default_factory=dict)
    #: Statements that cannot be clauses and are sent afterwards.
    followers: list[Any] = field(default_factory=list)

    @classmethod
    def clause(cls, statement: Statement) -> str | None:
        form = cls.form(statement)
        return form % statement.parts if form else None

    @staticmethod
    def form(statement: Statement) -> str | None:
        """Return the template of the clause for `statement`, or None."""
        if isinstance(statement, IndexStatement):
            return statement.inline
        return _IN_CREATE_TABLE.get(statement.template)

    @property
    def sql(self) -> str:
        return ", ".join(self.clauses) + self.end


@dataclass(eq=False)
class Addition(_Gathered):
    """ALTER TABLE that adds indexes and unique constraints."""

    command = "ALTER TABLE"

    @classmethod
    def clause(cls, statement: Statement) -> str | None:
        form = _IN_ALTER_TABLE.get(statement.template)
        return f"ADD {form % statement.parts}" if form else None

    @property
    def sql(self) -> str:
        return f"ALTER TABLE {self.table} {', '.join(self.clauses)}"


class Pending:
    """The gathered statements: any number of creations, or one addition."""

    def __init__(self) -> None:
        self._statements: dict[str, Creation | Addition] = {}

    def __bool__(self) -> bool:
        return bool(self._statements)

    def get(self, table: str) -> Creation | Addition | None:
        """Return the statement about the table of this name in quotes."""
        return self._statements.get(table)

    @property
    def is_addition(self) -> bool:
        return any(isinstance(s, Addition) for s in self._statements.values())

    def accepts(self, statement: Creation | Addition) -> bool:
        """Return whether nothing has to be sent before `statement` is added."""
        return not self._statements or (
            isinstance(statement, Creation)
            and not self.is_addition
            and statement.table not in self._statements
        )

    def add(self, statement: Creation | Addition) -> None:
        if not self.accepts(statement):
            raise ValueError(f"{statement.sql} cannot be added to what is pending.")
        self._statements[statement.table] = statement

    def take(self) -> list[Creation | Addition]:
        """Return the statements in their order, and forget them."""
        statements = list(self._statements.values())
        self._statements.clear()
        return statements


def _add_to_message(error: DatabaseError, text: str) -> None:
    # Python 3.10 has no add_note(). The first of two arguments is the error's number.
    *first, message = error.args or ("",)
    error.args = (*first, f"{message} {text}".lstrip())
