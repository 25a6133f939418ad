"""Test the effect of statements, and compare it with the effect on a server."""

from __future__ import annotations

from contextlib import suppress

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_tidb.driver import ensure_driver
from django_tidb.kinds import EVERYTHING, NOTHING, Effect, effect_of
from tests.faults import raw_connection

DRIVER = ensure_driver()

WRITES = Effect(writes=True)
LOCKS = Effect(locks=True)
COMMITS = Effect(commits=True)
SESSION = Effect(session=True)
SEVERAL = Effect(several=True)


@pytest.mark.parametrize(
    ("sql", "effect"),
    [
        ("", NOTHING),
        ("SELECT 1", NOTHING),
        ("  \n(SELECT 1) UNION (SELECT 2)", NOTHING),
        ("SELECT 1;", NOTHING),
        ("SELECT 1; -- INSERT INTO t VALUES (1)", NOTHING),
        (
            "SELECT `for`, updated, into_x FROM t WHERE a = 'for update; INSERT'",
            NOTHING,
        ),
        ("SELECT REPLACE(a, 'b', 'c'), INSERT(a, 1, 2, 'x') FROM t", NOTHING),
        ("SELECT LAST_INSERT_ID()", NOTHING),
        ("SELECT /*+ READ_FROM_STORAGE(TIKV[t]) */ * FROM t", NOTHING),
        ("WITH a AS (SELECT 1) SELECT * FROM a", NOTHING),
        ("TABLE t", NOTHING),
        ("SHOW TABLES", NOTHING),
        ("DESC t", NOTHING),
        ("EXPLAIN DELETE FROM t", NOTHING),
        ("EXPLAIN ANALYZE SELECT 1", NOTHING),
        ("DO SLEEP(0)", NOTHING),
        ("SAVEPOINT a", NOTHING),
        ("RELEASE SAVEPOINT a", NOTHING),
        ("ROLLBACK TO SAVEPOINT a", NOTHING),
        ("SELECT * FROM t FOR UPDATE", LOCKS),
        ("SELECT * FROM t FOR SHARE", LOCKS),
        ("SELECT * FROM t LOCK IN SHARE MODE", LOCKS),
        ("INSERT INTO t VALUES (1)", WRITES),
        ("insert into t select 1", WRITES),
        ("-- SELECT\nREPLACE INTO t VALUES (1)", WRITES),
        ("#'\nUPDATE t SET a = 1", WRITES),
        ("/* SELECT */DELETE FROM t", WRITES),
        ("BATCH ON id LIMIT 10 DELETE FROM t", WRITES),
        ("WITH a AS (SELECT 1) UPDATE t, a SET t.a = 1", WRITES),
        ("EXPLAIN ANALYZE DELETE FROM t", WRITES),
        ("SELECT 1 INTO OUTFILE '/tmp/x'", WRITES),
        ("SELECT NEXTVAL(s)", WRITES),
        ("SELECT NEXT VALUE FOR s", WRITES),
        ("SELECT 1; INSERT INTO t VALUES (1)", WRITES | SEVERAL),
        ("SELECT 1 -- it's\n; INSERT INTO t VALUES (1)", WRITES | SEVERAL),
        # This "--" needs a space to begin a comment, so the quote begins a string.
        ("SELECT 1 --it's\n; DELETE FROM t -- '", NOTHING),
        # U+3000 is not a space for the server, so "--" begins no comment.
        ("SELECT 1 --\u3000; DELETE FROM t", WRITES | SEVERAL),
        ("SELECT '\\'; DELETE FROM t -- '", WRITES | SEVERAL),
        ("BEGIN", COMMITS),
        ("START TRANSACTION", COMMITS),
        ("COMMIT", COMMITS),
        ("ROLLBACK", COMMITS),
        ("CREATE TABLE t (id INT)", WRITES | COMMITS),
        ("DROP TABLE t", WRITES | COMMITS),
        ("CREATE TEMPORARY TABLE t (id INT)", WRITES | COMMITS | SESSION),
        ("LOCK TABLES t WRITE", COMMITS | SESSION),
        ("SET a = 1", SESSION),
        ("SET autocommit = 1", SESSION | COMMITS),
        ("SET GLOBAL a = 1", SESSION | WRITES),
        ("SET @@global.a = 1", SESSION | WRITES),
        ("SELECT GET_LOCK('a', 1)", SESSION),
        ("SELECT @a := 1", SESSION),
        ("SELECT LAST_INSERT_ID(5)", SESSION),
        ("SELECT 1 INTO @a", SESSION),
        ("INSERT INTO t VALUES (GET_LOCK('a', 1))", WRITES | SESSION),
        ("USE other", SESSION),
        ("PREPARE p FROM 'DELETE FROM t'", SESSION),
        ("CALL p()", EVERYTHING),
        ("EXECUTE p", EVERYTHING),
        ("TRACE DELETE FROM t", EVERYTHING),
        ("NO SUCH STATEMENT", EVERYTHING),
        ("SELECT /*! 1 */", EVERYTHING),
        ("SELECT 1 /*T! ; DELETE FROM t */", EVERYTHING),
        ("SELECT 1 /*T![x] ; DELETE FROM t */", EVERYTHING),
        ("SELECT 1; 'unclosed", EVERYTHING),
        ("SELECT 1 /* unclosed", EVERYTHING),
        ('SELECT "a\\" ; DELETE FROM t -- "', EVERYTHING),
        (b"SELECT 1", EVERYTHING),
        (None, EVERYTHING),
    ],
)
def test_effect(sql, effect):
    assert effect_of(sql) == effect


def test_long_statements():
    insert = "INSERT INTO t VALUES " + ", ".join(["(%s, %s)"] * 10_000)
    assert effect_of(insert) == WRITES
    assert effect_of(f"{insert}; SET a = 1") == WRITES | SESSION | SEVERAL
    select = f"SELECT * FROM t WHERE id IN ({', '.join(['%s'] * 10_000)})"
    assert effect_of(select) == NOTHING
    assert effect_of(f"{select} FOR UPDATE") == LOCKS


# With these pieces, one statement can look like another statement.
NOISE = st.lists(
    st.sampled_from(
        [
            *("'", '"', "`", "\\", "''", "'a'", '"b"', "`c`", "-- ", "--", "#", "\n"),
            *("/*", "*/", "/*!", "/*T!", "/*+", "/*/", "/**/", ";", " ", "\u3000", "1"),
            *("SELECT 1", "x", "\t", "--\u00a0", "+"),
        ]
    ),
    max_size=8,
).map("".join)


@pytest.mark.django_db(transaction=True)
def test_no_write_is_taken_for_a_read(transactional_db):
    options = {}
    if DRIVER.is_pymysql:
        from pymysql.constants import CLIENT

        options["client_flag"] = CLIENT.MULTI_STATEMENTS
    other = connection.copy()
    other.settings_dict = {**other.settings_dict, "OPTIONS": options}
    with raw_connection(other) as raw, raw.cursor() as cursor:
        cursor.execute("CREATE TABLE kinds (n INT)")
        cursor.execute("INSERT INTO kinds VALUES (0)")
        written = 0

        def count():
            cursor.execute("SELECT n FROM kinds")
            return cursor.fetchone()[0]

        @settings(
            max_examples=400,
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        @given(before=NOISE, between=NOISE, after=NOISE)
        def check(before, between, after):
            nonlocal written
            sql = f"{before}SELECT 1 {between}\nUPDATE kinds SET n = n + 1{after}"
            n = count()
            with suppress(raw.Error):
                cursor.execute(sql)
                while cursor.nextset():
                    pass
            if count() != n:
                written += 1
                assert effect_of(sql).writes, sql

        try:
            check()
        finally:
            cursor.execute("DROP TABLE kinds")
    # If the server refused every text as a syntax error, the test would show nothing.
    assert written > 0
