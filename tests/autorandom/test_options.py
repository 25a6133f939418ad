from __future__ import annotations

import re

import django
import pytest
from django.core import checks
from django.core.management.commands import makemigrations, migrate
from django.db import NotSupportedError, connections, migrations, models
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.state import ProjectState
from django.db.migrations.writer import MigrationWriter

from django_tidb.table_options import AlterTableOptions, TableOptionsDetector
from django_tidb_autorandom import BigAutoRandomField
from django_tidb_autorandom.checks import (
    check_model_options,
    check_options,
    check_table_options,
)
from django_tidb_autorandom.operations import AlterRowIdOptions
from django_tidb_autorandom.options import read_options

from .models import Ticket
from .utils import connection

autodetector = pytest.mark.skipif(
    django.VERSION < (5, 2),
    reason="Commands have an autodetector from Django 5.2: "
    "https://docs.djangoproject.com/en/5.2/releases/5.2/#management-commands",
)


# -- CREATE TABLE, and the options that the database reports

SHARDED = {
    "tidb_clustered": False,
    "tidb_shard_row_id_bits": 4,
    "tidb_pre_split_regions": 2,
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, {"tidb_clustered": True}),
        ({"tidb_auto_id_cache": 1}, {"tidb_clustered": True, "tidb_auto_id_cache": 1}),
        ({"tidb_clustered": True}, {"tidb_clustered": True}),
        ({"tidb_clustered": False}, {"tidb_clustered": False}),
        (SHARDED, SHARDED),
        (
            {**SHARDED, "tidb_auto_id_cache": 50},
            {**SHARDED, "tidb_auto_id_cache": 50},
        ),
    ],
)
def test_new_table_has_the_options(make_model, create_tables, options, found):
    model = make_model("Thing", meta=options)
    assert list(check_model_options(model)) == []
    create_tables(model)
    assert read_options(connection, model._meta.db_table) == found
    assert model.objects.create().pk


@pytest.mark.django_db(transaction=True)
def test_comments_are_not_options():
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE autorandom_thing (id BIGINT PRIMARY KEY COMMENT "
            "'\n) AUTO_ID_CACHE=7') COMMENT = ' AUTO_ID_CACHE=8 \\' AUTO_ID_CACHE=9'"
        )
        try:
            assert read_options(connection, "autorandom_thing") == {
                "tidb_clustered": True
            }
        finally:
            cursor.execute("DROP TABLE autorandom_thing")


@pytest.mark.django_db(transaction=True)
def test_auto_random_table_is_split_into_regions(make_model, create_tables):
    model = make_model(
        "Thing",
        id=BigAutoRandomField(primary_key=True, shard_bits=3),
        meta={"tidb_pre_split_regions": 3},
    )
    assert list(check_model_options(model)) == []
    with connection.schema_editor(collect_sql=True) as editor:
        editor.create_model(model)
    assert editor.collected_sql == [
        "CREATE TABLE `autorandom_thing` (`id` bigint AUTO_RANDOM(3) NOT NULL "
        "PRIMARY KEY CLUSTERED) PRE_SPLIT_REGIONS 3;"
    ]
    create_tables(model)
    assert model.objects.create().pk


@pytest.mark.django_db
@pytest.mark.parametrize("value", [0, "1; DROP TABLE x", True])
def test_invalid_values_reach_no_server(make_model, value):
    model = make_model("Thing", meta={"tidb_auto_id_cache": value})
    message = (
        f"autorandom.Thing.Meta.tidb_auto_id_cache is {value!r}; it must be an "
        "integer from 1 to 9223372036854775807."
    )
    with (
        pytest.raises(ValueError, match=re.escape(message)),
        connection.schema_editor() as editor,
    ):
        editor.create_model(model)


def test_options_come_from_abstract_models_only(make_model):
    class Base(models.Model):
        class Meta:
            abstract = True
            tidb_auto_id_cache = 50

    assert make_model("Thing", Base)._meta.tidb_auto_id_cache == 50
    meta = {**vars(Base.Meta), "abstract": False}
    assert make_model("Other", Base, meta=meta)._meta.tidb_auto_id_cache == 50
    # Like most options, this option is not inherited by child models, which have their
    # own tables.
    assert not hasattr(make_model("Child", Ticket)._meta, "tidb_auto_id_cache")


# -- Checks


@pytest.mark.parametrize(
    ("pk", "options", "id", "message"),
    [
        (None, {"tidb_auto_id_cache": 0}, "E007", "an integer from 1 to 922337203"),
        (None, {"tidb_auto_id_cache": "9"}, "E007", "an integer from 1 to 922337203"),
        (None, {"tidb_auto_id_cache": True}, "E007", "an integer from 1 to 922337203"),
        (
            models.UUIDField(primary_key=True),
            {"tidb_auto_id_cache": 5},
            "W003",
            "no AUTO_INCREMENT key",
        ),
        (
            BigAutoRandomField(primary_key=True),
            {"tidb_auto_id_cache": 5},
            "W003",
            "no AUTO_INCREMENT key",
        ),
        (None, {"tidb_shard_row_id_bits": 16}, "E009", "an integer from 1 to 15"),
        (None, {"tidb_shard_row_id_bits": 4}, "E010", "is clustered"),
        (
            None,
            {"tidb_shard_row_id_bits": 4, "tidb_clustered": True},
            "E010",
            "is clustered",
        ),
        (None, {"tidb_pre_split_regions": 1.0}, "E011", "an integer from 1 to 15"),
        (None, {"tidb_pre_split_regions": 1}, "E012", "which are 0"),
        (None, {**SHARDED, "tidb_pre_split_regions": 5}, "E012", "which are 4"),
        (
            BigAutoRandomField(primary_key=True, shard_bits=3),
            {"tidb_pre_split_regions": 4},
            "E012",
            "which are 3",
        ),
        (None, {"tidb_clustered": 1}, "E013", "must be True or False"),
        (
            BigAutoRandomField(primary_key=True),
            {"tidb_clustered": False},
            "E008",
            "needs a clustered key",
        ),
    ],
)
def test_check_names_the_wrong_option(make_model, pk, options, id, message):
    fields = {} if pk is None else {"id": pk}
    model = make_model("Thing", meta=options, **fields)
    (issue,) = check_model_options(model)
    assert issue.id == f"tidb_autorandom.{id}"
    assert message in issue.msg
    assert issue.hint and issue.obj is model


def test_check_finds_nothing_in_the_project():
    assert check_options(None) == []


@pytest.mark.django_db(transaction=True, databases=["default", "sqlite"])
def test_check_compares_model_and_table(monkeypatch):
    assert check_table_options(databases=["default", "sqlite"]) == []
    assert check_table_options(databases=None) == []
    monkeypatch.setattr(Ticket._meta, "tidb_auto_id_cache", 5)
    (issue,) = check_table_options(databases=["default"])
    assert issue == checks.Warning(
        "The model has tidb_auto_id_cache 5 but 1 in the table 'autorandom_ticket' of "
        "the database 'default'.",
        hint=(
            "Unless a migration is yet to be run: Django before 5.2 does not find the "
            "change. Write into a migration: "
            "django_tidb_autorandom.operations.AlterRowIdOptions('ticket', "
            "{'tidb_auto_id_cache': 5})"
        ),
        obj=Ticket,
        id="tidb_autorandom.W005",
    )


# -- Migrations


def states(old, new, **kwargs):
    """Return two project states that differ in the options of one model."""
    for options in (old, new):
        state = ProjectState()
        migrations.CreateModel(
            "Thing",
            [("id", kwargs.get("pk", models.BigAutoField(primary_key=True)))],
            options=options,
        ).state_forwards("autorandom", state)
        yield state


def changes(old, new, **kwargs):
    detector = type("Detector", (TableOptionsDetector, MigrationAutodetector), {})
    found = detector(*states(old, new, **kwargs))._detect_changes()
    return [op for each in found.get("autorandom", []) for op in each.operations]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({}, {"tidb_auto_id_cache": 50}),
        ({"tidb_auto_id_cache": 50}, {}),
        ({"tidb_auto_id_cache": 50}, {"tidb_auto_id_cache": 60}),
        ({"tidb_clustered": False}, SHARDED),
    ],
)
def test_changes_are_found(old, new):
    (operation,) = changes(old, new)
    assert type(operation) is AlterTableOptions
    assert (operation.name, operation.options) == ("thing", new)
    # The operation can be written to a migration file, and produces the new state.
    text, imports = MigrationWriter.serialize(operation)
    scope = {}
    exec("\n".join(imports), scope)  # noqa: S102
    operation = eval(text, scope)  # noqa: S307
    from_state, to_state = states(old, new)
    operation.state_forwards("autorandom", from_state)
    key = ("autorandom", "thing")
    assert from_state.models[key].options == to_state.models[key].options
    assert "table options on thing" in operation.describe()
    assert operation.migration_name_fragment == "alter_thing_table_options"


def test_no_change_is_found():
    assert changes(SHARDED, SHARDED) == []
    assert changes({}, {"tidb_auto_id_cache": None}) == []
    assert changes({"verbose_name": "a"}, {"verbose_name": "a"}) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [({}, {"tidb_auto_id_cache": 1}), ({"tidb_auto_id_cache": 1}, {})],
)
def test_makemigrations_tells_what_tidb_cannot_alter(old, new):
    with pytest.warns(RuntimeWarning, match="cannot alter AUTO_ID_CACHE between 1 and"):
        assert len(changes(old, new)) == 1


def test_histories_of_django_tidb_keep_their_options():
    # django-tidb wrote the options into CreateModel, because it had no operation for
    # them.
    state = ProjectState()
    create = migrations.CreateModel(
        "Thing",
        [("id", models.BigAutoField(primary_key=True))],
        options={"tidb_auto_id_cache": 1},
    )
    alter = migrations.AlterModelOptions("Thing", {"verbose_name": "thing"})
    create.state_forwards("autorandom", state)
    alter.state_forwards("autorandom", state)
    options = {"tidb_auto_id_cache": 1, "verbose_name": "thing"}
    found = state.models["autorandom", "thing"].options
    assert options.items() <= found.items()
    squashed = create.reduce(alter, "autorandom")
    assert [operation.options for operation in squashed] == [options]
    detector = type("Detector", (TableOptionsDetector, MigrationAutodetector), {})
    (_, new) = states({}, options)
    assert detector(state, new)._detect_changes() == {}


def test_operation_refuses_unknown_options():
    with pytest.raises(ValueError, match=r"has \['verbose_name'\]; its options are"):
        AlterRowIdOptions("thing", {"verbose_name": "x"})


def migrate_options(old, new, alias="default", collect_sql=False):
    from_state, to_state = states(old, new)
    operation = AlterRowIdOptions("thing", new)
    with connections[alias].schema_editor(collect_sql=collect_sql) as editor:
        operation.database_forwards("autorandom", editor, from_state, to_state)
    return editor.collected_sql if collect_sql else None


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({}, {"tidb_auto_id_cache": 50}),
        ({"tidb_auto_id_cache": 50}, {"tidb_auto_id_cache": 60}),
        ({"tidb_clustered": False}, {**SHARDED, "tidb_pre_split_regions": None}),
        (SHARDED, {**SHARDED, "tidb_shard_row_id_bits": 3}),
    ],
)
def test_options_are_altered_and_back(make_model, create_tables, old, new):
    found = {"tidb_clustered": True}
    create_tables(make_model("Thing", meta=old))
    for a, b in ((old, new), (new, old)):
        migrate_options(a, b)
        assert read_options(connection, "autorandom_thing") == {
            **found,
            **{name: value for name, value in b.items() if value is not None},
        }
    assert migrate_options(old, new, collect_sql=True)


@pytest.mark.django_db
def test_sqlmigrate_shows_one_statement_an_option():
    old = {**SHARDED, "tidb_auto_id_cache": 5}
    new = {**SHARDED, "tidb_shard_row_id_bits": 5}
    assert migrate_options(old, new, collect_sql=True) == [
        "ALTER TABLE `autorandom_thing` AUTO_ID_CACHE = 0;",
        "ALTER TABLE `autorandom_thing` SHARD_ROW_ID_BITS = 5;",
    ]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ({}, {"tidb_auto_id_cache": 1}, "between 1 and another value"),
        ({"tidb_auto_id_cache": 1}, {"tidb_auto_id_cache": 9}, "between 1 and another"),
        ({}, {"tidb_clustered": False}, "whether a primary key is clustered"),
        (SHARDED, {"tidb_clustered": True}, "whether a primary key is clustered"),
        ({}, SHARDED, "whether a primary key is clustered"),
        ({**SHARDED, "tidb_pre_split_regions": 1}, SHARDED, "when it creates it"),
    ],
)
def test_what_tidb_cannot_alter_takes_a_rebuild(
    make_model, create_tables, monkeypatch, old, new, reason
):
    model = make_model("Thing", meta=old)
    create_tables(model)
    keys = {model.objects.create().pk for _ in range(3)}
    if "cache" in next(iter(new)) and connection.tidb_version < (6, 4):
        migrate_options(old, new)
    else:
        with pytest.raises(NotSupportedError, match=reason) as error:
            migrate_options(old, new)
        assert "Meta.tidb_" in str(error.value)
        assert "of autorandom.Thing cannot be changed in the table" in str(error.value)
        found = read_options(connection, "autorandom_thing")
        assert found == {"tidb_clustered": True, **old}
        # With rebuild_tables the migration works, and sqlmigrate shows the rebuild.
        options = {**connection.settings_dict["OPTIONS"], "rebuild_tables": True}
        monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)
        assert "is rebuilt" in migrate_options(old, new, collect_sql=True)[0]
        migrate_options(old, new)
    found = read_options(connection, "autorandom_thing")
    assert found == {"tidb_clustered": True, **new}
    assert set(model.objects.values_list("pk", flat=True)) == keys
    assert model.objects.create().pk > max(keys)


@pytest.mark.django_db(databases=["sqlite"], transaction=True)
def test_other_databases_are_left_alone():
    assert migrate_options({}, {"tidb_auto_id_cache": 1}, "sqlite", True) == []


@autodetector
def test_autodetectors_of_the_commands(monkeypatch):
    from django.apps import apps

    class Another(MigrationAutodetector):
        pass

    for command in (makemigrations.Command, migrate.Command):
        assert issubclass(command.autodetector, TableOptionsDetector)
        # Another app has replaced the autodetector before this app is ready.
        monkeypatch.setattr(command, "autodetector", Another)
    apps.get_app_config("django_tidb_autorandom").ready()
    first = makemigrations.Command.autodetector
    assert first is migrate.Command.autodetector
    assert issubclass(first, TableOptionsDetector) and issubclass(first, Another)
    apps.get_app_config("django_tidb_autorandom").ready()
    assert makemigrations.Command.autodetector is first
    assert checks.run_checks(tags=["commands"]) == []


def test_options_change_after_the_key():
    # PRE_SPLIT_REGIONS depends on shard bits, so the key has to be altered first.
    before, after = ProjectState(), ProjectState()
    for state, pk, options in (
        (before, models.BigAutoField(primary_key=True), {}),
        (after, BigAutoRandomField(primary_key=True), {"tidb_pre_split_regions": 3}),
    ):
        migrations.CreateModel("Thing", [("id", pk)], options=options).state_forwards(
            "autorandom", state
        )
    detector = type("Detector", (TableOptionsDetector, MigrationAutodetector), {})
    (migration,) = detector(before, after)._detect_changes()["autorandom"]
    assert [type(operation) for operation in migration.operations] == [
        migrations.AlterField,
        AlterTableOptions,
    ]
