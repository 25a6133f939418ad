"""Test when the statements of a schema editor are sent."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

import pytest
from django.core.management.commands.migrate import Command
from django.db import (
    DatabaseError,
    OperationalError,
    connection,
    connections,
    migrations,
    models,
    transaction,
)
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from django.db.migrations.state import ProjectState
from django.test.utils import CaptureQueriesContext

pytestmark = pytest.mark.django_db(transaction=True)

TABLES = ("core_spoon", "core_bowl_spoons", "core_bowl", "core_cup")


@pytest.fixture
def no_tables():
    yield
    with connection.cursor() as cursor:
        cursor.execute("SET foreign_key_checks = 0")
        cursor.execute(f"DROP TABLE IF EXISTS {', '.join(TABLES)}")
        cursor.execute("SET foreign_key_checks = 1")


@pytest.fixture
def bowl(no_tables, make_model):
    return make_model("Bowl", size=models.IntegerField(default=1))


def exists(table):
    """Return whether another connection sees the table."""
    with closing(connection.copy()) as other, other.cursor() as cursor:
        return table in other.introspection.table_names(cursor)


def key():
    return ("id", models.AutoField(primary_key=True))


def create(name, *fields):
    return migrations.CreateModel(name, [key(), *fields])


def index(name, model="Bowl", field="id"):
    return migrations.AddIndex(model, models.Index(fields=[field], name=name))


def apply(*operations, state=None, collect_sql=False):
    migration = migrations.Migration("0001_initial", "core")
    migration.operations = list(operations)
    with connection.schema_editor(collect_sql=collect_sql) as editor:
        state = migration.apply(state or ProjectState(), editor, collect_sql)
    return editor if collect_sql else state


def statements(function):
    """Return the DDL that a function sends."""
    with CaptureQueriesContext(connection) as queries:
        function()
    sent = [query["sql"] for query in queries.captured_queries]
    return [s for s in sent if s.startswith(("CREATE", "ALTER", "DROP"))]


# -- A direct call of the schema editor: the statement is sent at once


def test_a_cursor_that_is_open_sees_the_table(bowl):
    with connection.cursor() as cursor, connection.schema_editor() as editor:
        editor.create_model(bowl)
        cursor.execute("INSERT INTO core_bowl (size) VALUES (5)")
        cursor.execute("SELECT size FROM core_bowl")
        assert cursor.fetchall() == ((5,),)


def test_others_see_the_table(bowl):
    def count(cursor):
        cursor.execute("SELECT COUNT(*) FROM core_bowl")
        return cursor.fetchone()

    def count_in_a_thread():
        with closing(connections["default"]), connections["default"].cursor() as cursor:
            return count(cursor)

    with connection.schema_editor() as editor, ThreadPoolExecutor() as threads:
        editor.create_model(bowl)
        assert exists("core_bowl")
        assert threads.submit(count_in_a_thread).result() == (0,)
        with closing(connection.connection.cursor()) as cursor:
            assert count(cursor) == (0,)


@pytest.mark.long
def test_indexes_and_constraints_are_there_at_once(bowl):
    def names():
        with closing(connection.copy()) as other, other.cursor() as cursor:
            found = other.introspection.get_constraints(cursor, "core_bowl")
        return found.keys() - {"PRIMARY"}

    with connection.schema_editor() as editor:
        editor.create_model(bowl)
        editor.add_index(bowl, models.Index(fields=["size"], name="by_size"))
        assert names() == {"by_size"}
        unique = models.UniqueConstraint(fields=["size", "id"], name="unique_size")
        editor.add_constraint(bowl, unique)
        assert names() == {"by_size", "unique_size"}
        editor.alter_unique_together(bowl, [], [("size",)])
        assert len(names()) == 3


def test_errors_come_from_the_call(bowl):
    with connection.schema_editor() as editor:
        editor.create_model(bowl)
        with pytest.raises(OperationalError, match="already exists") as caught:
            editor.create_model(bowl)
        # The statement belongs to no operation, so nothing is appended to the error.
        assert "[" not in str(caught.value)
        bowl._meta.db_table = "core_cup"
        editor.create_model(bowl)
    assert exists("core_cup")


def test_an_error_later_on_leaves_the_table(bowl):
    with pytest.raises(ZeroDivisionError), connection.schema_editor() as editor:
        editor.create_model(bowl)
        raise ZeroDivisionError
    assert exists("core_bowl")


def test_no_tables_in_a_transaction(bowl):
    with (
        pytest.raises(transaction.TransactionManagementError, match="DDL"),
        transaction.atomic(),
        connection.schema_editor() as editor,
        editor.gathering("a test"),
    ):
        editor.create_model(bowl)
    assert not exists("core_bowl")


# -- Operations of a migration: statements are gathered


class Looks:
    """
    A mixin for an operation. The resulting operation is not one of Django's, and after
    its change it checks whether the table exists.
    """

    def database_forwards(self, *args):
        super().database_forwards(*args)
        self.existed = exists("core_bowl")


class CreateAndLook(Looks, migrations.CreateModel):
    pass


def test_operations_of_others_send_at_once(no_tables):
    operation = CreateAndLook("Bowl", [key()])
    apply(operation)
    assert operation.existed


def test_separate_database_and_state_sends_at_once(no_tables):
    class Look(migrations.operations.base.Operation):
        reduces_to_sql = False

        def state_forwards(self, *args):
            pass

        def database_forwards(self, *args):
            self.existed = exists("core_bowl")

    look = Look()
    apply(migrations.SeparateDatabaseAndState([create("Bowl"), look]))
    assert look.existed


@pytest.mark.long
@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("kind", ["python", "sql"])
def test_the_projects_code_runs_after_what_has_been_gathered(no_tables, kind, atomic):
    seen = []
    if kind == "python":
        look = migrations.RunPython(
            lambda apps, editor: seen.append(exists("core_bowl")), atomic=atomic
        )
    else:
        look = migrations.RunSQL("INSERT INTO core_bowl (id) VALUES (7)")
    apply(create("Bowl"), index("first"), look, index("second"))
    if kind == "sql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT id FROM core_bowl")
            seen += [cursor.fetchone() == (7,)]
    assert seen == [True]


def test_going_backwards_sends_at_once(no_tables):
    state = apply(create("Bowl"))
    seen = []
    migration = migrations.Migration("0002_delete", "core")
    migration.operations = [
        migrations.RunPython(
            migrations.RunPython.noop, lambda *args: seen.append(exists("core_bowl"))
        ),
        migrations.DeleteModel("Bowl"),
    ]
    with connection.schema_editor() as editor:
        migration.apply(state.clone(), editor)
    with connection.schema_editor() as editor:
        migration.unapply(state, editor)
    assert seen == [True]


def test_fields_whose_default_looks_at_a_new_table(no_tables):
    # get_or_create() in a default writes in a transaction like this. The default also
    # asks on another connection.
    def default():
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("INSERT INTO core_bowl (size) VALUES (9)")
            cursor.execute("SELECT size FROM core_bowl")
            assert exists("core_bowl")
            return cursor.fetchone()[0]

    apply(
        create("Bowl", ("size", models.IntegerField())),
        create("Spoon"),
        migrations.AddField("Spoon", "size", models.IntegerField(default=default)),
    )
    assert exists("core_spoon")


class Asking(models.IntegerField):
    """
    A field that calls a function of the test when its column type is needed. The
    function queries a table.
    """

    def db_type(self, connection):
        self.ask()
        return super().db_type(connection)

    def deconstruct(self):
        name, _, args, kwargs = super().deconstruct()
        return name, f"{__name__}.Asking", args, kwargs


@pytest.mark.parametrize("atomic", [True, False])
def test_fields_whose_type_looks_at_a_new_table(no_tables, monkeypatch, atomic):
    # Query with a cursor that was opened before the schema editor.
    with connection.cursor() as cursor:

        def ask(field):
            if not atomic:
                cursor.execute("SELECT COUNT(*) FROM core_bowl")
                return
            with transaction.atomic():
                cursor.execute("INSERT INTO core_bowl () VALUES ()")

        monkeypatch.setattr(Asking, "ask", ask, raising=False)
        apply(create("Bowl"), create("Spoon", ("size", Asking(null=True))))
        cursor.execute("SELECT COUNT(*) FROM core_bowl")
        assert bool(cursor.fetchone()[0]) == atomic
        assert connection.get_autocommit()


def test_an_error_that_a_field_suppresses(no_tables, monkeypatch):
    def ask(field):
        with suppress(DatabaseError), connection.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM core_bowl")

    monkeypatch.setattr(Asking, "ask", ask, raising=False)
    with pytest.raises(
        OperationalError, match=r"(?i)duplicate key name.*Create index one"
    ):
        apply(
            create("Bowl"),
            index("one"),
            index("one"),
            create("Spoon", ("size", Asking(null=True))),
        )
    assert not exists("core_bowl")


def test_one_statement_for_each_table(no_tables):
    spoons = models.ManyToManyField("core.Spoon")
    sent = statements(
        lambda: apply(
            create("Spoon"),
            create("Bowl"),
            index("first"),
            migrations.AddField("Bowl", "spoons", spoons),
            migrations.AlterModelOptions("Bowl", {"verbose_name": "dish"}),
            index("second", "Spoon"),
        )
    )
    assert [sql.split(" (")[0] for sql in sent] == [
        "CREATE TABLE `core_spoon`",
        "CREATE TABLE `core_bowl`",
        "CREATE TABLE `core_bowl_spoons`",
    ]
    assert "`first`" in sent[1]
    assert "`second`" in sent[0]


@pytest.mark.long
def test_sqlmigrate_shows_what_is_sent(no_tables):
    def operations():
        return (
            create("Bowl", ("size", models.IntegerField())),
            index("first"),
            migrations.SeparateDatabaseAndState([create("Spoon"), index("a", "Spoon")]),
            index("second", field="size"),
            migrations.RunSQL("INSERT INTO core_bowl (size) VALUES (1)"),
            create("Cup"),
            CreateAndLook("Dish", [key()], {"db_table": "core_bowl_spoons"}),
            index("third", "Cup"),
        )

    with CaptureQueriesContext(connection) as queries:
        state = operations()
        apply(*state[:2], *state[2:])
    sent = [
        f"{query['sql']};"
        for query in queries.captured_queries
        if query["sql"].startswith(("CREATE", "ALTER", "INSERT"))
    ]
    collected = apply(*operations(), collect_sql=True).collected_sql
    assert sent == [sql for sql in collected if not sql.startswith("--")]
    assert len(sent) == 8


# -- Errors


def test_an_error_names_operations_and_migration(no_tables):
    with pytest.raises(OperationalError) as caught:
        apply(create("Spoon"), create("Bowl"), index("one"), index("one"))
    number, message = caught.value.args
    assert number == 1061
    # The server's own message comes first; its wording differs between versions.
    assert re.search(
        r"^(?i:duplicate key name) '?one'? "
        r"\[CREATE TABLE `core_bowl`: Create model Bowl \(core\.0001_initial\); "
        r"Create index one on field\(s\) id of model Bowl \(core\.0001_initial\)\]$",
        message,
    )


@pytest.mark.works("alter-several")
def test_an_error_of_an_addition_names_its_operation(no_tables):
    state = apply(
        create("Bowl", ("a", models.IntegerField()), ("b", models.TextField()))
    )
    with pytest.raises(DatabaseError, match=r"ALTER TABLE `core_bowl`: Alter unique_"):
        apply(migrations.AlterUniqueTogether("Bowl", {("a", "b")}), state=state)


def test_a_migration_is_recorded_after_all_has_been_sent(no_tables, monkeypatch):
    executor = MigrationExecutor(connection)
    recorder = MigrationRecorder(connection)

    def recorded():
        return ("core", "0001_initial") in recorder.applied_migrations()

    def run(*operations):
        migration = migrations.Migration("0001_initial", "core")
        migration.operations = list(operations)
        executor.apply_migration(ProjectState(), migration)

    with pytest.raises(OperationalError, match=r"(?i)duplicate key name"):
        run(create("Bowl"), index("one"), index("one"))
    assert not recorded()
    monkeypatch.setattr(
        MigrationRecorder,
        "record_applied",
        lambda *args: done.append(exists("core_bowl")),
    )
    done = []
    run(create("Bowl"), index("one"))
    assert done == [True]


@pytest.mark.long
@pytest.mark.works("foreign-key")
def test_a_migration_with_a_reference_that_stays_open_is_not_recorded(no_tables):
    field = models.ForeignKey("core.Bowl", models.CASCADE)
    state = ProjectState()
    create("Bowl").state_forwards("core", state)
    migration = migrations.Migration("0001_initial", "core")
    migration.operations = [create("Spoon", ("bowl", field))]
    with (
        connection.schema_editor() as editor,
        pytest.raises(OperationalError, match=r"'core_spoon'.*'core_bowl'"),
    ):
        migration.apply(state, editor)


def test_nothing_is_left_in_the_connection(bowl):
    before = vars(connections["default"]).copy()
    apply(create("Bowl"), index("one"))
    with pytest.raises(KeyError):
        apply(create("Cup"), index("one", "Unknown"))
    assert not exists("core_cup")
    assert connection.execute_wrappers == []
    assert vars(connections["default"]).keys() == before.keys()


# -- migrate --run-syncdb


@pytest.fixture
def sync(monkeypatch):
    """Return a function that creates tables of models like migrate --run-syncdb."""

    def sync(*classes):
        monkeypatch.setattr(
            "django.db.router.get_migratable_models",
            lambda config, *args, **kwargs: list(classes),
        )
        command = Command()
        command.verbosity = 0
        command.sync_apps(connections["default"], {"core"})

    return sync


@pytest.fixture
def spoon(bowl):
    class Spoon(models.Model):
        bowl = models.ForeignKey("core.Bowl", models.CASCADE)

        class Meta:
            app_label = "core"

    return Spoon


def test_run_syncdb_gathers(bowl, spoon, sync):
    sent = statements(lambda: sync(spoon, bowl))
    assert [sql.split(" (")[0] for sql in sent] == [
        "CREATE TABLE `core_spoon`",
        "CREATE TABLE `core_bowl`",
    ]
    assert exists("core_spoon")
    assert connection.execute_wrappers == []


def test_an_error_of_run_syncdb_names_the_table(bowl, spoon, sync):
    bowl._meta.indexes = [models.Index(fields=["size"], name="a")] * 2
    with pytest.raises(
        OperationalError, match=r"\[CREATE TABLE `core_bowl`: migrate --run-syncdb\]"
    ):
        sync(bowl, spoon)
    assert not exists("core_spoon")
