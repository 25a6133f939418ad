"""
A table of features that TiDB lacks or that differ from MySQL.

The feature flags, the command ``manage.py tidb`` and the page
``docs/ref/known-issues.md`` all come from this table. For every entry a test
runs the statement on a live server, and fails if server and table disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import CheckConstraint, Model

from .model_fields import has_db_default
from .plugins import get_plugins
from .version import TiDBVersion

__all__ = [
    "KNOWN_ISSUES",
    "KnownIssue",
    "affecting",
    "all_known_issues",
    "concerned",
    "fields_of_type",
]

_DOCS = "https://docs.pingcap.com/tidb/stable"
_ISSUES = "https://github.com/pingcap/tidb/issues"


@dataclass(frozen=True)
class KnownIssue:
    """A difference from MySQL that can affect a Django project."""

    #: The name of the issue, which never changes.
    id: str
    #: One sentence about the behaviour of the server.
    summary: str
    #: A link to TiDB's documentation or to an issue of TiDB.
    link: str
    #: One sentence about the behaviour of this backend.
    effect: str
    #: The first release that has the issue.
    since: tuple[int, ...] = (0,)
    #: The first release without the issue, or None if all later releases have it.
    fixed: tuple[int, ...] | None = None
    #: The server variable that removes the issue if it is ON.
    variable: str | None = None
    #: A function that yields the parts of a model that the issue affects.
    concerns: Callable[[type[Model]], Iterable[str]] | None = None

    def affects(
        self, version: TiDBVersion, variables: Mapping[str, str] | None = None
    ) -> bool:
        """
        Return whether a server of `version` has the issue. `variables` are
        the server's variables; without them, a variable counts as not ON.
        """
        if version < self.since or (self.fixed and version >= self.fixed):
            return False
        return not self.variable or (variables or {}).get(self.variable) != "ON"

    @property
    def versions(self) -> str:
        """The affected versions, for people."""
        since = ".".join(map(str, self.since))
        fixed = ".".join(map(str, self.fixed or ()))
        if self.since == (0,):
            return f"before {fixed}" if fixed else "all"
        return f"{since} to {fixed}, excluded" if fixed else f"from {since}"


def _check_constraints(model: type[Model]) -> Iterable[str]:
    for constraint in model._meta.constraints:
        if isinstance(constraint, CheckConstraint):
            yield f"constraint {constraint.name}"


def _foreign_keys(model: type[Model]) -> Iterable[str]:
    for field in model._meta.local_fields:
        if field.remote_field and getattr(field, "db_constraint", False):
            yield f"field {field.name}"


def _expression_indexes(model: type[Model]) -> Iterable[str]:
    for index in (*model._meta.indexes, *model._meta.constraints):
        if getattr(index, "expressions", ()):
            yield f"index {index.name}"


def _descending_indexes(model: type[Model]) -> Iterable[str]:
    for index in model._meta.indexes:
        if any(suffix for _, suffix in index.fields_orders):
            yield f"index {index.name}"


def _db_defaults(model: type[Model]) -> Iterable[str]:
    for field in model._meta.local_fields:
        # Django has database defaults from 5.0.
        if hasattr(getattr(field, "db_default", None), "resolve_expression"):
            yield f"field {field.name}"


def _text_db_defaults(model: type[Model]) -> Iterable[str]:
    limited = ("BinaryField", "JSONField", "TextField")
    for field in model._meta.local_fields:
        if field.get_internal_type() in limited and has_db_default(field):
            yield f"field {field.name}"


def fields_of_type(name: str) -> Callable[[type[Model]], Iterable[str]]:
    """
    Return a function for :attr:`KnownIssue.concerns` that yields the fields
    whose class, or one that it inherits from, has this `name`.
    """

    def concerns(model: type[Model]) -> Iterable[str]:
        for field in model._meta.local_fields:
            if any(cls.__name__ == name for cls in type(field).__mro__):
                yield f"field {field.name}"

    return concerns


def _table(*issues: KnownIssue) -> dict[str, KnownIssue]:
    return {issue.id: issue for issue in issues}


#: The known issues of core, by their ids; see :func:`all_known_issues`.
KNOWN_ISSUES: Mapping[str, KnownIssue] = _table(
    # -- Transactions and locks
    KnownIssue(
        "savepoint",
        "SAVEPOINT is a syntax error.",
        f"{_DOCS}/sql-statement-savepoint",
        "An inner atomic() cannot be rolled back alone; tests run as in a "
        "TransactionTestCase.",
        fixed=(6, 2),
    ),
    KnownIssue(
        "skip-locked",
        "FOR UPDATE SKIP LOCKED is accepted, but locks no row and skips none.",
        f"{_ISSUES}/69720",
        "select_for_update(skip_locked=True) raises NotSupportedError, or waits if "
        "OPTIONS['skip_locked'] is 'wait'.",
    ),
    KnownIssue(
        "lock-of",
        "FOR UPDATE OF is a syntax error.",
        f"{_DOCS}/sql-statement-select",
        "select_for_update(of=...) raises NotSupportedError.",
        fixed=(6, 0),
    ),
    KnownIssue(
        "autocommit-nowait",
        "SELECT ... FOR UPDATE NOWAIT outside of a transaction takes no lock, and "
        "returns rows that others have locked.",
        f"{_DOCS}/pessimistic-transaction#differences-from-mysql-innodb",
        "None: select_for_update() has to be in a transaction on every database.",
    ),
    KnownIssue(
        "isolation-levels",
        "SERIALIZABLE and READ UNCOMMITTED are refused with error 8048.",
        f"{_DOCS}/transaction-isolation-levels",
        "OPTIONS['isolation_level'] is 'read committed' or 'repeatable read'; "
        "others raise ImproperlyConfigured.",
    ),
    KnownIssue(
        "get-lock",
        "GET_LOCK() and RELEASE_LOCK() are refused with error 1235.",
        f"{_DOCS}/locking-functions",
        "None: Django does not use them.",
        fixed=(6, 1),
    ),
    # -- Tables and columns
    KnownIssue(
        "foreign-key",
        "Foreign keys are accepted, but not enforced.",
        f"{_DOCS}/foreign-key",
        "Foreign keys are not created, and their columns get an index instead.",
        fixed=(6, 6),
        concerns=_foreign_keys,
    ),
    KnownIssue(
        "foreign-key-experimental",
        "Foreign keys are enforced, but an experimental feature.",
        f"{_DOCS}/foreign-key",
        "None: they are created.",
        since=(6, 6),
        fixed=(8, 5),
        concerns=_foreign_keys,
    ),
    KnownIssue(
        "foreign-key-database",
        "information_schema does not tell that a foreign key's target is in another "
        "database.",
        f"{_ISSUES}/52350",
        "SHOW CREATE TABLE is read too, which tells from 6.6 on, so that inspectdb "
        "leaves such keys out.",
        fixed=(8, 2),
    ),
    KnownIssue(
        "table-name-case",
        "information_schema finds a table only by the letters that it was created "
        "with, small or capital, although statements find it by any.",
        f"{_ISSUES}/40424",
        "The backend compares in small letters. Before 6.1 inspectdb takes only the "
        "letters that the table was created with.",
        fixed=(8, 5),
    ),
    KnownIssue(
        "check-constraint",
        "CHECK constraints are ignored, with a warning from 7.2 on, unless the "
        "global variable tidb_enable_check_constraint is ON.",
        f"{_DOCS}/constraints#check",
        "Constraints are not created; the check tidb.W002 names them.",
        variable="tidb_enable_check_constraint",
        concerns=_check_constraints,
    ),
    KnownIssue(
        "check-constraint-tables",
        "information_schema does not tell which table a CHECK constraint is of.",
        f"{_DOCS}/information-schema-tidb-check-constraints",
        "They are read from SHOW CREATE TABLE.",
        fixed=(8, 4),
    ),
    KnownIssue(
        "check-backtick",
        "ADD CHECK fails with error 1064 if there is a backtick in the name of the "
        "table.",
        f"{_DOCS}/constraints#check",
        "CREATE TABLE is not concerned. Such a table with a CHECK is not rebuilt: "
        "NotSupportedError.",
        since=(7, 2),
    ),
    KnownIssue(
        "modify-backtick",
        "MODIFY to NOT NULL fails with error 1064 if there is a backtick in the name "
        "of the column or the table.",
        f"{_ISSUES}/70285",
        "The migration fails, and the table is as it was.",
        since=(8, 5, 4),
    ),
    KnownIssue(
        "alter-several",
        "An ALTER TABLE with several changes is refused with error 8200.",
        f"{_DOCS}/sql-statement-alter-table",
        "Each change is a statement of its own.",
        fixed=(6, 2),
    ),
    KnownIssue(
        "drop-indexed-column",
        "A column that has an index cannot be dropped: error 8200.",
        f"{_DOCS}/sql-statement-drop-column",
        "The column's indexes are dropped first.",
        since=(6, 0),
        fixed=(6, 2),
    ),
    KnownIssue(
        "add-column-unique",
        "ADD COLUMN ... UNIQUE is refused with error 8200.",
        f"{_ISSUES}/30188",
        "The unique index is made in a second statement.",
    ),
    KnownIssue(
        "add-column-check",
        "ADD COLUMN ... CHECK adds the column, and ignores the constraint.",
        f"{_ISSUES}/69651",
        "The constraint is made in a second statement.",
    ),
    KnownIssue(
        "add-column-foreign-key",
        "A column and its foreign key in one ALTER TABLE are refused.",
        f"{_ISSUES}/45474",
        "The foreign key is made in a second statement.",
    ),
    KnownIssue(
        "add-column-index",
        "A column and its index in one ALTER TABLE are refused.",
        f"{_ISSUES}/45474",
        "The index is made in a second statement.",
    ),
    KnownIssue(
        "add-column-stored",
        "A STORED generated column cannot be added to a table: error 3106.",
        f"{_DOCS}/generated-columns#limitations",
        "The table is rebuilt; with rows only if OPTIONS['rebuild_tables'] says so.",
    ),
    KnownIssue(
        "rename-generated-source",
        "RENAME COLUMN is refused with error 3108 if a generated column uses the "
        "column, as on MySQL.",
        f"{_DOCS}/generated-columns#limitations",
        "The server's error ends the migration. Drop the generated column first.",
    ),
    KnownIssue(
        "add-column-auto-increment",
        "An AUTO_INCREMENT column cannot be added to a table: error 8200.",
        f"{_DOCS}/auto-increment#restrictions",
        "The table is rebuilt; with rows only if OPTIONS['rebuild_tables'] says so.",
    ),
    KnownIssue(
        "modify-auto-increment",
        "A column cannot become AUTO_INCREMENT: error 8200.",
        f"{_DOCS}/auto-increment#restrictions",
        "The table is rebuilt; with rows only if OPTIONS['rebuild_tables'] says so.",
    ),
    KnownIssue(
        "drop-primary-key",
        "A clustered primary key cannot be dropped: error 8200.",
        f"{_DOCS}/clustered-indexes#limitations",
        "The table is rebuilt; with rows only if OPTIONS['rebuild_tables'] says so.",
    ),
    KnownIssue(
        "modify-lossy",
        "A column cannot change to a type that may lose data: error 8200.",
        f"{_DOCS}/sql-statement-modify-column",
        "The table is rebuilt; with rows only if OPTIONS['rebuild_tables'] says so.",
        fixed=(5, 1),
    ),
    KnownIssue(
        "modify-indexed-collation",
        "The collation of an indexed column cannot change: error 8200.",
        f"{_DOCS}/sql-statement-modify-column",
        "The table is rebuilt; with rows only if OPTIONS['rebuild_tables'] says so.",
        since=(6, 0),
    ),
    KnownIssue(
        "ttl",
        "The table option TTL is a syntax error.",
        f"{_DOCS}/time-to-live",
        "None: Django does not use it.",
        fixed=(6, 5),
    ),
    KnownIssue(
        "show-create-backslash",
        "SHOW CREATE TABLE writes a backslash in a default or a comment as it is, so "
        "it cannot be told from the escape of another character.",
        f"{_ISSUES}/28908",
        "A table with such a text is neither rebuilt nor altered in several "
        "statements nor cloned: NotSupportedError.",
        fixed=(6, 0),
    ),
    KnownIssue(
        "show-create-enum",
        "SHOW CREATE TABLE writes a backslash in a member of ENUM or SET as it is.",
        f"{_DOCS}/sql-statement-show-create-table",
        "The members are read so. A table with a member in which 0, n or r follows a "
        "backslash, or with a NUL or a line break in a member, is neither rebuilt nor "
        "altered in several statements nor cloned: NotSupportedError.",
    ),
    # -- Defaults
    KnownIssue(
        "default-functions",
        "A column's DEFAULT may be one of a few functions, but no other "
        "expression: error 3770 or 1064.",
        f"{_DOCS}/data-type-default-values",
        "Constants are computed by the backend; the check tidb.E001 names what is "
        "left.",
        concerns=_db_defaults,
    ),
    KnownIssue(
        "default-uuid",
        "DEFAULT (UUID()) and DEFAULT (NOW(6)) are syntax errors.",
        f"{_DOCS}/data-type-default-values",
        "The check tidb.E001 names the fields.",
        fixed=(6, 1),
        concerns=_db_defaults,
    ),
    KnownIssue(
        "force-auto-increment",
        "ALTER TABLE ... FORCE AUTO_INCREMENT is a syntax error.",
        f"{_DOCS}/auto-increment",
        "TransactionTestCase.reset_sequences works for empty tables only.",
        fixed=(6, 1),
    ),
    KnownIssue(
        "default-json-functions",
        "DEFAULT (JSON_OBJECT()) and DEFAULT (JSON_ARRAY()) are refused.",
        f"{_DOCS}/data-type-default-values",
        "The check tidb.E001 names the fields.",
        fixed=(8, 0),
        concerns=_db_defaults,
    ),
    KnownIssue(
        "default-text",
        "TEXT, BLOB and JSON columns take no value as DEFAULT: error 1064.",
        f"{_DOCS}/data-type-default-values",
        "JSON objects, arrays and strings are written as functions; the check "
        "tidb.E001 names what is left. A field's default= is not concerned.",
        concerns=_text_db_defaults,
    ),
    # -- Indexes
    KnownIssue(
        "expression-index",
        "Indexes on expressions are refused unless they are switched on in the "
        "server's configuration.",
        f"{_DOCS}/sql-statement-create-index#expression-index",
        "They are not created.",
        fixed=(5, 2),
        concerns=_expression_indexes,
    ),
    KnownIssue(
        "expression-index-functions",
        "Indexes may use operators and a short list of functions; for others "
        "allow-expression-index has to be set in the server's configuration.",
        f"{_DOCS}/sql-statement-create-index#expression-index",
        "The server's error ends the migration.",
        concerns=_expression_indexes,
    ),
    KnownIssue(
        "json-index",
        "CREATE INDEX on an expression that returns JSON is refused with error 3753, "
        "as on MySQL.",
        f"{_DOCS}/sql-statement-create-index#expression-index",
        "The server's error ends the migration.",
        concerns=_expression_indexes,
    ),
    KnownIssue(
        "foreign-key-index",
        "An index that begins with the column of a foreign key does not replace the "
        "one that was made for the foreign key.",
        f"{_DOCS}/foreign-key",
        "That is dropped when the other is added. CREATE TABLE makes none where there "
        "is another.",
        since=(6, 6),
    ),
    KnownIssue(
        "fulltext-index",
        "FULLTEXT in CREATE TABLE and ALTER TABLE makes no index, but warning 1214.",
        f"{_ISSUES}/48734",
        "A warning of Python's tells of it. OPTIONS['skip_fulltext_indexes'] leaves it "
        "out, and the dropping of the index too.",
    ),
    KnownIssue(
        "create-fulltext-index",
        "CREATE FULLTEXT INDEX is refused with error 8200.",
        f"{_DOCS}/mysql-compatibility#unsupported-features",
        "NotSupportedError names OPTIONS['skip_fulltext_indexes'], with which it is "
        "left out.",
    ),
    KnownIssue(
        "descending-index",
        "DESC in an index is accepted and ignored.",
        f"{_DOCS}/sql-statement-create-index#mysql-compatibility",
        "It is sent, and not expected when tables are inspected.",
        concerns=_descending_indexes,
    ),
    # -- Types and functions
    KnownIssue(
        "uuid-type",
        "There is no UUID type.",
        f"{_DOCS}/data-type-overview",
        "UUIDField is CHAR(32), as on MySQL.",
        concerns=fields_of_type("UUIDField"),
    ),
    KnownIssue(
        "utf16",
        "There is no character set utf16.",
        f"{_DOCS}/character-set-and-collation",
        "Chr() is compiled to UTF-8.",
    ),
    KnownIssue(
        "mysql-collations",
        "Collations such as utf8mb4_esperanto_ci and latin1_general_cs do not exist: "
        "error 1273.",
        f"{_DOCS}/character-set-and-collation",
        "None: db_collation is sent as it is.",
        since=(6, 0),
    ),
    KnownIssue(
        "regexp-like",
        "REGEXP_LIKE() does not exist.",
        f"{_DOCS}/string-functions#regexp_like",
        "The operator REGEXP is used.",
        fixed=(6, 3),
    ),
    KnownIssue(
        "upsert-alias",
        "INSERT ... AS new ON DUPLICATE KEY UPDATE is a syntax error.",
        f"{_DOCS}/sql-statement-insert",
        "The function VALUES() is used.",
    ),
    KnownIssue(
        "returning",
        "INSERT ... RETURNING is a syntax error.",
        f"{_ISSUES}/22260",
        "bulk_create() does not set primary keys, as on MySQL.",
    ),
    KnownIssue(
        "stored-procedures",
        "There are no stored procedures.",
        f"{_DOCS}/mysql-compatibility#unsupported-features",
        "None: cursor.callproc() fails on the server.",
    ),
    # -- Queries
    KnownIssue(
        "any-value-expression",
        "ANY_VALUE() in a larger expression is refused with error 1055.",
        f"{_ISSUES}/65334",
        "AnyValue() is compiled to MIN().",
    ),
    KnownIssue(
        "group-by-part",
        "An expression of GROUP BY in a larger expression is refused with error "
        "1055, as on MySQL.",
        f"{_DOCS}/aggregate-group-by-functions#differences-from-mysql",
        "None: from Django 6.0, AnyValue() around it helps.",
    ),
    KnownIssue(
        "having-outer-column",
        "A subquery in HAVING finds a column of GROUP BY only if it is selected, or "
        "stands in HAVING outside of the subquery too: error 1054.",
        f"{_ISSUES}/45181",
        "A condition that is always true names the column there.",
    ),
    KnownIssue(
        "order-subquery-column",
        "A subquery in ORDER BY does not find a column that is not selected, or is "
        "selected under a name: error 1054 or 1052.",
        f"{_ISSUES}/24324",
        "The expression is selected under a name, by which the rows are ordered.",
    ),
    KnownIssue(
        "order-subquery-alias",
        "If a column is selected under the name of another one, a subquery in ORDER BY "
        "takes it for the other: the order is wrong, without an error.",
        f"{_ISSUES}/45004",
        "The expression is selected under a name, by which the rows are ordered.",
    ),
    KnownIssue(
        "window-subquery-column",
        "A subquery in an expression with a window function finds a column only if it "
        "is selected, or stands outside of the subquery too: error 1054.",
        f"{_ISSUES}/56532",
        "A condition that is never true names the column there. A subquery in raw SQL "
        "is sent as it is.",
    ),
    KnownIssue(
        "window-subquery-argument",
        "A subquery that refers to a column is refused as an argument of a window "
        "function: error 1105.",
        f"{_ISSUES}/56532",
        "It is the argument of COALESCE() there.",
    ),
    KnownIssue(
        "distinct-order-subquery",
        "SELECT DISTINCT refuses a subquery in ORDER BY that it selects: error 3065.",
        f"{_DOCS}/sql-mode",
        "The subquery is selected under a name, by which the rows are ordered.",
    ),
    KnownIssue(
        "round-integer",
        "ROUND() of an integer rounds half to the even neighbour, and makes another "
        "number of one beyond 2 to the power of 53.",
        f"{_DOCS}/numeric-functions-and-operators",
        "Round() of integers is computed as DECIMAL.",
    ),
    KnownIssue(
        "json-path-surrogates",
        "A JSON path with an escaped character beyond U+FFFF is refused with error "
        "1105.",
        f"{_ISSUES}/61091",
        "Such characters are not escaped.",
    ),
    KnownIssue(
        "match-against",
        "MATCH ... AGAINST is refused with error 1105, within a larger expression with "
        "1064.",
        f"{_ISSUES}/48734",
        "NotSupportedError says that there is no full-text search; the check tidb.W004 "
        "names search backends that need it.",
    ),
    # -- EXPLAIN
    KnownIssue(
        "explain-json",
        "EXPLAIN has neither MySQL's format JSON nor TREE.",
        f"{_DOCS}/sql-statement-explain",
        "explain() raises ValueError and names TiDB's formats.",
    ),
    KnownIssue(
        "explain-analyze-format",
        "EXPLAIN ANALYZE takes no FORMAT.",
        f"{_DOCS}/sql-statement-explain-analyze",
        "explain(analyze=True) has the format ROW, and raises ValueError for others.",
        fixed=(6, 1),
    ),
    KnownIssue(
        "explain-analyze-brief",
        "EXPLAIN ANALYZE in the format BRIEF fails with error 1105.",
        f"{_DOCS}/sql-statement-explain-analyze",
        "The server's error is passed on.",
        fixed=(7, 1),
    ),
    KnownIssue(
        "explain-tidb-json",
        "EXPLAIN has no format TIDB_JSON.",
        f"{_DOCS}/sql-statement-explain",
        "explain() raises ValueError and names the formats.",
        fixed=(7, 1),
    ),
)


def all_known_issues() -> dict[str, KnownIssue]:
    """Return the known issues of core and of the installed plugins by their ids."""
    issues = (issue for plugin in get_plugins() for issue in plugin.known_issues())
    return {**KNOWN_ISSUES, **_table(*issues)}


def affecting(
    version: TiDBVersion, variables: Mapping[str, str] | None = None
) -> list[KnownIssue]:
    """Return the issues that a server has; see :meth:`KnownIssue.affects`."""
    return [i for i in all_known_issues().values() if i.affects(version, variables)]


def concerned(issue: KnownIssue, models: Iterable[type[Model]]) -> dict[str, list[Any]]:
    """Return the parts of each of `models` that an issue concerns, by model label."""
    if issue.concerns is None:
        return {}
    found = {model._meta.label: list(issue.concerns(model)) for model in models}
    return {label: what for label, what in found.items() if what}
