"""What statements of full-text search become: see fulltext.py."""

from __future__ import annotations

import warnings
from typing import Any

from .driver import ensure_driver
from .fulltext import (
    DDL,
    drop_if_exists,
    has_match,
    is_single,
    renames_index,
    without_fulltext,
)

# What follows imports the driver under the name that Django gives it.
ensure_driver()

from django.db.backends.mysql.base import (  # noqa: E402
    CursorWrapper as MySQLCursorWrapper,
)
from django.db.backends.mysql.base import Database  # noqa: E402

__all__ = ["CursorWrapper"]

# The server's errors: MATCH ... AGAINST, in a larger expression, CREATE FULLTEXT
# INDEX, and an index that does not exist.
_UNKNOWN = 1105
_SYNTAX = 1064
_UNSUPPORTED = 8200
_NO_INDEX_TO_DROP = 1091
_NO_INDEX = 1176

# Its warning that there is no FULLTEXT.
_NO_FULLTEXT = 1214

# What DDL begins with, if it is not a comment or a space.
_BEGINNINGS = frozenset("ACDacd/-# \t\r\n")

_LEFT_OUT = "Left out, as OPTIONS['skip_fulltext_indexes'] is True"


def _line(sql: str) -> str:
    """Return SQL as a message shows it."""
    return " ".join(sql.split())


class CursorWrapper(MySQLCursorWrapper):
    """
    A cursor that tells what becomes of full-text search, and leaves its DDL out
    where the option ``skip_fulltext_indexes`` asks for it.
    """

    def __init__(self, cursor: Any, database: Any) -> None:
        super().__init__(cursor)
        self.database = database

    def execute(self, query: Any, args: Any = None) -> Any:
        # Of most other statements nothing but the first letter is looked at.
        if (
            isinstance(query, str)
            and query[:1] in _BEGINNINGS
            and DDL.match(query) is not None
        ):
            return self._execute_ddl(query, args)
        try:
            return super().execute(query, args)
        except Database.DatabaseError as error:
            self._explain(error, query)
            raise

    def executemany(self, query: Any, args: Any) -> Any:
        try:
            return super().executemany(query, args)
        except Database.DatabaseError as error:
            self._explain(error, query)
            raise

    def _execute_ddl(self, query: str, args: Any) -> Any:
        skip = self.database.tidb_options.get("skip_fulltext_indexes")
        fulltext = "fulltext" in query.lower()
        if skip and fulltext:
            if args:
                # What is left out may have some of them.
                query, args = self.cursor.mogrify(query, args), None
            query, left_out = without_fulltext(query, self._escapes(query))
            for clause in left_out:
                warnings.warn(f"{_LEFT_OUT}: {_line(clause)}", stacklevel=2)
            if not query:
                return 0
        try:
            result = super().execute(query, args)
        except Database.DatabaseError as error:
            if skip and self._drops_nothing(error, query, args):
                return 0
            self._explain(error, query)
            raise
        if fulltext and self._server_warnings(query, _NO_FULLTEXT):
            warnings.warn(
                "TiDB has no full-text search and did not create the FULLTEXT index. "
                "Dropping the index will fail, unless OPTIONS['skip_fulltext_indexes'] "
                f"is True, which leaves both statements out: {_line(query)}",
                stacklevel=2,
            )
        return result

    def _drops_nothing(self, error: Exception, query: str, args: Any) -> bool:
        """
        Return whether an error is only about indexes that are not there, so that
        all else that the statement does has been done without them.
        """
        escapes = self._escapes(query)
        if error.args[:1] == (_NO_INDEX_TO_DROP,):
            without = drop_if_exists(query, escapes)
            if without is None:
                return False
            super().execute(without, args)
            missing = self._server_warnings(query, _NO_INDEX_TO_DROP)
        elif error.args[:1] == (_NO_INDEX,) and renames_index(query, escapes):
            missing = [error.args[1]]
        else:
            return False
        for message in missing:
            warnings.warn(f"{_LEFT_OUT}: {_line(query)} ({message})", stacklevel=3)
        return True

    def _escapes(self, query: str) -> bool:
        """Return whether a backslash in a string escapes the next character."""
        # The mode of the session, which few statements make a question of.
        return "\\" not in query or "NO_BACKSLASH_ESCAPES" not in self.database.sql_mode

    def _server_warnings(self, query: str, code: int) -> list[str]:
        """Return the messages of the server's warnings with this `code`."""
        # Between the results of several statements nothing can be asked.
        if not is_single(query, self._escapes(query)):
            return []
        warned = self.cursor.connection.show_warnings()
        return [message for _, number, message in warned if int(number) == code]

    def _explain(self, error: Exception, query: Any) -> None:
        """Raise an error that names full-text search if that is what it is about."""
        if not (isinstance(query, str) and len(error.args) == 2):
            return
        code, message = error.args
        if (code == _UNKNOWN and "MatchAgainst" in str(message)) or (
            code == _SYNTAX and has_match(query)
        ):
            text = (
                "TiDB has no full-text search, and refuses MATCH ... AGAINST. Use the "
                "lookup icontains or a search engine; in Wagtail the search backend "
                "'wagtail.search.backends.database.fallback', with django-modelsearch "
                f"'modelsearch.backends.database.fallback'. ({message})"
            )
        elif code == _UNSUPPORTED and without_fulltext(query)[1]:
            text = (
                "TiDB has no full-text search, and so no FULLTEXT indexes. With "
                "OPTIONS['skip_fulltext_indexes'] = True their DDL is left out. "
                f"({message})"
            )
        else:
            return
        raise Database.NotSupportedError(code, text) from error
