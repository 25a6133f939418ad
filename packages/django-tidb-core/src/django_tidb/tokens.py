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
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple

__all__ = ["Reader", "TableName", "quote"]

_TOKEN = re.compile(
    r"""
    (?P<blank> \s+ | /\*(?!!|T!) .*? \*/ )
    | (?P<mark> /\*T! (?:\[[\w,]*\])? | /\*! \d* | \*/ )
    | (?P<text> '[^'\\]* (?: (?:''|\\.) [^'\\]* )*'
              | "[^"\\]* (?: (?:""|\\.) [^"\\]* )*" )
    | (?P<name> `[^`]* (?: `` [^`]* )*` )
    | (?P<word> [^\W\d][\w$]* )
    | (?P<number> (?: \d+ (?:\.\d*)? | \.\d+ ) (?:[eE][+-]?\d+)? \w* )
    | (?P<symbol> [^'"`] )
    """,
    re.VERBOSE | re.DOTALL,
)

# A word that begins a value which goes on with a text, as in b'101'; the name
# of a character set does too, with an underscore before it.
_INTRODUCERS = ("B", "N", "X")


def quote(name: str) -> str:
    """Return a name in backticks."""
    return f"`{name.replace('`', '``')}`"


@dataclass(frozen=True)
class TableName:
    """The name of a table, with its database if that is not the current one."""

    name: str
    database: str = ""

    @classmethod
    def of(cls, db_table: str) -> TableName:
        """
        Return the name that ``db_table`` of a model is. In backticks,
        "other`.`name" becomes the name of a table in another database.
        """
        database, separator, name = db_table.partition("`.`")
        return cls(name, database) if separator else cls(db_table)

    @property
    def sql(self) -> str:
        """The name in backticks, after that of the database if there is one."""
        return ".".join(map(quote, filter(None, (self.database, self.name))))

    def is_same(self, other: TableName) -> bool:
        """Return whether both name the same table: upper and lower case are equal."""
        return (self.database.lower(), self.name.lower()) == (
            other.database.lower(),
            other.name.lower(),
        )


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
        if self.kind == "name" or self.text[0] == '"':
            mark = self.text[0]
            return self.text[1:-1].replace(mark * 2, mark)
        return self.text if self.kind == "word" else ""


def _tokens(sql: str) -> Iterator[Token]:
    end = 0
    while match := _TOKEN.match(sql, end):
        start, end = match.span()
        if (kind := str(match.lastgroup)) != "blank":
            yield Token(kind, match[0], start, end)
    if end < len(sql):
        raise ValueError(f"A quotation mark is not closed: {sql[end:]}")


class Reader:
    """
    SQL that is read from its beginning to its end.

    A method that does not find what it is to read raises ValueError.
    """

    def __init__(self, sql: str) -> None:
        self.sql = sql
        tokens = list(_tokens(sql))
        self._tokens = [token for token in tokens if token.kind != "mark"]
        # Where a comment that the server executes begins and ends.
        self._marks = [token for token in tokens if token.kind == "mark"]
        self._at = 0

    def __iter__(self) -> Iterator[Token]:
        return iter(self._tokens)

    # -- Where it is

    @property
    def ended(self) -> bool:
        """Whether all has been read."""
        return self._at == len(self._tokens)

    @property
    def next(self) -> Token:
        """The next token."""
        if self.ended:
            raise ValueError(f"Something is missing after {self.sql}")
        return self._tokens[self._at]

    @property
    def start(self) -> int:
        """Where in the SQL the next token begins."""
        return len(self.sql) if self.ended else self.next.start

    @property
    def end(self) -> int:
        """Where in the SQL the last token that was read ends."""
        return self._tokens[self._at - 1].end if self._at else 0

    def expect_end(self) -> None:
        """Raise ValueError unless all has been read."""
        if not self.ended:
            raise ValueError(f"{self.sql!r} goes on with {self.rest()!r}")

    # -- What comes next

    def sees(self, *words: str) -> bool:
        """Return whether these words, or symbols, come next."""
        found = self._tokens[self._at : self._at + len(words)]
        return [token.word or token.text for token in found] == list(words)

    def take(self, *words: str) -> bool:
        """Read these words, or symbols, if they come next; return whether."""
        if found := self.sees(*words):
            self._at += len(words)
        return found

    def expect(self, *words: str) -> None:
        """Read these words, or symbols."""
        if not self.take(*words):
            raise ValueError(f"{' '.join(words)} is missing in {self.sql}")

    def skip(self) -> Token:
        """Read one token, or all that is in brackets; return the first token."""
        token = self.next
        depth = 0
        while True:
            depth += {"(": 1, ")": -1}.get(self.next.text, 0)
            self._at += 1
            if depth <= 0:
                return token

    def name(self) -> str:
        """Read a name, in quotes or without; return it without."""
        if not (found := self.next.name):
            raise ValueError(f"A name is missing before {self.rest()!r}")
        self._at += 1
        return found

    def table_name(self) -> TableName:
        """Read the name of a table, with or without its database."""
        name = self.name()
        return TableName(self.name(), name) if self.take(".") else TableName(name)

    def parts(self) -> tuple[str, ...]:
        """Read what is in brackets; return its parts, which commas separate."""
        self.expect("(")
        parts, start = [], self.start
        while not self.sees(")"):
            if self.sees(","):
                parts.append(self.sql[start : self.start].strip())
                self._at += 1
                start = self.start
            else:
                self.skip()
        parts.append(self.sql[start : self.start].strip())
        self._at += 1
        return tuple(parts)

    def names(self) -> tuple[str, ...]:
        """Read names in brackets."""
        return tuple(Reader(part).name() for part in self.parts())

    def value(self) -> str:
        """Read one value: a number, a text, a word, a function or a bracket."""
        start = self.start
        if self.next.text in "+-":
            self.skip()
        token = self.skip()
        after = None if self.ended else self.next
        is_function = token.kind == "word" and after and after.text == "("
        is_introduced = token.word in _INTRODUCERS or token.word.startswith("_")
        if is_function or (is_introduced and after and after.kind == "text"):
            self.skip()
        return self.sql[start : self.end]

    def rest(self) -> str:
        """Read all that is left."""
        start = self.end
        self._at = len(self._tokens)
        return self.sql[start:].strip()

    def separated(self) -> Iterator[str]:
        """Read all that is left; yield its parts, which commas separate."""
        while not self.ended:
            start = self.start
            while not (self.ended or self.sees(",")):
                self.skip()
            yield self.sql[start : self.start].strip()
            self.take(",")

    # -- All of it

    def mentions(self, name: str) -> bool:
        """Return whether the SQL has this name, other than that of a function."""
        after = [token.text for token in self._tokens[1:]]
        return any(
            token.name.lower() == name.lower()
            and not (token.kind == "word" and following == "(")
            for token, following in zip_longest(self._tokens, after)
        )

    def without(self, start: int, end: int) -> str:
        """Return the SQL without what is between these positions."""
        # A comment that the server executes goes with all of its contents.
        marks = iter(self._marks)
        for opening, closing in zip(marks, marks, strict=True):
            contents = [
                start <= token.start < end
                for token in self._tokens
                if opening.end <= token.start < closing.start
            ]
            if contents and all(contents):
                start, end = min(start, opening.start), max(end, closing.end)
        return f"{self.sql[:start].rstrip()} {self.sql[end:].lstrip()}".strip()
