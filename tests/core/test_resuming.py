"""
A ``migrate`` that is interrupted between the statements of an operation, or during one
of them, and the next one, which goes on.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from io import StringIO

import pytest
from django.core.management.commands.migrate import Command
from django.db import DatabaseError, connections, migrations, models
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from django.db.migrations.state import ProjectState
from django.utils import timezone

from django_tidb import notes
from tests.faults import PATIENCE, Direction, raw_connection, through_proxy, wait_for

# The connection itself, and not the proxy for all threads.
connection = connections["default"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.thorough]

TAG = "/* django-tidb migrate resumed"


@pytest.fixture
def proxy(transactional_db):
    """A proxy, which the connection goes through."""
    with through_proxy(connection) as proxy:
        yield proxy


def run(sql, params=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall()


def tables():
    """Return the definitions of the tables of the app, without their counters."""
    return {
        name: "\n".join(
            line.partition(" AUTO_INCREMENT=")[0]
            for line in run(f"SHOW CREATE TABLE {name}")[0][1].splitlines()
        )
        for (name,) in run("SHOW TABLES LIKE 'resumed%'")
    }


def clean():
    run("SET foreign_key_checks = 0")
    for name in tables():
        run(f"DROP TABLE {name}")
    run("SET foreign_key_checks = 1")
    run(f"DELETE FROM {notes.TABLE}")
    run("DELETE FROM django_migrations WHERE app = 'resumed'")


@pytest.fixture(autouse=True)
def cleaned(monkeypatch):
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "resume_migrations", True)
    MigrationRecorder(connection).ensure_schema()
    run(notes._CREATE)
    clean()
    yield
    clean()


def key():
    return ("id", models.AutoField(primary_key=True))


def foreign_key(to="Author", **options):
    return models.ForeignKey(f"resumed.{to}", models.CASCADE, **options)


def number(**options):
    return models.IntegerField(**options)


BASE = [
    migrations.CreateModel("Author", [key(), ("name", models.CharField(max_length=9))]),
    migrations.CreateModel(
        "Book",
        [
            key(),
            ("pages", number(null=True)),
            ("price", number()),
            ("author", foreign_key(null=True)),
            ("others", models.ManyToManyField("resumed.Author", related_name="+")),
        ],
        options={"unique_together": {("pages", "price")}},
    ),
    migrations.AddIndex("Book", models.Index(fields=["price"], name="resumed_price")),
]


class Database:
    """The database, in the state in which the migration 0002 is applied or not."""

    def __init__(self, operations, backwards=False):
        self.operations = operations
        self.backwards = backwards
        self.err = StringIO()

    def prepare(self):
        """Begin again with an app that has been migrated to 0001."""
        clean()
        base = migrations.Migration("0001_initial", "resumed")
        base.operations = BASE
        with connection.schema_editor() as editor:
            self.state = base.apply(ProjectState(), editor)
        if self.backwards:
            self.migrate(forwards=True)
        run("INSERT INTO resumed_author (id, name) VALUES (1, 'A')")

    def migrate(self, forwards=None):
        """Run ``migrate`` for the migration."""
        backwards = self.backwards if forwards is None else not forwards
        command = Command(stdout=StringIO(), stderr=self.err)
        command.verbosity = 0
        executor = MigrationExecutor(connection, command.migration_progress_callback)
        migration = migrations.Migration("0002_more", "resumed")
        migration.operations = self.operations
        first = migrations.Migration("0001_initial", "resumed")
        first.operations = BASE
        graph = executor.loader.graph
        for each in (first, migration):
            graph.add_node(("resumed", each.name), each)
        graph.add_dependency(
            migration, ("resumed", "0002_more"), ("resumed", "0001_initial")
        )
        executor.loader.applied_migrations = {("resumed", "0001_initial"): first}
        if backwards:
            executor.loader.applied_migrations["resumed", "0002_more"] = migration
        target = "0001_initial" if backwards else "0002_more"
        executor.migrate(
            [("resumed", target)],
            [(migration, backwards)],
            state=None if backwards else self.state.clone(),
        )

    def recorded(self):
        return bool(
            run(
                "SELECT 1 FROM django_migrations "
                "WHERE app = 'resumed' AND name = '0002_more'"
            )
        )


def interrupt(proxy, database, statement, nth, direction):
    """
    Run ``migrate``, and cut its connection at a statement for good: before the server
    gets it, or before the client gets the answer.
    """
    with ExitStack() as stack:
        cut = proxy.cut(
            statement,
            direction,
            nth=nth,
            then=lambda: stack.enter_context(proxy.refusing()),
        )
        with pytest.raises(DatabaseError):
            database.migrate()
        assert cut.done.wait(PATIENCE)
    connection.close()


OPERATIONS = {
    "add foreign key": [migrations.AddField("Book", "editor", foreign_key(null=True))],
    "add unique": [migrations.AddField("Book", "isbn", number(unique=True, default=1))],
    "add index": [
        migrations.AddField(
            "Book",
            "sold",
            models.DateTimeField(db_index=True, default=timezone.now),
        )
    ],
    "add many to many": [
        migrations.AddField("Book", "readers", models.ManyToManyField("resumed.Author"))
    ],
    "create": [
        migrations.CreateModel(
            "Shop",
            [
                key(),
                ("owner", foreign_key()),
                ("books", models.ManyToManyField("resumed.Book")),
            ],
        ),
        migrations.CreateModel("City", [key()]),
        migrations.AddField("Shop", "city", foreign_key("City", null=True)),
    ],
    "alter": [migrations.AlterField("Book", "pages", number(default=3, unique=True))],
    "alter foreign key": [migrations.AlterField("Book", "author", foreign_key())],
    "alter primary key": [
        migrations.AlterField("Author", "id", models.BigAutoField(primary_key=True))
    ],
    "rename foreign key": [migrations.RenameField("Book", "author", "writer")],
    "rename field": [migrations.RenameField("Book", "price", "cost")],
    "unique together": [
        migrations.AlterUniqueTogether("Book", {("price", "author")}),
    ],
    "indexes": [
        migrations.RemoveIndex("Book", "resumed_price"),
        migrations.AddIndex("Book", models.Index(fields=["pages"], name="resumed_p")),
        migrations.AddConstraint(
            "Book", models.UniqueConstraint(fields=["price"], name="resumed_u")
        ),
    ],
    "remove": [
        migrations.RemoveField("Book", "author"),
        migrations.RemoveField("Book", "others"),
    ],
    "delete": [migrations.DeleteModel("Book"), migrations.DeleteModel("Author")],
    "rename model": [migrations.RenameModel("Author", "Writer")],
}
CASES = [
    *((name, False, Direction.TO_CLIENT) for name in OPERATIONS),
    ("add foreign key", False, Direction.TO_SERVER),
    ("alter foreign key", False, Direction.TO_SERVER),
    ("add foreign key", True, Direction.TO_CLIENT),
    ("rename field", True, Direction.TO_CLIENT),
    ("indexes", True, Direction.TO_CLIENT),
]


@pytest.mark.parametrize(("name", "backwards", "direction"), CASES)
def test_interrupted_at_each_statement(proxy, name, backwards, direction):
    database = Database(OPERATIONS[name], backwards)
    database.prepare()
    before = len(proxy.exchanges)
    database.migrate()
    sent = [each.statement for each in proxy.exchanges[before:]]
    count = sum(statement.startswith(TAG) for statement in sent)
    assert count, sent
    wanted = tables()
    for nth in range(1, count + 1):
        database.prepare()
        interrupt(proxy, database, TAG, nth, direction)
        database.migrate()
        assert tables() == wanted, nth
        assert database.recorded() is not backwards
        assert run(f"SELECT COUNT(*) FROM {notes.TABLE}") == ((0,),)


def test_column_of_somebody_else(proxy):
    database = Database(OPERATIONS["add foreign key"])
    database.prepare()
    run("ALTER TABLE resumed_book ADD COLUMN editor_id INT")
    before = tables()
    for _ in range(2):
        with pytest.raises(DatabaseError, match="1060") as caught:
            database.migrate()
        assert "ALTER TABLE `resumed_book` DROP COLUMN `editor_id`" in str(caught.value)
        assert "migrate --fake" in str(caught.value)
        assert tables() == before


def test_column_of_somebody_else_after_a_run_that_failed(proxy):
    database = Database(OPERATIONS["add unique"])
    database.prepare()
    for number_ in (1, 2):
        run(
            "INSERT INTO resumed_book (id, pages, price) VALUES (%s, %s, 1)",
            [number_, number_],
        )
    before = tables()
    with pytest.raises(DatabaseError, match="1062"):
        database.migrate()
    assert tables() == before
    statement = next(
        s for s in proxy.statements() if s.startswith(TAG) and "ADD COLUMN `isbn`" in s
    )
    run(statement.partition("*/ ")[2])
    with pytest.raises(DatabaseError, match="1060"):
        database.migrate()
    assert tables() != before


def test_migration_that_was_edited_after_the_interruption(proxy):
    database = Database(OPERATIONS["add unique"])
    database.prepare()
    interrupt(proxy, database, f"{TAG}.0002_more */ ALTER", 1, Direction.TO_CLIENT)
    database.operations = [migrations.AddField("Book", "isbn", models.TextField())]
    with pytest.raises(DatabaseError, match=r"1060.* DROP COLUMN `isbn`"):
        database.migrate()
    # With the statement that the error names, the migration can be run again.
    run("ALTER TABLE resumed_book DROP COLUMN isbn")
    database.migrate()
    assert database.recorded()


def test_apply_unapply_apply(proxy):
    database = Database(OPERATIONS["indexes"])
    database.prepare()
    # The table of the notes is created when the first is written.
    run(f"DROP TABLE {notes.TABLE}")
    statement = f"{TAG}.0002_more */ CREATE"
    interrupt(proxy, database, f"{statement} TABLE", 1, Direction.TO_CLIENT)
    interrupt(proxy, database, f"{statement} INDEX", 1, Direction.TO_CLIENT)
    applied = []
    for forwards in (True, False, True):
        database.migrate(forwards)
        applied.append(tables())
    assert applied[0] == applied[2] != applied[1]
    assert "resumed_u" in applied[0]["resumed_book"]
    assert "An interrupted migrate" in database.err.getvalue()


def test_no_notes_beside_code_of_the_project(proxy):
    runs = []
    code = migrations.RunPython(lambda *args: runs.append(args))
    database = Database([code, *OPERATIONS["add foreign key"]])
    database.prepare()
    interrupt(
        proxy,
        database,
        f"{TAG}.0002_more */ ALTER TABLE",
        2,
        Direction.TO_SERVER,
    )
    with pytest.raises(DatabaseError, match=r"1060.*migrate --fake"):
        database.migrate()
    assert len(runs) == 2
    assert f"INSERT INTO {notes.TABLE}" not in "\n".join(proxy.statements())


@pytest.mark.parametrize("ends", [True, False])
def test_notes_of_a_migrate_that_may_still_run(proxy, ends):
    database = Database(OPERATIONS["add foreign key"])
    database.prepare()
    interrupt(proxy, database, TAG, 2, Direction.TO_CLIENT)
    began = threading.Event()

    def other_migrate():
        with raw_connection(connection) as other, other.cursor() as cursor:
            cursor.execute(f"UPDATE {notes.TABLE} SET session = CONNECTION_ID()")
            began.set()
            wait_for(
                lambda: "Waiting for the end" in database.err.getvalue(),
                "migrate to wait",
            )
            if ends:
                cursor.execute(f"DELETE FROM {notes.TABLE}")

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(other_migrate)
        assert began.wait(PATIENCE)
        if ends:
            # The other one has executed all.
            with pytest.raises(DatabaseError, match="1060"):
                database.migrate()
        else:
            database.migrate()
            assert database.recorded()
        other.result()
