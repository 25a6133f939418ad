"""
Detection of connections that were lost while idle: ``OPTIONS["check_after_idle"]``.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured
from django.db import Error

from .driver import ensure_driver
from .errors import is_connection_lost

if TYPE_CHECKING:
    from .outcome import OutcomeMixin as _Base
else:
    _Base = object

__all__ = ["IdleMixin"]

_PING_ARGUMENTS = (False,) if ensure_driver().is_pymysql else ()


class IdleMixin(_Base):
    """
    The part of a connection that detects a loss of the connection while it was idle.

    A lost connection is replaced only if the application has set no state in its
    session: see ``tidb_session.personal``. Otherwise the loss is reported as an error.
    """

    #: Seconds without a statement after which the server is pinged; None for never.
    _idle_limit: float | None = None
    #: The time of the last statement, on the clock of time.monotonic().
    _used_at = 0.0

    def check_idle_option(self, where: str) -> None:
        """
        Raise ``ImproperlyConfigured`` if the option ``check_after_idle`` is not valid.
        `where` is the name of ``OPTIONS`` in the message of the error.
        """
        options = self.settings_dict["OPTIONS"]
        if "check_after_idle" not in options:
            return
        limit = options["check_after_idle"]
        if type(limit) not in (int, float) or not 0 <= limit < math.inf:
            raise ImproperlyConfigured(
                f"{where}['check_after_idle'] is {limit!r}; it must be a number of "
                "seconds, 0 or more, or left out."
            )

    def connect(self) -> None:
        super().connect()
        self._idle_limit = self.settings_dict["OPTIONS"].get("check_after_idle")
        self._used_at = time.monotonic()

    def is_usable(self) -> bool:
        # PyMySQL's ping() would by default reconnect without the settings of the
        # session.
        try:
            self.connection.ping(*_PING_ARGUMENTS)
        except self.Database.Error:
            return False
        return True

    def close_if_health_check_failed(self) -> None:
        """
        Ping a connection that has been idle for ``check_after_idle`` seconds, unless it
        is in a transaction. Django calls this method before each cursor.
        """
        if self._idle_limit is not None and self.connection is not None:
            self._check_idle(self._idle_limit)
        super().close_if_health_check_failed()

    def _check_idle(self, limit: float) -> None:
        now = time.monotonic()
        idle, self._used_at = now - self._used_at, now
        if idle < limit or self.in_atomic_block or not self.autocommit:
            return
        try:
            with self.wrap_database_errors:
                self.connection.ping(*_PING_ARGUMENTS)
        except Error as error:
            # This error of the ping means that another cursor has unread rows, not that
            # the connection was lost.
            if not is_connection_lost(error):
                return
            personal = self.tidb_session.personal
            self.close()
            if personal:
                raise self._loss_of_state(error) from error

    def _set_autocommit(self, autocommit: bool) -> None:
        try:
            super()._set_autocommit(autocommit)
        except Error as error:
            if autocommit or self._idle_limit is None or not is_connection_lost(error):
                raise
            # SET autocommit = 0 is the first statement of a transaction, so no
            # statement of the transaction can be executed twice.
            if self.tidb_session.personal:
                raise self._loss_of_state(error) from error
            self.close()
            self.ensure_connection()
            super()._set_autocommit(autocommit)
