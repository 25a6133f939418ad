"""Test copies of the test database, which tests that run in parallel use."""

from __future__ import annotations

import re

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connections, models
from django.db.migrations.recorder import MigrationRecorder
from django.db.utils import DatabaseError, IntegrityError
from django.test.utils import CaptureQueriesContext

from tests.autorandom.models import Event

from .models import Author, Book, Shelf

connection = connections["default"]
pytestmark = pytest.mark.django_db(transaction=True)

# These options tell where the next id starts. They may differ between the copies.
_COUNTERS = re.compile(
    r" AUTO_INCREMENT=\d+| /\*T!\[auto_rand_base\] AUTO_RANDOM_BASE=\d+ \*/"
)

TABLES = {
    "parent": (
        "CREATE TABLE parent (id BIGINT AUTO_INCREMENT PRIMARY KEY, a INT, "
        "`odd ``name` INT AS (a + 1) VIRTUAL, b INT AS (a * 2) STORED, "
        "s VARCHAR(20) COLLATE utf8mb4_general_ci UNIQUE DEFAULT 'it''s `x`.`y`') "
        "AUTO_ID_CACHE 100"
    ),
    # The name of this table sorts before the name of the table that it refers to.
    "child": (
        "CREATE TABLE child (id BIGINT PRIMARY KEY AUTO_RANDOM, parent BIGINT, "
        "CONSTRAINT fk FOREIGN KEY (parent) REFERENCES parent (id))"
    ),
    "rowid": "CREATE TABLE rowid (a INT) SHARD_ROW_ID_BITS = 2",
    "pair": "CREATE TABLE pair (a INT, b VARCHAR(9), PRIMARY KEY (b, a))",
}


@pytest.fixture
def cursor():
    with connection.cursor() as cursor:
        yield cursor


@pytest.fixture
def source(cursor, transactional_db):
    """Add tables to the test database, make the cursor use it, and return its name."""
    for sql in TABLES.values():
        cursor.execute(sql)
    cursor.execute("INSERT INTO parent (id, a) VALUES (-3, 1)")
    cursor.execute("INSERT INTO parent (a, s) VALUES (2, 'x')")
    cursor.execute("INSERT INTO child (parent) SELECT id FROM parent")
    cursor.execute("INSERT INTO rowid VALUES (1), (1), (NULL)")
    cursor.execute("INSERT INTO pair VALUES (1, 'x'), (0, 'y'), (1, 'y')")
    yield connection.settings_dict["NAME"]
    cursor.execute("DROP TABLE child, " + ", ".join(TABLES.keys() - {"child"}))


@pytest.fixture
def clone(cursor):
    """
    Return a function that copies the test database and returns the name of the copy.
    """
    creation = connection.creation
    name = creation.get_test_db_clone_settings("copy")["NAME"]

    def clone(keepdb=False):
        creation.clone_test_db("copy", verbosity=0, keepdb=keepdb)
        return name

    yield clone
    cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")


def contents(cursor, database):
    """Return each table's definition, without the counters of ids, and its rows."""
    cursor.execute(f"SHOW FULL TABLES FROM `{database}`")
    found = {}
    for name, kind in cursor.fetchall():
        if kind == "BASE TABLE":
            cursor.execute(f"SHOW CREATE TABLE `{database}`.`{name}`")
            # TiDB 7.5 writes the name of the database before the name of a referenced
            # table.
            definition = _COUNTERS.sub("", cursor.fetchone()[1]).replace(
                f" REFERENCES `{database}`.", " REFERENCES "
            )
            cursor.execute(f"SELECT * FROM `{database}`.`{name}`")
            found[name] = (definition, sorted(map(repr, cursor.fetchall())))
    return found


def test_copy_is_equal(cursor, source, clone):
    ContentType.objects.get_for_model(Author)
    author = Author.objects.create(name="a")
    Book.objects.create(author=author, title="t")
    Event.objects.create(name="e")
    expected = contents(cursor, source)
    assert {"core_author", *TABLES} <= expected.keys()
    copy = contents(cursor, clone())
    assert copy.keys() == expected.keys()
    for table in expected:
        assert copy[table] == expected[table]
    assert contents(cursor, source) == expected


@pytest.mark.parametrize("size", [1, 2, 3])
def test_rows_are_copied_in_batches(cursor, source, clone, monkeypatch, size):
    monkeypatch.setattr("django_tidb.rebuild.BATCH", size)
    assert contents(cursor, clone()) == contents(cursor, source)


@pytest.mark.long
def test_ids_go_on(cursor, source, clone):
    # The row with the greatest id is deleted; the copy must not use this id again.
    cursor.execute("INSERT INTO parent (a, s) VALUES (9, 'last')")
    cursor.execute("SELECT MAX(id) FROM parent")
    (last,) = cursor.fetchone()
    cursor.execute("DELETE FROM parent WHERE id = %s", [last])
    copy = clone()
    cursor.execute(f"INSERT INTO `{copy}`.parent (s) VALUES ('new')")
    cursor.execute(f"SELECT id FROM `{copy}`.parent WHERE s = 'new'")
    assert cursor.fetchone()[0] > last
    for table in (source, copy):
        cursor.execute(f"SHOW TABLE `{table}`.child NEXT_ROW_ID")
        # The server has reserved the first 30,000 ids.
        assert cursor.fetchone()[3] > 30_000
    for _ in range(20):
        cursor.execute(f"INSERT INTO `{copy}`.child VALUES ()")
    cursor.execute(f"SELECT COUNT(*) FROM `{copy}`.child")
    assert cursor.fetchone() == (22,)


def test_zero_is_an_id(cursor, source, clone):
    cursor.execute("SET @mode = @@sql_mode, sql_mode = 'NO_AUTO_VALUE_ON_ZERO'")
    try:
        cursor.execute("INSERT INTO parent (id, s) VALUES (0, 'zero')")
    finally:
        cursor.execute("SET sql_mode = @mode")
    assert contents(cursor, clone())["parent"] == contents(cursor, source)["parent"]


@pytest.mark.works("foreign-key")
def test_foreign_keys_hold_in_the_copy(cursor, source, clone):
    copy = clone()
    with pytest.raises(IntegrityError):
        cursor.execute(f"INSERT INTO `{copy}`.child (parent) VALUES (77)")
    cursor.execute(f"INSERT INTO `{copy}`.parent (id, s) VALUES (77, 's')")
    cursor.execute(f"INSERT INTO `{copy}`.child (parent) VALUES (77)")
    # A foreign key of the source still refers to the source's own table.
    with pytest.raises(IntegrityError):
        cursor.execute("INSERT INTO child (parent) VALUES (77)")


@pytest.mark.long
def test_checks_hold_in_the_copy(cursor, source, clone, check_constraints):
    if not check_constraints:
        pytest.skip(
            "TiDB has CHECK constraints from 7.2: "
            "https://docs.pingcap.com/tidb/stable/constraints#check"
        )
    cursor.execute("CREATE TABLE checked (a INT, CONSTRAINT c CHECK (a > 0 OR a < -9))")
    try:
        copy = clone()
        with pytest.raises(IntegrityError):
            cursor.execute(f"INSERT INTO `{copy}`.checked (a) VALUES (0)")
        definitions = []
        for name in (source, copy):
            cursor.execute(f"SHOW CREATE TABLE `{name}`.checked")
            definitions.append(cursor.fetchone()[1])
        assert definitions[0] == definitions[1]
    finally:
        cursor.execute("DROP TABLE checked")


def test_views_and_sequences_belong_to_the_copy(cursor, source, clone):
    cursor.execute("CREATE SEQUENCE seq START WITH 5")
    cursor.execute("CREATE TABLE numbered (n INT DEFAULT NEXTVAL(seq), a INT)")
    # The view w comes last in the order of names, but the view v reads it.
    cursor.execute(f"CREATE VIEW w AS SELECT a, '`{source}`.`x`' AS s FROM parent")
    cursor.execute("CREATE VIEW v AS SELECT w.*, child.id FROM w, child")
    try:
        copy = clone()
        cursor.execute(f"SELECT s FROM `{copy}`.v")
        assert len(rows := cursor.fetchall()) == 4
        assert set(rows) == {(f"`{source}`.`x`",)}
        cursor.execute("DELETE FROM child")
        cursor.execute(f"SELECT COUNT(*) FROM `{copy}`.v")
        assert cursor.fetchone() == (4,)
        cursor.execute(f"INSERT INTO `{copy}`.numbered (a) VALUES (1)")
        cursor.execute(f"SELECT n FROM `{copy}`.numbered")
        assert cursor.fetchone() == (5,)
        # The copy has its own sequence, which is independent of the source's sequence.
        cursor.execute(f"SELECT NEXTVAL(`{copy}`.seq), NEXTVAL(seq)")
        assert cursor.fetchone() == (6, 5)
    finally:
        cursor.execute("DROP VIEW v, w")
        cursor.execute("DROP TABLE numbered")
        cursor.execute("DROP SEQUENCE seq")


def test_temporary_table_stays_temporary_in_the_copy(cursor, clone):
    name = "global_one"
    cursor.execute(
        f"CREATE GLOBAL TEMPORARY TABLE {name} (a INT) ON COMMIT DELETE ROWS"
    )
    try:
        copy = clone()
        cursor.execute(f"SHOW CREATE TABLE `{copy}`.{name}")
        definition = cursor.fetchone()[1]
        assert definition.startswith("CREATE GLOBAL TEMPORARY TABLE")
        assert definition.endswith("ON COMMIT DELETE ROWS")
    finally:
        cursor.execute(f"DROP TABLE {name}")


def test_copy_has_the_collation_of_the_database(cursor, clone):
    source = connection.settings_dict["NAME"]
    cursor.execute(f"ALTER DATABASE `{source}` COLLATE utf8mb4_general_ci")
    try:
        cursor.execute(f"SHOW CREATE DATABASE `{clone()}`")
        assert "utf8mb4_general_ci" in cursor.fetchone()[1]
    finally:
        cursor.execute(f"ALTER DATABASE `{source}` COLLATE utf8mb4_bin")


def test_a_copy_is_kept(cursor, clone):
    copy = clone(keepdb=True)
    cursor.execute(f"INSERT INTO `{copy}`.core_author (name, bio) VALUES ('k', '')")
    clone(keepdb=True)
    cursor.execute(f"SELECT name FROM `{copy}`.core_author")
    assert cursor.fetchall() == (("k",),)
    clone(keepdb=False)
    cursor.execute(f"SELECT name FROM `{copy}`.core_author")
    assert cursor.fetchall() == ()


@pytest.mark.long
@pytest.mark.parametrize("change", ["table", "column", "migration"])
def test_a_copy_is_made_anew_after_migrations(cursor, clone, change):
    copy = clone(keepdb=True)
    cursor.execute(f"INSERT INTO `{copy}`.core_author (name, bio) VALUES ('k', '')")
    if change == "table":
        cursor.execute(f"DROP TABLE `{copy}`.core_shelf")
    elif change == "column":
        cursor.execute(f"ALTER TABLE `{copy}`.core_shelf ADD COLUMN width INT")
    else:
        table = MigrationRecorder.Migration._meta.db_table
        cursor.execute(f"DELETE FROM `{copy}`.{table} LIMIT 1")
    clone(keepdb=True)
    source = connection.settings_dict["NAME"]
    assert contents(cursor, copy) == contents(cursor, source)


def test_tables_without_rows_are_not_read(clone, django_assert_max_num_queries):
    Shelf.objects.all().delete()
    before = len(connection.introspection.table_names())
    # The limit allows one query for each table's definition, and 40 more.
    with django_assert_max_num_queries(before + 40, connection=connection):
        clone()


@pytest.fixture
def shelves(cursor, make_model):
    """
    Return three models. The first and the third have no foreign keys, and the second
    refers to both of them.
    """

    def model(name, **fields):
        return make_model(name, meta={"db_table": name}, **fields)

    first = model(
        "first",
        label=models.CharField(max_length=9, unique=True, db_comment="50% 'off'"),
    )
    between = model(
        "between",
        first=models.ForeignKey(first, models.CASCADE),
        last=models.ForeignKey("last", models.CASCADE),
    )
    yield [first, between, model("last", depth=models.IntegerField(db_index=True))]
    drop_shelves(cursor)


def drop_shelves(cursor):
    cursor.execute("SET foreign_key_checks = 0")
    cursor.execute("DROP TABLE IF EXISTS first, `between`, last")
    cursor.execute("SET foreign_key_checks = 1")


def create(shelves):
    """
    Create the tables. Return this connection's CREATE TABLE statements and the
    definitions.
    """
    with (
        CaptureQueriesContext(connection) as queries,
        connection.schema_editor() as editor,
        editor.gathering("a test"),
    ):
        for model in shelves:
            editor.create_model(model)
    tables = {}
    with connection.cursor() as cursor:
        for model in shelves:
            cursor.execute(f"SHOW CREATE TABLE `{model._meta.db_table}`")
            tables[model] = cursor.fetchone()[1]
        drop_shelves(cursor)
    sql = [query["sql"] for query in queries.captured_queries]
    return [line for line in sql if line.startswith("CREATE TABLE")], tables


def test_tables_of_a_test_database_are_created_together(shelves, monkeypatch):
    one_by_one, expected = create(shelves)
    assert len(one_by_one) == 3
    others = []
    monkeypatch.setattr(connection.creation, "creating", True)
    monkeypatch.setattr(
        "django_tidb.together._connects",
        lambda other: others.append(other) or other.ensure_connection() is None,
    )
    own, tables = create(shelves)
    assert tables == expected
    if not connection.features.creates_tables_together:
        assert own == one_by_one
        assert not others
        return
    # One connection has compared the variables, and the other one has created tables.
    assert len(others) == 2
    assert own[-1].startswith("CREATE TABLE `between`")


@pytest.mark.parametrize(
    ("change", "back"),
    [
        ("SESSION tidb_enable_clustered_index = OFF", "ON"),
        ("GLOBAL max_connections = 1", "0"),
    ],
)
def test_tables_are_created_one_by_one(shelves, cursor, monkeypatch, change, back):
    monkeypatch.setattr(connection.creation, "creating", True)
    with connection.schema_editor():
        if not connection.features.creates_tables_together:
            pytest.skip("They always are: no accelerated table creation.")
    cursor.execute(f"SET {change}")
    try:
        own, tables = create(shelves)
    finally:
        cursor.execute(f"SET {change.partition('=')[0]} = {back}")
    assert len(own) == 3
    clustered = all(" CLUSTERED " in sql for sql in tables.values())
    assert clustered == ("GLOBAL" in change)


def test_a_test_database_is_complete_after_migrate():
    assert connection.creation.creating is False


def test_helpers_need_not_connect(shelves, monkeypatch):
    answers = iter([True, False])
    monkeypatch.setattr(connection.creation, "creating", True)
    monkeypatch.setattr("django_tidb.together._connects", lambda _: next(answers))
    own, _ = create(shelves)
    assert len(own) == 3


def test_tables_are_created_one_by_one_without_autocommit(shelves, monkeypatch):
    monkeypatch.setattr(connection.creation, "creating", True)
    connection.set_autocommit(False)
    try:
        own, _ = create(shelves)
    finally:
        connection.set_autocommit(True)
    assert len(own) == 3


def test_an_error_of_a_table_created_with_others_names_it(shelves, cursor, monkeypatch):
    monkeypatch.setattr(connection.creation, "creating", True)
    cursor.execute("CREATE TABLE first (a INT)")
    with pytest.raises(DatabaseError, match=r"first' already exists.*a test"):
        create(shelves)
    # The connection can still be used after the error.
    cursor.execute("SELECT COUNT(*) FROM first")
    assert cursor.fetchone() == (0,)
