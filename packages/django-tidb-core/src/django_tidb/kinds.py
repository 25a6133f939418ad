"""
The effect of a statement, as far as its text shows the effect.

The cursor asks for the effect of each statement before it sends the statement. A
statement that this module cannot parse may have every effect.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .tokens import StatementToken, UnclosedError, statement_tokens

__all__ = ["EVERYTHING", "NOTHING", "Effect", "effect_of"]


@dataclass(frozen=True)
class Effect:
    """The possible effects of one statement, or of several in one string."""

    #: It may change rows, the schema or anything else that outlives the session.
    writes: bool = False
    #: It may lock rows that it reads.
    locks: bool = False
    #: It may begin or end a transaction; DDL commits the one that is open.
    commits: bool = False
    #: It may set state of the session that a new connection would not have, such as
    #: variables, temporary tables and locks of GET_LOCK().
    session: bool = False
    #: There may be several statements.
    several: bool = False

    def __or__(self, other: Effect) -> Effect:
        """Return the combined effect of both."""
        return Effect(
            self.writes or other.writes,
            self.locks or other.locks,
            self.commits or other.commits,
            self.session or other.session,
            self.several or other.several,
        )


#: The effect of a statement that only reads.
NOTHING = Effect()
#: The effect of a statement that this module does not understand.
EVERYTHING = Effect(True, True, True, True, True)

_WRITES = Effect(writes=True)
_LOCKS = Effect(locks=True)
_COMMITS = Effect(commits=True)
_SESSION = Effect(session=True)
_SEVERAL = Effect(several=True)

# Longer statements are not cached, since they can contain all values of an INSERT.
_LONGEST_CACHED = 4096

# Texts with which a SELECT can do more than read, or an INSERT, UPDATE, DELETE or
# REPLACE more than write. Without any of them, the first word tells everything.
_MARKS_OF_DML = (";", ":=", "/*", "_lock", "last_insert_id")
_MARKS_OF_SELECT = (
    *(";", ":=", "/*", "lock", "last_insert_id", "into", "for", "next", "setval"),
    *("insert", "update", "delete", "replace"),
)

_DML = frozenset({"BATCH", "DELETE", "IMPORT", "INSERT", "LOAD", "REPLACE", "UPDATE"})
_QUERIES = frozenset({"(", "DO", "SELECT", "TABLE", "VALUES", "WITH"})
_EXPLAINS = frozenset({"DESC", "DESCRIBE", "EXPLAIN"})
# Statements that change something outside of transactions, and commit.
_DDL = frozenset(
    {
        *("ADMIN", "ALTER", "ANALYZE", "CREATE", "DROP", "FLASHBACK", "GRANT", "KILL"),
        *("RECOVER", "RENAME", "REVOKE", "SPLIT", "TRUNCATE"),
    }
)
_FIXED = {
    "BEGIN": _COMMITS,
    "COMMIT": _COMMITS,
    "DEALLOCATE": _SESSION,
    "HELP": NOTHING,
    "LOCK": _COMMITS | _SESSION,
    "PREPARE": _SESSION,
    "RELEASE": NOTHING,
    "SAVEPOINT": NOTHING,
    "SHOW": NOTHING,
    "START": _COMMITS,
    "UNLOCK": _COMMITS | _SESSION,
    "USE": _SESSION,
}
_LOCKING = {("FOR", "SHARE"), ("FOR", "UPDATE"), ("LOCK", "IN")}
_LOCK_FUNCTIONS = frozenset({"GET_LOCK", "RELEASE_ALL_LOCKS", "RELEASE_LOCK"})
_SEQUENCE_FUNCTIONS = frozenset({"NEXTVAL", "SETVAL"})
# Words after SET that make it change more than the state of the session.
_SET_MORE = frozenset({"CONFIG", "DEFAULT", "GLOBAL", "PASSWORD", "PERSIST"})


def effect_of(sql: object) -> Effect:
    """
    Return the possible effects of `sql`, which can contain placeholders.

    :data:`EVERYTHING` is returned for SQL that is not a string, is not
    understood, or has a comment whose contents the server executes.
    """
    if not isinstance(sql, str):
        return EVERYTHING
    if len(sql) > _LONGEST_CACHED:
        return _effect(sql)
    return _cached_effect(sql)


def _effect(sql: str) -> Effect:
    # Reading all tokens takes too long for an INSERT of many rows.
    lower = sql.lower()
    if lower.startswith("select "):
        if not any(mark in lower for mark in _MARKS_OF_SELECT):
            return NOTHING
    elif lower.startswith(("delete ", "insert ", "replace ", "update ")) and not any(
        mark in lower for mark in _MARKS_OF_DML
    ):
        return _WRITES
    if "\\" not in sql:
        return _read(sql, escapes=True)
    # The SQL modes NO_BACKSLASH_ESCAPES and ANSI_QUOTES tell which quotation marks a
    # backslash escapes. They are not known here.
    if '"' in sql:
        return EVERYTHING
    return _read(sql, escapes=True) | _read(sql, escapes=False)


_cached_effect = functools.lru_cache(maxsize=512)(_effect)


def _read(sql: str, *, escapes: bool) -> Effect:
    try:
        tokens = statement_tokens(sql, escapes)
    except UnclosedError:
        return EVERYTHING
    # Whether the server executes the contents depends on its version.
    if any(token.text.startswith(("/*!", "/*T!")) for token in tokens):
        return EVERYTHING
    effect, count = NOTHING, 0
    for statement in _statements(tokens):
        effect |= _effect_of_statement(statement)
        count += 1
    return effect | _SEVERAL if count > 1 else effect


def _statements(tokens: Sequence[StatementToken]) -> Iterator[list[str]]:
    """Yield the words of each statement in upper case, without hints."""
    words: list[str] = []
    for token in tokens:
        if token.text == ";":
            if words:
                yield words
            words = []
        elif not token.text.startswith("/*+"):
            words.append(token.word)
    if words:
        yield words


def _effect_of_statement(words: Sequence[str]) -> Effect:
    first = words[0]
    if first in _QUERIES:
        return _parts(words)
    if first in _DML:
        return _WRITES | _parts(words)
    if first in _EXPLAINS:
        # EXPLAIN ANALYZE executes the statement.
        return _parts(words) if "ANALYZE" in words else NOTHING
    if first in _DDL:
        is_of_session = not {"BINDING", "SESSION", "TEMPORARY"}.isdisjoint(words)
        return _WRITES | _COMMITS | (_SESSION if is_of_session else NOTHING)
    if first == "ROLLBACK":
        return NOTHING if "TO" in words else _COMMITS
    if first == "SET":
        effect = _SESSION | _parts(words)
        if not _SET_MORE.isdisjoint(words):
            effect |= _WRITES
        return effect | _COMMITS if "AUTOCOMMIT" in words else effect
    return _FIXED.get(first, EVERYTHING)


def _parts(words: Sequence[str]) -> Effect:
    """Return the possible effects of a query, or of a statement that contains one."""
    effect = NOTHING
    # Some words have a meaning only before or after others.
    padded = ("", *words, "", "")
    for i, word in enumerate(words, start=1):
        before, after = padded[i - 1], padded[i + 1]
        if (word, after) in _LOCKING:
            effect |= _LOCKS
        elif word == "INTO":
            effect |= _SESSION if after == "@" else _WRITES
        elif (word in _DML and after != "(" and before != "FOR") or (
            before == "NEXT" and word == "VALUE"
        ):
            effect |= _WRITES
        elif word == ":" and after == "=":
            effect |= _SESSION
        elif after == "(" and word in _SEQUENCE_FUNCTIONS:
            effect |= _WRITES
        elif after == "(" and (
            word in _LOCK_FUNCTIONS
            # LAST_INSERT_ID() without an argument only reads.
            or (word == "LAST_INSERT_ID" and padded[i + 2] != ")")
        ):
            effect |= _SESSION
    return effect
