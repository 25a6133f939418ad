from __future__ import annotations

import re

import pytest
from django.core import checks
from django.db import connections, models
from django.test.utils import isolate_apps

from django_tidb.version import TiDBVersion
from django_tidb_autorandom import BigAutoRandomField

from .models import Comment, Event, ShortEvent

connection = connections["default"]


def show_create_table(model):
    with connection.cursor() as cursor:
        cursor.execute(
            f"SHOW CREATE TABLE {connection.ops.quote_name(model._meta.db_table)}"
        )
        return cursor.fetchone()[1]


@pytest.mark.django_db
def test_create_table():
    assert "AUTO_RANDOM(5) */" in show_create_table(Event)
    assert "AUTO_RANDOM(3" in show_create_table(ShortEvent)


@pytest.mark.works("auto-random-range")
@pytest.mark.django_db
def test_create_table_with_range():
    assert "AUTO_RANDOM(3, 54) */" in show_create_table(ShortEvent)


@pytest.mark.django_db(transaction=True)
def test_keys():
    # All rows of a transaction get the same random bits.
    events = [Event.objects.create(name=str(n)) for n in range(20)]
    assert len({event.pk for event in events}) == 20
    # Five random bits: that all 20 are the same has a chance of 32 ** -19.
    assert len({event.pk >> 58 for event in events}) > 1
    assert Event.objects.get(pk=events[3].pk).name == "3"


@pytest.mark.works("auto-random-range")
@pytest.mark.django_db
def test_range_limits_keys():
    assert 0 < ShortEvent.objects.create().pk < 2**53


@pytest.mark.django_db
def test_foreign_key():
    event = Event.objects.create()
    Comment.objects.create(event=event)
    assert Comment.objects.get().event == event
    assert re.search(r"`event_id` bigint(\(20\))? NOT NULL", show_create_table(Comment))


def test_range_is_left_out_before_tidb_6_3(monkeypatch):
    field = BigAutoRandomField(primary_key=True, shard_bits=3, range=54)
    for text, sql in {
        "5.7.25-TiDB-v6.2.0": "bigint AUTO_RANDOM(3)",
        "5.7.25-TiDB-v6.3.0": "bigint AUTO_RANDOM(3, 54)",
    }.items():
        monkeypatch.setattr(connection, "tidb_version", TiDBVersion.parse(text))
        assert field.db_type(connection) == sql


@pytest.mark.django_db(databases=["sqlite"])
def test_other_databases_see_a_big_auto_field():
    sqlite = connections["sqlite"]
    field = BigAutoRandomField(primary_key=True)
    plain = models.BigAutoField(primary_key=True)
    assert field.db_type(sqlite) == plain.db_type(sqlite)
    assert field.rel_db_type(sqlite) == plain.rel_db_type(sqlite)
    assert field.db_parameters(sqlite) == plain.db_parameters(sqlite)
    assert Event.objects.using("sqlite").create().pk == 1


def test_deconstruct():
    _, path, args, kwargs = BigAutoRandomField(
        primary_key=True, shard_bits=6
    ).deconstruct()
    assert (path, args) == ("django_tidb_autorandom.BigAutoRandomField", [])
    assert kwargs == {"primary_key": True, "shard_bits": 6, "range": 64}


@isolate_apps("tests.autorandom")
@pytest.mark.parametrize(
    ("name", "value", "id", "allowed"),
    [
        ("shard_bits", 0, "E001", "1 to 15"),
        ("shard_bits", 16, "E001", "1 to 15"),
        ("shard_bits", None, "E001", "1 to 15"),
        ("range", 31, "E002", "32 to 64"),
        ("range", 65, "E002", "32 to 64"),
        ("range", "54", "E002", "32 to 64"),
        ("range", None, "E002", "32 to 64"),
        ("shard_bits", True, "E001", "1 to 15"),
    ],
)
def test_check_arguments(name, value, id, allowed):
    class Model(models.Model):
        id = BigAutoRandomField(primary_key=True, **{name: value})

        class Meta:
            app_label = "autorandom"

    field = Model._meta.get_field("id")
    # Also where the backend asks for the type of the column.
    assert field.check(databases=["default"]) == [
        checks.Error(
            f"'{name}' is {value!r}; it must be an integer from {allowed}.",
            obj=field,
            id=f"tidb_autorandom.{id}",
        )
    ]


def test_check_app(settings):
    settings.INSTALLED_APPS = [
        app for app in settings.INSTALLED_APPS if app != "django_tidb_autorandom"
    ]
    field = Event._meta.pk
    assert field.check() == [
        checks.Warning(
            "BigAutoRandomField is used without its app.",
            hint="Add 'django_tidb_autorandom' to INSTALLED_APPS.",
            obj=field,
            id="tidb_autorandom.W001",
        )
    ]
