"""
The cursor of a connection.

The cursor notes the effect of each statement (kinds.py), explains errors about
full-text search and leaves out FULLTEXT indexes (fulltext.py), and adds a tag to the
DDL of ``migrate`` (migrating.py).
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

from django.db import DatabaseError

from .driver import ensure_driver
from .error_numbers import ErrorNumber
from .fulltext import (
    DDL,
    drop_if_exists,
    has_match,
    is_single,
    renames_index,
    without_fulltext,
)
from .kinds import NOTHING, Effect, effect_of
from .migrating import current

# The imports below load the driver as MySQLdb, so it must be chosen first.
ensure_driver()

from django.db.backends.mysql.base import (  # noqa: E402
    CursorWrapper as MySQLCursorWrapper,
)
from django.db.backends.mysql.base import Database  # noqa: E402

__all__ = ["CursorWrapper"]

# The characters with which SQL with a DDL statement can begin. Before the statement,
# there may be spaces and comments.
_BEGINNINGS = frozenset("ACDRTacdrt/-# \t\r\n")

_LEFT_OUT = "Left out, as OPTIONS['skip_fulltext_indexes'] is True"


def _line(sql: str) -> str:
    """Return `sql` on one line, for a message."""
    return " ".join(sql.split())


class CursorWrapper(MySQLCursorWrapper):
    """
    A cursor that raises a clear error for full-text search, which TiDB does not
    support. If the option ``skip_fulltext_indexes`` is set, it leaves out DDL
    of FULLTEXT indexes.
    """

    def __init__(self, cursor: Any, database: Any) -> None:
        super().__init__(cursor)
        self.database = database

    def execute(self, query: Any, args: Any = None) -> Any:
        effect = self._note_effect(query)
        # Checking the first character takes little time, and shows for most statements
        # that they are not DDL.
        if (
            isinstance(query, str)
            and query[:1] in _BEGINNINGS
            and DDL.match(query) is not None
        ):
            result = self._execute_ddl(query, args)
        else:
            try:
                result = super().execute(query, args)
            except Database.DatabaseError as error:
                self._explain(error, query)
                raise
        self.database.tidb_session.pending = effect if effect.several else NOTHING
        return result

    def executemany(self, query: Any, args: Any) -> Any:
        effect = self._note_effect(query)
        try:
            result = super().executemany(query, args)
        except Database.DatabaseError as error:
            self._explain(error, query)
            raise
        self.database.tidb_session.pending = effect if effect.several else NOTHING
        return result

    def callproc(self, procname: str, args: Sequence[Any] = ()) -> Any:
        effect = self._note_effect(None)
        result = self.cursor.callproc(procname, args)
        self.database.tidb_session.pending = effect
        return result

    def close(self) -> None:
        session = self.database.tidb_session
        is_handling = sys.exc_info()[1] is not None
        try:
            self.cursor.close()
        except Database.Error:
            # Closing the cursor has read the answers to further statements in the last
            # string. Django ignores errors of close(), so such an error is raised here.
            if session.pending is NOTHING:
                raise
            try:
                with self.database.wrap_database_errors:
                    raise
            except DatabaseError:
                if not is_handling:
                    raise
        finally:
            session.pending = NOTHING

    def _note_effect(self, query: Any) -> Effect:
        """
        Note the effect that a statement may have, before it is sent; return the effect.
        """
        effect = effect_of(query)
        session = self.database.tidb_session
        # Before the driver sends the statement, it reads the answers that are pending,
        # so an error of this call can also belong to the statements before.
        session.effect = (
            effect if session.pending is NOTHING else effect | session.pending
        )
        if effect.session:
            session.personal = True
        if effect.commits and not self.database.autocommit:
            session.transaction.is_split = True
        return effect

    def _execute_ddl(self, query: str, args: Any) -> Any:
        skip = self.database.tidb_options.get("skip_fulltext_indexes")
        fulltext = "fulltext" in query.lower()
        if skip and fulltext:
            if args:
                # Removing a clause would also remove its placeholders, so the
                # parameters are inserted first.
                query, args = self.cursor.mogrify(query, args), None
            query, left_out = without_fulltext(query, self._escapes(query))
            for clause in left_out:
                warnings.warn(f"{_LEFT_OUT}: {_line(clause)}", stacklevel=2)
            if not query:
                return 0
        try:
            result = self._send_ddl(query, args)
        except Database.DatabaseError as error:
            if skip and self._drops_nothing(error, query, args):
                return 0
            self._explain(error, query)
            raise
        if fulltext and self._server_warnings(
            query, ErrorNumber.FULLTEXT_NOT_SUPPORTED
        ):
            warnings.warn(
                "TiDB has no full-text search and did not create the FULLTEXT index. "
                "Dropping the index will fail, unless OPTIONS['skip_fulltext_indexes'] "
                f"is True, which leaves both statements out: {_line(query)}",
                stacklevel=2,
            )
        return result

    def _send_ddl(self, query: str, args: Any) -> Any:
        """
        Send a DDL statement. If ``migrate`` sends it, add the tag and show the counter.
        """
        run = current(self.database)
        if run is None:
            return super().execute(query, args)
        if args is not None:
            query = self.cursor.mogrify(query, args)
        with run.sending(query) as sent:
            return super().execute(sent, None)

    def _drops_nothing(self, error: Exception, query: str, args: Any) -> bool:
        """
        Return whether the statement failed only because indexes to drop or
        rename do not exist. All other changes of the statement have been made
        then.
        """
        escapes = self._escapes(query)
        if error.args[:1] == (ErrorNumber.NO_INDEX_TO_DROP,):
            without = drop_if_exists(query, escapes)
            if without is None:
                return False
            self._send_ddl(without, args)
            missing = self._server_warnings(query, ErrorNumber.NO_INDEX_TO_DROP)
        elif error.args[:1] == (ErrorNumber.NO_SUCH_INDEX,) and renames_index(
            query, escapes
        ):
            missing = [error.args[1]]
        else:
            return False
        for message in missing:
            warnings.warn(f"{_LEFT_OUT}: {_line(query)} ({message})", stacklevel=3)
        return True

    def _escapes(self, query: str) -> bool:
        """Return whether a backslash in a string escapes the next character."""
        # Reading the SQL mode may need a query, so it is read only if there is a
        # backslash.
        return "\\" not in query or "NO_BACKSLASH_ESCAPES" not in self.database.sql_mode

    def _server_warnings(self, query: str, code: int) -> list[str]:
        """Return the messages of the server's warnings that have this `code`."""
        # SHOW WARNINGS cannot be sent while results of further statements are pending.
        if not is_single(query, self._escapes(query)):
            return []
        warned = self.cursor.connection.show_warnings()
        return [message for _, number, message in warned if int(number) == code]

    def _explain(self, error: Exception, query: Any) -> None:
        """
        Raise an error that explains the lack of full-text search if it caused
        `error`.
        """
        if not (isinstance(query, str) and len(error.args) == 2):
            return
        code, message = error.args
        # The server answers MATCH ... AGAINST with the first error, or with the second
        # error if it is inside a larger expression.
        if (code == ErrorNumber.UNKNOWN and "MatchAgainst" in str(message)) or (
            code == ErrorNumber.SYNTAX and has_match(query)
        ):
            text = (
                "TiDB has no full-text search, and refuses MATCH ... AGAINST. Use the "
                "lookup icontains or a search engine; in Wagtail the search backend "
                "'wagtail.search.backends.database.fallback', with django-modelsearch "
                f"'modelsearch.backends.database.fallback'. ({message})"
            )
        elif code == ErrorNumber.DDL_NOT_SUPPORTED and without_fulltext(query)[1]:
            text = (
                "TiDB has no full-text search, and so no FULLTEXT indexes. With "
                "OPTIONS['skip_fulltext_indexes'] = True their DDL is left out. "
                f"({message})"
            )
        else:
            return
        raise Database.NotSupportedError(code, text) from error
