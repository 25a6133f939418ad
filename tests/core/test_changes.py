"""Test changes of definitions without a server; test_show_create.py asks a server."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_tidb.alteration import Alteration, changes_to
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
from django_tidb.definition import Column, Key, KeyKind, TableDefinition
from django_tidb.names import TableName

TABLE = TableDefinition.parse(
    """\
CREATE TABLE `t` (
  `id` bigint NOT NULL AUTO_INCREMENT,
  `a` int NOT NULL DEFAULT '3',
  `b` varchar(9) DEFAULT NULL,
  `g` int GENERATED ALWAYS AS (`a` + 1) VIRTUAL,
  `t_id` bigint DEFAULT NULL,
  PRIMARY KEY (`id`) /*T![clustered_index] CLUSTERED */,
  UNIQUE KEY `k` (`b`),
  KEY `l` (`b`,`t_id`),
  KEY `f` (`t_id`),
  CONSTRAINT `f` FOREIGN KEY (`t_id`) REFERENCES `t` (`id`),
  CONSTRAINT `c` CHECK ((`b` <> 'x'))
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin AUTO_INCREMENT=30001"""
)


def column(sql):
    return Column.parse(sql)


def key(sql):
    return Key.parse(sql)


# Each case has a statement of Django's schema editor, the change that the statement
# contains, and the lines that the table's definition gains and loses.
STATEMENTS = [
    (
        "ADD COLUMN `x` integer UNSIGNED DEFAULT 5 NOT NULL",
        AddColumn(column("`x` integer UNSIGNED DEFAULT 5 NOT NULL")),
        ["`x` integer UNSIGNED DEFAULT 5 NOT NULL"],
        [],
    ),
    (
        "ADD COLUMN `x` int AS (`a` * 2) STORED CHECK (`x` > 0)",
        AddColumn(column("`x` int AS (`a` * 2) STORED CHECK (`x` > 0)")),
        ["`x` int AS (`a` * 2) STORED", "CONSTRAINT `t_chk_1` CHECK (`x` > 0)"],
        [],
    ),
    (
        "MODIFY `a` bigint DEFAULT 3 NOT NULL",
        ModifyColumn(column("`a` bigint DEFAULT 3 NOT NULL")),
        ["`a` bigint DEFAULT 3 NOT NULL"],
        ["`a` int NOT NULL DEFAULT '3'"],
    ),
    (
        "CHANGE `b` `B` varchar(10) NULL",
        ChangeColumn("b", column("`B` varchar(10) NULL")),
        ["`B` varchar(10) NULL", "UNIQUE KEY `k` (`B`)", "KEY `l` (`B`,`t_id`)"],
        ["`b` varchar(9) DEFAULT NULL", "UNIQUE KEY `k` (`b`)", "KEY `l` (`b`,`t_id`)"],
    ),
    (
        "RENAME COLUMN `t_id` TO `u_id`",
        RenameColumn("t_id", "u_id"),
        [
            "`u_id` bigint DEFAULT NULL",
            "KEY `l` (`b`,`u_id`)",
            "KEY `f` (`u_id`)",
            "CONSTRAINT `f` FOREIGN KEY (`u_id`) REFERENCES `t` (`id`)",
        ],
        [
            "`t_id` bigint DEFAULT NULL",
            "KEY `l` (`b`,`t_id`)",
            "KEY `f` (`t_id`)",
            "CONSTRAINT `f` FOREIGN KEY (`t_id`) REFERENCES `t` (`id`)",
        ],
    ),
    (
        "RENAME COLUMN `id` TO `pk`",
        RenameColumn("id", "pk"),
        [
            "`pk` bigint NOT NULL AUTO_INCREMENT",
            "PRIMARY KEY (`pk`) /*T![clustered_index] CLUSTERED */",
            "CONSTRAINT `f` FOREIGN KEY (`t_id`) REFERENCES `t` (`pk`)",
        ],
        [
            "`id` bigint NOT NULL AUTO_INCREMENT",
            "PRIMARY KEY (`id`) /*T![clustered_index] CLUSTERED */",
            "CONSTRAINT `f` FOREIGN KEY (`t_id`) REFERENCES `t` (`id`)",
        ],
    ),
    (
        "DROP COLUMN `b`",
        DropColumn("b"),
        ["KEY `l` (`t_id`)"],
        [
            "`b` varchar(9) DEFAULT NULL",
            "UNIQUE KEY `k` (`b`)",
            "KEY `l` (`b`,`t_id`)",
            "CONSTRAINT `c` CHECK (`b` <> 'x')",
        ],
    ),
    (
        "ALTER COLUMN `a` DROP DEFAULT",
        DropDefault("a"),
        ["`a` int NOT NULL"],
        ["`a` int NOT NULL DEFAULT '3'"],
    ),
    (
        "ALTER COLUMN `b` SET DEFAULT 'x'",
        SetDefault("b", "'x'"),
        ["`b` varchar(9) DEFAULT 'x'"],
        ["`b` varchar(9) DEFAULT NULL"],
    ),
    (
        "DROP PRIMARY KEY",
        DropPrimaryKey(),
        [],
        ["PRIMARY KEY (`id`) /*T![clustered_index] CLUSTERED */"],
    ),
    (
        "ADD CONSTRAINT `u` UNIQUE (`a`, `b`)",
        AddKey(key("UNIQUE KEY `u` (`a`,`b`)")),
        ["UNIQUE KEY `u` (`a`,`b`)"],
        [],
    ),
    (
        "ADD CONSTRAINT `h` CHECK ((`a` > 0 OR `a` < -1))",
        AddKey(key("CONSTRAINT `h` CHECK ((`a` > 0 OR `a` < -1))")),
        ["CONSTRAINT `h` CHECK ((`a` > 0 OR `a` < -1))"],
        [],
    ),
    (
        "ADD CONSTRAINT `h` FOREIGN KEY (`a`) REFERENCES `p` (`id`)",
        AddKey(key("CONSTRAINT `h` FOREIGN KEY (`a`) REFERENCES `p` (`id`)")),
        ["CONSTRAINT `h` FOREIGN KEY (`a`) REFERENCES `p` (`id`)", "KEY `h` (`a`)"],
        [],
    ),
    (
        "ADD CONSTRAINT `h` FOREIGN KEY (`b`) REFERENCES `o`.`p` (`id`)",
        AddKey(key("CONSTRAINT `h` FOREIGN KEY (`b`) REFERENCES `o`.`p` (`id`)")),
        # The table has an index that begins with the column, so the server adds none.
        ["CONSTRAINT `h` FOREIGN KEY (`b`) REFERENCES `o`.`p` (`id`)"],
        [],
    ),
    ("DROP INDEX `k`", DropKey(KeyKind.INDEX, "k"), [], ["UNIQUE KEY `k` (`b`)"]),
    (
        "DROP FOREIGN KEY `f`",
        DropKey(KeyKind.FOREIGN_KEY, "f"),
        [],
        ["CONSTRAINT `f` FOREIGN KEY (`t_id`) REFERENCES `t` (`id`)"],
    ),
    (
        "DROP CHECK `c`",
        DropKey(KeyKind.CHECK, "c"),
        [],
        ["CONSTRAINT `c` CHECK (`b` <> 'x')"],
    ),
    (
        "RENAME INDEX `k` TO `k2`",
        RenameIndex("k", "k2"),
        ["UNIQUE KEY `k2` (`b`)"],
        ["UNIQUE KEY `k` (`b`)"],
    ),
]
OPTIONS = "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin"


def lines(definition):
    body = definition.sql().partition("\n) ")[0].splitlines()[1:]
    return {line.strip().removesuffix(",") for line in body}


@pytest.mark.parametrize(
    ("clause", "change", "gained", "lost"),
    STATEMENTS,
    ids=lambda value: str(value)[:30],
)
def test_change(clause, change, gained, lost):
    alteration = Alteration.parse(f"ALTER TABLE `t` {clause}")
    assert alteration == Alteration(TableName("t"), (change,))
    assert Alteration.parse(alteration.sql) == alteration
    assert not change.is_done(TABLE)
    changed = change.apply(TABLE)
    assert change.is_done(changed)
    assert lines(changed) - lines(TABLE) == set(gained)
    assert lines(TABLE) - lines(changed) == set(lost)
    # Undoing the change restores every line except those of columns and of the primary
    # key.
    undone = Alteration(TABLE.name, tuple(changes_to(changed, TABLE))).apply(changed)
    kept = {line for line in lines(TABLE) if "PRIMARY KEY" not in line}
    if isinstance(change, DropColumn):
        kept = {line for line in kept if "`b`" not in line}
    assert kept <= lines(undone)


@pytest.mark.parametrize(
    ("sql", "change"),
    [
        (
            "CREATE INDEX `i` ON `t` (`a` DESC, (lower(`b`))) COMMENT 'x'",
            AddKey(key("KEY `i` (`a` DESC,(lower(`b`))) COMMENT 'x'")),
        ),
        ("CREATE UNIQUE INDEX `i` ON `t` (`a`)", AddKey(key("UNIQUE KEY `i` (`a`)"))),
        (
            "CREATE FULLTEXT INDEX `i` ON `t` (`b`) WITH PARSER NGRAM",
            AddKey(key("FULLTEXT INDEX `i`(`b`) WITH PARSER NGRAM")),
        ),
        ("DROP INDEX `k` ON `t`", DropKey(KeyKind.INDEX, "k")),
        ("DROP INDEX `PRIMARY` ON `t`", DropPrimaryKey()),
        ("ALTER TABLE t add key i (a)", AddKey(key("KEY `i` (`a`)"))),
        ("ALTER TABLE `t` ADD `x` int", AddColumn(column("`x` int"))),
        ("ALTER TABLE `t` MODIFY COLUMN a int", ModifyColumn(column("`a` int"))),
        ("ALTER TABLE `t` COMMENT = 'a, b'", SetTableOption("COMMENT", "'a, b'")),
        (
            "ALTER TABLE `t` TTL = `d` + INTERVAL 3 MONTH",
            SetTableOption("TTL", "`d` + INTERVAL 3 MONTH"),
        ),
        ("ALTER TABLE `t` AUTO_ID_CACHE 50", SetTableOption("AUTO_ID_CACHE", 50)),
    ],
)
def test_other_statements(sql, change):
    alteration = Alteration.parse(sql)
    assert alteration == Alteration(TableName("t"), (change,))
    assert Alteration.parse(alteration.sql) == alteration
    assert change.is_done(change.apply(TABLE))


def test_table_of_another_database():
    alteration = Alteration.parse("DROP INDEX `k` ON `o`.`t`")
    assert alteration.sql == "ALTER TABLE `o`.`t` DROP INDEX `k`"


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE `t` SET TIFLASH REPLICA 1",
        "ALTER TABLE `t` FORCE",
        "ALTER TABLE `t` REMOVE TTL",
        "ALTER TABLE `t` RENAME TO `u`",
        "ALTER TABLE `t` ADD COLUMN (`x` int, `y` int)",
        "ALTER TABLE `t` ADD COLUMN `x` int AFTER `a`",
        "ALTER TABLE `t` ADD COLUMN `x`",
        "ALTER TABLE `t` ALTER COLUMN `a` SET DEFAULT 1 2",
        "ALTER TABLE `t` DROP CONSTRAINT `c`",
        "ALTER TABLE `t` COMMENT 'x",
        "RENAME TABLE `t` TO `u`",
        "DROP TABLE `t`",
        "UPDATE `t` SET `a` = 1",
        "",
    ],
)
def test_statements_that_are_no_changes(sql):
    with pytest.raises(ValueError, match=r"missing|not|goes on|has no"):
        Alteration.parse(sql)


@pytest.mark.parametrize(
    ("clause", "message"),
    [
        ("ADD COLUMN `A` int", "has a column 'A' already"),
        ("MODIFY `x` int", "has no column 'x'. Its columns are id, a, b, g, t_id."),
        ("RENAME COLUMN `x` TO `y`", "has no column 'x'"),
        ("RENAME COLUMN `b` TO `t_id`", "has a column 't_id' already"),
        ("RENAME COLUMN `a` TO `y`", "needs 'a' for `g`"),
        ("RENAME COLUMN `b` TO `y`", "'b' is in an expression of CONSTRAINT `c`"),
        ("DROP COLUMN `x`", "has no column 'x'"),
        ("DROP COLUMN `a`", "needs 'a' for `g`"),
        ("DROP COLUMN `t_id`", "'t_id' is needed by CONSTRAINT `f`"),
        ("ALTER COLUMN `x` SET DEFAULT 5", "has no column 'x'"),
        ("ALTER COLUMN `b` DROP DEFAULT", "default NULL for `b`"),
        ("ADD PRIMARY KEY (`a`)", "has a key like PRIMARY KEY"),
        ("ADD INDEX `k` (`a`)", "has a key like KEY `k`"),
        ("DROP INDEX `x`", "has no KEY 'x'"),
        ("DROP CHECK `k`", "has no CHECK 'k'"),
        ("DROP FOREIGN KEY `k`", "has no FOREIGN KEY 'k'"),
        ("DROP INDEX `f`", "needs KEY `f` (`t_id`) for a foreign key"),
        ("RENAME INDEX `k` TO `l`", "has an index 'l' already"),
    ],
)
def test_changes_that_the_server_refuses(clause, message):
    alteration = Alteration.parse(f"ALTER TABLE `t` {clause}")
    with pytest.raises(ValueError, match=re.escape(message)):
        alteration.apply(TABLE)


def test_foreign_keys_without_an_index():
    # A server before TiDB 6.6 has foreign keys without an index.
    table = DropKey(KeyKind.FOREIGN_KEY, "f").apply(TABLE)
    table = DropKey(KeyKind.INDEX, "f").apply(table).with_key(TABLE.keys[4])
    assert DropKey(KeyKind.INDEX, "k").apply(table).key(KeyKind.INDEX, "k") is None
    assert table.with_foreign_key_indexes().key(KeyKind.INDEX, "f") is not None


def test_name_of_a_table_option():
    with pytest.raises(ValueError, match="'A = 1, B' is no name of a table option"):
        SetTableOption("A = 1, B", 5)


def test_several_changes():
    alteration = Alteration.parse(
        "ALTER TABLE `t` DROP PRIMARY KEY, ADD PRIMARY KEY (`id`, `b`), MODIFY `id` "
        "bigint NOT NULL, AUTO_ID_CACHE = 50, COMMENT = 'x'"
    )
    changed = alteration.apply(TABLE)
    assert changed.primary_key.columns == ("id", "b")
    assert changed.column("b").definition == "varchar(9) NOT NULL"
    # The table has no AUTO_INCREMENT column any more, so its counter is gone.
    assert changed.options == f"{OPTIONS} AUTO_ID_CACHE=50 COMMENT='x'"
    assert alteration.is_done(changed)
    assert not alteration.is_done(TABLE)
    changed = Alteration.parse("ALTER TABLE `t` AUTO_ID_CACHE = 0").apply(changed)
    assert changed.option("AUTO_ID_CACHE") is None


def test_primary_key_is_done_by_its_columns():
    assert AddPrimaryKey(Key.primary(["ID"])).is_done(TABLE)
    assert AddPrimaryKey(Key.primary(["ID"], clustered=True)).is_done(TABLE)
    assert not AddPrimaryKey(Key.primary(["ID"], clustered=False)).is_done(TABLE)
    assert not AddPrimaryKey(Key.primary(["id", "a"])).is_done(TABLE)


def test_primary_key_that_is_replaced():
    changes = (DropPrimaryKey(), AddPrimaryKey(Key.primary(["id"], clustered=False)))
    alteration = Alteration(TABLE.name, changes)
    assert not alteration.is_done(TABLE)
    assert alteration.is_done(alteration.apply(TABLE))


# -- Hypothesis

names = st.text(st.sampled_from("ab`, ()'é\n"), min_size=1, max_size=5)
types = st.sampled_from(
    ["int", "varchar(9) DEFAULT 'a, ''b' NOT NULL", "decimal(9, 2) COMMENT ')'"]
)
columns = st.builds(Column, names, types)
parts = st.lists(names.map(TableName).map(lambda name: name.sql), min_size=1).map(tuple)
kinds = st.sampled_from([KeyKind.UNIQUE, KeyKind.INDEX])
all_changes = st.one_of(
    columns.map(AddColumn),
    columns.map(ModifyColumn),
    st.builds(ChangeColumn, names, columns),
    st.builds(RenameColumn, names, names),
    names.map(DropColumn),
    st.builds(SetDefault, names, st.sampled_from(["-1.5", "'a, b'", "(uuid())"])),
    names.map(DropDefault),
    st.lists(names, min_size=1).map(Key.primary).map(AddPrimaryKey),
    st.just(DropPrimaryKey()),
    st.builds(Key, kinds, names, parts).map(AddKey),
    st.builds(RenameIndex, names, names),
    st.builds(
        DropKey,
        st.sampled_from([KeyKind.INDEX, KeyKind.FOREIGN_KEY, KeyKind.CHECK]),
        names.filter(lambda name: name.lower() != "primary"),
    ),
    st.builds(SetTableOption, st.just("AUTO_ID_CACHE"), st.integers(0, 9)),
    st.builds(SetTableOption, st.just("COMMENT"), st.just("'a, b'")),
)


@given(
    table=st.builds(TableName, names, st.one_of(st.just(""), names)),
    changes=st.lists(all_changes, min_size=1, max_size=4).map(tuple),
)
def test_any_statement_is_read_as_it_is_written(table, changes):
    alteration = Alteration(table, changes)
    assert Alteration.parse(alteration.sql) == alteration
