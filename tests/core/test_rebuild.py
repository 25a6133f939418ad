from __future__ import annotations

import threading
from contextlib import contextmanager

import MySQLdb
import pytest
from django.db import (
    DatabaseError,
    IntegrityError,
    NotSupportedError,
    OperationalError,
    connection,
    models,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

from django_tidb import rebuild
from django_tidb.definition import TableDefinition
from django_tidb.introspection import read_definition
from django_tidb.known_issues import KNOWN_ISSUES
from django_tidb.names import quote
from tests.tables import isolated_models, model_class

pytestmark = pytest.mark.django_db(transaction=True)

NEW, OLD = "shop__rebuild_new", "shop__rebuild_old"


def run(*statements):
    with connection.cursor() as cursor:
        for sql in statements:
            cursor.execute(sql)
        return cursor.fetchall()


def alter(sql):
    with connection.schema_editor() as editor:
        editor.execute(sql, None)


def tables():
    names = [name for (name,) in run("SHOW TABLES")]
    return {name for name in names if name.lower().startswith(("shop", "item"))}


@pytest.fixture
def drops():
    yield
    run(
        "SET foreign_key_checks = 0",
        *(f"DROP TABLE `{name}`" for name in tables()),
        "SET foreign_key_checks = 1",
    )


def allow(monkeypatch, value):
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "rebuild_tables", value)


@pytest.fixture
def allowed(monkeypatch):
    allow(monkeypatch, True)


@pytest.fixture
def shop(drops, check_constraints):
    """
    Create a table with many kinds of columns and keys that refers to a parent and to
    itself, and a child table that refers to it.
    """
    foreign = connection.features.supports_foreign_keys
    run(
        "CREATE TABLE item_parent (id INT PRIMARY KEY)",
        "INSERT INTO item_parent VALUES (1), (2)",
        "CREATE TABLE shop (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(20) "
        "NOT NULL COMMENT 'a, (b) ''c''', parent_id INT, shop_id INT, data JSON, "
        "raw BLOB, price DECIMAL(9, 2) DEFAULT 1.5, "
        "twice INT GENERATED ALWAYS AS (parent_id * 2) VIRTUAL, "
        "UNIQUE KEY shop_name (name), KEY shop_price (price, name)"
        + (
            ", KEY shop_lower ((LOWER(name)))"
            if connection.features.supports_expression_indexes
            else ""
        )
        + (
            ", CONSTRAINT shop_parent FOREIGN KEY (parent_id) REFERENCES item_parent "
            "(id) ON DELETE CASCADE, CONSTRAINT shop_self FOREIGN KEY (shop_id) "
            "REFERENCES shop (id)"
            if foreign
            else ""
        )
        + (
            ", CONSTRAINT shop_check CHECK ((price > 0) OR (name = '(('))"
            if check_constraints
            else ""
        )
        + ") COMMENT 'of ''everything''' AUTO_ID_CACHE 100",
        "INSERT INTO shop (id, name, parent_id, shop_id, data, raw) VALUES "
        "(7, 'a', 1, 7, '{\"x\": [1]}', x'00ff'), (9, 'B', 2, NULL, NULL, NULL)",
        "CREATE TABLE item (id INT PRIMARY KEY, shop_id INT"
        + (
            ", CONSTRAINT item_shop FOREIGN KEY (shop_id) REFERENCES shop (id)"
            if foreign
            else ""
        )
        + ")",
        "INSERT INTO item VALUES (1, 7)",
    )
    return state()


def state():
    """Return the rows and definitions that a rebuild has to keep."""
    shop, item = (read_definition(connection, name) for name in ("shop", "item"))
    return (
        run("SELECT id, name, parent_id, shop_id, data, raw, price FROM shop"),
        {(key.kind, key.name): key for key in shop.keys if key.name},
        item.keys,
        shop.options.split(" AUTO_INCREMENT=")[0],
        shop.options.split("COMMENT=")[1],
    )


# Every TiDB refuses this statement, because it changes the clustered primary key.
REFUSED = "ALTER TABLE `shop` DROP PRIMARY KEY"
ADD_STORED = (
    "ALTER TABLE `shop` ADD COLUMN `plus` int AS (CAST(`price` * 2 AS SIGNED)) STORED"
)


@pytest.mark.long
def test_everything_survives(shop, allowed):
    alter(ADD_STORED)
    assert state() == shop
    assert run("SELECT plus FROM shop") == ((3,), (3,))
    assert tables() == {"shop", "item", "item_parent"}
    # New ids continue after the ids of the old table.
    run("INSERT INTO shop (name) VALUES ('c')")
    assert run("SELECT MIN(id) > 9 FROM shop WHERE name = 'c'") == ((1,),)


@pytest.mark.works("foreign-key")
def test_the_case_of_a_table_name_does_not_count(shop, allowed):
    alter(ADD_STORED.replace("`shop`", "`Shop`"))
    assert tables() == {"Shop", "item", "item_parent"}
    with pytest.raises(IntegrityError):
        run("INSERT INTO item VALUES (2, 8)")
    run("INSERT INTO item VALUES (2, 9)")


@pytest.mark.works("foreign-key")
def test_foreign_keys_hold_afterwards(shop, allowed):
    alter(ADD_STORED)
    for statement in (
        "INSERT INTO item VALUES (2, 8)",
        "DELETE FROM shop WHERE id = 7",
        "INSERT INTO shop (name, parent_id) VALUES ('x', 3)",
        "INSERT INTO shop (name, shop_id) VALUES ('x', 3)",
    ):
        with pytest.raises(IntegrityError):
            run(statement)
    run("DELETE FROM item", "DELETE FROM item_parent WHERE id = 2")
    assert run("SELECT id FROM shop") == ((7,),)


@pytest.mark.long
def test_position_of_auto_random(drops, allowed):
    run(
        "CREATE TABLE shop (id BIGINT AUTO_RANDOM(5) PRIMARY KEY, a INT)",
        "INSERT INTO shop (a) VALUES (1), (2), (3)",
    )
    before = set(run("SELECT id, a FROM shop"))
    alter("ALTER TABLE `shop` ADD COLUMN `plus` int AS (`a` + 1) STORED")
    assert set(run("SELECT id, a FROM shop")) == before
    for _ in range(50):
        run("INSERT INTO shop (a) VALUES (4)")
    assert run("SELECT COUNT(DISTINCT id) FROM shop") == ((53,),)


def test_rows_of_more_than_one_batch(drops, allowed, monkeypatch):
    monkeypatch.setattr(rebuild, "BATCH", 10)
    run("CREATE TABLE shop (a INT, b VARCHAR(9), PRIMARY KEY (a, b))")
    for number in range(3):
        values = ", ".join(f"({number}, '{letter}')" for letter in "abcdefghijklmn")
        run(f"INSERT INTO shop VALUES {values}")
    before = run("SELECT a, b FROM shop ORDER BY a, b")
    alter("ALTER TABLE `shop` DROP PRIMARY KEY")
    # The table has no primary key any more, so the rebuild copies it by _tidb_rowid.
    alter("ALTER TABLE `shop` ADD COLUMN `plus` int AS (`a` + 1) STORED")
    assert run("SELECT a, b FROM shop ORDER BY a, b") == before


@pytest.mark.long
def test_refused_with_rows(shop, monkeypatch):
    for value in (False, (), ["item"]):
        allow(monkeypatch, value)
        with pytest.raises(NotSupportedError, match=r"OPTIONS.*rebuild_tables"):
            alter(REFUSED)
    assert state() == shop
    assert tables() == {"shop", "item", "item_parent"}
    allow(monkeypatch, ["shop"])
    alter(ADD_STORED)
    assert state() == shop


def test_allowed_without_rows(drops):
    run("CREATE TABLE shop (id INT PRIMARY KEY)")
    alter(REFUSED)
    assert read_definition(connection, "shop").primary_key is None


def test_rows_that_do_not_fit(drops, allowed):
    run(
        "CREATE TABLE shop (id VARCHAR(9) PRIMARY KEY)",
        "INSERT INTO shop VALUES ('1'), ('x')",
    )
    with pytest.raises(DatabaseError, match="x"):
        alter("ALTER TABLE `shop` MODIFY `id` int NOT NULL")
    assert run("SELECT id FROM shop") == (("1",), ("x",))
    assert tables() == {"shop"}


def test_zero_stays_zero(drops, allowed):
    run("CREATE TABLE shop (id INT PRIMARY KEY)", "INSERT INTO shop VALUES (0), (1)")
    alter("ALTER TABLE `shop` MODIFY `id` int AUTO_INCREMENT NOT NULL")
    assert run("SELECT id FROM shop") == ((0,), (1,))
    run("INSERT INTO shop VALUES ()")
    assert run("SELECT COUNT(*), MAX(id) > 1 FROM shop") == ((3, 1),)


def test_comment_that_looks_like_an_option(drops, allowed):
    comment = "a AUTO_RANDOM_BASE=5 AUTO_INCREMENT=7, b"
    run(
        f"CREATE TABLE shop (id INT PRIMARY KEY, a INT COMMENT '{comment}') "
        f"COMMENT '{comment}'"
    )
    alter("ALTER TABLE `shop` ADD COLUMN `plus` int AS (`a` + 1) STORED")
    definition = read_definition(connection, "shop")
    assert definition.option("COMMENT") == f"'{comment}'"
    assert definition.column("a").definition.endswith(f"COMMENT '{comment}'")


@pytest.mark.long
def test_column_of_a_primary_key_becomes_not_null(drops, allowed):
    run(
        "CREATE TABLE shop (id INT PRIMARY KEY, a INT DEFAULT NULL)",
        "INSERT INTO shop VALUES (1, 5)",
    )
    alter("ALTER TABLE `shop` DROP PRIMARY KEY, ADD PRIMARY KEY (`a`)")
    definition = read_definition(connection, "shop")
    assert definition.primary_key.columns == ("a",)
    assert definition.column("a").is_not_null
    assert run("SELECT * FROM shop") == ((1, 5),)


@pytest.mark.long
def test_session_is_as_before(shop, allowed):
    names = (
        "@@foreign_key_checks, @@sql_mode, @@allow_auto_random_explicit_insert, "
        "@@tidb_txn_mode"
    )
    before = run(f"SELECT {names}")
    alter(ADD_STORED)
    assert run(f"SELECT {names}") == before
    with pytest.raises(DatabaseError):
        alter("ALTER TABLE `shop` MODIFY `id` datetime NOT NULL")
    assert run(f"SELECT {names}") == before


class Fault(OperationalError):
    pass


@contextmanager
def fault_at(monkeypatch, number, *, killed):
    """
    Raise an error at statement `number` of a rebuild, or end the rebuild as if killed
    there.
    """
    done = []
    real = rebuild._Tables.run

    def faulty(self, sql):
        done.append(sql)
        if len(done) == number:
            raise Fault(1105, f"fault at {sql}")
        real(self, sql)

    with monkeypatch.context() as patch:
        patch.setattr(rebuild._Tables, "run", faulty)
        if killed:
            patch.setattr(rebuild._Tables, "go_back", lambda self: None)
        yield done


def migrate():
    """Run a migration that needs a rebuild."""
    # A test calls this function several times, so the model is in no app registry.
    with isolated_models():
        Shop = model_class(
            "Shop",
            module=__name__,
            price=models.DecimalField(max_digits=9, decimal_places=2),
            plus=models.GeneratedField(
                expression=models.F("price") * 2,
                output_field=models.IntegerField(),
                db_persist=True,
            ),
            meta={"db_table": "shop"},
        )
    with connection.schema_editor() as editor:
        editor.add_field(Shop, Shop._meta.get_field("plus"))


needs_generated = pytest.mark.skipif(
    not hasattr(models, "GeneratedField"),
    reason="GeneratedField is new in Django 5.0: "
    "https://docs.djangoproject.com/en/5.0/releases/5.0/",
)


@pytest.mark.long
@needs_generated
@pytest.mark.parametrize("killed", [False, True])
def test_fault_at_every_step(shop, allowed, monkeypatch, killed):
    number = 0
    while True:
        number += 1
        with fault_at(monkeypatch, number, killed=killed) as done:
            if number > 30:
                pytest.fail("The rebuild does not end.")
            try:
                migrate()
            except Fault:
                pass
            else:
                break
        # The old or the new table is complete under a name that the next run finds.
        found = tables()
        if "shop" in found:
            assert state()[0] == shop[0]
        else:
            assert killed
            assert {OLD, NEW} <= found
            assert run(f"SELECT COUNT(*) FROM {OLD}") == ((2,),)
        if not killed and not any(f"RENAME TABLE `{NEW}`" in sql for sql in done[:-1]):
            assert tables() == {"shop", "item", "item_parent"}
            assert state() == shop
        # Another run of the migration finishes the rebuild.
        migrate()
        assert state() == shop
        assert run("SELECT plus FROM shop ORDER BY id") == ((3,), (3,))
        assert tables() == {"shop", "item", "item_parent"}
        run("ALTER TABLE shop DROP COLUMN plus")
    # The rebuild creates the new table, renames both and drops the old table; foreign
    # keys need more statements.
    assert len(done) >= 4
    assert state() == shop


LONG_NAMES = [
    *("x" * 54 + "y", "_" + "x" * 55, "X" * 63 + "_", "é" * 31 + "_"),
    "x` %_" * 12,
    # Django generates such names.
    "a_" * 10 + "customer_parent_id_8fb0e76c_fk_a_customer_id",
    "a_" * 16 + "b_positive_length_check_with_51",
]


@pytest.mark.parametrize("name", LONG_NAMES)
def test_interim_names(name):
    interim = rebuild._interim(name)
    assert len(interim.encode()) <= 64
    assert interim != name == rebuild._final(interim)
    assert rebuild._final(name) is None


@needs_generated
@pytest.mark.thorough
@pytest.mark.works("foreign-key")
def test_constraints_with_long_names(shop, allowed, monkeypatch, check_constraints):
    names = LONG_NAMES[-2:]
    run(
        *(
            f"ALTER TABLE {table} ADD CONSTRAINT {quote(name)} FOREIGN KEY (shop_id) "
            "REFERENCES shop (id)"
            for table in ("shop", "item")
            for name in names
        ),
        *(
            f"ALTER TABLE shop ADD CONSTRAINT {quote(name)} CHECK (price > 0)"
            for name in names * check_constraints
        ),
    )

    def everything():
        rows, keys, item, *options = state()
        return rows, keys, {(key.kind, key.name): key for key in item}, options

    before = everything()
    with fault_at(monkeypatch, 0, killed=False) as done:
        migrate()
    assert everything() == before
    # Before these statements, the constraint exists only under its interim name.
    final = f"ADD CONSTRAINT `{names[-1]}`"
    steps = [number for number, sql in enumerate(done, 1) if final in sql]
    assert len(steps) == 2 + check_constraints
    for number in (steps[0], steps[-1]):
        run("ALTER TABLE shop DROP COLUMN plus")
        with fault_at(monkeypatch, number, killed=True), pytest.raises(Fault):
            migrate()
        migrate()
        assert everything() == before


@pytest.mark.long
@pytest.mark.parametrize("name", ["é" * 28, "~" + "a" * 60, "~_" * 28, "a__rebuild"])
def test_constraints_whose_names_cannot_be_kept(shop, allowed, check_constraints, name):
    if not check_constraints:
        return
    run(f"ALTER TABLE shop ADD CONSTRAINT `{name}` CHECK (price > 0)")
    before = state()
    with pytest.raises(NotSupportedError, match=f"name of the constraint '{name}'"):
        alter(ADD_STORED)
    assert state() == before
    assert tables() == {"shop", "item", "item_parent"}


@pytest.fixture
def other():
    """Return another connection of the driver, which Django does not know."""
    settings = connection.settings_dict
    with_database = MySQLdb.connect(
        host=settings["HOST"],
        port=int(settings["PORT"]),
        user=settings["USER"],
        password=settings["PASSWORD"],
        database=settings["NAME"],
        autocommit=True,
    )
    yield with_database
    with_database.close()


@pytest.mark.long
def test_writes_at_every_step(shop, allowed, monkeypatch, other):
    # Another connection writes at each statement of the rebuild. Every row of a
    # successful INSERT has to be there in the end, whether the rebuild succeeded or
    # not.
    real = rebuild._Tables.run
    step, committed, refused = [0], [], 0

    def writing(self, sql):
        step[0] += 1
        try:
            with other.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO shop (name) VALUES (%s)", [f"{stop}-{step[0]}"]
                )
        except MySQLdb.ProgrammingError as error:
            # The table is missing between two renames. The writer gets an error, so
            # nothing is lost.
            assert error.args[0] == 1146
        else:
            committed.append(f"{stop}-{step[0]}")
        real(self, sql)

    for stop in range(1, 9):
        step[0] = 0
        with monkeypatch.context() as patch:

            def writing_once(self, sql, stop=stop):
                step[0] += 1
                if step[0] == stop:
                    step[0] -= 1
                    writing(self, sql)
                else:
                    real(self, sql)

            patch.setattr(rebuild._Tables, "run", writing_once)
            try:
                alter(ADD_STORED)
            except NotSupportedError as error:
                assert "changed while" in str(error)
                refused += 1
            else:
                run("ALTER TABLE shop DROP COLUMN plus")
        names = {name for (name,) in run("SELECT name FROM shop")}
        assert names == {"a", "B", *committed}
        assert tables() == {"shop", "item", "item_parent"}
    assert refused
    assert committed


@pytest.mark.parametrize("statement", ["UPDATE shop SET price = 3", "DELETE FROM item"])
def test_other_changes_while_rows_are_copied(
    shop, allowed, monkeypatch, other, statement
):
    real = rebuild._copy

    def changing(*args):
        copied = real(*args)
        with other.cursor() as cursor:
            cursor.execute(statement)
        return copied

    monkeypatch.setattr(rebuild, "_copy", changing)
    if "shop" in statement:
        with pytest.raises(NotSupportedError, match="changed while"):
            alter(ADD_STORED)
        assert run("SELECT DISTINCT price FROM shop") == ((3,),)
    else:
        # A change of another table does not stop the rebuild.
        alter(ADD_STORED)
        assert run("SELECT COUNT(*) FROM item") == ((0,),)


@pytest.mark.long
def test_transaction_left_open(shop, allowed, other):
    # The transaction began before the rebuild, and ends while RENAME TABLE waits for
    # it. Without metadata locks, RENAME TABLE does not wait, and the COMMIT fails with
    # error 8028: https://docs.pingcap.com/tidb/stable/metadata-lock
    errors = []

    def commit():
        try:
            other.commit()
        except MySQLdb.OperationalError as error:
            errors.append(error.args[0])

    other.autocommit(False)
    with other.cursor() as cursor:
        cursor.execute("INSERT INTO shop (name) VALUES ('late')")
    timer = threading.Timer(1.5, commit)
    timer.start()
    if connection.tidb_version >= (6, 3):
        with pytest.raises(NotSupportedError, match="changed while"):
            alter(ADD_STORED)
        timer.join()
        assert run("SELECT COUNT(*) FROM shop WHERE name = 'late'") == ((1,),)
        assert tables() == {"shop", "item", "item_parent"}
    alter(ADD_STORED)
    timer.join()
    assert errors == ([] if connection.tidb_version >= (6, 3) else [8028])
    count = run("SELECT COUNT(*) FROM shop WHERE name = 'late'")
    assert count == ((0 if errors else 1,),)


texts = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], max_codepoint=0xFFFF), max_size=12
)


@pytest.mark.long
@example(comment="\\", default="\\1", name="`")
@settings(max_examples=25)
@given(comment=texts, default=texts, name=st.text("ab`, ()'é", min_size=1, max_size=9))
def test_definitions_are_read_to_the_letter(drops, comment, default, name):
    column = name.strip() or "x"
    quoted = "`{}`".format(column.replace("`", "``"))
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS shop")
        cursor.execute(
            f"CREATE TABLE shop (id INT PRIMARY KEY, {quoted.replace('%', '%%')} "
            "VARCHAR(20) DEFAULT %s COMMENT %s, KEY k (" + quoted + ")) COMMENT %s",
            [default, comment, comment],
        )
    texts = f"{comment}{default}"
    if "\\" in texts and KNOWN_ISSUES["show-create-backslash"].affects(
        connection.tidb_version
    ):
        with pytest.raises(NotSupportedError, match="backslashes"):
            read_definition(connection, "shop")
        return
    definition = read_definition(connection, "shop")
    assert [column.name for column in definition.columns] == ["id", column]
    assert [key.name for key in definition.keys] == ["", "k"]
    run("DROP TABLE shop")
    run(definition.sql("shop"))
    assert read_definition(connection, "shop") == definition


def test_definition_that_cannot_be_read():
    with pytest.raises(ValueError, match="cannot be read"):
        TableDefinition.parse("CREATE TABLE `t` (\n  `a` int DEFAULT 'x\n) ENGINE")


def test_clauses_that_no_table_is_rebuilt_for(shop, allowed):
    # The server's own error is raised unchanged.
    with pytest.raises(OperationalError, match=r"8200|1105"):
        alter("ALTER TABLE `shop` SET TIFLASH REPLICA 1")
    assert state() == shop
