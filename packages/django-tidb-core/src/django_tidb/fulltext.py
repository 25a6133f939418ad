"""
A parser for FULLTEXT indexes and MATCH ... AGAINST, which TiDB does not
support.

TiDB ignores FULLTEXT in CREATE TABLE and ALTER TABLE with a warning, and
refuses all other uses: https://github.com/pingcap/tidb/issues/48734. If this
module cannot parse a statement completely, it returns the statement unchanged,
and the server reports the error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from .tokens import StatementToken, UnclosedError, statement_tokens

__all__ = [
    "DDL",
    "drop_if_exists",
    "has_match",
    "is_single",
    "renames_index",
    "without_fulltext",
]

#: A pattern for the beginning of DDL statements. Only the first three kinds can
#: contain a FULLTEXT index.
DDL = re.compile(
    r"(?:\s|/\*.*?\*/|(?:--\s|#)[^\n]*\n)*(?:ALTER|CREATE|DROP|RENAME|TRUNCATE)\b",
    re.DOTALL | re.IGNORECASE,
)


_NAME = re.compile(r"[`\"].*|[\w$]+", re.DOTALL)
_INDEX = ("INDEX", "KEY")

# The options that can follow the columns of an index, with a space after each
# token.
_INDEX_OPTIONS = re.compile(
    r"(?:(?:WITH PARSER \S+|COMMENT ['\"].*?['\"]|KEY_BLOCK_SIZE (?:= )?\d+"
    r"|(?:IN)?VISIBLE|ADD_COLUMNAR_REPLICA_ON_DEMAND) )*",
    re.DOTALL,
)


_Tokens = Sequence[StatementToken]


class _NotUnderstoodError(UnclosedError):
    """The statement has a syntax that this module does not parse."""


def _split(tokens: _Tokens, separator: str) -> Iterator[_Tokens]:
    """Yield the sequences of tokens between separators that are outside of brackets."""
    depth = start = 0
    for i, token in enumerate(tokens):
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth < 0:
            raise _NotUnderstoodError
        if depth == 0 and token.text == separator:
            yield tokens[start:i]
            start = i + 1
    if depth:
        raise _NotUnderstoodError
    yield tokens[start:]


def _parts(tokens: _Tokens) -> list[_Tokens]:
    """Return the sequences of tokens between commas. None of them may be empty."""
    parts = list(_split(tokens, ","))
    if not all(parts):
        raise _NotUnderstoodError
    return parts


def _closing(tokens: _Tokens, opening: int) -> int:
    """Return the index of the bracket that closes the bracket at index `opening`."""
    depth = 0
    for i in range(opening, len(tokens)):
        depth += {"(": 1, ")": -1}.get(tokens[i].text, 0)
        if depth == 0:
            return i
    raise _NotUnderstoodError


def _skip(tokens: _Tokens, position: int, *words: str) -> int:
    """Return the index after `words`, or `position` if `words` are not there."""
    found = [token.word for token in tokens[position : position + len(words)]]
    return position + len(words) if found == list(words) else position


def _has(tokens: _Tokens, position: int, *words: str) -> bool:
    return _skip(tokens, position, *words) != position


def _skip_name(tokens: _Tokens, position: int) -> int:
    """Return the index after a name, which may be qualified with a database name."""
    while position < len(tokens) and _NAME.fullmatch(tokens[position].text):
        position += 1
        if not _has(tokens, position, "."):
            return position
        position += 1
    raise _NotUnderstoodError


def _text(sql: str, tokens: _Tokens) -> str:
    return sql[tokens[0].start : tokens[-1].end]


def _is_fulltext(tokens: _Tokens) -> bool:
    """Return whether `tokens` are FULLTEXT [INDEX] [name] (columns) [options]."""
    if not _has(tokens, 0, "FULLTEXT"):
        return False
    position = max(_skip(tokens, 1, word) for word in _INDEX)
    if not _has(tokens, position, "("):
        position = _skip_name(tokens, position)
    if not _has(tokens, position, "("):
        raise _NotUnderstoodError
    options = tokens[_closing(tokens, position) + 1 :]
    if not _INDEX_OPTIONS.fullmatch("".join(f"{option.word} " for option in options)):
        raise _NotUnderstoodError
    return True


def _clauses(tokens: _Tokens) -> list[_Tokens]:
    """Return the clauses of an ALTER TABLE, or [] for other statements."""
    position = _skip(tokens, 0, "ALTER", "IGNORE") or _skip(tokens, 0, "ALTER")
    if not position or not _has(tokens, position, "TABLE"):
        return []
    return _parts(tokens[_skip_name(tokens, position + 1) :])


def _elements(tokens: _Tokens) -> tuple[int, int] | None:
    """
    Return the range of columns and indexes in a CREATE TABLE, or None if it has
    none.
    """
    position = _skip(tokens, 0, "CREATE")
    for word in ("GLOBAL", "TEMPORARY"):
        position = position and _skip(tokens, position, word)
    if not position or not _has(tokens, position, "TABLE"):
        return None
    position = _skip(tokens, position + 1, "IF", "NOT", "EXISTS")
    position = _skip_name(tokens, position)
    if not _has(tokens, position, "("):
        return None
    return position + 1, _closing(tokens, position)


def _kept_elements(sql: str, tokens: _Tokens, left: list[str]) -> str:
    """
    Return the columns and indexes without FULLTEXT indexes, which are added to
    `left`.
    """
    kept: list[str] = []
    for element in _parts(tokens):
        (left if _is_fulltext(element) else kept).append(_text(sql, element))
    return ", ".join(kept)


def _kept_clause(sql: str, clause: _Tokens, left: list[str]) -> str:
    """
    Return a clause of ALTER TABLE without FULLTEXT indexes, or "" if nothing
    remains.
    """
    if not _has(clause, 0, "ADD"):
        return _text(sql, clause)
    if _is_fulltext(clause[1:]):
        left.append(_text(sql, clause))
        return ""
    position = _skip(clause, 1, "COLUMN")
    if not _has(clause, position, "("):
        return _text(sql, clause)
    end = _closing(clause, position)
    kept = _kept_elements(sql, clause[position + 1 : end], left)
    head, tail = clause[: position + 1], clause[end:]
    return f"{_text(sql, head)}{kept}{_text(sql, tail)}" if kept else ""


def _kept(sql: str, tokens: _Tokens, left: list[str]) -> str:
    """Return a statement without FULLTEXT indexes, or "" if nothing remains."""
    if _has(tokens, 0, "CREATE", "FULLTEXT"):
        left.append(_text(sql, tokens))
        return ""
    found = len(left)
    rest = head = tail = ""
    if clauses := _clauses(tokens):
        head = sql[tokens[0].start : clauses[0][0].start]
        rest = ", ".join(filter(None, (_kept_clause(sql, c, left) for c in clauses)))
    elif elements := _elements(tokens):
        start, end = elements
        head, tail = _text(sql, tokens[:start]), _text(sql, tokens[end:])
        rest = _kept_elements(sql, tokens[start:end], left)
    if len(left) == found:
        return _text(sql, tokens)
    return f"{head}{rest}{tail}" if rest else ""


def without_fulltext(sql: str, escapes: bool = True) -> tuple[str, list[str]]:
    """
    Return `sql` without the FULLTEXT indexes that it creates, and the clauses
    that were removed. The first value is "" if the statement does nothing else.

    `escapes` tells whether a backslash in a string escapes the next character.
    """
    left: list[str] = []
    if not DDL.match(sql) or "fulltext" not in sql.lower():
        return sql, left
    try:
        statements = _split(statement_tokens(sql, escapes), ";")
        kept = [_kept(sql, tokens, left) for tokens in statements if tokens]
    except UnclosedError:
        return sql, []
    return "; ".join(filter(None, kept)) if left else sql, left


def _statement(sql: str, escapes: bool) -> _Tokens:
    """Return the tokens of `sql`, which must be one statement."""
    statements = [
        tokens for tokens in _split(statement_tokens(sql, escapes), ";") if tokens
    ]
    if len(statements) != 1:
        raise _NotUnderstoodError
    return statements[0]


def is_single(sql: str, escapes: bool = True) -> bool:
    """Return whether `sql` can be parsed and is one statement."""
    try:
        _statement(sql, escapes)
    except UnclosedError:
        return False
    return True


def drop_if_exists(sql: str, escapes: bool = True) -> str | None:
    """
    Return a statement that drops indexes, with IF EXISTS added to each of them.
    Return None if it drops no index, or has IF EXISTS for all of them.
    """
    try:
        tokens = _statement(sql, escapes)
        clauses = _clauses(tokens) or [tokens]
    except UnclosedError:
        return None
    ends = [
        clause[1].end
        for clause in clauses
        if any(_has(clause, 0, "DROP", word) for word in _INDEX)
        and not _has(clause, 2, "IF")
    ]
    if not ends:
        return None
    pieces = (sql[i:j] for i, j in zip([0, *ends], [*ends, None], strict=True))
    return " IF EXISTS".join(pieces)


def renames_index(sql: str, escapes: bool = True) -> bool:
    """Return whether a statement renames one index and does nothing else."""
    try:
        clauses = _clauses(_statement(sql, escapes))
    except UnclosedError:
        return False
    return len(clauses) == 1 and any(
        _has(clauses[0], 0, "RENAME", word) for word in _INDEX
    )


def has_match(sql: str) -> bool:
    """Return whether a statement contains MATCH (...) AGAINST (...)."""
    if "against" not in sql.lower():
        return False
    try:
        tokens = statement_tokens(sql, escapes=True)
        return any(
            _has(tokens, _closing(tokens, i + 1) + 1, "AGAINST", "(")
            for i in range(len(tokens))
            if _has(tokens, i, "MATCH", "(")
        )
    except UnclosedError:
        return False
