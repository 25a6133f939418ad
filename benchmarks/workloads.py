"""
The workloads of the benchmarks. run.py starts this file in the environment of each
contender, as ``python workloads.py NAME``; it prints the seconds that each part of
the workload took.
"""

from __future__ import annotations

import json
import os
import sys
import time
import unittest
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import django
from django.conf import settings

try:
    import MySQLdb
except ImportError:
    import pymysql as MySQLdb

HOST, PORT = os.environ["TIDB_HOST"], int(os.environ["TIDB_PORT"])
USER, PASSWORD = os.environ["TIDB_USER"], os.environ["TIDB_PASSWORD"]
NAME = "bench"

seconds: dict[str, float] = defaultdict(float)


@contextmanager
def spent_on(
    what: str, clock: Callable[[], float] = time.perf_counter
) -> Iterator[None]:
    start = clock()
    try:
        yield
    finally:
        seconds[what] += clock() - start


def timed(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with spent_on(what):
            return function(*args, **kwargs)

    return wrapper


def raw() -> Any:
    return MySQLdb.connect(host=HOST, port=PORT, user=USER, password=PASSWORD)


def fresh_database() -> None:
    connection = raw()
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {NAME}")
        cursor.execute(f"CREATE DATABASE {NAME}")
    connection.close()


def configure() -> None:
    contrib = ("admin", "auth", "contenttypes", "sessions", "messages", "sites")
    settings.configure(
        SECRET_KEY="only for benchmarks",
        USE_TZ=True,
        SITE_ID=1,
        INSTALLED_APPS=[
            *(f"django.contrib.{app}" for app in (*contrib, "flatpages", "redirects")),
            "shop",
        ],
        MIGRATION_MODULES={"shop": "shop_migrations"},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        DATABASES={
            "default": {
                "ENGINE": os.environ["BENCH_ENGINE"],
                "NAME": NAME,
                "HOST": HOST,
                "PORT": PORT,
                "USER": USER,
                "PASSWORD": PASSWORD,
            }
        },
        # These checks of the admin require templates and middleware.
        SILENCED_SYSTEM_CHECKS=["admin.E403", "admin.E408", "admin.E409", "admin.E410"],
    )
    django.setup()


def migrations() -> None:
    """Write the project's migration; run.py calls it once."""
    from django.core.management import call_command

    call_command("makemigrations", "shop", verbosity=0)


def migrate() -> None:
    from django.core.management import call_command
    from django.db import connection

    fresh_database()
    wrapper = connection.execute_wrapper(timed_statement)
    with spent_on("migrate"), wrapper:
        call_command("migrate", verbosity=0, skip_checks=True)
    seconds["of these, Django's own"] = seconds["migrate"] - seconds["in the server"]


def timed_statement(execute: Callable[..., Any], *args: Any) -> Any:
    with spent_on("in the server"):
        return execute(*args)


def test_database() -> None:
    from django.db import connection

    creation = connection.creation
    name = connection.settings_dict["NAME"]
    with spent_on("set-up, serial"):
        creation.create_test_db(verbosity=0, autoclobber=True)
    copies = 0
    if "mysqldump" not in os.environ.get("BENCH_LACKS", ""):
        with spent_on("two copies for --parallel 2"):
            for copies in (1, 2):
                creation.clone_test_db(str(copies), verbosity=0)
        for copy in range(1, copies + 1):
            with spent_on("tear-down of the copies"):
                creation.destroy_test_db(verbosity=0, suffix=str(copy))
        copy_definitions(connection.settings_dict["NAME"], copies)
    with spent_on("tear-down, serial"):
        creation.destroy_test_db(name, verbosity=0)


def copy_definitions(name: str, copies: int) -> None:
    """Create the tables of a database again, one by one with the driver alone."""
    connection = raw()
    with connection.cursor() as cursor:
        cursor.execute(f"SHOW FULL TABLES FROM {name} WHERE table_type = 'BASE TABLE'")
        definitions = []
        for table, _ in cursor.fetchall():
            cursor.execute(f"SHOW CREATE TABLE {name}.`{table}`")
            definitions.append(cursor.fetchone()[1])
        cursor.execute("SET foreign_key_checks = 0")
        for _ in range(copies):
            cursor.execute(f"CREATE DATABASE {name}_raw")
            cursor.execute(f"USE {name}_raw")
            with spent_on("their empty tables, from the driver"):
                for sql in definitions:
                    cursor.execute(sql)
            cursor.execute(f"DROP DATABASE {name}_raw")
    connection.close()


def flush() -> None:
    """Measure 200 tests that write to three of 60 tables and are then flushed."""
    from django.core.management.commands import flush as command
    from django.db import connection
    from django.test import TransactionTestCase
    from shop.models import MODELS

    def write(self: TransactionTestCase) -> None:
        for model in MODELS[:3]:
            model.objects.create(name="x")

    name = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    seconds.clear()
    command.sql_flush = timed("flush", command.sql_flush)
    connection.ops.execute_sql_flush = timed("flush", connection.ops.execute_sql_flush)
    command.emit_post_migrate_signal = timed(
        "post_migrate signals", command.emit_post_migrate_signal
    )
    methods = {f"test_{number}": write for number in range(200)}
    case = type("Tests", (TransactionTestCase,), methods)
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(case)
    with spent_on("200 tests"):
        result = unittest.TestResult()
        suite.run(result)
    assert result.wasSuccessful() and result.testsRun == 200, result.errors[:1]
    connection.creation.destroy_test_db(name, verbosity=0)


def prepare_rows() -> Any:
    """Return a model with a separate, empty table."""
    from django.db import connection, models

    class Row(models.Model):
        name = models.CharField(max_length=50)
        number = models.IntegerField()
        moment = models.DateTimeField()

        class Meta:
            app_label = "shop"
            db_table = "bench_row"

    fresh_database()
    with connection.schema_editor() as editor:
        editor.create_model(Row)
    return Row


def bulk_create() -> None:
    from datetime import datetime, timezone

    from django.db import connection

    row = prepare_rows()
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    values = [(f"row {number}", number, moment) for number in range(100_000)]
    objects = [row(name=n, number=i, moment=m) for n, i, m in values]
    sql = "INSERT INTO bench_row (name, number, moment) VALUES (%s, %s, %s)"
    for what in ("bulk_create", "executemany"):
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE TABLE bench_row")
        with spent_on(what):
            if what == "bulk_create":
                row.objects.bulk_create(objects)
            else:
                driver = raw()
                driver.select_db(NAME)
                naive = [(n, i, m.replace(tzinfo=None)) for n, i, m in values]
                with driver.cursor() as cursor:
                    cursor.executemany(sql, naive)
                driver.commit()
                driver.close()
        assert row.objects.count() == len(values)


def connect() -> None:
    from django.db import connection

    fresh_database()
    times = []
    for _ in range(200):
        connection.close()
        start = time.perf_counter()
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()
        times.append(time.perf_counter() - start)
    # The first connection of a process takes longer than later ones.
    seconds["first connection"] = times[0]
    seconds["another connection, median"] = sorted(times[1:])[len(times) // 2]


def get() -> None:
    row = prepare_rows()
    from django.utils import timezone

    row.objects.bulk_create(
        row(name=str(number), number=number, moment=timezone.now())
        for number in range(1000)
    )
    for _ in range(100):
        row.objects.get(name__isnull=False, pk=1)
    with spent_on("10,000 get()"):
        for number in range(10_000):
            row.objects.get(pk=number % 1000 + 1)


def drivers() -> None:
    """Measure the processor time of this process, which depends on the driver."""
    row = prepare_rows()
    from django.db import connection
    from django.utils import timezone

    rows = [
        row(name=f"row {number}", number=number, moment=timezone.now())
        for number in range(20_000)
    ]
    row.objects.bulk_create(rows[:1])
    with spent_on("100 connections", time.process_time):
        for _ in range(100):
            connection.close()
            connection.ensure_connection()
    with spent_on("bulk_create() of 20,000 rows", time.process_time):
        row.objects.bulk_create(rows[1:])
    with spent_on("1,000 get()", time.process_time):
        for number in range(1000):
            row.objects.get(pk=number + 1)
    with spent_on("100,000 rows as objects", time.process_time):
        for _ in range(5):
            assert len(row.objects.all()) == len(rows)
    with spent_on("100,000 rows as tuples", time.process_time):
        for _ in range(5):
            assert len(row.objects.values_list()) == len(rows)


def statements() -> None:
    """
    Measure the server's time for single statements, which no backend can undercut.
    """
    fresh_database()
    driver = raw()
    driver.select_db(NAME)
    driver.autocommit(True)
    column = "id BIGINT AUTO_INCREMENT PRIMARY KEY, a INT, b INT, r BIGINT"
    inline = "KEY (a), KEY (b), FOREIGN KEY (r) REFERENCES t0 (id)"
    with driver.cursor() as cursor:
        cursor.execute(f"CREATE TABLE t0 ({column})")
        for what, sql in {
            "CREATE TABLE": f"CREATE TABLE t1 ({column})",
            "CREATE TABLE, keys inside": f"CREATE TABLE t2 ({column}, {inline})",
            "ADD INDEX": "ALTER TABLE t1 ADD INDEX (a)",
            "ADD FOREIGN KEY": (
                "ALTER TABLE t1 ADD FOREIGN KEY (r) REFERENCES t0 (id)"
            ),
            "TRUNCATE": "TRUNCATE t2",
            "DELETE from an empty table": "DELETE FROM t2",
            "DROP TABLE": "DROP TABLE t2",
        }.items():
            with spent_on(what):
                cursor.execute(sql)
    driver.close()


WORKLOADS = {
    function.__name__: function
    for function in (
        migrate,
        test_database,
        flush,
        bulk_create,
        connect,
        get,
        drivers,
        statements,
    )
}

if __name__ == "__main__":
    configure()
    (migrations if sys.argv[1] == "migrations" else WORKLOADS[sys.argv[1]])()
    print(json.dumps(seconds))
