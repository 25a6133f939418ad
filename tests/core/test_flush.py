"""Test emptying tables: manage.py flush, and the flush of TransactionTestCase."""

from __future__ import annotations

import threading

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.core.management.color import no_style
from django.db import connections, transaction
from django.db.utils import DatabaseError
from django.test.utils import CaptureQueriesContext

from django_tidb import operations
from tests.autorandom.models import Event

from .models import Author, Book, Shelf, Word

connection = connections["default"]
pytestmark = pytest.mark.django_db(transaction=True)

MODELS = [Book, Author, Shelf, Word, Event]
TABLES = [model._meta.db_table for model in MODELS]


def flush(tables=TABLES, *, reset_sequences=False):
    """Empty the tables; return the statements that were sent."""
    # Some tests call this function in a thread, which has its own connection.
    connection = connections["default"]
    statements = connection.ops.sql_flush(
        no_style(), tables, reset_sequences=reset_sequences
    )
    with CaptureQueriesContext(
        connection,
    ) as queries:
        connection.ops.execute_sql_flush(statements)
    assert not any(model.objects.exists() for model in MODELS)
    return [query["sql"] for query in queries]


def changes(statements):
    return [sql for sql in statements if sql.startswith(("DELETE", "TRUNCATE"))]


@pytest.fixture(autouse=True)
def _foreign_key_checks_are_as_before():
    # The default differs: foreign_key_checks is off on servers before TiDB 6.6.
    before = foreign_key_checks()
    yield
    assert foreign_key_checks() == before


def foreign_key_checks():
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@foreign_key_checks")
        return cursor.fetchone()[0]


@pytest.mark.parametrize("reset_sequences", [False, True])
def test_statements_are_djangos(reset_sequences):
    expected = super(operations.DatabaseOperations, connection.ops).sql_flush(
        no_style(), TABLES, reset_sequences=reset_sequences
    )
    assert len(expected) == len(TABLES) + 2
    assert expected == connection.ops.sql_flush(
        no_style(), TABLES, reset_sequences=reset_sequences
    )
    assert connection.ops.sql_flush(no_style(), []) == []


def test_empty_tables_take_one_round_trip():
    (statement,) = flush()
    assert statement.count("UNION ALL") == len(TABLES) - 1


def test_only_tables_with_rows_are_emptied():
    author = Author.objects.create(name="a")
    Book.objects.create(author=author, title="t")
    # The table core_author comes first, although core_book refers to its rows.
    statements = flush([Author._meta.db_table, Book._meta.db_table, *TABLES[2:]])
    assert changes(statements) == [
        f"DELETE FROM `core_author` LIMIT {operations._FEW_ROWS}",
        f"DELETE FROM `core_book` LIMIT {operations._FEW_ROWS}",
    ]


@pytest.mark.parametrize("reset_sequences", [False, True])
def test_the_case_of_a_table_name_does_not_count(monkeypatch, reset_sequences):
    author = Author.objects.create(name="a")
    Book.objects.create(author=author, title="t")
    for model in (Author, Book):
        monkeypatch.setattr(model._meta, "db_table", model._meta.db_table.upper())
    tables = connection.introspection.django_table_names(only_existing=True)
    assert {"CORE_AUTHOR", "CORE_BOOK"} < set(tables)
    flush(tables, reset_sequences=reset_sequences)
    if reset_sequences:
        assert Author.objects.create(name="b").pk == 1


def test_many_tables(monkeypatch):
    monkeypatch.setattr(operations, "_TABLES_AT_ONCE", 2)
    Event.objects.create(name="e")
    statements = flush()
    assert len([sql for sql in statements if sql.startswith("(SELECT 0 ")]) == 3
    assert changes(statements) == ["DELETE FROM `autorandom_event` LIMIT 1000"]


@pytest.mark.parametrize("number", [2, 3, 4])
def test_many_rows(monkeypatch, number):
    monkeypatch.setattr(operations, "_FEW_ROWS", 3)
    Author.objects.bulk_create(Author(name=str(i)) for i in range(number))
    statements = changes(flush())
    assert statements[0] == "DELETE FROM `core_author` LIMIT 3"
    assert ("TRUNCATE TABLE `core_author`" in statements) == (number >= 3)
    assert Author.objects.count() == 0


def test_nothing_is_truncated_in_a_transaction(monkeypatch):
    monkeypatch.setattr(operations, "_FEW_ROWS", 3)
    Author.objects.bulk_create(Author(name=str(i)) for i in range(5))
    with transaction.atomic():
        assert changes(flush()) == [f"DELETE FROM `{table}`" for table in TABLES]
        transaction.set_rollback(True)
    assert Author.objects.count() == 5


def test_reset_of_what_has_moved():
    author = Author.objects.create(name="a")
    Book.objects.create(author=author, title="t")
    Book.objects.all().delete()
    Event.objects.create(name="e")
    flush(reset_sequences=True)
    assert flush(reset_sequences=True) != []
    assert changes(flush(reset_sequences=True)) == []
    author.pk = None
    author.save(force_insert=True)
    # An explicit id moves the counter of the table as well.
    Word.objects.create(pk=7, text="a", insensitive="a")
    Book.objects.create(author=author, title="t").delete()
    Event.objects.create(name="e")
    assert sorted(changes(flush(reset_sequences=True))) == [
        "DELETE FROM `autorandom_event` LIMIT 1000",
        "TRUNCATE TABLE `core_author`",
        "TRUNCATE TABLE `core_book`",
        "TRUNCATE TABLE `core_word`",
    ]
    for model in (Author, Word, Shelf):
        row = model(height=1) if model is Shelf else model()
        row.save()
        assert row.pk == 1


def test_reset_of_a_negative_id():
    Author.objects.create(pk=-5, name="a")
    flush(reset_sequences=True)
    assert Author.objects.create(name="b").pk == 1


def test_reset_in_a_transaction():
    with transaction.atomic():
        Author.objects.create(name="a")
        flush(reset_sequences=True)
    assert Author.objects.create(name="b").pk == 1


def test_variables_after_an_error():
    statements = connection.ops.sql_flush(no_style(), [*TABLES, "core_missing"])
    checks = foreign_key_checks()
    with pytest.raises(DatabaseError, match="core_missing"):
        connection.ops.execute_sql_flush(statements)
    assert foreign_key_checks() == checks
    with pytest.raises(DatabaseError, match="core_missing"), transaction.atomic():
        connection.ops.execute_sql_flush(statements)


def test_an_error_leaves_the_rows(monkeypatch):
    Author.objects.create(name="a")
    Shelf.objects.create(height=1)
    monkeypatch.setattr(
        operations.DatabaseOperations,
        "not_empty",
        lambda self, cursor, tables: ["core_author", "core_shelf", "core_missing"],
    )
    statements = connection.ops.sql_flush(no_style(), TABLES)
    with pytest.raises(DatabaseError, match="core_missing"):
        connection.ops.execute_sql_flush(statements)
    assert Author.objects.count() == Shelf.objects.count() == 1


def test_checks_that_were_off_stay_off():
    with connection.session_variables(foreign_key_checks=0):
        Author.objects.create(name="a")
        flush()
        assert foreign_key_checks() == 0


def test_statements_of_others():
    Author.objects.create(name="a")
    Shelf.objects.create(height=1)
    statements = connection.ops.sql_flush(no_style(), TABLES)
    connection.ops.execute_sql_flush(
        [sql for sql in statements if "core_shelf" not in sql]
        + ["UPDATE core_shelf SET height = 2"]
    )
    assert (Author.objects.count(), Shelf.objects.get().height) == (0, 2)


def test_open_transactions_of_others_do_not_matter_for_few_rows():
    Author.objects.create(name="a")

    def flush_and_close():
        flush()
        connections.close_all()

    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT * FROM core_author")
            flusher = threading.Thread(target=flush_and_close)
            flusher.start()
            flusher.join(30)
            assert not flusher.is_alive()
            cursor.execute("ROLLBACK")
    finally:
        other.close()


def test_command():
    Group.objects.create(name="g")
    Author.objects.create(name="a")
    call_command("flush", interactive=False, verbosity=0)
    assert not Group.objects.exists()
    assert Author.objects.create(name="b").pk == 1


def sequences(*models):
    return [
        sequence
        for sequence in connection.introspection.sequence_list()
        if sequence["table"] in [model._meta.db_table for model in models]
    ]


def reset(*models):
    statements = connection.ops.sequence_reset_by_name_sql(
        no_style(), sequences(*models)
    )
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    return statements


def test_sequence_list():
    assert sequences(*MODELS) == [
        {"table": table, "column": "id"}
        for table in sorted(set(TABLES) - {"autorandom_event"})
    ]
    through = Group.permissions.through
    assert sequences(through) == [{"table": through._meta.db_table, "column": "id"}]


def test_reset_sequences():
    flush(reset_sequences=True)
    assert reset(Author, Book) == []
    Author.objects.create(name="a").delete()
    assert len(reset(Author, Book)) == 1
    assert Author.objects.create(name="b").pk == 1


@pytest.mark.works("force-auto-increment")
def test_reset_sequences_of_tables_with_rows():
    flush(reset_sequences=True)
    authors = [Author.objects.create(name=str(i)) for i in range(3)]
    authors[1].delete()
    authors[2].delete()
    reset(Author)
    assert Author.objects.create(name="b").pk == authors[0].pk + 1


@pytest.mark.works("force-auto-increment")
def test_reset_sequences_of_a_nonclustered_table():
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE nonclustered "
            "(id BIGINT AUTO_INCREMENT PRIMARY KEY NONCLUSTERED, n INT)"
        )
        try:
            cursor.execute("INSERT INTO nonclustered (n) VALUES (1), (2), (3)")
            cursor.execute("UPDATE nonclustered SET id = -id")
            for statement in connection.ops.sequence_reset_by_name_sql(
                no_style(), [{"table": "nonclustered", "column": "id"}]
            ):
                cursor.execute(statement)
            for number in range(4, 10):
                cursor.execute("INSERT INTO nonclustered (n) VALUES (%s)", [number])
            cursor.execute("SELECT n FROM nonclustered ORDER BY n")
            assert [n for (n,) in cursor.fetchall()] == list(range(1, 10))
        finally:
            cursor.execute("DROP TABLE nonclustered")


def test_django_table_names():
    with connection.cursor() as cursor:
        cursor.execute("RENAME TABLE core_shelf TO core_gone")
        cursor.execute("CREATE VIEW core_shelf AS SELECT * FROM core_gone")
    names = connection.introspection.django_table_names
    try:
        existing = names(only_existing=True)
        assert set(existing) == set(names())
        tables = names(only_existing=True, include_views=False)
        assert set(existing) - set(tables) == {"core_shelf"}
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP VIEW core_shelf")
        assert "core_shelf" not in names(only_existing=True)
        with connection.cursor() as cursor:
            cursor.execute("RENAME TABLE core_gone TO core_shelf")
