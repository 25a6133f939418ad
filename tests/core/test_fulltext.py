"""Test the handling of full-text search, which TiDB lacks: DDL, queries and errors."""

from __future__ import annotations

import warnings

import pytest
from django.db import (
    DatabaseError,
    NotSupportedError,
    OperationalError,
    connection,
    models,
)
from django.db.backends.ddl_references import Statement, Table
from django.db.migrations import RunSQL
from django.db.migrations.state import ProjectState

from django_tidb.fulltext import (
    DDL,
    drop_if_exists,
    has_match,
    is_single,
    renames_index,
    without_fulltext,
)
from django_tidb.statements import IndexStatement

NOTHING = ""

# Each case has a statement, the rest of it that is sent, and the number of clauses that
# are left out.
LEFT_OUT = [
    ("CREATE FULLTEXT INDEX f ON t (a)", NOTHING, 1),
    ("create fulltext index f on t (a) with parser ngram;", NOTHING, 1),
    ("ALTER TABLE t ADD FULLTEXT (a)", NOTHING, 1),
    ("ALTER TABLE t ADD FULLTEXT INDEX `f` (`a`, b)", NOTHING, 1),
    ("\n  ALTER TABLE t\n  ADD FULLTEXT KEY f (a)\n WITH PARSER ngram;\n", NOTHING, 1),
    ("ALTER TABLE t ADD FULLTEXT f (a) COMMENT 'it''s' VISIBLE", NOTHING, 1),
    ("ALTER TABLE `d`.`t` ADD FULLTEXT f (a)", NOTHING, 1),
    ("ALTER TABLE t ADD FULLTEXT (a), ADD FULLTEXT (b)", NOTHING, 2),
    ("/* app */ ALTER TABLE t -- why\nADD FULLTEXT (a)", NOTHING, 1),
    (
        "ALTER TABLE t ADD COLUMN n INT, ADD FULLTEXT f (a, b), ADD INDEX i (n)",
        "ALTER TABLE t ADD COLUMN n INT, ADD INDEX i (n)",
        1,
    ),
    (
        "ALTER IGNORE TABLE t ADD FULLTEXT (a), COMMENT = 'ADD FULLTEXT (b), '",
        "ALTER IGNORE TABLE t COMMENT = 'ADD FULLTEXT (b), '",
        1,
    ),
    (
        "ALTER TABLE t ADD COLUMN (n INT, FULLTEXT f (a)), DROP COLUMN m",
        "ALTER TABLE t ADD COLUMN (n INT), DROP COLUMN m",
        1,
    ),
    ("ALTER TABLE t ADD (FULLTEXT (a))", NOTHING, 1),
    (
        "CREATE TABLE t (id INT PRIMARY KEY, a TEXT, FULLTEXT KEY f (a)) COMMENT = 'x'",
        "CREATE TABLE t (id INT PRIMARY KEY, a TEXT) COMMENT = 'x'",
        1,
    ),
    (
        "CREATE TEMPORARY TABLE IF NOT EXISTS d.`t` (FULLTEXT (a), a TEXT)",
        "CREATE TEMPORARY TABLE IF NOT EXISTS d.`t` (a TEXT)",
        1,
    ),
    (
        # SHOW CREATE TABLE writes such comments, and TiDB executes their text.
        "CREATE TABLE t (\n  id BIGINT,\n  PRIMARY KEY (id) /*T![clustered_index] "
        "CLUSTERED */,\n  FULLTEXT KEY `f` (`a`)\n) /*T![auto_id_cache] X=1 */",
        "CREATE TABLE t (id BIGINT, PRIMARY KEY (id) /*T![clustered_index] "
        "CLUSTERED */) /*T![auto_id_cache] X=1 */",
        1,
    ),
    (
        "ALTER TABLE t DROP INDEX f; ALTER TABLE t ADD FULLTEXT f (a); DROP TABLE u",
        "ALTER TABLE t DROP INDEX f; DROP TABLE u",
        1,
    ),
]

UNTOUCHED = [
    # FULLTEXT stands in a literal, a comment or a name.
    "ALTER TABLE t COMMENT = 'ADD FULLTEXT (a)'",
    'ALTER TABLE t COMMENT = "x, ADD FULLTEXT (a)"',
    r"ALTER TABLE t COMMENT = 'it\'s, ADD FULLTEXT (a)'",
    "ALTER TABLE t COMMENT = 'it''s, ADD FULLTEXT (a)'",
    "ALTER TABLE t ADD n INT /* , ADD FULLTEXT (a) */",
    "ALTER TABLE t ADD n INT -- , ADD FULLTEXT (a)",
    "ALTER TABLE t ADD n INT # , ADD FULLTEXT (a)",
    "ALTER TABLE t ADD `FULLTEXT` INT",
    "ALTER TABLE t ADD COLUMN `, ADD FULLTEXT (a)` INT",
    "ALTER TABLE t ADD INDEX fulltext_body (body)",
    "CREATE TABLE `fulltext` (`fulltext` INT, KEY `FULLTEXT` (`fulltext`))",
    "CREATE TABLE t (a TEXT COMMENT 'x, FULLTEXT (a)')",
    "CREATE TABLE t (a TEXT DEFAULT (CONCAT('FULLTEXT', '(')))",
    "CREATE INDEX fulltext_title ON t (title)",
    "DROP INDEX fulltext_title ON t",
    # These statements have no complete FULLTEXT clause, or removing the clause would
    # change the meaning of another clause.
    "ALTER TABLE t ADD FULLTEXT (a) PARTITION BY HASH (id)",
    "ALTER TABLE t ADD FULLTEXT",
    "ALTER TABLE t ADD FULLTEXT (a",
    "ALTER TABLE t ADD FULLTEXT (a),",
    "ALTER TABLE t ADD FULLTEXT (a) COMMENT 'x",
    "CREATE TABLE t (a TEXT, FULLTEXT)",
    "CREATE TABLE t (a TEXT, FULLTEXT (a) /*! COMMENT 'x' */)",
    "CREATE TABLE t LIKE fulltext_t",
    "CREATE VIEW v AS SELECT 1 AS `FULLTEXT`",
    # These statements are not DDL.
    "INSERT INTO t VALUES ('x'); ALTER TABLE t ADD FULLTEXT (a)",
    "SELECT 'ALTER TABLE t ADD FULLTEXT (a)'",
    "(SELECT 1)",
]


@pytest.mark.parametrize(("sql", "rest", "count"), LEFT_OUT)
def test_what_is_left_out(sql, rest, count):
    found, clauses = without_fulltext(sql)
    assert (found, len(clauses)) == (rest, count)
    assert all("FULLTEXT" in clause.upper() for clause in clauses)


@pytest.mark.parametrize("sql", UNTOUCHED)
def test_what_is_left_as_it_is(sql):
    assert without_fulltext(sql) == (sql, [])


def test_a_backslash_escapes_as_the_mode_says():
    sql = r"ALTER TABLE t COMMENT = 'a\', ADD FULLTEXT (a), COMMENT = 'b'"
    assert without_fulltext(sql) == (sql, [])
    rest = r"ALTER TABLE t COMMENT = 'a\', COMMENT = 'b'"
    assert without_fulltext(sql, escapes=False) == (rest, ["ADD FULLTEXT (a)"])


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("DROP INDEX f ON t", "DROP INDEX IF EXISTS f ON t"),
        ("alter table t drop key f;", "alter table t drop key IF EXISTS f;"),
        (
            "ALTER TABLE t DROP INDEX `f`, DROP COLUMN a, DROP KEY IF EXISTS g",
            "ALTER TABLE t DROP INDEX IF EXISTS `f`, DROP COLUMN a, DROP KEY IF "
            "EXISTS g",
        ),
        ("DROP INDEX IF EXISTS f ON t", None),
        ("ALTER TABLE t DROP COLUMN `INDEX`", None),
        ("ALTER TABLE t COMMENT = ', DROP INDEX f'", None),
        ("DROP TABLE t", None),
        ("DROP INDEX f ON t; DROP TABLE t", None),
        ("ALTER TABLE t DROP INDEX f COMMENT '", None),
    ],
)
def test_if_exists(sql, expected):
    assert drop_if_exists(sql) == expected


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("ALTER TABLE t RENAME INDEX f TO g", True),
        ("ALTER TABLE `t` RENAME KEY `f` TO `g`;", True),
        ("ALTER TABLE t RENAME INDEX f TO g, ADD n INT", False),
        ("ALTER TABLE t RENAME COLUMN f TO g", False),
        ("ALTER TABLE t RENAME COLUMN f TO ')", False),
        ("RENAME TABLE f TO g", False),
    ],
)
def test_renames_index(sql, expected):
    assert renames_index(sql) is expected


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT * FROM t WHERE MATCH (a) AGAINST ('x')", True),
        ("select match(`a`, t.b) against (%s in boolean mode) * 2 from t", True),
        ("SELECT 'MATCH (a) AGAINST (''x'')'", False),
        ("SELECT `MATCH` (a) FROM t", False),
        ("SELECT 1 /* MATCH (a) AGAINST ('x') */", False),
        ("CREATE TABLE t (FOREIGN KEY (a) REFERENCES t (b) MATCH FULL)", False),
        ("SELECT 'MATCH (a) AGAINST (", False),
        ("SELECT MATCH (a", False),
    ],
)
def test_has_match(sql, expected):
    assert has_match(sql) is expected


def test_is_single():
    assert is_single("SELECT ';' /* ; */;")
    assert not is_single("SELECT 1; SELECT 2")
    assert not is_single("")


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (" \n alter table", True),
        ("/* x\n*/ -- y\n# z\nCREATE TABLE", True),
        ("DROP INDEX", True),
        ("CREATED", False),
        ("SELECT 'DROP INDEX'", False),
        ("INSERT INTO t VALUES ('ALTER')", False),
        ("-- ALTER TABLE\nSELECT 1", False),
        ("/* ALTER TABLE", False),
    ],
)
def test_where_it_is_looked_for(sql, expected):
    assert bool(DDL.match(sql)) is expected


# -- On a server

database = pytest.mark.django_db(transaction=True)


@pytest.fixture
def cursor(transactional_db):
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS article, other, another")
        cursor.execute("CREATE TABLE article (id INT PRIMARY KEY, a TEXT, b TEXT)")
        yield cursor
        cursor.execute("DROP TABLE IF EXISTS article, other, another")


@pytest.fixture
def skip(monkeypatch):
    monkeypatch.setitem(
        connection.settings_dict["OPTIONS"], "skip_fulltext_indexes", True
    )


def indexes(cursor, table="article"):
    return connection.introspection.get_constraints(cursor, table).keys()


def run(sql, reverse=None):
    """Run a migration's RunSQL, and then its reverse SQL if there is any."""
    operation, state = RunSQL(sql, reverse), ProjectState()
    with connection.schema_editor() as editor:
        operation.database_forwards("core", editor, state, state)
    if reverse:
        with connection.schema_editor() as editor:
            operation.database_backwards("core", editor, state, state)


IGNORED = [
    "ALTER TABLE article ADD FULLTEXT INDEX f (a)",
    "ALTER TABLE article ADD FULLTEXT f (a) COMMENT 'a;b', COMMENT = 'FULLTEXT'",
    "CREATE TABLE other (a TEXT, FULLTEXT KEY f (a) WITH PARSER ngram)",
    "CREATE TABLE another (a TEXT /*! , FULLTEXT KEY f (a) */)",
]


@pytest.mark.works("alter-several")
def test_the_servers_warning_becomes_one_of_python(cursor):
    for sql in IGNORED:
        with pytest.warns(UserWarning) as found:
            cursor.execute(sql)
        (warning,) = found
        assert "did not create the FULLTEXT index" in str(warning.message)
        assert "skip_fulltext_indexes" in str(warning.message)
        assert str(warning.message).endswith(sql)
    with pytest.raises(OperationalError, match="1091"):
        cursor.execute("ALTER TABLE article DROP INDEX f")


def test_only_ddl_that_names_fulltext_asks_for_warnings(cursor, monkeypatch):
    asked = []
    driver = type(connection.connection)
    monkeypatch.setattr(driver, "show_warnings", lambda self: asked.append(1) or [])
    cursor.execute("ALTER TABLE article ADD INDEX i (id)")
    cursor.execute("INSERT INTO article VALUES (1, 'ADD FULLTEXT (a)', %s)", ["x"])
    cursor.execute("SELECT 'CREATE TABLE t (a TEXT, FULLTEXT (a))' FROM article")
    assert cursor.fetchall() and not asked
    cursor.execute("ALTER TABLE article ADD FULLTEXT f (a)")
    assert asked == [1]


def test_several_statements_are_sent_as_they_are(cursor):
    # By default, PyMySQL does not allow several statements in one string.
    if connection.Database.__name__ == "pymysql":
        with pytest.raises(DatabaseError, match="8130"):
            cursor.execute("ALTER TABLE article ADD FULLTEXT (a); DROP TABLE article")
        return
    cursor.execute("ALTER TABLE article ADD FULLTEXT (a); DROP TABLE article")
    assert "article" not in connection.introspection.table_names(cursor)


def test_create_fulltext_index_names_the_option(cursor):
    with pytest.raises(NotSupportedError, match="skip_fulltext_indexes") as raised:
        cursor.execute("CREATE FULLTEXT INDEX f ON article (a)")
    assert raised.value.args[0] == 8200
    with (
        pytest.raises(NotSupportedError, match="skip_fulltext_indexes"),
        connection.schema_editor() as editor,
    ):
        editor.execute("CREATE FULLTEXT INDEX f ON article (a)")


def test_fulltext_indexes_are_left_out_with_the_option(cursor, skip, monkeypatch):
    sent = []
    driver = type(cursor.cursor.cursor)
    execute = driver.execute

    def spy(self, query, args=None):
        sent.append(query)
        return execute(self, query, args)

    monkeypatch.setattr(driver, "execute", spy)
    with pytest.warns(UserWarning, match=r"Left out.*: CREATE FULLTEXT INDEX f ON"):
        assert cursor.execute("CREATE FULLTEXT INDEX f ON article (a)") == 0
    with pytest.warns(UserWarning, match=r"Left out.*: ADD FULLTEXT f \(a\)"):
        cursor.execute("ALTER TABLE article ADD FULLTEXT f (a)")
    assert sent == []
    with pytest.warns(UserWarning, match=r"Left out.*COMMENT '50% \\'off\\''"):
        cursor.execute(
            "CREATE TABLE other (id INT, a TEXT COMMENT %s, FULLTEXT f (a) COMMENT %s)",
            ["100% 'x'", "50% 'off'"],
        )
    # Pick the CREATE statement, because a backslash makes the backend ask for sql_mode
    # first.
    (create,) = (query for query in sent if query.startswith("CREATE"))
    assert "FULLTEXT" not in create
    cursor.execute("SHOW CREATE TABLE other")
    assert "COMMENT '100% ''x'''" in cursor.fetchone()[1]


def test_the_rest_of_a_statement_is_executed(cursor, skip):
    with pytest.warns(UserWarning, match="Left out"):
        cursor.execute(
            "ALTER TABLE article ADD FULLTEXT f (a), ADD INDEX i (id), "
            "ADD FULLTEXT g (b)"
        )
    assert "i" in indexes(cursor)


def test_an_index_that_was_left_out_can_be_dropped(cursor, skip):
    for sql in (
        "ALTER TABLE article DROP INDEX f",
        "DROP INDEX f ON article",
        "ALTER TABLE article RENAME INDEX f TO g",
    ):
        with pytest.warns(UserWarning, match=r"Left out.* f TO g|Left out.* f doesn't"):
            cursor.execute(sql)
        # An index that exists is dropped or renamed without a warning.
        cursor.execute("CREATE INDEX f ON article (id)")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            cursor.execute(sql)
        assert "f" not in indexes(cursor)


def test_dropping_what_is_no_index_still_fails(cursor, skip):
    with pytest.raises(OperationalError, match=r"1091.*nosuch"):
        cursor.execute("ALTER TABLE article DROP COLUMN nosuch")
    # TiDB 6.1 refuses an ALTER TABLE with several changes.
    with pytest.raises(OperationalError, match=r"1091.*nosuch|8200"):
        cursor.execute("ALTER TABLE article DROP INDEX f, DROP COLUMN nosuch")
    with pytest.raises(DatabaseError, match="1146"):
        cursor.execute("ALTER TABLE nosuch DROP INDEX f")


def test_without_the_option_nothing_is_left_out(cursor):
    for sql in (
        "ALTER TABLE article DROP INDEX f",
        "ALTER TABLE article RENAME INDEX f TO g",
    ):
        with pytest.raises(OperationalError, match=r"1091|1176"):
            cursor.execute(sql)


def test_run_sql(cursor, skip):
    # The migration wagtailsearch.0009 has two statements in one string like this.
    sql = """
        ALTER TABLE article
            DROP INDEX `f`;

        ALTER TABLE article
            ADD FULLTEXT INDEX `f` (`a`);
        """
    with pytest.warns(UserWarning, match="Left out") as found:
        run(sql, reverse=sql.replace("(`a`)", "(`a`)\nWITH PARSER ngram"))
    assert len(found) == 4


def test_run_sql_with_parameters(cursor, skip):
    sql = "ALTER TABLE article COMMENT = %s, ADD FULLTEXT g (a) COMMENT %s"
    operation = RunSQL([(sql, ["kept: 100%", "left out"])])
    state = ProjectState()
    with connection.schema_editor(collect_sql=True) as editor:
        operation.database_forwards("core", editor, state, state)
    left_out, kept = editor.collected_sql
    assert left_out == "-- Left out: ADD FULLTEXT g (a) COMMENT 'left out'"
    assert kept == "ALTER TABLE article COMMENT = 'kept: 100%';"
    with (
        pytest.warns(UserWarning, match="COMMENT 'left out'"),
        connection.schema_editor() as editor,
    ):
        operation.database_forwards("core", editor, state, state)
    cursor.execute("SHOW CREATE TABLE article")
    assert "COMMENT='kept: 100%'" in cursor.fetchone()[1]


class FullTextIndex(models.Index):
    """A FULLTEXT index as packages for MySQL define it."""

    suffix = "ft"

    def create_sql(self, model, schema_editor, using="", **kwargs):
        statement = super().create_sql(model, schema_editor, using, **kwargs)
        statement.template = statement.template.replace(
            "CREATE INDEX", "CREATE FULLTEXT INDEX"
        )
        return statement


@pytest.fixture
def article(cursor, make_model):
    return make_model("Article", a=models.TextField(), meta={"db_table": "article"})


@pytest.mark.works("alter-several")
def test_index_of_a_third_party_is_left_out(cursor, article, skip):
    index = FullTextIndex(fields=["a"], name="f")
    renamed = FullTextIndex(fields=["a"], name="g")
    with (
        pytest.warns(UserWarning, match="Left out") as found,
        connection.schema_editor() as editor,
    ):
        editor.add_index(article, index)
        editor.rename_index(article, index, renamed)
        editor.remove_index(article, renamed)
    assert len(found) == 3
    with connection.schema_editor(collect_sql=True) as editor:
        editor.add_index(article, index)
    assert editor.collected_sql == [
        "-- Left out: CREATE FULLTEXT INDEX `f` ON `article` (`a`)"
    ]


def test_create_model_leaves_out_an_index_of_a_third_party(cursor, skip, make_model):
    index = FullTextIndex(fields=["a"], name="f")
    meta = {"db_table": "other", "indexes": [index]}
    Other = make_model("Other", a=models.TextField(), meta=meta)
    with (
        pytest.warns(UserWarning, match="Left out.*CREATE FULLTEXT INDEX `f`"),
        connection.schema_editor() as editor,
    ):
        editor.create_model(Other)
    assert indexes(cursor, "other") == {"PRIMARY"}


def test_sqlmigrate_shows_a_statement_with_prerequisites(skip):
    statement = IndexStatement(
        "ALTER TABLE %(table)s ADD n INT",
        prerequisites=[Statement("SELECT 1")],
        table=Table("t", str),
    )
    editor = connection.SchemaEditorClass(connection, collect_sql=True)
    editor.execute(statement)
    assert editor.collected_sql == ["SELECT 1;", "ALTER TABLE t ADD n INT;"]


MATCH_AGAINST = [
    "SELECT * FROM article WHERE MATCH (a) AGAINST (%s)",
    "SELECT * FROM article WHERE MATCH (a, b) AGAINST (%s IN BOOLEAN MODE)",
    "SELECT MATCH (a) AGAINST (%s) * 2 FROM article",
    "SELECT id, ((MATCH (`a`) AGAINST (%s IN BOOLEAN MODE)) * id) + 1 FROM article",
    "SELECT * FROM article WHERE MATCH (a) AGAINST (%s) > 0",
    "UPDATE article SET a = '' WHERE MATCH (a) AGAINST (%s)",
    "DELETE FROM article WHERE MATCH (a) AGAINST (%s) > 0",
]


def test_match_against_is_refused_with_a_remedy(cursor):
    numbers = set()
    for sql in MATCH_AGAINST:
        with pytest.raises(NotSupportedError) as raised:
            cursor.execute(sql, ["x"])
        number, message = raised.value.args
        numbers.add(number)
        assert message.startswith("TiDB has no full-text search")
        assert "wagtail.search.backends.database.fallback" in message
        # The message includes the server's own error message.
        assert "MatchAgainst" in message or "SQL syntax" in message
        with pytest.raises(NotSupportedError, match="TiDB has no full-text search"):
            cursor.executemany(sql, [["x"]])
    assert numbers == {1064, 1105}


def test_other_errors_stay_what_they_are(cursor):
    for sql in ("SELECT 'MATCH (a) AGAINST (1)' FROM", "SELECT FROM WHERE"):
        with pytest.raises(DatabaseError, match="1064") as raised:
            cursor.execute(sql)
        assert not isinstance(raised.value, NotSupportedError)
    with pytest.raises(DatabaseError, match="1064"):
        cursor.execute(b"SELECT FROM")
