"""
Test AddField of a column that the table already has.

TiDB cannot add some kinds of columns, so the backend rebuilds the table for them. The
error has to be the same as for a column that TiDB can add.
"""

from __future__ import annotations

import pytest
from django.db import OperationalError, connection, models
from django.test.utils import isolate_apps

from django_tidb import rebuild

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.thorough]


def run(*statements):
    with connection.cursor() as cursor:
        for sql in statements:
            cursor.execute(sql, None)
        return cursor.fetchall()


@pytest.fixture(autouse=True)
def shop(monkeypatch):
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "rebuild_tables", True)
    run(
        "CREATE TABLE shop (number INT, price INT)",
        "INSERT INTO shop VALUES (1, 10), (2, 20)",
    )
    yield
    for (name,) in run("SHOW TABLES LIKE 'shop%'"):
        run(f"DROP TABLE {name}")


def state():
    return (
        run("SHOW CREATE TABLE shop")[0][1].partition(" AUTO_INCREMENT=")[0],
        run("SELECT * FROM shop ORDER BY number"),
        run("SHOW TABLES LIKE 'shop%'"),
    )


def add(name, field):
    """Run a migration that adds a field."""
    with isolate_apps("tests.core"):

        class Shop(models.Model):
            number = models.IntegerField(primary_key=True)

            class Meta:
                app_label = "core"
                db_table = "shop"

        field.contribute_to_class(Shop, name)
        with connection.schema_editor() as editor:
            editor.add_field(Shop, field)


class Fault(OperationalError):
    pass


def killed_at(monkeypatch, statement, migrate):
    """Interrupt a rebuild at `statement`, as if the process were killed there."""
    real = rebuild._Tables.run

    def faulty(self, sql):
        if sql.startswith(statement):
            raise Fault(1105, f"fault at {sql}")
        real(self, sql)

    with monkeypatch.context() as patch:
        patch.setattr(rebuild._Tables, "run", faulty)
        patch.setattr(rebuild._Tables, "go_back", lambda self: None)
        with pytest.raises(Fault):
            migrate()


def auto_field(**options):
    # No TiDB can add a column with AUTO_INCREMENT, so this field needs a rebuild.
    return models.AutoField(primary_key=True, **options)


@pytest.mark.parametrize("column", ["price", "Price"])
@pytest.mark.parametrize("empty", [False, True])
def test_column_that_exists(column, empty):
    if empty:
        run("DELETE FROM shop")
    before = state()
    with pytest.raises(OperationalError, match=r"1060.*'[Pp]rice'"):
        add("id", auto_field(db_column=column))
    assert state() == before


@pytest.mark.skipif(
    not hasattr(models, "GeneratedField"), reason="Django 5.0 brought GeneratedField."
)
def test_stored_column_that_exists():
    before = state()
    field = models.GeneratedField(
        expression=models.F("number") * 2,
        output_field=models.IntegerField(),
        db_persist=True,
        db_column="price",
    )
    with pytest.raises(OperationalError, match=r"1060.*'price'"):
        add("twice", field)
    assert state() == before


# After an interruption at this step, the next run finishes the rebuild.
AFTER = ["DROP TABLE `shop__rebuild_old`"]
# After an interruption at one of these steps, the next run undoes the rebuild.
BEFORE = ["CREATE TABLE", "RENAME TABLE `shop`", "RENAME TABLE `shop__rebuild_new`"]


@pytest.mark.parametrize("statement", BEFORE + AFTER)
def test_column_of_the_same_operation_that_was_interrupted(monkeypatch, statement):
    killed_at(monkeypatch, statement, lambda: add("id", auto_field()))
    add("id", auto_field())
    assert run("SELECT number, price FROM shop ORDER BY number") == ((1, 10), (2, 20))
    assert run("SELECT COUNT(DISTINCT id) FROM shop") == ((2,),)
    assert run("SHOW TABLES LIKE 'shop%'") == (("shop",),)
    # The run after the interruption has completed the interrupted operation. If the
    # same operation is run once more, the column exists already.
    before = state()
    with pytest.raises(OperationalError, match="1060"):
        add("id", auto_field())
    assert state() == before


@pytest.mark.parametrize("statement", BEFORE + AFTER)
@pytest.mark.parametrize("plain", [False, True])
def test_column_after_another_operation_was_interrupted(monkeypatch, statement, plain):
    # The table had this column before the interrupted rebuild, so adding it is an
    # error.
    killed_at(monkeypatch, statement, lambda: add("id", auto_field()))
    field = models.IntegerField(null=True) if plain else auto_field()
    with pytest.raises(OperationalError, match=r"1060.*'price'"):
        add("price", field)
    assert run("SELECT number, price FROM shop ORDER BY number") == ((1, 10), (2, 20))
    assert run("SHOW TABLES LIKE 'shop%'") == (("shop",),)
