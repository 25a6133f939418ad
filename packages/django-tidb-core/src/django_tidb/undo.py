"""
Restoration of a table after an operation that failed half way. DDL cannot be rolled
back.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from django.db import DatabaseError
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

from . import migrating
from .alteration import Alteration, changes_to
from .definition import TableDefinition
from .introspection import read_definition
from .names import TableName
from .rebuild import interrupted, recover

if TYPE_CHECKING:
    from .schema import DatabaseSchemaEditor

__all__ = ["Undo"]

logger = logging.getLogger("django.db.backends.schema")


class Undo:
    """
    The definition of a table before an operation changes it, and its restoration.

    The definition is read only when the operation is about to send its first statement.
    Most changes of fields send no statement, and then no definition is needed.
    """

    def __init__(self, editor: DatabaseSchemaEditor, table: TableName) -> None:
        self.editor = editor
        self.table = table
        self.before: TableDefinition | None = None
        #: The statements of the operation that the server has executed.
        self.executed: list[str] = []
        # The definition before an interrupted rebuild, if this run has completed the
        # rebuild.
        self.before_rebuild: TableDefinition | None = None
        # sqlmigrate has nothing to undo.
        self._begun = editor.collect_sql

    def begin(self) -> None:
        """Read the table's definition, before the operation's first statement."""
        if self._begun:
            return
        # Set this first, because the statements of recover() call this method as well.
        self._begun = True
        self.before_rebuild = recover(self.editor, self.table)
        self.before = read_definition(self.editor.connection, self.table)

    def run(self) -> None:
        """
        Undo the statements that the operation has executed. What other clients have
        changed in the meantime stays. A statement that the server may have executed,
        because the connection was lost, is not undone. Errors are logged and not
        raised, so that the operation's own error is raised.
        """
        if self.before is None:
            return
        try:
            # The next run of the migration calls recover() first.
            if interrupted(self.editor, self.table):
                return
            now = read_definition(self.editor.connection, self.table)
            after = self._after(self.before)
        except (DatabaseError, ValueError) as error:
            logger.error("Not undone in %s: %s", self.table.sql, error)
            return
        for change in changes_to(after, self.before):
            if change.is_done(now):
                continue
            try:
                # This is Django's method, which never rebuilds a table.
                BaseDatabaseSchemaEditor.execute(
                    self.editor, Alteration(now.name, (change,)).sql, None
                )
            except DatabaseError as error:
                logger.error(
                    "Not undone in %s: %s: %s", self.table.sql, change.clause, error
                )
        run = migrating.current(self.editor.connection)
        if run is not None and run.notes:
            try:
                now = read_definition(self.editor.connection, self.table)
                # The next run must not take the work of somebody else for that of this.
                run.notes.withdraw(partial(self._is_undone, now))
            except DatabaseError as error:
                logger.error("Notes about %s are left: %s", self.table.sql, error)

    def _after(self, definition: TableDefinition) -> TableDefinition:
        """
        Return the definition that the operation's own statements have given to a table
        with this `definition`.

        Raises ValueError if the definition contradicts the statements.
        """
        for statement in self.executed:
            try:
                alteration = Alteration.parse(statement)
            except ValueError:
                # The statement does not alter a table.
                continue
            if alteration.table == self.table:
                definition = alteration.apply(definition)
        return definition

    def _is_undone(self, now: TableDefinition, statement: str) -> bool:
        try:
            alteration = Alteration.parse(statement)
        except ValueError:
            return False
        return alteration.table == self.table and not alteration.is_done(now)
