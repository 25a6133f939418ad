"""
The tag and the counter of DDL statements that ``migrate`` sends.

TiDB executes a DDL statement as a job that outlives the client; see jobs.py. The tag is
a comment in front of the statement that names the migration. By the tag, a new run of
``migrate`` finds a job of an earlier run and waits for it. If ``migrate`` loses its
connection during a statement, it finds and awaits the job in the same way. The counter
shows the progress of a job that takes long.

compat.py wraps Django's functions that apply migrations, and calls :func:`running` with
the connection and the command. For all other callers of a schema editor,
:func:`current` is None, and this module has no effect.
"""

from __future__ import annotations

import logging
import re
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, Error

from . import jobs
from .error_numbers import ErrorNumber
from .errors import is_connection_lost
from .names import names_in
from .notes import Notes

if TYPE_CHECKING:
    from django.core.management.base import BaseCommand, OutputWrapper

    from .base import DatabaseWrapper
    from .jobs import Job

__all__ = [
    "MigrateRun",
    "current",
    "migration_of",
    "running",
    "without_tag",
]

logger = logging.getLogger("django.db.backends.schema")

#: The counter is shown for statements that take longer than this, in seconds.
DELAY = 5.0
#: Seconds between two questions about a job.
INTERVAL = 1.0
#: Seconds between two lines of progress if the output is no terminal: the first
#: interval and the longest interval.
LINES_INTERVALS = (10.0, 60.0)

_TAG = re.compile(r"/\* django-tidb migrate(?: ([\w.-]+))? \*/ ", re.ASCII)
# Characters that could end the comment, or that a driver could read as a format.
_UNSAFE = re.compile(r"[^\w.-]", re.ASCII)

_current: ContextVar[MigrateRun | None] = ContextVar("current", default=None)


def without_tag(sql: str) -> str:
    """Return a statement without the tag with which it was sent."""
    return _TAG.sub("", sql, count=1)


def migration_of(job: Job) -> str | None:
    """
    Return the migration that a job belongs to, as ``app.name``; "" for a statement of
    ``migrate`` outside of migrations, and None if no ``migrate`` sent it.
    """
    match = _TAG.match(job.query)
    return None if match is None else match[1] or ""


def current(connection: DatabaseWrapper) -> MigrateRun | None:
    """Return the ``migrate`` that runs in this thread on `connection`, or None."""
    run = _current.get()
    return run if run is not None and run.connection is connection else None


@contextmanager
def running(connection: DatabaseWrapper, command: BaseCommand) -> Iterator[MigrateRun]:
    """Treat the statements of this block as statements of ``migrate``."""
    token = _current.set(run := MigrateRun(connection, command))
    try:
        yield run
    finally:
        _current.reset(token)


class MigrateRun:
    """One run of ``migrate`` on one database."""

    def __init__(self, connection: DatabaseWrapper, command: BaseCommand) -> None:
        self.connection = connection
        self._command = command
        self._is_quiet = not getattr(command, "verbosity", 1)
        #: The notes about the migration that is being applied or unapplied. They are
        #: None outside of migrations, without OPTIONS["resume_migrations"], and for a
        #: migration with operations that are not Django's own: it is not known whether
        #: such operations may be executed again.
        self.notes: Notes | None = None
        self._tag = "/* django-tidb migrate */ "
        # Jobs of earlier runs that may be unfinished, by the names of their tables.
        self._unfinished: list[tuple[set[str], Job]] = []
        # Statements whose jobs of an earlier run this one has waited for.
        self._earlier: set[str] = set()

    @contextmanager
    def applying(
        self, migration: Any, *, backwards: bool, noted: bool
    ) -> Iterator[None]:
        """
        Name this migration in the tags of the statements of this block. With
        OPTIONS["resume_migrations"], resume an interrupted run of the same migration,
        and write notes about the statements if they are to be `noted`.
        """
        outer = self._tag
        self._tag = f"/* django-tidb migrate {_UNSAFE.sub('_', str(migration))} */ "
        notes = None
        if self.connection.tidb_options.get("resume_migrations", False):
            notes = Notes(self.connection, str(migration), backwards=backwards)
            notes.read()
            if noted:
                self._wait_for_session(notes, str(migration))
                self.notes = notes
        try:
            yield
        finally:
            self.notes = None
            self._tag = outer
        if notes is not None:
            notes.delete()

    # -- Earlier runs

    def find_earlier(self) -> None:
        """
        Look for jobs that an earlier ``migrate`` has left running or queued. A
        statement for one of their tables is sent when they have ended.
        """
        try:
            found = jobs.unfinished(self.connection)
        except DatabaseError as error:
            self.tell(f"DDL jobs of an earlier migrate cannot be looked for: {error}")
            return
        self._unfinished = [
            (names_in(job.query) | {*map(str.strip, job.table.lower().split(","))}, job)
            for job in found
            if migration_of(job) is not None
        ]

    def wait_for_tables(self, names: set[str]) -> None:
        """
        Wait for the jobs of an earlier ``migrate`` for tables of these names, which are
        in lower case and without databases.
        """
        earlier = [job for tables, job in self._unfinished if tables & names]
        if not earlier:
            return
        self._unfinished = [
            (tables, job) for tables, job in self._unfinished if job not in earlier
        ]
        if not self._is_quiet:
            self._command.stdout.write(
                "\nWaiting for DDL jobs of an earlier migrate, whose statements TiDB "
                "still executes:"
            )
        self._wait_for(earlier)
        self._earlier |= {without_tag(job.query) for job in earlier}

    def has_waited_for(self, sql: str) -> bool:
        """
        Return whether :meth:`wait_for_tables` has waited for a job of this statement.
        The method returns True once: the same statement may be needed again later.
        """
        if sql not in self._earlier:
            return False
        self._earlier.remove(sql)
        return True

    def _wait_for_session(self, notes: Notes, migration: str) -> None:
        """Wait until the ``migrate`` that has written these notes has ended."""
        if not notes.earlier:
            return
        self.wait_for_tables(names_in(notes.earlier[-1].statement))
        session, is_told = 0, False
        # It deletes the notes before its session ends, if it succeeds.
        while notes.session != session:
            session = notes.session
            while notes.session_is_open():
                if not is_told:
                    self.tell(
                        f"Another migrate has begun {migration}. Waiting for the end "
                        f"of its session, {session}."
                    )
                    is_told = True
                time.sleep(INTERVAL)
                notes.read()
            notes.read()

    def _wait_for(self, waited: list[Job]) -> None:
        ids = {job.id for job in waited}
        with closing(_Counter(self._command.stdout)) as counter:
            while left := [job for job in waited if job.id in ids]:
                if not self._is_quiet:
                    counter.show("; ".join(map(str, left)))
                time.sleep(INTERVAL)
                waited = jobs.unfinished(self.connection)

    # -- Statements

    @contextmanager
    def sending(self, sql: str) -> Iterator[str]:
        """
        Add the tag to a DDL statement and yield it; the block sends it. If the block
        takes longer than :data:`DELAY`, the counter is shown until its end.
        """
        if self._is_quiet:
            yield self._tag + sql
            return
        ended = threading.Event()
        with ThreadPoolExecutor(1, "django-tidb-migrate") as pool:
            pool.submit(self._watch, self._tag, sql, ended)
            try:
                yield self._tag + sql
            finally:
                ended.set()

    def _watch(self, tag: str, sql: str, ended: threading.Event) -> None:
        if ended.wait(DELAY):
            return
        try:
            with (
                closing(self.connection.copy()) as other,
                closing(_Counter(self._command.stdout, "\n")) as counter,
            ):
                while not ended.is_set():
                    began = time.monotonic()
                    if job := _job_of(tag, sql, jobs.unfinished(other)):
                        counter.show(str(job))
                    # On older servers, the query reads all finished jobs too, so repeat
                    # it less often if it is slow.
                    ended.wait(max(INTERVAL, 10 * (time.monotonic() - began)))
        except Exception:
            # A failure of the counter must not make the statement fail.
            logger.warning("The progress of %s is not shown.", sql, exc_info=True)

    def wait_after(self, error: DatabaseError, sql: str) -> bool | None:
        """
        Wait for the job of a statement, which may have outlived `error`. Return whether
        there was a job, or None if this run cannot continue. If the connection was
        lost, this method opens a new connection.
        """
        is_lost = is_connection_lost(error)
        if not is_lost and error.args[0] != ErrorNumber.QUERY_INTERRUPTED:
            return None
        if (
            is_lost and self.connection.tidb_session.personal
        ) or self.connection.in_atomic_block:
            self.tell(
                "The server may have executed the statement, or still execute it: see "
                "'manage.py tidb jobs'."
            )
            return None
        if is_lost:
            self.connection.close()
        try:
            job = _job_of(self._tag, sql, jobs.unfinished(self.connection))
            if is_lost and self.notes:
                self.notes.renew()
            if job is not None:
                self.tell(f"{error}: TiDB still executes the statement.")
                self._wait_for([job])
        except Error as second:
            self.tell(f"Its DDL job cannot be looked for: {second}")
            return None
        return job is not None

    def tell(self, message: str) -> None:
        """Write a message to the command's error output, whatever the verbosity."""
        self._command.stderr.write(f"\n{message}")


def _job_of(tag: str, sql: str, found: list[Job]) -> Job | None:
    """
    Return the newest job of a statement among the jobs `found`, which begin with the
    newest.
    """
    return next((job for job in found if job.query == tag + sql), None)


class _Counter:
    """
    The display of a job's progress. On a terminal, one line is overwritten again and
    again. Any other output gets a new line at intervals.
    """

    def __init__(self, out: OutputWrapper, before: str = "") -> None:
        """
        `before` is a text that is written before the first progress. "\\n" ends the
        line that ``migrate`` has begun.
        """
        self._out = out
        self._in_place = out.isatty()
        self._before = before
        self._length = 0
        self._interval, self._longest = LINES_INTERVALS
        self._next = 0.0

    def show(self, text: str) -> None:
        now = time.monotonic()
        if not self._in_place and now < self._next:
            return
        text = f"    {text}"
        if self._in_place:
            text = text[: shutil.get_terminal_size().columns - 1]
            start = "\r" if self._length else self._before
            self._out.write(start + text.ljust(self._length), ending="")
            self._length = len(text)
        else:
            self._out.write(self._before + text)
            self._before = ""
            self._next = now + self._interval
            self._interval = min(self._longest, 2 * self._interval)
        self._out.flush()

    def close(self) -> None:
        """Keep the last line of the progress, and begin a new line."""
        if self._length:
            self._out.write("")
            self._length = 0
