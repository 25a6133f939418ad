"""Compare parsed definitions of tables, and changes of them, with a server's."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, NotSupportedError, connection, models
from hypothesis import given, settings
from hypothesis import strategies as st

from django_tidb.alteration import Alteration
from django_tidb.changes import (
    AddColumn,
    AddKey,
    AddPrimaryKey,
    ChangeColumn,
    DropColumn,
    DropDefault,
    DropKey,
    DropPrimaryKey,
    ModifyColumn,
    RenameColumn,
    RenameIndex,
    SetDefault,
    SetTableOption,
)
from django_tidb.definition import (
    Column,
    Key,
    KeyKind,
    Reference,
    TableDefinition,
)
from django_tidb.introspection import read_definition
from django_tidb.known_issues import KNOWN_ISSUES
from django_tidb.names import TableName

from .models import check

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.thorough]

several = settings(max_examples=20)


def run(*statements):
    with connection.cursor() as cursor:
        for sql in statements:
            cursor.execute(sql)
        return cursor.fetchall()


def shown(name="t"):
    ((_, sql),) = run(f"SHOW CREATE TABLE `{name}`")
    return sql


@pytest.fixture
def tables(check_constraints):
    """
    Create a table for foreign keys to refer to; drop the table `t` after the test.
    """
    run("CREATE TABLE parent (id INT PRIMARY KEY, code INT UNIQUE)")
    yield
    run("DROP TABLE IF EXISTS t", "DROP TABLE parent")


TABLES = {
    "columns": (
        "CREATE TABLE t (a INT, b VARCHAR(9) COLLATE utf8mb4_general_ci NOT NULL "
        "DEFAULT 'it''s', c TIMESTAMP(3) NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE "
        "CURRENT_TIMESTAMP(3), d DECIMAL(9, 2) DEFAULT -1.5, e BIT(3) DEFAULT b'101', "
        "f ENUM('a,', ')b') COMMENT 'a, (b) ''c'' /* d */', g DATE, h JSON, "
        "i INT AS (a + 1) VIRTUAL, j VARCHAR(40) AS (CONCAT(b, '),`a')) STORED)"
    ),
    "names": "CREATE TABLE t (`a``,( b` INT, `primary` INT, `Größe %` INT, KEY `x``` "
    "(`a``,( b`, `primary`), UNIQUE `KEY` (`Größe %`))",
    "keys": "CREATE TABLE t (a INT, b VARCHAR(20) UNIQUE, PRIMARY KEY (a, b), "
    "KEY k (b(3), a) COMMENT 'x', UNIQUE u (a) INVISIBLE)",
    "nonclustered": "CREATE TABLE t (a INT PRIMARY KEY NONCLUSTERED, b INT) "
    "SHARD_ROW_ID_BITS = 3 PRE_SPLIT_REGIONS = 2 COMMENT 'AUTO_ID_CACHE=9'",
    "auto_increment": "CREATE TABLE t (a BIGINT PRIMARY KEY AUTO_INCREMENT) "
    "AUTO_INCREMENT = 100 AUTO_ID_CACHE = 50",
    "auto_random": "CREATE TABLE t (a BIGINT PRIMARY KEY AUTO_RANDOM(4)) "
    "AUTO_RANDOM_BASE = 100 PRE_SPLIT_REGIONS = 2",
    "foreign_keys": "CREATE TABLE t (a INT, b INT, CONSTRAINT f FOREIGN KEY (a) "
    "REFERENCES parent (id) ON DELETE SET NULL, CONSTRAINT g FOREIGN KEY (b) "
    "REFERENCES parent (code) ON UPDATE CASCADE)",
    "partitions": "CREATE TABLE t (a INT, b INT, KEY (b)) COMMENT 'x' PARTITION BY "
    "RANGE (a) (PARTITION p0 VALUES LESS THAN (5), PARTITION `p,1` VALUES LESS THAN "
    "MAXVALUE)",
    "temporary": "CREATE GLOBAL TEMPORARY TABLE t (a INT) ON COMMIT DELETE ROWS",
    "binary": "CREATE TABLE t (a VARBINARY(9) DEFAULT 'x', b BLOB) CHARSET binary",
    "empty": "CREATE TABLE t (a INT)",
}
# These tables need TiDB 6 or TiDB 7.
NEWER_TABLES = {
    "expressions": "CREATE TABLE t (a INT, b VARCHAR(9) DEFAULT ')', KEY k ((a + 1), "
    "b), UNIQUE u ((LOWER(b))))",
    "defaults": "CREATE TABLE t (a VARCHAR(36) DEFAULT (UUID()), b DATETIME DEFAULT "
    "(DATE_FORMAT(NOW(), '%Y-%m-%d')))",
    "ttl": "CREATE TABLE t (a INT, b DATETIME) TTL = `b` + INTERVAL 3 MONTH TTL_ENABLE "
    "= 'OFF'",
}


@pytest.mark.parametrize("name", [*TABLES, *NEWER_TABLES])
def test_definition_is_read_to_the_letter(tables, name):
    try:
        run({**TABLES, **NEWER_TABLES}[name])
    except DatabaseError as error:
        # This server does not know the syntax or the function.
        assert name in NEWER_TABLES
        assert error.args[0] in (1064, 3770, 8200)
        return
    sql = shown()
    definition = TableDefinition.parse(sql)
    assert definition.sql("t") == sql
    run("DROP TABLE t", definition.sql())
    assert shown() == sql


def test_checks_are_read_without_the_brackets_of_the_server(tables, check_constraints):
    if not check_constraints:
        return
    run(
        "CREATE TABLE t (a INT CHECK (a > 0), b INT, CONSTRAINT `x``y` CHECK ((a > b) "
        "OR (b = 1)), CONSTRAINT z CHECK ((b > 1)) NOT ENFORCED)"
    )
    sql = shown()
    definition = read_definition(connection, "t")
    assert [key.kind for key in definition.keys] == [KeyKind.CHECK] * 3
    for _ in range(2):
        run("DROP TABLE t", definition.sql())
        assert shown() == sql


def test_ansi_quotes(tables):
    run('CREATE TABLE t (a INT, `b"` INT DEFAULT 5, KEY k (`b"`))')
    definition = read_definition(connection, "t")
    with connection.session_variables(sql_mode="ANSI_QUOTES"):
        assert shown().startswith('CREATE TABLE "t"')
        assert read_definition(connection, "t") == definition


def test_sequences_and_targets_lose_their_database(tables):
    database = connection.settings_dict["NAME"]
    run(
        "CREATE SEQUENCE s",
        "CREATE TABLE t (a INT DEFAULT NEXTVAL(s), b INT, "
        "CONSTRAINT f FOREIGN KEY (b) REFERENCES parent (id)) COMMENT 'x'",
    )
    try:
        definition = read_definition(connection, TableName("t", database))
        assert database not in definition.sql("t")
        run("DROP TABLE t", definition.sql())
    finally:
        run("DROP TABLE t", "DROP SEQUENCE s")


@pytest.mark.works("foreign-key")
def test_table_of_another_database(tables):
    run(
        "CREATE DATABASE elsewhere",
        "CREATE TABLE elsewhere.parent (id INT PRIMARY KEY)",
        "CREATE TABLE elsewhere.t (a INT, CONSTRAINT f FOREIGN KEY (a) REFERENCES "
        "elsewhere.parent (id))",
        "CREATE TABLE t (a INT, CONSTRAINT f FOREIGN KEY (a) REFERENCES "
        "elsewhere.parent (id))",
    )
    try:
        other = read_definition(connection, "elsewhere`.`t")
        assert other.name == TableName("t", "elsewhere")
        (key,) = other.foreign_keys(TableName("parent"))
        (key,) = read_definition(connection, "t").foreign_keys(
            TableName("parent", "elsewhere")
        )
        assert key.columns == ("a",)
        run("DROP TABLE elsewhere.t", other.sql())
        assert read_definition(connection, "elsewhere`.`t") == other
    finally:
        run("DROP TABLE t", "DROP DATABASE elsewhere")


def test_view_has_no_definition(tables):
    run("CREATE VIEW t AS SELECT id FROM parent")
    with pytest.raises(ValueError, match="`t` is a view"):
        read_definition(connection, "t")
    run("DROP VIEW t")


def test_ambiguous_backslash(tables):
    run("CREATE TABLE t (a INT COMMENT '\\\\', b INT COMMENT 'x\\'y') AUTO_ID_CACHE 9")
    definition = read_definition(connection, "t", exact=False)
    assert [column.name for column in definition.columns] == ["a", "b"]
    assert definition.option("AUTO_ID_CACHE") == "9"


MEMBERS = ["a\\b", "it's", "x\\", "',\\'", '\\"', "t\t", ") enum('\\", "\\%", "c\\d"]


def create_with_members(members, comment=""):
    listed = ", ".join(["%s"] * len(members))
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TABLE t (`e``( enum` ENUM({listed}) COMMENT %s, "
            "s SET(%s) NOT NULL, n INT DEFAULT 5)",
            [*members, comment, "p\\"],
        )


def members_of(count):
    """
    Insert each member by its number; return the names that the server tells for them.
    """
    rows = (f"({number}, 1)" for number in range(1, count + 1))
    run(f"INSERT INTO t (`e``( enum`, s) VALUES {', '.join(rows)}")
    return [found for (found,) in run("SELECT `e``( enum` FROM t ORDER BY `e``( enum`")]


@pytest.mark.parametrize("is_ansi", [False, True])
def test_members_with_backslashes(tables, is_ansi):
    comment = "`x` enum('a', ')"
    if not KNOWN_ISSUES["show-create-backslash"].affects(connection.tidb_version):
        comment += "\\\n'"
    create_with_members(MEMBERS, comment)
    sql = shown()
    mode = "ANSI_QUOTES" if is_ansi else ""
    with connection.session_variables(sql_mode=mode):
        definition = read_definition(connection, "t")
    assert [column.name for column in definition.columns] == ["e`( enum", "s", "n"]
    run("DROP TABLE t", definition.sql())
    assert shown() == sql
    assert members_of(len(MEMBERS)) == MEMBERS
    assert run("SELECT DISTINCT s FROM t") == (("p\\",),)


# SHOW CREATE TABLE writes both members of each pair in the same way.
@pytest.mark.parametrize("member", ["a\\nb", "a\nb", "\\0", "\0", "\\r", "\r"])
def test_ambiguous_members(tables, member):
    create_with_members(["a", member])
    with pytest.raises(NotSupportedError, match="a member of ENUM or SET"):
        read_definition(connection, "t")
    definition = read_definition(connection, "t", exact=False)
    assert [column.name for column in definition.columns] == ["e`( enum", "s", "n"]


# -- Changes


TYPES = [
    "int",
    "int NOT NULL",
    "int NULL DEFAULT 5",
    "bigint NOT NULL DEFAULT 7 COMMENT 'a DEFAULT 3'",
    "varchar(20) DEFAULT 'x'",
    "varchar(20) COLLATE utf8mb4_general_ci NOT NULL",
    "datetime(6) DEFAULT CURRENT_TIMESTAMP(6)",
    "int AS (`a` + 1) VIRTUAL",
    "int UNSIGNED NOT NULL COMMENT 'b'",
]
NAMES = ["a", "b", "C", "d`e"]
KEYS = ["i", "J", "k"]

names = st.sampled_from(NAMES)
key_names = st.sampled_from(KEYS)
new_names = st.sampled_from([*NAMES, "c"])
columns = st.builds(Column, new_names, st.sampled_from(TYPES))
parts = st.lists(names, min_size=1, max_size=2, unique=True).map(
    lambda found: tuple("`{}`".format(name.replace("`", "``")) for name in found)
)
indexes = st.builds(
    Key, st.sampled_from([KeyKind.UNIQUE, KeyKind.INDEX]), key_names, parts
)
foreign_keys = st.builds(
    Key,
    st.just(KeyKind.FOREIGN_KEY),
    key_names.map("f_{}".format),
    parts.map(lambda found: found[:1]),
    st.just(Reference(TableName("parent"), ("id",))),
)
checks = st.builds(
    Key,
    st.just(KeyKind.CHECK),
    key_names.map("c_{}".format),
    st.sampled_from([("`a` > 0",), ("`b` > 0 OR `a` = 1",), ("`C` <> 5",)]),
)
primary_keys = st.builds(
    Key.primary, st.lists(names, min_size=1, max_size=2, unique=True), st.just(False)
)
changes = st.one_of(
    columns.map(AddColumn),
    columns.map(ModifyColumn),
    st.builds(ChangeColumn, names, columns),
    st.builds(RenameColumn, names, new_names),
    names.map(DropColumn),
    st.builds(SetDefault, names, st.sampled_from(["3", "'4'", "NULL"])),
    names.map(DropDefault),
    primary_keys.map(AddPrimaryKey),
    st.just(DropPrimaryKey()),
    indexes.map(AddKey),
    foreign_keys.map(AddKey),
    checks.map(AddKey),
    st.builds(DropKey, st.just(KeyKind.INDEX), key_names),
    st.builds(DropKey, st.just(KeyKind.INDEX), key_names.map("f_{}".format)),
    st.builds(DropKey, st.just(KeyKind.FOREIGN_KEY), key_names.map("f_{}".format)),
    st.builds(DropKey, st.just(KeyKind.CHECK), key_names.map("c_{}".format)),
    st.builds(RenameIndex, key_names, key_names),
    st.builds(SetTableOption, st.just("COMMENT"), st.sampled_from(["'x'", "'y=5'"])),
    st.builds(SetTableOption, st.just("AUTO_ID_CACHE"), st.sampled_from([0, 50])),
    st.builds(SetTableOption, st.just("SHARD_ROW_ID_BITS"), st.sampled_from([0, 3])),
)


def comparable(sql):
    """Return a definition in a form that ignores the order of its keys and options."""
    definition = TableDefinition.parse(sql)
    keys = {(key.kind, key.name): key for key in definition.keys}
    return definition.columns, keys, sorted(definition.options.split())


START = (
    "CREATE TABLE t (a INT, b VARCHAR(20) DEFAULT 'x', C INT NOT NULL, KEY i (a, b))"
)


@several
@given(wanted=st.lists(changes, min_size=1, max_size=8))
def test_changes_apply_as_the_server_applies_them(tables, check_constraints, wanted):
    ignored = set()
    if not connection.features.supports_foreign_keys:
        ignored.add(KeyKind.FOREIGN_KEY)
    if not check_constraints:
        ignored.add(KeyKind.CHECK)
    run("DROP TABLE IF EXISTS t", START)
    definition = read_definition(connection, "t")
    for change in wanted:
        if getattr(getattr(change, "key", change), "kind", None) in ignored:
            continue
        try:
            run(Alteration(definition.name, (change,)).sql)
        except DatabaseError:
            continue
        try:
            definition = change.apply(definition)
        except ValueError:
            # CREATE TABLE cannot express the state of a column after DROP DEFAULT.
            if not isinstance(change, DropDefault):
                raise
            return
    altered = shown()
    run("DROP TABLE t", definition.sql())
    assert comparable(shown()) == comparable(altered)


# -- Statements of Django's schema editor


@pytest.fixture
def sent():
    """Return a list, to which each statement that changes a table is added."""
    statements = []

    def note(execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        if sql.startswith(("CREATE", "ALTER", "DROP", "RENAME")):
            if params is not None:
                sql %= tuple(map(connection.schema_editor().quote_value, params))
            statements.append(sql)
        return result

    with connection.execute_wrapper(note):
        yield statements


# On a server with the known issue "modify-lossy", this test would not see the statement
# of Django: the server refuses it, and the backend rebuilds the table.
@pytest.mark.works("modify-lossy")
@pytest.mark.parametrize("has_foreign_keys", [False, True])
def test_statements_of_django_apply_as_the_server_applies_them(
    tables, isolated_apps, check_constraints, sent, has_foreign_keys
):
    class Parent(models.Model):
        id = models.IntegerField(primary_key=True)

        class Meta:
            db_table = "parent"

    def parent():
        return models.ForeignKey(
            Parent, models.CASCADE, null=True, db_constraint=has_foreign_keys
        )

    class Thing(models.Model):
        name = models.CharField(max_length=20, unique=True)
        count = models.PositiveIntegerField(null=True, db_index=True)
        text = models.TextField(blank=True)
        owner = parent()

        class Meta:
            db_table = "t"
            indexes = [models.Index(fields=["name", "-count"], name="t_both")]
            constraints = [
                models.UniqueConstraint(fields=["count", "name"], name="t_u")
            ]
            unique_together = [("name", "owner")]

    fields = {field.name: field for field in Thing._meta.local_fields}

    def new(name, field):
        field = field.clone()
        field.set_attributes_from_name(name)
        field.model = Thing
        if field.remote_field:
            field.remote_field.model = Parent
            field.set_attributes_from_name(name)
        fields[name] = field
        return field

    with connection.schema_editor() as editor:
        editor.create_model(Thing)
    for name, field in {
        "plain": models.IntegerField(default=5),
        "empty": models.CharField(max_length=9, null=True),
        "single": models.IntegerField(null=True, unique=True),
        "indexed": models.IntegerField(null=True, db_index=True),
        "boss": parent(),
        "data": models.JSONField(default=dict),
    }.items():
        with connection.schema_editor() as editor:
            editor.add_field(Thing, new(name, field))
    for name, field in [
        ("name", models.CharField(max_length=50, unique=True)),
        ("name", models.CharField(max_length=50)),
        ("name", models.CharField(max_length=50, null=True)),
        ("name", models.CharField(max_length=50, default="it's a, (b)")),
        ("count", models.PositiveIntegerField(null=True)),
        ("count", models.BigIntegerField(null=True)),
        ("plain", models.IntegerField(db_column="other")),
        ("boss", models.IntegerField(db_column="boss_id", null=True)),
    ]:
        with connection.schema_editor() as editor:
            editor.alter_field(Thing, fields[name], new(name, field))
    index = models.Index(fields=["count", "name"], name="t_index")
    positive = models.CheckConstraint(**{check: models.Q(count__gt=0)}, name="t_check")
    (unique,) = Thing._meta.constraints
    with connection.schema_editor() as editor:
        editor.add_index(Thing, index)
        editor.remove_index(Thing, index)
        editor.remove_constraint(Thing, unique)
        editor.add_constraint(Thing, unique)
        editor.add_constraint(Thing, positive)
        editor.alter_unique_together(Thing, [("name", "owner")], [])
        editor.alter_db_table_comment(Thing, "", "it's new, (c)")
        editor.remove_constraint(Thing, positive)
        for name in ("text", "single", "indexed", "boss", "data"):
            editor.remove_field(Thing, fields[name])
    create, *statements = sent
    definition = TableDefinition.parse_statement(create)
    definition = definition.with_foreign_key_indexes()
    for sql in statements:
        definition = Alteration.parse(sql).apply(definition)
    altered = shown()
    run("DROP TABLE t", definition.sql())
    assert comparable(shown()) == comparable(altered)
