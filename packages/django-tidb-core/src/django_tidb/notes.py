"""
The notes of ``migrate`` with ``OPTIONS["resume_migrations"]``: the statements that it
has begun to send for a migration.

TiDB commits each DDL statement, so a migration that is interrupted between two of them
is done in part. The definition of a table tells what has been done, but not who has
done it. Therefore ``migrate`` writes a note before a statement, when the definition
shows that the statement has not been executed. The next ``migrate`` that comes to the
same statement, and finds that the definition is as after it, passes over it. The notes
of a migration are deleted when it has been recorded.

The notes are rows of a table of the database itself, which is created with the first of
them and stays. It needs no rights besides those with which tables are created.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import DatabaseWrapper

__all__ = ["TABLE", "Note", "Notes"]

#: The name of the table with the notes.
TABLE = "django_tidb_migrate_notes"


_CREATE = (
    f"CREATE TABLE IF NOT EXISTS {TABLE} (id BIGINT AUTO_INCREMENT PRIMARY KEY, "
    "migration VARCHAR(512) NOT NULL, backwards BOOL NOT NULL, "
    "session BIGINT UNSIGNED NOT NULL, statement LONGTEXT NOT NULL, "
    "definition LONGTEXT NOT NULL, INDEX (migration)) CHARACTER SET utf8mb4"
)


@dataclass(frozen=True)
class Note:
    """A statement that a ``migrate`` has begun to send."""

    statement: str
    #: The definition that its table had before, as CREATE TABLE, if the statement drops
    #: a key; otherwise "".
    definition: str


class Notes:
    """The notes about one migration, which is being applied or unapplied."""

    def __init__(
        self, connection: DatabaseWrapper, migration: str, *, backwards: bool
    ) -> None:
        self._connection = connection
        self._migration = migration
        self._backwards = backwards
        # Whether the table exists, and whether it can have rows of this migration.
        self._exists = self._has_rows = False
        #: The notes of an interrupted run.
        self.earlier: tuple[Note, ...] = ()
        #: The session of that run, as in the processlist.
        self.session = 0
        self._open: list[str] = []
        # The notes of this run, with their ids.
        self._written: list[tuple[str, int]] = []

    def read(self) -> None:
        """Read the notes of an interrupted run."""
        rows = []
        self._exists = bool(self._connection.introspection.existing([TABLE]))
        if self._exists:
            with self._connection.cursor() as cursor:
                cursor.execute(
                    "SELECT statement, definition, backwards, session "
                    "FROM django_tidb_migrate_notes WHERE migration = %s ORDER BY id",
                    [self._migration],
                )
                rows = cursor.fetchall()
        self._has_rows = bool(rows)
        # Notes of the other direction are left if a run that has recorded the migration
        # was interrupted just before it deleted them.
        if any(bool(row[2]) is not self._backwards for row in rows):
            self.delete()
            rows = []
        self.earlier = tuple(Note(*row[:2]) for row in rows)
        self._open = [note.statement for note in self.earlier]
        self.session = rows[-1][3] if rows else 0

    def take(self, statement: str) -> bool:
        """
        Return whether an interrupted run has begun to send this statement. Each note is
        taken once: the same statement may be needed again later.
        """
        if statement not in self._open:
            return False
        self._open.remove(statement)
        return True

    def add(self, statement: str, definition: str) -> None:
        """Write a note. The statement must not have been executed."""
        with self._connection.cursor() as cursor:
            if not self._exists:
                cursor.execute(_CREATE)
                self._exists = True
            self._has_rows = True
            cursor.execute(
                "INSERT INTO django_tidb_migrate_notes "
                "(migration, backwards, session, statement, definition) "
                "VALUES (%s, %s, CONNECTION_ID(), %s, %s)",
                [self._migration, self._backwards, statement, definition],
            )
            self._written.append((statement, cursor.lastrowid))

    def withdraw(self, is_undone: Callable[[str], bool]) -> None:
        """Delete the notes of this run about statements that have been undone."""
        undone = [note for note in self._written if is_undone(note[0])]
        if undone:
            self._written = [note for note in self._written if note not in undone]
            with self._connection.cursor() as cursor:
                cursor.execute(
                    "DELETE FROM django_tidb_migrate_notes WHERE id IN %s",
                    [[number for _, number in undone]],
                )

    def renew(self) -> None:
        """Take over the notes after this run has got a new session."""
        if self._has_rows:
            with self._connection.cursor() as cursor:
                cursor.execute(
                    "UPDATE django_tidb_migrate_notes SET session = CONNECTION_ID() "
                    "WHERE migration = %s",
                    [self._migration],
                )

    def delete(self) -> None:
        """Delete the notes, because the migration is done and recorded."""
        if self._has_rows:
            with self._connection.cursor() as cursor:
                cursor.execute(
                    "DELETE FROM django_tidb_migrate_notes WHERE migration = %s",
                    [self._migration],
                )
            self._has_rows = False

    def session_is_open(self) -> bool:
        """Return whether the session that has written the notes still exists."""
        if not self.session:
            return False
        with self._connection.cursor() as cursor:
            cursor.execute(
                "SELECT COUNT(*) FROM information_schema.cluster_processlist "
                "WHERE id = %s AND id <> CONNECTION_ID() AND db = DATABASE()",
                [self.session],
            )
            ((count,),) = cursor.fetchall()
        return bool(count)
