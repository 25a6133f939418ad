"""
Read SQL token by token: names, texts, numbers, words and symbols.

It is for the definitions that SHOW CREATE TABLE writes and the statements that
change them, in the syntax of
https://docs.pingcap.com/tidb/stable/sql-statement-create-table. A comment
whose contents the server executes, such as ``/*T![auto_rand] AUTO_RANDOM(5) */``,
is read as if the contents stood there alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from .names import TableName

__all__ = ["Reader", "Token"]

_TEXT = r"""'[^'\\]*(?:(?:''|\\.)[^'\\]*)*'|"[^"\\]*(?:(?:""|\\.)[^"\\]*)*\""""
_NAME = r"`[^`]*(?:``[^`]*)*`"
_COMMENT = r"/\*(?!!|T!).*?\*/"
# The beginning of a comment that the server executes.
_OPENING = r"/\*T!(?:\[[\w,]*\])?|/\*!\d*"

_TOKEN = re.compile(
    rf"(?:\s+|{_COMMENT}|{_OPENING}|\*/)*"
    rf"(?:(?P<text>{_TEXT})|(?P<name>{_NAME})|(?P<word>[^\W\d][\w$]*)"
    r"|(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?\w*)"
    r"|(?P<symbol>[^'\"`])|(?P<end>\Z))",
    re.DOTALL,
)
# All that there is between brackets and commas; a quotation mark is none that
# is not closed.
_PIECE = re.compile(rf"{_TEXT}|{_NAME}|{_COMMENT}|[(),'\"`]|[^(),'\"`/]+|/", re.DOTALL)
_MARK = re.compile(
    rf"{_TEXT}|{_NAME}|{_COMMENT}|(?P<opening>{_OPENING})|(?P<closing>\*/)", re.DOTALL
)

# A word that begins a value which goes on with a text, as in b'101'; the name
# of a character set does too, with an underscore before it.
_INTRODUCERS = ("B", "N", "X")


class Token(NamedTuple):
    """A part of SQL, where it begins, and where it ends."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def word(self) -> str:
        """A word in upper case; empty for everything else."""
        return self.text.upper() if self.kind == "word" else ""

    @property
    def name(self) -> str:
        """A name without its quotes, or a word; empty for everything else."""
        if self.kind == "name" or self.text[:1] == '"':
            mark = self.text[0]
            return self.text[1:-1].replace(mark * 2, mark)
        return self.text if self.kind == "word" else ""


class Reader:
    """
    SQL that is read from its beginning to its end.

    A method that does not find what it is to read raises ValueError.
    """

    def __init__(self, sql: str) -> None:
        self.sql = sql
        #: Where the last token that was read ends.
        self.end = 0
        # The token that was looked at last, and where it was looked for.
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
        """Yield all tokens that are left, without reading them."""
        position = self.end
        while (token := self._token(position)).kind != "end":
            yield token
            position = token.end

    # -- What comes next

    @property
    def next(self) -> Token:
        """The next token; at the end it is empty."""
        return self._token(self.end)

    @property
    def ended(self) -> bool:
        """Whether all has been read."""
        return self.next.kind == "end"

    def expect_end(self) -> None:
        """Raise ValueError unless all has been read."""
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
        """Return whether these words, or symbols, come next."""
        return self._after(words) is not None

    def take(self, *words: str) -> bool:
        """Read these words, or symbols, if they come next; return whether."""
        if (position := self._after(words)) is None:
            return False
        self.end = position
        return True

    def expect(self, *words: str) -> None:
        """Read these words, or symbols."""
        if not self.take(*words):
            raise ValueError(f"{' '.join(words)} is missing in {self.sql!r}")

    # -- Read

    def skip(self) -> Token:
        """Read one token, or all that is in brackets; return the first token."""
        token = self.next
        if token.kind == "end":
            raise ValueError(f"Something is missing after {self.sql!r}")
        if token.text == "(":
            self.parts()
        else:
            self.end = token.end
        return token

    def name(self) -> str:
        """Read a name, in quotes or without; return it without."""
        token = self.next
        if not token.name:
            raise ValueError(f"A name is missing before {self.rest()!r}")
        self.end = token.end
        return token.name

    def table_name(self) -> TableName:
        """Read the name of a table, with or without its database."""
        name = self.name()
        return TableName(self.name(), name) if self.take(".") else TableName(name)

    def parts(self) -> tuple[str, ...]:
        """Read what is in brackets; return its parts, which commas separate."""
        self.expect("(")
        return self._split(in_brackets=True)

    def separated(self) -> tuple[str, ...]:
        """Read all that is left; return its parts, which commas separate."""
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
        """Read names in brackets."""
        return tuple(Reader(part).name() for part in self.parts())

    def value(self) -> str:
        """
        Read one value: a number, a text, a word, a function or a bracket; or a
        column and an INTERVAL, as the table option TTL has.
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
        """Read all that is left."""
        start = self.end
        self.separated()
        return self.sql[start:].strip()

    # -- All of it

    def mentions(self, name: str) -> bool:
        """Return whether the SQL has this name, other than that of a function."""
        found = False
        for token in self:
            if found and token.text != "(":
                return True
            found = token.name.lower() == name.lower()
            if found and token.kind != "word":
                return True
        return found

    def without(self, start: int, end: int) -> str:
        """Return the SQL without what is between these positions."""
        # A comment that the server executes goes with all of its contents.
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
