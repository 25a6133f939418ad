from __future__ import annotations

import pytest
from django.db import OperationalError
from django.db.backends.ddl_references import Statement
from django.db.backends.mysql.schema import DatabaseSchemaEditor as Templates

from django_tidb.pending import Addition, Creation, Pending
from django_tidb.statements import IndexStatement


def creation(table="`bay`"):
    return Creation(table, [f"CREATE TABLE {table} (`id` INT"], end=") COMMENT='x'")


def index(**more):
    parts = {
        "name": "`i`",
        "table": "`bay`",
        "columns": "`a`, `b`",
        "extra": " USING x",
    }
    return Statement(Templates.sql_create_index, **parts, **more)


def unique():
    return Statement(
        Templates.sql_create_unique,
        name="`u`",
        table="`bay`",
        columns="`a`",
        nulls_distinct="",
        deferrable="",
    )


def check():
    return Statement(Templates.sql_create_check, name="`c`", table="`bay`", check="1")


def foreign_key():
    return Statement(
        Templates.sql_create_fk,
        name="`f`",
        table="`bay`",
        column="`a`",
        to_table="`item`",
        to_column="`id`",
        on_delete_db="",
        deferrable="",
    )


def test_creation():
    statement = creation()
    for added in (index(), unique(), check(), foreign_key()):
        statement.add(statement.clause(added))
    assert statement.sql == (
        "CREATE TABLE `bay` (`id` INT, "
        "INDEX `i` (`a`, `b`) USING x, "
        "CONSTRAINT `u` UNIQUE (`a`), "
        "CONSTRAINT `c` CHECK (1), "
        "CONSTRAINT `f` FOREIGN KEY (`a`) REFERENCES `item` (`id`)) COMMENT='x'"
    )


def test_addition():
    statement = Addition("`bay`")
    for added in (index(), unique()):
        statement.add(statement.clause(added))
    assert statement.sql == (
        "ALTER TABLE `bay` ADD INDEX `i` (`a`, `b`) USING x, "
        "ADD CONSTRAINT `u` UNIQUE (`a`)"
    )


@pytest.mark.parametrize("statement", [check(), foreign_key()])
def test_what_an_addition_cannot_have(statement):
    assert Addition.clause(statement) is None


def test_statement_of_another_kind():
    statement = Statement("ALTER TABLE %(table)s COMPACT", table="`bay`")
    assert Creation.clause(statement) is None
    assert Addition.clause(statement) is None


def test_form_that_a_statement_brings():
    statement = IndexStatement(
        "CREATE SPECIAL INDEX %(name)s ON %(table)s (%(columns)s)",
        inline="SPECIAL INDEX %(name)s (%(columns)s)",
        **index().parts,
    )
    assert Creation.clause(statement) == "SPECIAL INDEX `i` (`a`, `b`)"


def test_pending_keeps_the_order():
    pending = Pending()
    first, second = creation("`b`"), creation("`a`")
    assert not pending
    pending.add(first)
    pending.add(second)
    assert pending
    assert pending.get("`a`") is second
    assert pending.get("`c`") is None
    assert pending.take() == [first, second]
    assert not pending
    assert pending.take() == []


@pytest.mark.parametrize(
    ("first", "second", "accepted"),
    [
        (creation("`a`"), creation("`b`"), True),
        (creation("`a`"), creation("`a`"), False),
        (creation("`a`"), Addition("`b`"), False),
        (Addition("`a`"), creation("`b`"), False),
        (Addition("`a`"), Addition("`b`"), False),
    ],
)
def test_creations_or_one_addition(first, second, accepted):
    pending = Pending()
    assert pending.accepts(second)
    pending.add(first)
    assert pending.accepts(second) == accepted
    assert pending.is_addition == isinstance(first, Addition)
    if not accepted:
        with pytest.raises(ValueError, match="pending"):
            pending.add(second)


def test_errors_name_the_operations():
    statement = creation()
    statement.belongs_to("Create model Bay")
    statement.add("INDEX (`a`)", "Create index i")
    statement.add("INDEX (`b`)", "Create index i")
    with (
        pytest.raises(OperationalError) as caught,
        statement.named_in_errors(),
    ):
        raise OperationalError(1061, "Duplicate key name")
    assert caught.value.args == (
        1061,
        "Duplicate key name [CREATE TABLE `bay`: Create model Bay; Create index i]",
    )


@pytest.mark.parametrize("args", [(), ("text",), (1, "text")])
def test_errors_of_other_forms(args):
    statement = creation()
    statement.belongs_to("Create model Bay")
    with (
        pytest.raises(OperationalError, match="Bay") as caught,
        statement.named_in_errors(),
    ):
        raise OperationalError(*args)
    assert caught.value.args[:-1] == args[:-1]


def test_errors_without_an_operation():
    with (
        pytest.raises(OperationalError) as caught,
        creation().named_in_errors(),
    ):
        raise OperationalError(1050, "exists")
    assert caught.value.args == (1050, "exists")
