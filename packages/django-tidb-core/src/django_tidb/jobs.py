"""
DDL jobs: TiDB's background tasks that change the definitions of tables.

A DDL statement adds a job to a queue of the cluster and waits for the job's end. The
job continues if the client that sent the statement disconnects. This module reads jobs
from ``information_schema.ddl_jobs``. This view shows a user the jobs of the databases
on which the user has rights, without any further privilege.

https://docs.pingcap.com/tidb/stable/information-schema-ddl-jobs
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from django.db import OperationalError

from .error_numbers import ErrorNumber

if TYPE_CHECKING:
    from .base import DatabaseWrapper

__all__ = ["Blocker", "Job", "blockers", "cancel", "find", "recent", "unfinished"]

#: The states of jobs in the queue. All other states (synced, cancelled, rollback done)
#: are final. With these states in WHERE, newer servers do not read the finished jobs.
UNFINISHED = (
    *("none", "queueing", "running", "done", "pausing", "paused"),
    *("cancelling", "rollingback"),
)
# This text follows the type in a row about a part of a job: an ALTER TABLE with several
# clauses is one job with several parts. Older servers append the method by which an
# index is filled.
_PART = "/* subjob */"


@dataclass(frozen=True)
class Job:
    """A DDL job of the current database."""

    id: int
    #: The kind of change, for example "add index", or "alter table multi-schema
    #: change" for an ALTER TABLE with several clauses.
    type: str
    #: The name of the table, in lower case for some types; several names are
    #: separated by commas.
    table: str
    table_id: int
    #: One of TiDB's names of states: queueing, running, paused, synced, cancelled...
    state: str
    #: The step of an online schema change: none, delete only, write only, write
    #: reorganization, public.
    schema_state: str
    #: The number of rows that the job has processed, for example for a new index. The
    #: server updates this number only now and then.
    rows: int
    #: The statement, as it was sent.
    query: str
    #: The time at which the statement was sent, with time zone. TiDB before 6.1 reports
    #: it in the server's time zone, so it is wrong if the session has another time
    #: zone.
    created: datetime
    #: Seconds from `created` to the job's end, or until now.
    seconds: float

    @property
    def is_finished(self) -> bool:
        """Whether the job is no longer in the queue."""
        return self.state not in UNFINISHED

    def __str__(self) -> str:
        step = f" ({self.schema_state})" if self.state == "running" else ""
        on = f" on {self.table}" if self.table else ""
        return (
            f"DDL job {self.id}, {self.type}{on}: {self.state}{step}, "
            f"{self.rows:,} rows, {self.seconds:.0f} s"
        )


def unfinished(connection: DatabaseWrapper) -> list[Job]:
    """
    Return the jobs of the current database that are running or queued, the newest
    first.
    """
    jobs = _read(connection, "AND state IN %s", [UNFINISHED])
    # A part can have an unfinished state although its job has ended.
    return [job for job in jobs if not job.is_finished]


def recent(connection: DatabaseWrapper, count: int) -> list[Job]:
    """
    Return at most `count` jobs of the current database that have ended, the newest
    first. The server keeps jobs for good.
    """
    # A job has a row for each of its parts, which are seldom more than a few.
    jobs = _read(connection, "", (), f"LIMIT {count * 100}")
    return [job for job in jobs if job.is_finished][:count]


def find(connection: DatabaseWrapper, job_id: int) -> Job | None:
    """Return a job of the current database by its id."""
    jobs = _read(connection, "AND job_id = %s", [job_id])
    return next(iter(jobs), None)


def _read(
    connection: DatabaseWrapper,
    condition: str,
    params: Sequence[Any],
    limit: str = "",
) -> list[Job]:
    # The column create_time has the time at which the statement was sent. Before TiDB
    # 6.1, start_time has this time. In later versions, start_time has another meaning,
    # and is NULL for a queued job.
    created = "create_time"
    if connection.tidb_version < (6, 1):
        created = "IFNULL(start_time, NOW(6))"
    with connection.cursor() as cursor:
        # The columns with times are in the time zone of the session, with which
        # UNIX_TIMESTAMP() calculates as well.
        cursor.execute(
            "SELECT job_id, job_type, table_name, table_id, state, schema_state, "
            f"row_count, query, UNIX_TIMESTAMP({created}), "
            f"UNIX_TIMESTAMP(IFNULL(end_time, NOW(6))) - UNIX_TIMESTAMP({created}) "
            "FROM information_schema.ddl_jobs "
            f"WHERE LOWER(db_name) = LOWER(DATABASE()) {condition} "
            f"ORDER BY job_id DESC {limit}",
            params,
        )
        return _with_parts(
            Job(
                id=job_id,
                type=job_type,
                table=table,
                table_id=table_id,
                state=state,
                schema_state=schema_state,
                rows=rows,
                query=query,
                created=datetime.fromtimestamp(float(timestamp), timezone.utc),
                seconds=max(0.0, float(seconds)),
            )
            for (
                job_id,
                job_type,
                table,
                table_id,
                state,
                schema_state,
                rows,
                query,
                timestamp,
                seconds,
            ) in cursor.fetchall()
        )


def _with_parts(rows: Iterable[Job]) -> list[Job]:
    """Return the jobs, with the rows of their parts added to the rows of each job."""
    jobs: dict[int, Job] = {}
    parts: dict[int, int] = {}
    for row in rows:
        if _PART in row.type:
            parts[row.id] = parts.get(row.id, 0) + row.rows
        else:
            jobs[row.id] = row
    return [
        replace(
            job,
            type=job.type.partition(" /*")[0],
            rows=max(job.rows, parts.get(job.id, 0)),
        )
        for job in jobs.values()
    ]


def cancel(connection: DatabaseWrapper, job_id: int) -> str | None:
    """
    Cancel a job, which the server then rolls back. The client that waits for the
    job's statement gets error 8214. Return the server's reason if the job cannot be
    cancelled, or None.

    Raises ``OperationalError`` 8121 if the user lacks the privilege SUPER.
    https://docs.pingcap.com/tidb/stable/sql-statement-admin-cancel-ddl
    """
    with connection.cursor() as cursor:
        cursor.execute("ADMIN CANCEL DDL JOBS %s", [job_id])
        ((_, result),) = cursor.fetchall()
    return None if result == "successful" else str(result)


@dataclass(frozen=True)
class Blocker:
    """An open transaction that has used the table of a job, which may wait for it."""

    #: The id of the session, as in the processlist, for ``KILL TIDB``.
    session: int
    user: str
    #: The host and port of the server on which the session is.
    server: str
    #: Seconds since the transaction began.
    seconds: float
    #: The statements of the transaction, without values. It is None if the user lacks
    #: the privilege PROCESS.
    statements: str | None

    def __str__(self) -> str:
        statements = f": {self.statements}" if self.statements else ""
        return (
            f"session {self.session} of {self.user!r} on {self.server}, "
            f"open for {self.seconds:.0f} s{statements}"
        )


def blockers(connection: DatabaseWrapper, job: Job) -> tuple[Sequence[Blocker], bool]:
    """
    Return the open transactions that have used the table of `job`, and whether they
    include those of all users. The job waits for them because of the table's metadata
    lock. Without the privilege PROCESS, only transactions of the same user are shown.

    The view ``mysql.tidb_mdl_view`` gives the same transactions, and needs SELECT on
    several tables of the server in addition. TiDB before 6.3 has no metadata lock, so
    no job waits there.
    https://docs.pingcap.com/tidb/stable/metadata-lock
    """
    if connection.tidb_version < (6, 3):
        return (), True
    try:
        return _blockers(
            connection, job, "tidb_decode_sql_digests(all_sql_digests, 4096)"
        ), True
    except OperationalError as error:
        if error.args[0] != ErrorNumber.ACCESS_DENIED:
            raise
    return _blockers(connection, job, "NULL"), False


def _blockers(connection: DatabaseWrapper, job: Job, statements: str) -> list[Blocker]:
    with connection.cursor() as cursor:
        # The first 46 bits of a transaction's id are a time in milliseconds.
        # https://docs.pingcap.com/tidb/stable/tso
        cursor.execute(
            "SELECT session_id, user, instance, "
            f"UNIX_TIMESTAMP(NOW(6)) - (id >> 18) / 1000, {statements} "
            "FROM information_schema.cluster_tidb_trx "
            "WHERE FIND_IN_SET(%s, related_table_ids) ORDER BY id",
            [job.table_id],
        )
        return [
            Blocker(session, user, server, max(0.0, float(seconds)), text)
            for session, user, server, seconds, text in cursor.fetchall()
        ]
