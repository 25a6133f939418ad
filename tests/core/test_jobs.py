"""Test DDL jobs as they are shown to a user who has rights on one database only."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, timezone

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, connections

from django_tidb import jobs

pytestmark = pytest.mark.django_db(transaction=True)

INDEX = "ALTER TABLE jobs_table ADD INDEX first (number), ADD INDEX second (number)"


def run(sql, on=connection):
    with on.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


@pytest.fixture(autouse=True)
def table():
    run("CREATE TABLE jobs_table (id INT PRIMARY KEY, number INT)")
    run("INSERT INTO jobs_table VALUES (1, 1), (2, 2), (3, 3)")
    yield
    run("DROP TABLE jobs_table")


@pytest.fixture
def user():
    """Return a connection of a user who has rights on the test database only."""
    name = f"jobs_{os.getpid()}"
    run(f"DROP USER IF EXISTS {name}")
    run(f"CREATE USER {name} IDENTIFIED BY 'secret'")
    run(f"GRANT ALL ON {connection.settings_dict['NAME']}.* TO {name}")
    other = connection.copy()
    other.settings_dict |= {"USER": name, "PASSWORD": "secret"}
    with closing(other):
        yield other
    run(f"DROP USER {name}")


@pytest.fixture
def as_user(user, monkeypatch):
    """Return a context manager that logs the connection "default" in as the user."""
    default = connections["default"]
    settings = {name: user.settings_dict[name] for name in ("USER", "PASSWORD")}

    @contextmanager
    def use():
        with monkeypatch.context() as patch:
            for name, value in settings.items():
                patch.setitem(default.settings_dict, name, value)
            default.close()
            yield
        default.close()

    return use


class Waiting:
    """
    A DDL statement that waits for the end of a transaction of the connection `holder`.
    """

    def __init__(self, sql, holder, sender):
        self.holder = holder
        self._sender = sender
        run("BEGIN", holder)
        run("SELECT * FROM jobs_table", holder)
        self._pool = ThreadPoolExecutor(1)
        self._statement = self._pool.submit(self._send, sql)
        while not (found := jobs.unfinished(connection)):
            assert not self._statement.done(), self._statement.exception()
        # The job's first state is "queueing".
        while found[0].state != "running":
            found = jobs.unfinished(connection)
        (self.job,) = found

    def _send(self, sql):
        with closing(self._sender.copy()) as other:
            run(sql, other)

    def release(self):
        """End the transaction, wait for the statement, and return its error or None."""
        run("ROLLBACK", self.holder)
        with self._pool:
            return self._statement.exception()


@pytest.fixture
def wait(user):
    """
    Return a function that begins a DDL statement, which waits until it is released.
    """
    if connection.tidb_version < (6, 3):
        pytest.skip("TiDB before 6.3 has no metadata lock, for which DDL waits.")
    begun = []

    def begin(sql=INDEX, holder=None):
        begun.append(Waiting(sql, holder or user, user))
        return begun[-1]

    yield begin
    for waiting in begun:
        waiting.release()


@pytest.mark.parametrize(
    "sql", [INDEX, "CREATE INDEX first ON jobs_table (number) /* % */"]
)
def test_unfinished_and_finished(wait, user, sql):
    waiting = wait(sql, holder=connection)
    job = waiting.job
    assert not job.is_finished
    assert (job.state, job.table.lower(), job.query) == ("running", "jobs_table", sql)
    assert job.type in ("add index", "alter table multi-schema change")
    age = datetime.now(timezone.utc) - job.created
    assert abs(age - timedelta(seconds=job.seconds)) < timedelta(minutes=5)
    assert str(job).startswith(
        f"DDL job {job.id}, {job.type} on {job.table}: running ("
    )
    assert jobs.find(user, job.id).id == job.id
    assert waiting.release() is None
    assert jobs.unfinished(user) == []
    ended = jobs.find(user, job.id)
    assert ended.is_finished
    assert ended.state == "synced"
    assert jobs.recent(user, 1) == [ended]
    # Each index adds three rows. Older servers also count the rows of earlier indexes
    # again.
    count = sql.lower().count("index")
    assert 3 * count <= ended.rows <= 3 * count**2
    assert ended.created == job.created


def test_time_zone_of_the_session(user):
    if connection.tidb_version < (6, 1):
        pytest.skip("TiDB before 6.1 gives times in the zone of the server.")
    before = jobs.recent(user, 1)
    run("SET time_zone = '+09:30'", user)
    assert jobs.recent(user, 1) == before


def test_jobs_of_other_databases(user):
    name = f"{connection.settings_dict['NAME']}_jobs"
    run(f"CREATE DATABASE {name}")
    run(f"CREATE TABLE {name}.elsewhere (id INT)")
    run(f"DROP DATABASE {name}")
    assert "elsewhere" not in {job.table for job in jobs.recent(user, 50)}
    assert "elsewhere" not in {job.table for job in jobs.recent(connection, 50)}
    assert jobs.find(user, 2**40) is None


def test_blockers(wait, user):
    waiting = wait()
    (blocker,), are_all = jobs.blockers(user, waiting.job)
    assert not are_all
    assert blocker.statements is None
    assert blocker.user == user.settings_dict["USER"]
    assert blocker.session == user.connection.thread_id()
    (known,), are_all = jobs.blockers(connection, waiting.job)
    assert are_all
    assert known.session == blocker.session
    assert "from `jobs_table`" in known.statements
    assert f"session {known.session} of '{known.user}'" in str(known)


def test_blockers_of_other_users(wait, user):
    waiting = wait(holder=connection)
    assert jobs.blockers(user, waiting.job) == ([], False)
    with closing(connection.copy()) as root:
        run(f"GRANT PROCESS ON *.* TO {user.settings_dict['USER']}", root)
    with closing(user.copy()) as other:
        (blocker,), are_all = jobs.blockers(other, waiting.job)
    assert are_all
    assert blocker.session == connection.connection.thread_id()


def test_cancel(wait, user):
    waiting = wait()
    with pytest.raises(OperationalError, match="8121"):
        jobs.cancel(user, waiting.job.id)
    assert jobs.cancel(connection, waiting.job.id) is None
    error = waiting.release()
    assert isinstance(error, OperationalError)
    assert error.args[0] == 8214
    assert jobs.find(user, waiting.job.id).state in ("cancelled", "rollback done")
    assert "not found" in jobs.cancel(connection, waiting.job.id)


def command(capsys, *args):
    call_command("tidb", "jobs", *args)
    return capsys.readouterr().out


def test_command(capsys, wait, as_user):
    output = command(capsys)
    assert "default: 0 running or queued" in output
    waiting = wait()
    with as_user():
        output = command(capsys)
        assert "default: 1 running or queued" in output
        assert f"DDL job {waiting.job.id}, {waiting.job.type} on jobs_table" in output
        assert f"      {INDEX}" in output
        assert f"may wait for session {waiting.holder.connection.thread_id()}" in output
        assert "need GRANT PROCESS ON *.*" in output
        assert "create table on jobs_table: synced" in output
        with pytest.raises(CommandError, match=r"needs GRANT SUPER ON \*\.\*"):
            command(capsys, "--cancel", str(waiting.job.id))
    assert "GRANT" not in command(capsys)
    output = command(capsys, "--cancel", str(waiting.job.id))
    assert f"DDL job {waiting.job.id}, " in output
    assert "Cancelled: " in output
    assert waiting.release().args[0] == 8214
    message = f"DDL job {waiting.job.id}, .* can be cancelled: none"
    with pytest.raises(CommandError, match=message):
        command(capsys, "--cancel", str(waiting.job.id))


@pytest.mark.parametrize("value", ["0", "-1", "one", "1.5", "1 OR 1", "٣", ""])
def test_id_that_is_none(capsys, value):
    with pytest.raises(CommandError, match="is not the id of a DDL job"):
        command(capsys, f"--cancel={value}")


def test_id_of_no_job(capsys):
    with pytest.raises(CommandError, match="DDL job 99999999999, which database 'def"):
        command(capsys, "--cancel", "99999999999")


def test_database_that_is_not_tidb(capsys):
    with pytest.raises(CommandError, match="not 'django_tidb'"):
        command(capsys, "--database", "sqlite")
