"""
Test DDL that outlives ``manage.py migrate``, and the counter of ``migrate``. The user
has rights on the project's database only.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import MySQLdb
import pytest

pytestmark = pytest.mark.thorough

MODELS = """\
from django.db import models

class Book(models.Model):
    title = models.CharField(max_length=50)
    pages = models.IntegerField()
"""
INDEX = """
    class Meta:
        indexes = [models.Index(fields=["pages"], name="book_pages")]
"""


@pytest.fixture
def user(project, tidb):
    """
    Return the environment of a user who has rights on the project's database only.
    """
    name = f"user_{os.getpid()}"
    tidb.execute(f"DROP USER IF EXISTS {name}")
    tidb.execute(f"CREATE USER {name} IDENTIFIED BY 'secret'")
    tidb.execute(f"GRANT ALL ON {project.name}.* TO {name}")
    yield {"TIDB_USER": name, "TIDB_PASSWORD": "secret"}
    tidb.execute(f"DROP USER {name}")


@pytest.fixture
def app(project, user, tidb):
    """
    Return a project with a table, and with a migration that adds an index to this
    table.
    """
    tidb.execute("SHOW GLOBAL VARIABLES LIKE 'tidb_enable_metadata_lock'")
    if not tidb.fetchall():
        pytest.skip("TiDB before 6.3 has no metadata lock, for which DDL waits.")
    project.write("app/__init__.py", "")
    project.write("app/models.py", MODELS)
    project.configure("django_tidb", "app")
    project.manage("makemigrations", "app", **user)
    project.manage("migrate", **user)
    project.write("app/models.py", MODELS + INDEX)
    project.manage("makemigrations", "app", "-n", "index", **user)
    return project


def connect(app, user):
    return closing(
        MySQLdb.connect(
            host=os.environ["TIDB_HOST"],
            port=int(os.environ["TIDB_PORT"]),
            user=user["TIDB_USER"],
            password=user["TIDB_PASSWORD"],
            database=app.name,
        )
    )


@pytest.fixture
def holder(app, user):
    """
    A connection with an open transaction that has used the table. DDL waits for the
    end of the transaction.
    """
    with connect(app, user) as connection:
        connection.cursor().execute("SELECT * FROM app_book")
        yield connection


class Migrate:
    """A ``manage.py migrate`` that runs in the background of the test."""

    def __init__(self, app, user, *args):
        self.output = ""
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "migrate", *args],
            cwd=app.path,
            env={**os.environ, **user, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def read_until(self, text):
        while text not in self.output:
            line = self.process.stdout.readline()
            assert line, self.output
            self.output += line

    def end(self):
        self.output += self.process.communicate(timeout=600)[0]
        assert self.process.returncode == 0, self.output
        return self.output


@contextmanager
def migrating(app, user, *args):
    migrate = Migrate(app, user, *args)
    try:
        yield migrate
    finally:
        migrate.process.kill()
        migrate.process.wait()
        migrate.process.stdout.close()


def wait_for_job(app, tidb, kind="add index"):
    """
    Wait until a job of this kind, a value of job_type, runs. Return its id and text.
    """
    while True:
        tidb.execute(
            "SELECT job_id, query FROM information_schema.ddl_jobs "
            "WHERE db_name = %s AND job_type = %s AND state = 'running'",
            [app.name, kind],
        )
        if found := tidb.fetchall():
            (job,) = found
            return job
        time.sleep(0.1)


def has_index(app, tidb):
    tidb.execute(f"SHOW INDEX FROM {app.name}.app_book WHERE key_name = 'book_pages'")
    return bool(tidb.fetchall())


def test_counter(app, user, tidb, holder):
    with migrating(app, user) as migrate:
        number, query = wait_for_job(app, tidb)
        assert query.startswith("/* django-tidb migrate app.0002_index */ CREATE INDEX")
        about = f"DDL job {number}, add index on app_book: running"
        migrate.read_until(about)
        output = app.manage("tidb", "jobs", **user)
        assert "default: 1 running or queued" in output
        assert about in output
        assert (
            "migrate app.0002_index: CREATE INDEX `book_pages` ON `app_book`" in output
        )
        assert (
            f"may wait for session {holder.thread_id()} of '{user['TIDB_USER']}' on "
            in output
        )
        assert "GRANT PROCESS" in output
        output = app.manage(
            "tidb", "jobs", "--cancel", str(number), check=False, **user
        )
        assert "GRANT SUPER" in output
        output = app.manage("tidb", "jobs")
        assert "select * from `app_book`" in output
        assert "GRANT" not in output
        holder.rollback()
        output = migrate.end()
    assert re.search(
        r"Applying app\.0002_index\.\.\.(?:\n    DDL job .*)+\n OK", output
    )
    assert has_index(app, tidb)


def test_killed(app, user, tidb, holder):
    with migrating(app, user) as migrate:
        wait_for_job(app, tidb)
        migrate.process.send_signal(signal.SIGKILL)
        migrate.process.wait()
    with migrating(app, user) as migrate:
        migrate.read_until("Waiting for DDL jobs of an earlier migrate")
        migrate.read_until("    DDL job")
        assert not has_index(app, tidb)
        holder.rollback()
        assert migrate.end().endswith("\n OK\n")
    assert has_index(app, tidb)
    # The ended job must not be mistaken for a job of the following statements.
    app.manage("migrate", "app", "0001", **user)
    assert not has_index(app, tidb)
    output = app.manage("migrate", **user)
    assert "Waiting" not in output
    assert has_index(app, tidb)


def migrate_during(sql, kind, app, user, tidb, holder):
    """
    Send a DDL statement, which waits for the transaction of `holder` as a job of this
    kind. Run ``migrate``, which has to wait for the job.
    """

    def other_migrate():
        with connect(app, user) as connection:
            connection.cursor().execute(sql)

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(other_migrate)
        try:
            wait_for_job(app, tidb, kind)
            with migrating(app, user) as migrate:
                migrate.read_until("Waiting for DDL jobs of an earlier migrate")
                migrate.read_until("    DDL job")
                holder.rollback()
                migrate.end()
        finally:
            # The job would wait for good.
            holder.rollback()
        other.result()


def test_job_of_a_migration_of_another_app(app, user, tidb, holder):
    sql = "/* django-tidb migrate other.0001_x */ CREATE INDEX x ON app_book (title)"
    migrate_during(sql, "add index", app, user, tidb, holder)
    assert has_index(app, tidb)


def test_job_that_drops_the_old_table_of_a_rebuild(app, user, tidb):
    app.manage("migrate", **user)
    field = "    sold = models.IntegerField(default=1, unique=True)\n"
    app.write("app/models.py", MODELS + field + INDEX)
    app.manage("makemigrations", "app", "-n", "sold", **user)
    old = "app_book__rebuild_old"
    tidb.execute(f"CREATE TABLE {app.name}.{old} LIKE {app.name}.app_book")
    sql = f"/* django-tidb migrate app.0003_sold */ DROP TABLE `{old}`"
    with connect(app, user) as holder:
        holder.cursor().execute(f"SELECT * FROM {old}")
        migrate_during(sql, "drop table", app, user, tidb, holder)
    tidb.execute(f"SHOW TABLES FROM {app.name} LIKE '%%rebuild%%'")
    assert tidb.fetchall() == ()
    tidb.execute(f"SHOW COLUMNS FROM {app.name}.app_book LIKE 'sold'")
    assert tidb.fetchall()


def test_killed_and_cancelled(app, user, tidb, holder):
    with migrating(app, user) as migrate:
        number, _ = wait_for_job(app, tidb)
        migrate.process.send_signal(signal.SIGKILL)
        migrate.process.wait()
    with migrating(app, user) as migrate:
        migrate.read_until("    DDL job")
        output = app.manage("tidb", "jobs", "--cancel", str(number))
        assert "Cancelled: " in output
        holder.rollback()
        assert migrate.end().endswith("\n OK\n")
    # The statement was sent again, because the table did not have the index.
    tidb.execute(
        "SELECT state FROM information_schema.ddl_jobs WHERE db_name = %s "
        "AND job_type = 'add index' AND job_id >= %s ORDER BY job_id",
        [app.name, number],
    )
    (first,), (second,) = tidb.fetchall()
    assert first in ("cancelled", "rollback done")
    assert second == "synced"
    assert has_index(app, tidb)


def test_cancelled(app, user, tidb, holder):
    with migrating(app, user) as migrate:
        number, _ = wait_for_job(app, tidb)
        app.manage("tidb", "jobs", "--cancel", str(number))
        holder.rollback()
        output = migrate.process.communicate(timeout=600)[0]
        assert migrate.process.returncode == 1
    assert "8214" in output
    assert not has_index(app, tidb)


@pytest.mark.parametrize("kill", ["KILL TIDB", "KILL TIDB QUERY"])
def test_statement_is_killed(app, user, tidb, holder, kill):
    with migrating(app, user) as migrate:
        wait_for_job(app, tidb)
        tidb.execute(
            "SELECT id FROM information_schema.processlist "
            "WHERE user = %s AND info LIKE '%%CREATE INDEX%%'",
            [user["TIDB_USER"]],
        )
        ((session,),) = tidb.fetchall()
        # The KILL takes effect only after the job has ended.
        tidb.execute(f"{kill} {session}")
        holder.rollback()
        output = migrate.end()
    assert "the table is as after this statement. Going on." in output
    assert " OK" in output
    assert has_index(app, tidb)
    app.manage("migrate", "--check", **user)


def test_connection_is_lost(app, user, tidb, holder):
    # The read timeout of the driver closes the connection; the server continues.
    app.configure(
        "django_tidb",
        "app",
        more="DATABASES = {'default': TIDB | {'OPTIONS': {'read_timeout': 3}}}",
    )
    with migrating(app, user) as migrate:
        migrate.read_until("TiDB still executes the statement")
        migrate.read_until("    DDL job")
        assert not has_index(app, tidb)
        holder.rollback()
        output = migrate.end()
    assert " OK" in output
    assert has_index(app, tidb)
    app.manage("migrate", "--check", **user)


def test_job_has_ended_before_the_next_migrate(app, user, tidb, holder):
    with migrating(app, user) as migrate:
        wait_for_job(app, tidb)
        migrate.process.send_signal(signal.SIGKILL)
        migrate.process.wait()
    holder.rollback()
    while not has_index(app, tidb):
        time.sleep(0.1)
    output = app.manage("migrate", **user)
    assert "book_pages" in output
    assert "the table is as after this statement. Going on." in output


def test_other_index_of_the_same_name(app, user, tidb):
    tidb.execute(f"CREATE INDEX book_pages ON {app.name}.app_book (title)")
    output = app.manage("migrate", check=False, **user)
    assert "1061" in output
    assert "Going on" not in output
