"""
Gathered statements that have not been sent yet, as data.

A change of a table's definition takes TiDB as long as writing hundreds of rows.
Therefore an addition to a table becomes a clause of its CREATE TABLE if this statement
has not been sent yet, and several additions to an existing table become one ALTER
TABLE.

This module uses neither a schema editor nor a connection: sending.py decides which
statements are gathered, and sends them.
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

__all__ = ["Addition", "Creation", "Pending", "add_to_message"]

_ADD = "ALTER TABLE %(table)s ADD "
# The templates of Django's statements, and the clauses that replace them in an ALTER
# TABLE with several clauses. CHECK is missing, because TiDB does not accept it in such
# an ALTER TABLE. FOREIGN KEY is missing, because it would get its own index even if
# another clause adds an index that it could use.
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
# The templates of Django's statements, and the clauses that replace them in CREATE
# TABLE.
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
    #: The operations of a migration to which the clauses belong, as errors name them.
    origins: list[str] = field(default_factory=list)
    #: The index of the statement in the output of sqlmigrate.
    position: int = 0

    @classmethod
    def clause(cls, statement: Statement) -> str | None:
        """
        Return the clause for `statement`, or None if the statement cannot be a clause.
        """
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
        """
        Add the names of the operations to the message of a DatabaseError in this block.
        """
        try:
            yield
        except DatabaseError as error:
            if self.origins:
                origins = "; ".join(self.origins)
                add_to_message(error, f"[{self.command} {self.table}: {origins}]")
            raise


@dataclass(eq=False)
class Creation(_Gathered):
    """A CREATE TABLE statement. Its first clause contains all columns."""

    command = "CREATE TABLE"

    #: The name of the table, as in Meta.db_table.
    name: str = ""
    #: The SQL after the last clause.
    end: str = ""
    #: The other tables that this table refers to, each with a foreign key.
    targets: Mapping[str, Field[Any, Any]] = field(default_factory=dict)
    #: Statements that cannot be clauses, and are sent after CREATE TABLE.
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
    """An ALTER TABLE statement that adds indexes and unique constraints."""

    command = "ALTER TABLE"

    @classmethod
    def clause(cls, statement: Statement) -> str | None:
        form = _IN_ALTER_TABLE.get(statement.template)
        return f"ADD {form % statement.parts}" if form else None

    @property
    def sql(self) -> str:
        return f"ALTER TABLE {self.table} {', '.join(self.clauses)}"


class Pending:
    """The gathered statements: either CREATE TABLE statements, or one ALTER TABLE."""

    def __init__(self) -> None:
        self._statements: dict[str, Creation | Addition] = {}

    def __bool__(self) -> bool:
        return bool(self._statements)

    def get(self, table: str) -> Creation | Addition | None:
        """Return the statement for the table with this quoted name, or None."""
        return self._statements.get(table)

    @property
    def is_addition(self) -> bool:
        return any(isinstance(s, Addition) for s in self._statements.values())

    def accepts(self, statement: Creation | Addition) -> bool:
        """
        Return whether `statement` can be added before the gathered statements are sent.
        """
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
        """Return the statements in their order, and remove them."""
        statements = list(self._statements.values())
        self._statements.clear()
        return statements


def add_to_message(error: DatabaseError, text: str) -> None:
    """Add a text to the message of an error."""
    # Python 3.10 has no add_note(), so the message is changed. If there are two
    # arguments, the first is the number of the error.
    *first, message = error.args or ("",)
    error.args = (*first, f"{message} {text}".lstrip())
