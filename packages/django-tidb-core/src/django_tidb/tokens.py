"""
Two readers that split SQL into tokens.

:class:`Reader` is for definitions, and :func:`statement_tokens` is for whole statements
of any kind, with their comments. Definitions are in the output of SHOW CREATE TABLE and
in statements that change tables:
https://docs.pingcap.com/tidb/stable/sql-statement-create-table

:class:`Reader` treats a comment with contents that the server executes, such as
``/*T![auto_rand] AUTO_RANDOM(5) */``, as if only the contents were there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from .names import TableName

__all__ = [
    "Reader",
    "StatementToken",
    "Token",
    "UnclosedError",
    "split_members",
    "statement_tokens",
]

_TEXT = r"""'[^'\\]*(?:(?:''|\\.)[^'\\]*)*'|"[^"\\]*(?:(?:""|\\.)[^"\\]*)*\""""
_NAME = r"`[^`]*(?:``[^`]*)*`"
_COMMENT = r"/\*(?!!|T!).*?\*/"
# The opening of a comment with contents that the server executes.
_OPENING = r"/\*T!(?:\[[\w,]*\])?|/\*!\d*"

_TOKEN = re.compile(
    rf"(?:\s+|{_COMMENT}|{_OPENING}|\*/)*"
    rf"(?:(?P<text>{_TEXT})|(?P<name>{_NAME})|(?P<word>[^\W\d][\w$]*)"
    r"|(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?\w*)"
    r"|(?P<symbol>[^'\"`])|(?P<end>\Z))",
    re.DOTALL,
)
# SQL is split into these pieces to find brackets and commas outside of strings, quoted
# names and comments. A quotation mark is a separate piece only if it is not closed.
_PIECE = re.compile(rf"{_TEXT}|{_NAME}|{_COMMENT}|[(),'\"`]|[^(),'\"`/]+|/", re.DOTALL)
_MARK = re.compile(
    rf"{_TEXT}|{_NAME}|{_COMMENT}|(?P<opening>{_OPENING})|(?P<closing>\*/)", re.DOTALL
)

# A string literal in which a quotation mark is doubled and a backslash escapes nothing.
_UNESCAPED = r"'[^']*(?:''[^']*)*'"
# These patterns find the members of a column of the type ENUM or SET, or of other text
# of the same form. In the SQL mode ANSI_QUOTES, double quotes enclose a column's name.
_COLUMN = rf"""(?:{_NAME}|"[^"]*(?:""[^"]*)*")"""
_MEMBERS = rf"{_COLUMN} (?:enum|set)\(({_UNESCAPED}(?:,{_UNESCAPED})*)\)"
_MEMBERS_OR_TEXT = re.compile(rf"{_MEMBERS}|{_TEXT}|{_NAME}", re.DOTALL)
_MEMBERS_OR_UNESCAPED = re.compile(rf"{_MEMBERS}|{_UNESCAPED}|{_NAME}", re.DOTALL)

# A word that precedes a string literal, as in b'101'. A character set with a leading
# underscore, as in _utf8'x', is such a word as well.
_INTRODUCERS = ("B", "N", "X")


def split_members(sql: str, *, escapes: bool) -> list[str]:
    """
    Split an answer of SHOW CREATE TABLE into parts. Every second part is the list of
    members of an ENUM or a SET, in which a backslash never escapes the next character.
    `escapes` tells whether a backslash escapes the next character in other strings.
    """
    parts, start = [], 0
    for match in (_MEMBERS_OR_TEXT if escapes else _MEMBERS_OR_UNESCAPED).finditer(sql):
        if match[1] is not None:
            parts += [sql[start : match.start(1)], match[1]]
            start = match.end(1)
    return [*parts, sql[start:]]


class Token(NamedTuple):
    """A token of SQL, with its start and end position."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def word(self) -> str:
        """The word in upper case, or an empty string for tokens that are not words."""
        return self.text.upper() if self.kind == "word" else ""

    @property
    def name(self) -> str:
        """A name without quotes, or a word, or an empty string for other tokens."""
        if self.kind == "name" or self.text[:1] == '"':
            mark = self.text[0]
            return self.text[1:-1].replace(mark * 2, mark)
        return self.text if self.kind == "word" else ""


class Reader:
    """
    A reader with a position in the SQL that it reads.

    Methods raise ValueError if the next tokens are not the ones that they read.
    """

    def __init__(self, sql: str) -> None:
        self.sql = sql
        #: The position after the last token that was read.
        self.end = 0
        # A cache of one token, with the position from which it was looked up.
        self._seen: tuple[int, Token | None] = (0, None)

    def _token(self, position: int) -> Token:
        at, token = self._seen
        if token is None or at != position:
            token = self._look(position)
            self._seen = position, token
        return token

    def _look(self, position: int) -> Token:
        if (match := _TOKEN.match(self.sql, position)) is None:
            raise ValueError(f"A quotation mark has no counterpart in {self.sql}")
        kind = str(match.lastgroup)
        return Token(kind, match[kind], match.start(kind), match.end())

    def __iter__(self) -> Iterator[Token]:
        """Yield all remaining tokens without moving the position."""
        position = self.end
        while (token := self._token(position)).kind != "end":
            yield token
            position = token.end

    # -- Looking at the next tokens

    @property
    def next(self) -> Token:
        """The next token, which has the kind "end" at the end of the SQL."""
        return self._token(self.end)

    @property
    def ended(self) -> bool:
        """True if no tokens remain."""
        return self.next.kind == "end"

    def expect_end(self) -> None:
        """Raise ValueError if tokens remain."""
        if not self.ended:
            raise ValueError(f"{self.sql!r} goes on with {self.rest()!r}")

    def _after(self, words: tuple[str, ...]) -> int | None:
        position = self.end
        for word in words:
            token = self._token(position)
            if (token.word or token.text) != word:
                return None
            position = token.end
        return position

    def sees(self, *words: str) -> bool:
        """Return whether the next tokens are these words or symbols."""
        return self._after(words) is not None

    def take(self, *words: str) -> bool:
        """Read these words or symbols if they come next. Return whether they did."""
        if (position := self._after(words)) is None:
            return False
        self.end = position
        return True

    def expect(self, *words: str) -> None:
        """Read these words or symbols, which must come next."""
        if not self.take(*words):
            raise ValueError(f"{' '.join(words)} is missing in {self.sql!r}")

    # -- Reading

    def skip(self) -> Token:
        """Read one token, or everything in brackets. Return the first token."""
        token = self.next
        if token.kind == "end":
            raise ValueError(f"Something is missing after {self.sql!r}")
        if token.text == "(":
            self.parts()
        else:
            self.end = token.end
        return token

    def name(self) -> str:
        """Read a name, quoted or not, and return it without quotes."""
        token = self.next
        if not token.name:
            raise ValueError(f"A name is missing before {self.rest()!r}")
        self.end = token.end
        return token.name

    def table_name(self) -> TableName:
        """Read the name of a table, which may be qualified with a database name."""
        name = self.name()
        return TableName(self.name(), name) if self.take(".") else TableName(name)

    def parts(self) -> tuple[str, ...]:
        """Read everything in brackets, and return the parts between commas."""
        self.expect("(")
        return self._split(in_brackets=True)

    def separated(self) -> tuple[str, ...]:
        """Read everything that remains, and return the parts between commas."""
        return self._split(in_brackets=False)

    def _split(self, *, in_brackets: bool) -> tuple[str, ...]:
        parts, start, depth = [], self.end, 0
        for match in _PIECE.finditer(self.sql, start):
            piece = match[0]
            if piece == "(":
                depth += 1
            elif piece == "," and not depth:
                parts.append(self.sql[start : match.start()].strip())
                start = match.end()
            elif piece == ")" and depth:
                depth -= 1
            elif piece == ")" and in_brackets:
                parts.append(self.sql[start : match.start()].strip())
                self.end = match.end()
                return tuple(parts)
            elif piece in (")", "'", '"', "`"):
                raise ValueError(f"{piece} has no counterpart in {self.sql}")
        if in_brackets or depth:
            raise ValueError(f"A bracket is not closed in {self.sql}")
        parts.append(self.sql[start:].strip())
        self.end = len(self.sql)
        return tuple(parts)

    def names(self) -> tuple[str, ...]:
        """Read a list of names in brackets."""
        return tuple(Reader(part).name() for part in self.parts())

    def value(self) -> str:
        """
        Read one value and return it. A value is a number, a string, a word, a
        function call, an expression in brackets, or such a value followed by
        "+ INTERVAL", a number and a unit, as in the table option TTL.
        """
        start = self.next.start
        if self.next.text in ("+", "-"):
            self.skip()
        token = self.skip()
        after = self.next
        is_function = token.kind == "word" and after.text == "("
        is_introduced = token.word in _INTRODUCERS or token.word.startswith("_")
        if is_function or (is_introduced and after.kind == "text"):
            self.skip()
        elif self.take("+", "INTERVAL"):
            self.value()
            self.skip()
        return self.sql[start : self.end]

    def rest(self) -> str:
        """Read and return everything that remains."""
        start = self.end
        self.separated()
        return self.sql[start:].strip()

    # -- The whole SQL

    def mentions(self, name: str) -> bool:
        """
        Return whether `name` occurs in the SQL, other than as the name of a
        function.
        """
        found = False
        for token in self:
            if found and token.text != "(":
                return True
            found = token.name.lower() == name.lower()
            if found and token.kind != "word":
                return True
        return found

    def without(self, start: int, end: int) -> str:
        """Return the SQL without the text between these two positions."""
        # If a comment that the server executes contains nothing but this text, remove
        # the whole comment.
        marks = (match for match in _MARK.finditer(self.sql) if match.lastgroup)
        for opening, closing in zip(marks, marks, strict=False):
            contents = range(opening.end(), closing.start())
            if (
                start in contents
                and not self.sql[contents.start : start].strip()
                and not self.sql[end : contents.stop].strip()
            ):
                start, end = opening.start(), closing.end()
                break
        return f"{self.sql[:start].rstrip()} {self.sql[end:].lstrip()}".strip()


# -- Statements


def _statement_pattern(string: str) -> re.Pattern[str]:
    strings = "|".join(string.replace("Q", quote) for quote in "'\"")
    # Comments with contents that the server executes are tokens; others are skipped.
    # After "--" the server takes only an ASCII space for the beginning of a comment.
    return re.compile(
        rf"(?P<skipped>\s+|/\*(?!T?!|\+).*?\*/|(?:--(?=[ \t\n\v\f\r]|\Z)|\#)[^\n]*)"
        rf"|{strings}|`(?:[^`]|``)*`|/\*.*?\*/|[\w$]+|(?P<unclosed>['\"`]|/\*)|.",
        re.DOTALL,
    )


_STATEMENT = _statement_pattern(r"Q(?:[^Q\\]|QQ|\\.)*Q")
# The pattern for the SQL mode NO_BACKSLASH_ESCAPES.
_STATEMENT_WITHOUT_ESCAPES = _statement_pattern(r"Q(?:[^Q]|QQ)*Q")


class StatementToken(NamedTuple):
    """A word, quoted name, literal or symbol, with its position in the statement."""

    text: str
    start: int
    end: int

    @property
    def word(self) -> str:
        """
        The token in upper case. A quoted name keeps its quotes, so it equals no
        keyword.
        """
        return self.text.upper()


class UnclosedError(Exception):
    """A string, a quoted name or a comment is not closed."""


def statement_tokens(sql: str, escapes: bool) -> list[StatementToken]:
    """
    Return the tokens of `sql`, which may be several statements, without comments.
    A comment with contents that the server executes, or that are hints, is one
    token.

    `escapes` tells whether a backslash in a string escapes the next character.
    Raises :class:`UnclosedError`.
    """
    tokens = []
    for match in (_STATEMENT if escapes else _STATEMENT_WITHOUT_ESCAPES).finditer(sql):
        if match["unclosed"]:
            raise UnclosedError
        if not match["skipped"]:
            tokens.append(StatementToken(match[0], *match.span()))
    return tokens
