"""Test definitions of tables without a server; test_show_create.py asks a server."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_tidb.definition import (
    Column,
    Key,
    KeyKind,
    Reference,
    TableDefinition,
)
from django_tidb.names import TableName

# This answer of TiDB 8.5.6 contains almost every kind of element.
SHOWN = """\
CREATE TABLE `t` (
  `id` bigint NOT NULL /*T![auto_rand] AUTO_RANDOM(5, 54) */ COMMENT 'a,) ''x\\\\',
  `b` int DEFAULT '3',
  `c``d` varchar(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL,
  `e` datetime(6) DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
  `g` int GENERATED ALWAYS AS (`b` + 1) VIRTUAL,
  PRIMARY KEY (`id`) /*T![clustered_index] CLUSTERED */,
  UNIQUE KEY `k` (`b`,`c``d`(3)) /*!80000 INVISIBLE */ COMMENT 'x',
  KEY `l` (`b`,(lower(`c``d`))),
  FULLTEXT INDEX `m`(`c``d`) WITH PARSER STANDARD,
  CONSTRAINT `k` FOREIGN KEY (`b`) REFERENCES `p` (`id`) ON DELETE CASCADE,
  CONSTRAINT `o` FOREIGN KEY (`b`) REFERENCES `x`.`p` (`id`) /* FOREIGN KEY INVALID */,
  CONSTRAINT `ch` CHECK ((`b` > 0) or (`id` = 1))
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin AUTO_INCREMENT=5 \
/*T![auto_id_cache] AUTO_ID_CACHE=50 */ /*T![auto_rand_base] AUTO_RANDOM_BASE=30001 */ \
/*T! SHARD_ROW_ID_BITS=3 PRE_SPLIT_REGIONS=2 */ COMMENT='AUTO_ID_CACHE=7 y' \
/*T![placement] PLACEMENT POLICY=`AUTO_ID_CACHE` */
PARTITION BY RANGE (`id`)
(PARTITION `p0` VALUES LESS THAN (5) COMMENT 'AUTO_ID_CACHE=8')"""


@pytest.fixture(scope="module")
def definition():
    return TableDefinition.parse(SHOWN)


def test_definition_is_written_as_it_is_read(definition):
    assert definition.sql() == SHOWN
    assert definition.sql("it`s") == SHOWN.replace("`t` (", "`it``s` (", 1)
    assert definition.sql(TableName("t", "d")).startswith("CREATE TABLE `d`.`t` (")


def test_parts_of_a_definition(definition):
    assert definition.name == TableName("t")
    assert [c.name for c in definition.columns] == ["id", "b", "c`d", "e", "g"]
    assert [(key.kind.name, key.name) for key in definition.keys] == [
        ("PRIMARY", ""),
        ("UNIQUE", "k"),
        ("INDEX", "l"),
        ("INDEX", "m"),
        ("FOREIGN_KEY", "k"),
        ("FOREIGN_KEY", "o"),
        ("CHECK", "ch"),
    ]
    assert definition.clustered_key == ("id",)
    assert definition.stored_columns() == {"id", "b", "c`d", "e"}
    (foreign,) = definition.foreign_keys(TableName("P"))
    assert foreign.refers_to == Reference(TableName("p"), ("id",))
    (foreign,) = definition.foreign_keys(TableName("p", "x"))
    assert foreign.name == "o"
    assert definition.key(KeyKind.INDEX, "K").columns == ("b", "c`d")
    assert definition.key(KeyKind.FOREIGN_KEY, "l") is None
    assert definition.column("ID").is_auto_random
    assert definition.column("x") is None


def test_definitions_cannot_be_changed(definition):
    with pytest.raises(FrozenInstanceError):
        definition.options = ""
    assert hash(definition) == hash(TableDefinition.parse(SHOWN))


@pytest.mark.parametrize(
    "sql",
    [
        SHOWN.replace("'3'", "'3"),
        SHOWN.replace("`b`", "``"),
        SHOWN.replace("(`b`,", "`b`,"),
        "CREATE TABLE `t`",
        "CREATE VIEW `t` (`a`) AS SELECT 1",
        # The parser knows no such clause.
        "CREATE TABLE `t` (\n  UNIQUE KEY `k` USING BTREE (`a`)\n) ENGINE=InnoDB",
    ],
)
def test_what_would_get_lost_is_an_error(sql):
    with pytest.raises(ValueError, match="cannot be read: CREATE"):
        TableDefinition.parse(sql)


def test_check_of_tidb_7_is_not_indented():
    sql = SHOWN.replace("  CONSTRAINT `ch` CHECK ((", "CONSTRAINT `ch` CHECK (((")
    sql = sql.replace("= 1))", "= 1)))")
    assert TableDefinition.parse(sql) == TableDefinition.parse(SHOWN)


def test_documentation():
    page = Path(__file__).parents[2] / "docs/ref/table-definitions.md"
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.M | re.S)
    assert len(blocks) == 2
    exec("".join(blocks), {})  # noqa: S102


# -- Hypothesis

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
identifiers = st.text(st.sampled_from("ab`, ()'\"é\n%*/"), min_size=1, max_size=6)
quoted = texts.map(
    lambda text: "'{}'".format(text.replace("\\", "\\\\").replace("'", "''"))
)


def quote(name):
    return "`{}`".format(name.replace("`", "``"))


@st.composite
def shown_tables(draw):
    """Draw a table as SHOW CREATE TABLE answers, and the parts of its definition."""
    names = draw(st.lists(identifiers, min_size=1, max_size=5, unique_by=str.lower))
    some = st.lists(st.sampled_from(names), min_size=1, unique=True)
    parts = some.map(lambda found: "({})".format(",".join(map(quote, found))))
    elements = []
    for name in names:
        words = [
            quote(name),
            draw(st.sampled_from(["int", "varchar(9)", "enum('a,')"])),
        ]
        words += draw(st.sampled_from([[], ["NOT NULL"], ["NULL"]]))
        words += draw(st.one_of(st.just([]), quoted.map(lambda q: ["DEFAULT", q])))
        words += draw(st.one_of(st.just([]), quoted.map(lambda q: ["COMMENT", q])))
        elements.append(" ".join(words))
    if draw(st.booleans()):
        elements.append(
            f"PRIMARY KEY {draw(parts)} /*T![clustered_index] NONCLUSTERED */"
        )
    for name in draw(st.lists(identifiers, max_size=3, unique_by=str.lower)):
        kind = draw(st.sampled_from(["UNIQUE KEY", "KEY"]))
        elements.append(f"{kind} {quote(name)} {draw(parts)} COMMENT {draw(quoted)}")
    for name in draw(st.lists(identifiers, max_size=2, unique_by=str.lower)):
        target, column = draw(identifiers), draw(identifiers)
        elements.append(
            f"CONSTRAINT {quote(name)} FOREIGN KEY ({quote(names[0])}) REFERENCES "
            f"{quote(target)} ({quote(column)}) ON DELETE CASCADE"
        )
    options = f"ENGINE=InnoDB COMMENT={draw(quoted)}"
    body = ",\n  ".join(elements)
    return f"CREATE TABLE {quote(draw(identifiers))} (\n  {body}\n) {options}"


@given(sql=shown_tables(), name=identifiers)
def test_any_definition_is_written_as_it_is_read(sql, name):
    definition = TableDefinition.parse(sql)
    assert definition.sql() == sql
    other = TableDefinition.parse(definition.sql(name))
    assert other.name == TableName(name)
    assert other.sql(definition.name) == sql


@given(database=identifiers, name=identifiers)
def test_name_of_a_table_is_written_as_it_is_read(database, name):
    for table in (TableName(name), TableName(name, database)):
        sql = f"CREATE TABLE {table.sql} (\n  `a` int\n)"
        assert TableDefinition.parse(sql).name == table


def test_name_of_a_table_that_a_model_has():
    assert TableName.of("t") == TableName("t")
    assert TableName.of("other`.`t") == TableName("t", "other")
    assert TableName.of("`other`.`t``x`") == TableName("t`x", "other")
    with pytest.raises(ValueError, match="'a`b' is no name of a table"):
        TableName.of("a`b")
    assert TableName("T", "x").is_same(TableName("t", "X"))
    assert not TableName("t").is_same(TableName("t", "x"))


# -- Columns


@pytest.mark.parametrize(
    ("definition", "default", "without", "with_other"),
    [
        ("int", None, "int", "int DEFAULT 7"),
        ("int DEFAULT NULL", "NULL", "int", "int DEFAULT 7"),
        (
            "int NOT NULL DEFAULT -1.5 COMMENT 'x'",
            "-1.5",
            "int NOT NULL COMMENT 'x'",
            "int NOT NULL DEFAULT 7 COMMENT 'x'",
        ),
        (
            "varchar(9) DEFAULT 'it''s \\' DEFAULT' NOT NULL",
            "'it''s \\' DEFAULT'",
            "varchar(9) NOT NULL",
            "varchar(9) DEFAULT 7 NOT NULL",
        ),
        (
            "datetime(6) DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)",
            "CURRENT_TIMESTAMP(6)",
            "datetime(6) ON UPDATE CURRENT_TIMESTAMP(6)",
            "datetime(6) DEFAULT 7 ON UPDATE CURRENT_TIMESTAMP(6)",
        ),
        (
            "json DEFAULT (json_object('a', ')')) NOT NULL",
            "(json_object('a', ')'))",
            "json NOT NULL",
            "json DEFAULT 7 NOT NULL",
        ),
        ("bit(3) DEFAULT b'101'", "b'101'", "bit(3)", "bit(3) DEFAULT 7"),
        (
            "text DEFAULT _utf8mb4'x' COMMENT 'y'",
            "_utf8mb4'x'",
            "text COMMENT 'y'",
            "text DEFAULT 7 COMMENT 'y'",
        ),
        (
            "int AS (coalesce(`a`, default(`a`))) STORED",
            None,
            "int AS (coalesce(`a`, default(`a`))) STORED",
            "int AS (coalesce(`a`, default(`a`))) STORED DEFAULT 7",
        ),
    ],
)
def test_default_of_a_column(definition, default, without, with_other):
    column = Column("a", definition)
    assert column.default == default
    assert column.with_default(None).definition == without
    assert column.with_default("7").definition == with_other
    assert column.with_default("7").default == "7"


def test_attributes_of_a_column():
    column = Column.parse("`a` bigint NOT NULL AUTO_INCREMENT COMMENT 'AUTO_RANDOM'")
    assert column.is_auto_increment
    assert column.is_not_null
    assert not column.is_auto_random
    assert not column.is_generated
    column = Column.parse("`a` bigint /*T![auto_rand] AUTO_RANDOM(5) */")
    assert column.is_auto_random
    column = Column.parse("`b` int AS (`A` + upper(`c`) + 'd') STORED")
    assert column.is_generated
    assert column.is_generated_from("a")
    assert not column.is_generated_from("d")
    assert not column.is_generated_from("upper")
    assert Column.parse("`a` int FIRST").has_position
    assert Column.parse("`a` int AFTER `b`").has_position
    assert not Column.parse("`first` int COMMENT 'first'").has_position


@pytest.mark.parametrize(
    ("definition", "not_null"),
    [
        ("int", "int NOT NULL"),
        ("int DEFAULT NULL COMMENT 'x'", "int COMMENT 'x' NOT NULL"),
        ("int NULL DEFAULT 5", "int DEFAULT 5 NOT NULL"),
        ("int NOT NULL", "int NOT NULL"),
    ],
)
def test_column_of_a_primary_key_is_not_null(definition, not_null):
    assert Column("a", definition).not_null().definition == not_null


@pytest.mark.parametrize("sql", ["`a`", "(`a` int)", "'a' int", ""])
def test_not_a_column(sql):
    with pytest.raises(ValueError, match=r"missing|no type"):
        Column.parse(sql)


# -- Keys


@pytest.mark.parametrize(
    ("sql", "written"),
    [
        ("PRIMARY KEY (`a`, `b`)", "PRIMARY KEY (`a`,`b`)"),
        ("CONSTRAINT `pk` PRIMARY KEY (a) NONCLUSTERED", None),
        ("CONSTRAINT `k` UNIQUE (`a`)", "UNIQUE KEY `k` (`a`)"),
        ("UNIQUE INDEX k (`a`(3) DESC)", "UNIQUE KEY `k` (`a`(3) DESC)"),
        ("INDEX `k` ((lower(`a`)), `b`)", "KEY `k` ((lower(`a`)),`b`)"),
        ("KEY (`a`)", "KEY (`a`)"),
        ("FULLTEXT KEY `k` (`a`)", "FULLTEXT INDEX `k`(`a`)"),
        (
            "CONSTRAINT `k` FOREIGN KEY (`a`) REFERENCES `p`(`id`)  ON DELETE SET NULL",
            "CONSTRAINT `k` FOREIGN KEY (`a`) REFERENCES `p` (`id`) ON DELETE SET NULL",
        ),
        ("CHECK (`a` > 0)", "CHECK (`a` > 0)"),
        ("CONSTRAINT CHECK (`a` > 0) NOT ENFORCED", "CHECK (`a` > 0) NOT ENFORCED"),
    ],
)
def test_key_as_django_and_users_write_it(sql, written):
    key = Key.parse(sql)
    assert key.sql == (written or "PRIMARY KEY (`a`) NONCLUSTERED")
    assert Key.parse(key.sql) == key


@pytest.mark.parametrize(
    "sql", ["`a` int", "KEY `k`", "CONSTRAINT `k` (`a`)", "FOREIGN KEY (`a`)"]
)
def test_not_a_key(sql):
    with pytest.raises(ValueError, match=r"not a key|missing"):
        Key.parse(sql)


def test_foreign_key_renamed_and_pointed_elsewhere():
    key = Key.parse(
        "CONSTRAINT `REFERENCES p` FOREIGN KEY (`p`) REFERENCES `p` (`id`) ON DELETE "
        "CASCADE"
    )
    assert key.renamed("k").pointed_at(TableName("q", "d"), ["x"]).sql == (
        "CONSTRAINT `k` FOREIGN KEY (`p`) REFERENCES `d`.`q` (`x`) ON DELETE CASCADE"
    )
    assert key.pointed_at(TableName("q")).refers_to.columns == ("id",)
    with pytest.raises(ValueError, match="not a foreign key: KEY `k`"):
        Key.parse("KEY `k` (`a`)").pointed_at(TableName("q"))


def test_primary_key_of_columns():
    assert Key.primary(["a", "b"], clustered=True).sql == (
        "PRIMARY KEY (`a`,`b`) /*T![clustered_index] CLUSTERED */"
    )
    for clustered in (True, False, None):
        assert Key.primary(["a"], clustered).clustered is clustered
    assert Key.parse("PRIMARY KEY (`a`) nonclustered").clustered is False
    assert Key.parse("UNIQUE KEY `k` (`a`) COMMENT 'CLUSTERED'").clustered is None


def test_key_without_a_column():
    key = Key.parse("KEY `k` (`a`(3),`B`)")
    assert key.without_column("b").sql == "KEY `k` (`a`(3))"
    assert key.without_column("x") == key
    assert key.without_column("a").without_column("b") is None
    for sql in (
        "KEY `k` (`a`,(`b` + 1))",
        "CONSTRAINT `k` FOREIGN KEY (`b`) REFERENCES `p` (`id`)",
        "CONSTRAINT `k` CHECK (`a` > `b`)",
    ):
        with pytest.raises(ValueError, match="'b' is needed by"):
            Key.parse(sql).without_column("b")


def test_key_with_a_renamed_column():
    key = Key.parse("KEY `k` (`a``b`(3),`b`,(lower(`c`)))")
    assert key.with_renamed_column("A`b", "x").parts[0] == "`x`(3)"
    with pytest.raises(ValueError, match="'c' is in an expression of KEY `k`"):
        key.with_renamed_column("c", "d")
    assert key.with_renamed_column("c", "C") == key


# -- Options


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AUTO_ID_CACHE", "50"),
        ("SHARD_ROW_ID_BITS", "3"),
        ("PRE_SPLIT_REGIONS", "2"),
        ("COMMENT", "'AUTO_ID_CACHE=7 y'"),
        ("COLLATE", "utf8mb4_bin"),
        ("POLICY", "`AUTO_ID_CACHE`"),
        ("RANGE", None),
        ("TTL", None),
    ],
)
def test_value_of_an_option(definition, name, value):
    assert definition.option(name) == value


def test_option_replaced(definition):
    before, partitions = SHOWN.split("\nPARTITION BY")
    changed = definition.with_option("AUTO_ID_CACHE", 9)
    assert changed.sql() == (
        before.replace(" /*T![auto_id_cache] AUTO_ID_CACHE=50 */", "")
        + f" AUTO_ID_CACHE=9\nPARTITION BY{partitions}"
    )
    changed = definition.with_option("SHARD_ROW_ID_BITS", None)
    assert " /*T! PRE_SPLIT_REGIONS=2 */ COMMENT" in changed.options
    changed = changed.with_option("PRE_SPLIT_REGIONS", None)
    assert "*/ COMMENT='AUTO_ID_CACHE=7 y' /*T![placement]" in changed.options
    assert changed.option("SHARD_ROW_ID_BITS") is None
    changed = definition.without_counters()
    assert (
        "utf8mb4_bin /*T![auto_id_cache] AUTO_ID_CACHE=50 */ /*T! " in changed.options
    )


def test_option_as_django_writes_it():
    definition = TableDefinition.parse_statement(
        "CREATE TABLE `t` (`a` int) COMMENT 'AUTO_ID_CACHE 7' AUTO_ID_CACHE 100"
    )
    assert definition.option("COMMENT") == "'AUTO_ID_CACHE 7'"
    assert definition.with_option("AUTO_ID_CACHE", 5).options == (
        "COMMENT 'AUTO_ID_CACHE 7' AUTO_ID_CACHE=5"
    )


# -- CREATE TABLE as Django writes it


def test_statement_of_django():
    definition = TableDefinition.parse_statement(
        "CREATE TABLE `shop` (`id` bigint AUTO_INCREMENT NOT NULL PRIMARY KEY "
        "CLUSTERED, `name` varchar(9) NOT NULL UNIQUE, `count` integer UNSIGNED NULL "
        "CHECK (`count` >= 0), `parent_id` bigint DEFAULT 5 NOT NULL, "
        "CONSTRAINT `k` UNIQUE (`name`, `count`), INDEX `i` (`count`), "
        "CONSTRAINT `f` FOREIGN KEY (`parent_id`) REFERENCES `shop` (`id`), "
        "CONSTRAINT `c` CHECK (`count` < 9)) COMMENT 'x, (y)' AUTO_ID_CACHE 100"
    )
    assert definition.sql() == (
        "CREATE TABLE `shop` (\n"
        "  `id` bigint AUTO_INCREMENT NOT NULL,\n"
        "  `name` varchar(9) NOT NULL,\n"
        "  `count` integer UNSIGNED NULL,\n"
        "  `parent_id` bigint DEFAULT 5 NOT NULL,\n"
        "  PRIMARY KEY (`id`) /*T![clustered_index] CLUSTERED */,\n"
        "  UNIQUE KEY `name` (`name`),\n"
        "  CONSTRAINT `shop_chk_1` CHECK (`count` >= 0),\n"
        "  UNIQUE KEY `k` (`name`,`count`),\n"
        "  KEY `i` (`count`),\n"
        "  CONSTRAINT `f` FOREIGN KEY (`parent_id`) REFERENCES `shop` (`id`),\n"
        "  CONSTRAINT `c` CHECK (`count` < 9)\n"
        ") COMMENT 'x, (y)' AUTO_ID_CACHE 100"
    )
    with_index = definition.with_foreign_key_indexes()
    assert with_index.key(KeyKind.INDEX, "f").columns == ("parent_id",)
    assert with_index.with_foreign_key_indexes() == with_index


def test_names_of_indexes_without_one():
    definition = TableDefinition.parse_statement(
        "CREATE TABLE `t` (`a` int UNIQUE, `primary` int UNIQUE, INDEX (`A`))"
    )
    assert [key.name for key in definition.keys] == ["a", "primary_2", "A_2"]
    with pytest.raises(ValueError, match="needs a name"):
        TableDefinition.parse_statement("CREATE TABLE `t` (`a` int, KEY ((`a` + 1)))")


def test_definition_within_its_database():
    definition = TableDefinition.parse(
        "CREATE TABLE `t` (\n"
        "  `a` int DEFAULT nextval(`d`.`s`) COMMENT 'nextval(`d`.`s`)',\n"
        "  `b` int DEFAULT (nextval(`d`.`s`)),\n"
        "  `c` varchar(9) DEFAULT 'nextval(`d`.`s`)',\n"
        "  CONSTRAINT `f` FOREIGN KEY (`a`) REFERENCES `d`.`p` (`id`),\n"
        "  CONSTRAINT `g` FOREIGN KEY (`a`) REFERENCES `x`.`p` (`id`)\n"
        ") ENGINE=InnoDB"
    ).within("d")
    assert [column.default for column in definition.columns] == [
        "nextval(`s`)",
        "(nextval(`s`))",
        "'nextval(`d`.`s`)'",
    ]
    assert definition.columns[0].definition.endswith("COMMENT 'nextval(`d`.`s`)'")
    assert [key.refers_to.table.database for key in definition.keys] == ["", "x"]
