from __future__ import annotations

import json

import pytest
from django.core.management import call_command
from django.db import models

from django_tidb_autorandom import BigAutoRandomField, allow_explicit_ids, id_usage
from django_tidb_autorandom.checks import check_id_usage

from .models import Event, ShortEvent, Ticket
from .utils import connection


def usage_of(model):
    (usage,) = id_usage(tables=[model._meta.db_table])
    return usage


@pytest.mark.django_db(transaction=True)
def test_auto_random():
    before = usage_of(Event)
    assert (before.table, before.column) == ("autorandom_event", "id")
    assert (before.kind, before.capacity) == ("AUTO_RANDOM", 2**58 - 1)
    with allow_explicit_ids():
        Event.objects.create(pk=(3 << 58) + 2**54)
    assert usage_of(Event).share == pytest.approx(2**54 / 2**58, rel=1e-6)
    Event.objects.create()
    assert usage_of(Event).used >= 2**54 + 1


@pytest.mark.django_db
def test_names_of_tables_are_case_insensitive():
    (usage,) = id_usage(tables=["AutoRandom_EVENT"])
    assert usage.table == "AutoRandom_EVENT"
    assert usage.capacity == 2**58 - 1


@pytest.fixture
def other_database(transactional_db):
    """Create an empty database whose name has capitals, a space and a percent sign."""
    name = connection.ops.quote_name("test_Other 50%")
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}", None)
    yield "test_Other 50%"
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE {name}", None)


def test_tables_of_another_database(other_database, make_model):
    Elsewhere = make_model(
        "Elsewhere",
        id=BigAutoRandomField(primary_key=True, shard_bits=6),
        meta={"db_table": f"{other_database}`.`autorandom_Event"},
    )
    with connection.schema_editor() as editor:
        editor.create_model(Elsewhere)
    with allow_explicit_ids():
        Elsewhere.objects.create(pk=2**50)
    names = [Elsewhere._meta.db_table, Event._meta.db_table]
    usage = {each.table: each for each in id_usage(tables=names)}
    assert usage.keys() == set(names)
    assert usage[names[0]].capacity == 2**57 - 1
    assert usage[names[0]].used >= 2**50
    assert usage[names[1]].capacity == 2**58 - 1
    # Without `tables`, only the tables of the current database are reported.
    assert names[0] not in {each.table for each in id_usage()}


def test_check_of_a_table_in_another_database(other_database, make_model, monkeypatch):
    Elsewhere = make_model(
        "Elsewhere",
        id=models.SmallAutoField(primary_key=True),
        meta={"db_table": f"{other_database}`.`elsewhere"},
    )
    with connection.schema_editor() as editor:
        editor.create_model(Elsewhere)
    Elsewhere.objects.create(pk=2**15 - 100)
    monkeypatch.setattr(connection.validation, "models", lambda: [Elsewhere])
    (issue,) = check_id_usage(databases=["default"])
    assert issue.id == "tidb_autorandom.W004"
    assert issue.msg.startswith("autorandom.Elsewhere has used ")


@pytest.mark.works("auto-random-range")
@pytest.mark.django_db
def test_range():
    assert usage_of(ShortEvent).capacity == 2**50 - 1


@pytest.mark.django_db(transaction=True)
def test_auto_increment():
    used = usage_of(Ticket).used
    assert usage_of(Ticket).kind == "AUTO_INCREMENT"
    assert usage_of(Ticket).capacity == 2**63 - 1
    Ticket.objects.create(pk=used + 2_000_000)
    assert usage_of(Ticket).used >= used + 2_000_000


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("field", "bits"), [(models.AutoField, 31), (models.SmallAutoField, 15)]
)
def test_usage_of_small_keys(make_model, create_tables, field, bits):
    Small = make_model("Small", id=field(primary_key=True))
    create_tables(Small)
    Small.objects.create(pk=2**bits - 100)
    usage = usage_of(Small)
    assert usage.capacity == 2**bits - 1
    assert 0.99 < usage.share <= 1
    assert id_usage()[0] == usage


@pytest.mark.django_db(databases=["default", "sqlite"])
def test_other_databases():
    with pytest.raises(ValueError, match="'sqlite' is not a TiDB"):
        id_usage("sqlite")
    assert check_id_usage(databases=["sqlite"]) == []
    assert check_id_usage(databases=None) == []


@pytest.mark.django_db(transaction=True)
def test_check(monkeypatch):
    options = dict(connection.settings_dict["OPTIONS"])
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)
    with allow_explicit_ids(), pytest.warns(RuntimeWarning, match="uses up"):
        Event.objects.create(pk=int(2**58 * 0.9))
    try:
        (issue,) = check_id_usage(databases=["default"])
        assert issue.id == "tidb_autorandom.W004"
        assert issue.msg == (
            f"autorandom.Event has used 90.0% of the {2**58 - 1} ids of AUTO_RANDOM "
            "in the database 'default'."
        )
        options["id_usage_threshold"] = 0.95
        assert check_id_usage(databases=["default"]) == []
        options["id_usage_threshold"] = 95
        (issue,) = check_id_usage(databases=["default"])
        assert issue.id == "tidb_autorandom.E014"
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SET foreign_key_checks = 0")
            cursor.execute("TRUNCATE TABLE autorandom_event")
            cursor.execute("SET foreign_key_checks = 1")


@pytest.mark.django_db
def test_command(capsys):
    Event.objects.create()
    call_command("tidb", "--database", "default")
    output = capsys.readouterr().out
    assert "  Ids used\n" in output
    assert "column autorandom_event.id, kind AUTO_RANDOM, used " in output
    call_command("tidb", "--database", "default", "--json")
    database = json.loads(capsys.readouterr().out)["databases"]["default"]
    rows = {row["column"]: row for row in database["plugins"]["autorandom"]["Ids used"]}
    assert rows["autorandom_event.id"]["capacity"] == 2**58 - 1
    assert rows["autorandom_event.id"]["percent"] < 1
    assert "autorandom_comment.id" in rows
