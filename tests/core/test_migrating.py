"""
Test the tags in DDL statements and the progress messages of ``migrate``.
tests/integration/test_migrate_jobs.py tests jobs that outlive the command.
"""

from __future__ import annotations

import threading
from io import StringIO
from types import SimpleNamespace

import pytest
from django.core.management.base import OutputWrapper
from django.core.management.commands.migrate import Command
from django.db import OperationalError, connections, migrations, models
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.state import ProjectState
from django.test.utils import CaptureQueriesContext

from django_tidb import jobs, migrating
from django_tidb.migrating import MigrateRun, migration_of, without_tag

# Take the connection itself, not the proxy that is shared by all threads.
connection = connections["default"]
pytestmark = pytest.mark.django_db(transaction=True)


class Terminal(StringIO):
    def isatty(self):
        return True


@pytest.fixture
def command():
    """Return the command ``migrate`` in its state while it runs."""
    command = Command(stdout=StringIO(), stderr=StringIO())
    command.verbosity = 1
    return command


@pytest.fixture
def table():
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE tagged (id INT PRIMARY KEY, number INT)")
        yield cursor
        cursor.execute("DROP TABLE tagged")


def last_job():
    (job,) = jobs.recent(connection, 1)
    return job


def test_tag(table, command):
    sql = "CREATE INDEX `a``*/b` ON tagged (number)"
    migration = migrations.Migration("0002_x*/ DROP %s/*", "app")
    with (
        CaptureQueriesContext(connection) as queries,
        migrating.running(connection, command) as run,
    ):
        with (
            run.applying(migration, backwards=False, noted=False),
            connection.cursor() as cursor,
        ):
            cursor.execute(sql)
        job = last_job()
        table.execute("DROP INDEX `a``*/b` ON tagged")
    assert job.query == f"/* django-tidb migrate app.0002_x___DROP__s__ */ {sql}"
    assert migration_of(job) == "app.0002_x___DROP__s__"
    assert without_tag(job.query) == sql
    assert queries.captured_queries[0]["sql"] == sql
    assert migration_of(last_job()) == ""
    # Statements of other callers get no tag.
    table.execute(sql)
    assert last_job().query == sql
    assert migration_of(last_job()) is None


@pytest.mark.parametrize(
    ("sql", "params", "sent"),
    [
        ("ALTER TABLE tagged COMMENT 'a%%b'", (), "ALTER TABLE tagged COMMENT 'a%b'"),
        ("ALTER TABLE tagged COMMENT 'a%b'", None, "ALTER TABLE tagged COMMENT 'a%b'"),
        ("ALTER TABLE tagged COMMENT %s", ["ü%"], "ALTER TABLE tagged COMMENT 'ü%'"),
        ("RENAME TABLE tagged TO t2", None, "RENAME TABLE tagged TO t2"),
        (
            "\n-- a comment\nTRUNCATE TABLE tagged",
            None,
            "\n-- a comment\nTRUNCATE TABLE tagged",
        ),
    ],
)
def test_statements_with_a_tag(table, command, sql, params, sent):
    with migrating.running(connection, command):
        table.execute(sql, params)
    assert last_job().query == f"/* django-tidb migrate */ {sent}"
    if "RENAME" in sql:
        table.execute("RENAME TABLE t2 TO tagged")


def test_statements_without_a_tag(table, command):
    with migrating.running(connection, command):
        table.execute("/* mine */ SELECT CONNECTION_ID()")
        (number,) = table.fetchone()
        table.execute(
            "SELECT info FROM information_schema.processlist WHERE id = %s", [number]
        )
        assert "django-tidb" not in table.fetchone()[0]


class AddTable(migrations.Migration):
    operations = [
        migrations.CreateModel("Made", [("id", models.AutoField(primary_key=True))])
    ]


@pytest.mark.parametrize("runs", [True, False])
def test_executor(command, runs):
    """
    If the command migrate has made the executor, the statements get a tag. If another
    caller has made the executor, they do not.
    """
    callback = command.migration_progress_callback if runs else None
    executor = MigrationExecutor(connection, callback)
    migration = AddTable("0001_initial", "made")
    state = ProjectState()
    executor.loader.graph.add_node(("made", "0001_initial"), migration)
    plan = [(migration, False)]
    with CaptureQueriesContext(connection) as queries:
        executor.migrate([("made", "0001_initial")], plan, state=state)
    assert sum("ddl_jobs" in query["sql"] for query in queries) == runs
    job = last_job()
    assert migration_of(job) == ("made.0001_initial" if runs else None)
    assert "django-tidb" not in str(queries.captured_queries)
    executor = MigrationExecutor(connection, callback)
    executor.loader.graph.add_node(("made", "0001_initial"), migration)
    plan = [(migration, True)]
    executor.migrate([("made", None)], plan, state=state)
    assert last_job().type == "drop table"
    assert migration_of(last_job()) == ("made.0001_initial" if runs else None)
    assert migrating.current(connection) is None


def test_no_thread_for_a_quiet_command(command):
    command.verbosity = 0
    before = threading.active_count()
    with MigrateRun(connection, command).sending("CREATE TABLE t (id INT)"):
        assert threading.active_count() == before
    command.verbosity = 1
    with MigrateRun(connection, command).sending("CREATE TABLE t (id INT)"):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    assert command.stdout.getvalue() == ""


@pytest.mark.parametrize("terminal", [True, False])
def test_counter(command, monkeypatch, terminal):
    out = Terminal() if terminal else StringIO()
    command.stdout = OutputWrapper(out)
    shown = [threading.Event() for _ in range(3)]
    texts = iter(["10 rows", "200 rows", "3 rows"])

    class Job(SimpleNamespace):
        def __str__(self):
            return next(texts)

    def unfinished(other):
        assert other is not connection
        assert other.alias == connection.alias
        for event in shown:
            if not event.is_set():
                event.set()
                return [Job(query="/* django-tidb migrate */ X")]
        return []

    monkeypatch.setattr(migrating, "DELAY", 0)
    monkeypatch.setattr(migrating, "INTERVAL", 0)
    monkeypatch.setattr(migrating, "LINES_INTERVALS", (0, 0))
    monkeypatch.setattr(jobs, "unfinished", unfinished)
    with MigrateRun(connection, command).sending("X") as sent:
        assert sent == "/* django-tidb migrate */ X"
        assert shown[-1].wait(60)
    assert out.getvalue() == (
        "\n    10 rows\r    200 rows\r    3 rows  \n"
        if terminal
        else "\n    10 rows\n    200 rows\n    3 rows\n"
    )


def test_lines_become_rarer(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(migrating.time, "monotonic", lambda: now[0])
    counter = migrating._Counter(OutputWrapper(out := StringIO()))
    for second in range(200):
        now[0] = float(second)
        counter.show(str(second))
    assert out.getvalue().split() == ["0", "10", "30", "70", "130", "190"]


def test_counter_that_fails(command, monkeypatch, caplog):
    asked = threading.Event()

    def fail(other):
        asked.set()
        raise ValueError("No jobs today.")

    monkeypatch.setattr(migrating, "DELAY", 0)
    monkeypatch.setattr(jobs, "unfinished", fail)
    with MigrateRun(connection, command).sending("X"):
        assert asked.wait(60)
    (record,) = caplog.records
    assert record.getMessage() == "The progress of X is not shown."
    assert "No jobs today." in str(record.exc_info[1])
    assert command.stdout.getvalue() == ""


def test_lost_session_with_state_of_the_project_is_not_replaced(command):
    error = OperationalError(2013, "Lost connection")
    sql = "CREATE INDEX a ON b (c)"
    run = MigrateRun(connection, command)
    # A new connection has no session state of earlier tests.
    connection.close()
    connection.ensure_connection()
    assert run.wait_after(error, sql) is False
    with connection.cursor() as cursor:
        cursor.execute("SET @locked_by = 'a receiver of pre_migrate'")
    session = connection.connection
    assert run.wait_after(error, sql) is None
    assert connection.connection is session
    assert "may have executed the statement" in command.stderr.getvalue()
    connection.close()
    connection.ensure_connection()
    assert run.wait_after(error, sql) is False
