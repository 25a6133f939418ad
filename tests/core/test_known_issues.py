"""Ask the server about every entry of the table of known issues."""

from __future__ import annotations

import runpy
import warnings
from pathlib import Path

import django
import pytest
from django.db import connections
from django.db.utils import DatabaseError

from django_tidb.known_issues import KNOWN_ISSUES
from django_tidb.version import TiDBVersion
from tests.probes import accepts, assert_agrees

connection = connections["default"]
pytestmark = pytest.mark.django_db(transaction=True)


def refuses_row(insert, *statements):
    """
    Return a probe, which executes `statements` and then returns whether the server
    refuses the statement `insert`.
    """

    def probe(cursor):
        for statement in statements:
            cursor.execute(statement)
        try:
            cursor.execute(insert)
        except DatabaseError:
            return True
        return False

    return probe


def with_checks(probe):
    """Enable CHECK constraints for the probe if the server supports them."""

    def wrapped(cursor):
        if connection.tidb_version < (7, 2):
            return probe(cursor)
        cursor.execute("SET GLOBAL tidb_enable_check_constraint = ON")
        try:
            return probe(cursor)
        finally:
            cursor.execute("SET GLOBAL tidb_enable_check_constraint = OFF")

    return wrapped


def skip_locked(cursor):
    cursor.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    cursor.execute("INSERT INTO t VALUES (1), (2)")
    other = cursor.db.copy()
    try:
        with other.cursor() as holder:
            holder.execute("USE probe")
            holder.execute("BEGIN")
            holder.execute("SELECT * FROM t WHERE id = 1 FOR UPDATE")
            cursor.execute("BEGIN")
            try:
                cursor.execute("SELECT id FROM t FOR UPDATE SKIP LOCKED")
            except DatabaseError:
                return False
            skipped = cursor.fetchall() == ((2,),)
            holder.execute("ROLLBACK")
            return skipped
    finally:
        other.close()


def autocommit_nowait(cursor):
    cursor.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    cursor.execute("INSERT INTO t VALUES (1)")
    other = cursor.db.copy()
    try:
        with other.cursor() as holder:
            holder.execute("USE probe")
            holder.execute("BEGIN PESSIMISTIC")
            holder.execute("SELECT * FROM t FOR UPDATE")
            try:
                cursor.execute("SELECT * FROM t FOR UPDATE NOWAIT")
            except DatabaseError:
                return True
            holder.execute("ROLLBACK")
            return False
    finally:
        other.close()


def answers(query, *setup):
    """
    Return a probe, which executes the statements `setup` and then returns whether
    `query` returns true.
    """

    def probe(cursor):
        for statement in setup:
            cursor.execute(statement)
        cursor.execute(query)
        return bool(cursor.fetchone()[0])

    return probe


def stable_release(cursor):
    cursor.execute("SELECT tidb_version()")
    return TiDBVersion.parse("", cursor.fetchone()[0]) >= (8, 5)


def descending_index(cursor):
    cursor.execute("CREATE TABLE t (id INT, KEY k (id DESC))")
    cursor.execute("SHOW INDEX FROM t")
    return cursor.fetchone()[5] == "D"


def show_create_backslash(cursor):
    cursor.execute("CREATE TABLE t (a VARCHAR(5) DEFAULT %s COMMENT %s)", ["\\"] * 2)
    cursor.execute("SHOW CREATE TABLE t")
    return r" DEFAULT '\\' COMMENT '\\'" in cursor.fetchone()[1]


def show_create_enum(cursor):
    cursor.execute("CREATE TABLE t (a ENUM(%s), b SET(%s))", ["x\\y", "\\"])
    cursor.execute("SHOW CREATE TABLE t")
    sql = cursor.fetchone()[1]
    return r"enum('x\\y')" in sql and r"set('\\')" in sql


def replaces_index(cursor):
    cursor.execute("CREATE TABLE p (id INT PRIMARY KEY)")
    cursor.execute(
        "CREATE TABLE c (p INT, n INT, CONSTRAINT f FOREIGN KEY (p) REFERENCES p (id))"
    )
    cursor.execute("CREATE INDEX i ON c (p, n)")
    cursor.execute("SHOW INDEX FROM c")
    return {row[2] for row in cursor.fetchall()} == {"i"}


def has_fulltext_index(statement):
    def probe(cursor):
        cursor.execute("CREATE TABLE t (id INT PRIMARY KEY, a TEXT)")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cursor.execute(statement)
        cursor.execute("SHOW INDEX FROM t")
        return "f" in {row[2] for row in cursor.fetchall()}

    return probe


TABLE = "CREATE TABLE t (id INT PRIMARY KEY, n INT, s VARCHAR(10), KEY (s))"

# A probe returns True if the server does what MySQL does.
PROBES = {
    "savepoint": accepts("BEGIN", "SAVEPOINT s"),
    "skip-locked": skip_locked,
    "autocommit-nowait": autocommit_nowait,
    "lock-of": accepts(TABLE, "SELECT * FROM t FOR UPDATE OF t"),
    "isolation-levels": accepts("SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE"),
    "get-lock": accepts("SELECT GET_LOCK('probe', 0)"),
    "foreign-key": refuses_row(
        "INSERT INTO c VALUES (1, 1)",
        "CREATE TABLE p (id INT PRIMARY KEY)",
        "CREATE TABLE c (id INT, p INT, FOREIGN KEY (p) REFERENCES p (id))",
    ),
    "foreign-key-database": answers(
        "SELECT referenced_table_schema = 'elsewhere' "
        "FROM information_schema.key_column_usage "
        "WHERE table_schema = DATABASE() AND column_name = 'p'",
        "SET foreign_key_checks = 0",
        "CREATE TABLE c (p INT, FOREIGN KEY (p) REFERENCES elsewhere.p (id))",
    ),
    "table-name-case": answers(
        "SELECT COUNT(*) FROM information_schema.tables "
        "WHERE table_schema = DATABASE() AND table_name = 'T'",
        TABLE,
    ),
    "check-constraint": refuses_row(
        "INSERT INTO t VALUES (-1)", "CREATE TABLE t (id INT, CHECK (id > 0))"
    ),
    "check-constraint-tables": accepts(
        "SELECT table_name FROM information_schema.tidb_check_constraints"
    ),
    "check-backtick": with_checks(
        accepts("CREATE TABLE `t``` (id INT)", "ALTER TABLE `t``` ADD CHECK (id > 0)")
    ),
    "modify-backtick": accepts(
        "CREATE TABLE t (`a``b` INT)", "ALTER TABLE t MODIFY `a``b` INT NOT NULL"
    ),
    "alter-several": accepts(TABLE, "ALTER TABLE t ADD COLUMN a INT, ADD COLUMN b INT"),
    "drop-indexed-column": accepts(TABLE, "ALTER TABLE t DROP COLUMN s"),
    "add-column-unique": accepts(TABLE, "ALTER TABLE t ADD COLUMN a INT UNIQUE"),
    "add-column-check": with_checks(
        refuses_row(
            "INSERT INTO t (id, c) VALUES (1, -1)",
            TABLE,
            "ALTER TABLE t ADD COLUMN c INT CHECK (c > 0)",
        )
    ),
    "add-column-foreign-key": accepts(
        TABLE,
        "CREATE TABLE c (id INT)",
        "ALTER TABLE c ADD COLUMN t INT, "
        "ADD CONSTRAINT f FOREIGN KEY (t) REFERENCES t (id)",
    ),
    "add-column-index": accepts(TABLE, "ALTER TABLE t ADD COLUMN a INT, ADD KEY (a)"),
    "add-column-stored": accepts(
        TABLE, "ALTER TABLE t ADD COLUMN g INT GENERATED ALWAYS AS (n + 1) STORED"
    ),
    "rename-generated-source": accepts(
        "CREATE TABLE t (a INT, b INT AS (a + 1))", "ALTER TABLE t RENAME COLUMN a TO c"
    ),
    "add-column-auto-increment": accepts(
        "CREATE TABLE t (n INT)",
        "ALTER TABLE t ADD COLUMN a INT AUTO_INCREMENT UNIQUE",
    ),
    "modify-auto-increment": accepts(
        TABLE, "ALTER TABLE t MODIFY COLUMN id INT AUTO_INCREMENT"
    ),
    "drop-primary-key": accepts(TABLE, "ALTER TABLE t DROP PRIMARY KEY"),
    "modify-lossy": accepts(TABLE, "ALTER TABLE t MODIFY COLUMN n VARCHAR(5)"),
    "modify-indexed-collation": accepts(
        TABLE,
        "ALTER TABLE t MODIFY COLUMN s VARCHAR(10) COLLATE utf8mb4_general_ci",
    ),
    "ttl": accepts("CREATE TABLE t (d DATETIME) TTL = d + INTERVAL 1 DAY"),
    "default-functions": accepts("CREATE TABLE t (a DOUBLE DEFAULT (PI()))"),
    "default-uuid": accepts("CREATE TABLE t (a VARCHAR(36) DEFAULT (UUID()))"),
    "force-auto-increment": accepts(
        "CREATE TABLE t (a BIGINT AUTO_INCREMENT PRIMARY KEY)",
        "ALTER TABLE t FORCE AUTO_INCREMENT = 1",
    ),
    "default-json-functions": accepts(
        "CREATE TABLE t (a JSON DEFAULT (JSON_OBJECT()))"
    ),
    "default-text": accepts("CREATE TABLE t (a TEXT DEFAULT ('x'))"),
    "expression-index": accepts(TABLE, "CREATE INDEX i ON t ((LOWER(s)))"),
    "expression-index-functions": accepts(TABLE, "CREATE INDEX i ON t ((ABS(n)))"),
    "foreign-key-index": replaces_index,
    "fulltext-index": has_fulltext_index("ALTER TABLE t ADD FULLTEXT INDEX f (a)"),
    "create-fulltext-index": accepts(
        "CREATE TABLE t (a TEXT)", "CREATE FULLTEXT INDEX f ON t (a)"
    ),
    "match-against": accepts(
        "CREATE TABLE t (a TEXT)", "SELECT * FROM t WHERE MATCH (a) AGAINST ('x')"
    ),
    "descending-index": descending_index,
    "uuid-type": accepts("CREATE TABLE t (id UUID)"),
    "utf16": accepts("SELECT CHAR(233 USING utf16)"),
    "mysql-collations": accepts("SELECT 'a' COLLATE utf8mb4_esperanto_ci"),
    "json-index": accepts(
        "CREATE TABLE t (id INT PRIMARY KEY, j JSON)",
        "CREATE INDEX i ON t ((JSON_EXTRACT(j, '$.a')))",
    ),
    "any-value-expression": accepts(TABLE, "SELECT ANY_VALUE(n) + 1 FROM t GROUP BY s"),
    "group-by-part": accepts(
        TABLE, "SELECT LEAST(MIN(n), ABS(id - 6)) FROM t GROUP BY ABS(id - 6)"
    ),
    "having-outer-column": accepts(
        TABLE,
        "SELECT s FROM t GROUP BY id "
        "HAVING COUNT(n) = (SELECT COUNT(*) FROM t AS u WHERE u.id = t.id)",
    ),
    "order-subquery-column": accepts(
        TABLE, "SELECT s FROM t ORDER BY EXISTS (SELECT 1 FROM t AS u WHERE u.id = t.n)"
    ),
    "order-subquery-alias": answers(
        "SELECT n = 2 FROM (SELECT id AS n FROM t ORDER BY "
        "0 + (SELECT u.id FROM t AS u WHERE u.id = t.n) LIMIT 1) AS first",
        TABLE,
        "INSERT INTO t (id, n) VALUES (1, 2), (2, 1)",
    ),
    "window-subquery-column": accepts(
        TABLE,
        "SELECT RANK() OVER (ORDER BY EXISTS (SELECT 1 FROM t AS u WHERE u.id = t.n)) "
        "FROM t",
    ),
    "window-subquery-argument": accepts(
        TABLE,
        "SELECT n, SUM((SELECT MAX(u.id) FROM t AS u WHERE u.id = t.n)) OVER () FROM t",
    ),
    "distinct-order-subquery": accepts(
        TABLE,
        "SELECT DISTINCT id, (SELECT MAX(n) FROM t AS u WHERE u.id = t.id) FROM t "
        "ORDER BY (SELECT MAX(n) FROM t AS u WHERE u.id = t.id)",
    ),
    "round-integer": answers("SELECT ROUND(365, -1) = 370"),
    "json-path-surrogates": accepts(
        r"""SELECT JSON_EXTRACT('{"a": 1}', '$."\\ud83e\\udd21"')"""
    ),
    "show-create-backslash": show_create_backslash,
    "show-create-enum": show_create_enum,
    "regexp-like": accepts("SELECT REGEXP_LIKE('a', 'A', 'i')"),
    "upsert-alias": accepts(
        TABLE,
        "INSERT INTO t (id, n) VALUES (1, 1) AS new ON DUPLICATE KEY UPDATE n = new.n",
    ),
    "returning": accepts(TABLE, "INSERT INTO t (id) VALUES (1) RETURNING id"),
    "stored-procedures": accepts("CREATE PROCEDURE p () SELECT 1"),
    "explain-json": accepts(TABLE, "EXPLAIN FORMAT = 'json' SELECT * FROM t"),
    "explain-tidb-json": accepts(TABLE, "EXPLAIN FORMAT = 'tidb_json' SELECT * FROM t"),
    "explain-analyze-format": accepts(
        TABLE, "EXPLAIN ANALYZE FORMAT = 'row' SELECT * FROM t"
    ),
    "explain-analyze-brief": accepts(
        TABLE, "EXPLAIN ANALYZE FORMAT = 'brief' SELECT * FROM t WHERE id = 1"
    ),
    # The documentation states this issue, and no statement can show it.
    "foreign-key-experimental": lambda cursor: (
        not (KNOWN_ISSUES["foreign-key-experimental"].affects(connection.tidb_version))
    ),
}


def test_every_issue_has_a_probe():
    assert PROBES.keys() == KNOWN_ISSUES.keys()


def test_page_is_up_to_date():
    root = Path(__file__).parents[2]
    script = runpy.run_path(str(root / "scripts" / "known_issues.py"))
    assert script["PAGE"].read_text() == script["page"](), (
        "run: hatch run docs:known-issues"
    )


@pytest.mark.parametrize("issue", KNOWN_ISSUES)
def test_table_and_server_agree(cursor, issue):
    assert_agrees(cursor, KNOWN_ISSUES[issue], PROBES[issue])


def test_nowait(cursor):
    # Before TiDB 7, transactions on the embedded storage are optimistic by default.
    begin = "BEGIN PESSIMISTIC"
    cursor.execute(TABLE)
    cursor.execute("INSERT INTO t (id) VALUES (1)")
    other = cursor.db.copy()
    try:
        with other.cursor() as holder:
            holder.execute("USE probe")
            holder.execute(begin)
            holder.execute("SELECT * FROM t FOR UPDATE")
            cursor.execute(begin)
            with pytest.raises(DatabaseError, match="3572"):
                cursor.execute("SELECT * FROM t FOR UPDATE NOWAIT")
            holder.execute("ROLLBACK")
    finally:
        other.close()


def test_check_constraints_with_the_variable_on(cursor):
    if connection.tidb_version < (7, 2):
        with pytest.raises(DatabaseError):
            cursor.execute("SET GLOBAL tidb_enable_check_constraint = ON")
        return
    cursor.execute("SET GLOBAL tidb_enable_check_constraint = ON")
    try:
        with connection.schema_editor():
            assert connection.features.supports_table_check_constraints
        assert PROBES["check-constraint"](cursor)
        found = connection.introspection.get_constraints(cursor, "t")
        assert [c["columns"] for c in found.values() if c["check"]] == [["id"]]
    finally:
        cursor.execute("SET GLOBAL tidb_enable_check_constraint = OFF")
    with connection.schema_editor():
        assert not connection.features.supports_table_check_constraints
    assert not connection.features.supports_table_check_constraints


@pytest.mark.works("foreign-key")
def test_foreign_keys_to_another_database_are_left_out(cursor):
    cursor.execute("SET foreign_key_checks = 0")
    cursor.execute(
        "CREATE TABLE c (a INT, b INT, CONSTRAINT x FOREIGN KEY (a) REFERENCES "
        "elsewhere.p (id), CONSTRAINT y FOREIGN KEY (b) REFERENCES p (id))"
    )
    introspection = connection.introspection
    relations = introspection.get_relations(cursor, "c")
    found = introspection.get_constraints(cursor, "c").items()
    foreign = [name for name, constraint in found if constraint["foreign_key"]]
    # From Django 6.1 on, a relation has a third element, the action of ON DELETE.
    assert relations["b"][:2] == ("id", "p")
    # Django 4.2 uses its own query, which does not compare the name of the database.
    if django.VERSION >= (5, 0):
        assert relations.keys() == {"b"}
        assert foreign == ["y"]


def test_the_case_of_a_table_name_does_not_count(cursor):
    cursor.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    if connection.tidb_version < (6, 1):
        with pytest.raises(KeyError):
            connection.introspection.get_table_description(cursor, "T")
        return
    (field,) = connection.introspection.get_table_description(cursor, "T")
    assert (field.name, field.primary_key) == ("id", 1)
