"""
The connection class of the TiDB backend, which derives from Django's MySQL
backend.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, NotSupportedError
from django.utils.asyncio import async_unsafe
from django.utils.functional import cached_property

from . import hosts, plugins, tls
from .driver import ensure_driver
from .error_numbers import ErrorNumber
from .version import TiDBVersion

# The modules below import the driver, so it must be chosen before they are
# imported.
_DRIVER = ensure_driver()

from django.db.backends.mysql.base import CLIENT, Database  # noqa: E402
from django.db.backends.mysql.base import (  # noqa: E402
    DatabaseWrapper as MySQLDatabaseWrapper,
)

from . import compat  # noqa: E402
from .client import DatabaseClient  # noqa: E402
from .creation import DatabaseCreation  # noqa: E402
from .cursor import CursorWrapper  # noqa: E402
from .features import DatabaseFeatures  # noqa: E402
from .idle import IdleMixin  # noqa: E402
from .introspection import DatabaseIntrospection  # noqa: E402
from .kinds import NOTHING  # noqa: E402
from .operations import DatabaseOperations  # noqa: E402
from .outcome import OutcomeMixin  # noqa: E402
from .schema import DatabaseSchemaEditor  # noqa: E402
from .validation import DatabaseValidation  # noqa: E402
from .variables import ServerVariables  # noqa: E402

# The options in OPTIONS that belong to this backend and not to the driver.
_OPTIONS = (
    "check_after_idle",
    "drop_unsupported_db_defaults",
    "rebuild_tables",
    "resume_migrations",
    "skip_fulltext_indexes",
    "skip_locked",
)

# The errors with which MySQL and MariaDB answer tidb_version(): no database
# selected (MySQL), no such function, no privilege to execute it (MariaDB).
_NO_SUCH_FUNCTION = (
    ErrorNumber.NO_DATABASE_SELECTED,
    ErrorNumber.DOES_NOT_EXIST,
    ErrorNumber.ROUTINE_ACCESS_DENIED,
)

# This call also registers the plugins' options of class Meta.
plugins.get_plugins()
compat.install()


class DatabaseWrapper(IdleMixin, OutcomeMixin, MySQLDatabaseWrapper):
    """
    A connection to TiDB.

    ``vendor`` stays "mysql", so that the ``as_mysql`` methods of Django and of
    third-party packages apply. :func:`django_tidb.is_tidb` distinguishes TiDB
    from MySQL.
    """

    display_name = "TiDB"
    # is_tidb() looks for this attribute.
    tidb = True

    # Django's MySQL backend derives these values from the server's version. They are
    # constants here, because that version describes the protocol and not the features
    # of TiDB, and the server's option server-version can replace it by any text. For
    # version 8.0.11, Django's MySQL backend sends statements that TiDB accepts.
    # https://docs.pingcap.com/tidb/stable/tidb-configuration-file#server-version
    mysql_is_mariadb = False
    mysql_version = (8, 0, 11)

    # TiDB refuses SERIALIZABLE and READ UNCOMMITTED with error 8048:
    # https://docs.pingcap.com/tidb/stable/transaction-isolation-levels
    isolation_levels = {"read committed", "repeatable read"}

    # Case-insensitive lookups compare both sides in lower case;
    # DatabaseOperations.lookup_cast() converts the left-hand side. LIKE alone is
    # case-sensitive, because TiDB's default collation is utf8mb4_bin. An explicit
    # case-insensitive collation is no alternative: it fails for columns and connections
    # in another character set (error 1253), with Collate() (error 1267), and on
    # clusters without the new collation framework. It also could not use an index on
    # Lower(). https://docs.pingcap.com/tidb/stable/character-set-and-collation
    operators = {
        **MySQLDatabaseWrapper.operators,
        "iexact": "LIKE LOWER(%s)",
        "icontains": "LIKE LOWER(%s)",
        "istartswith": "LIKE LOWER(%s)",
        "iendswith": "LIKE LOWER(%s)",
    }
    pattern_ops = {
        **MySQLDatabaseWrapper.pattern_ops,
        "icontains": "LIKE LOWER(CONCAT('%%', {}, '%%'))",
        "istartswith": "LIKE LOWER(CONCAT({}, '%%'))",
        "iendswith": "LIKE LOWER(CONCAT('%%', {}))",
    }

    client_class = DatabaseClient
    creation_class = DatabaseCreation
    SchemaEditorClass = DatabaseSchemaEditor
    features_class = DatabaseFeatures
    introspection_class = DatabaseIntrospection
    ops_class = DatabaseOperations
    validation_class = DatabaseValidation

    # The versions of the servers that this process has connected to, shared by the
    # connections of all threads.
    _versions: ClassVar[dict[tuple[Any, ...], TiDBVersion]] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: The server variables that this backend reads.
        self.tidb_variables = ServerVariables(self)

    @property
    def tidb_options(self) -> dict[str, Any]:
        """The options in OPTIONS that belong to this backend or to its plugins."""
        names = {*_OPTIONS}.union(*(p.database_options for p in plugins.get_plugins()))
        options = self.settings_dict["OPTIONS"]
        return {name: options[name] for name in names & options.keys()}

    @cached_property
    def tidb_dropped_defaults(self) -> dict[Any, bool]:
        """A cache of the results of ``defaults.is_dropped()``, by field."""
        return {}

    def get_connection_params(self) -> dict[str, Any]:
        """
        Return the parameters with which the driver connects. mysqlclient's
        options ``ssl_mode`` and ``ssl`` work for both drivers.

        Raises ``ImproperlyConfigured`` if an option is not valid.
        """
        params: dict[str, Any] = super().get_connection_params()
        for name in self.tidb_options:
            del params[name]
        self._check_options()
        if self._hosts:
            # get_new_connection() adds the host and port of the server that it connects
            # to.
            del params["host"]
            params.setdefault("connect_timeout", hosts.CONNECT_TIMEOUT)
        # Django applies AUTOCOMMIT after connecting. Without this option the drivers
        # switch autocommit off first, which costs two extra round trips.
        params.setdefault("autocommit", None)
        # Django 4.2 sets utf8, which newer client libraries call utf8mb3. TiDB before
        # 7.5 does not know that name.
        if "charset" not in self.settings_dict["OPTIONS"]:
            params["charset"] = "utf8mb4"
        return tls.with_tls_options(
            params,
            f"DATABASES[{self.alias!r}]['OPTIONS']",
            pymysql=_DRIVER.is_pymysql,
        )

    def _check_options(self) -> None:
        where = f"DATABASES[{self.alias!r}]['OPTIONS']"
        options = self.tidb_options
        tables = options.get("rebuild_tables", False)
        if type(tables) is not bool and not (
            isinstance(tables, list | tuple | set | frozenset)
            and all(isinstance(table, str) for table in tables)
        ):
            raise ImproperlyConfigured(
                f"{where}['rebuild_tables'] is {tables!r}; it must be True, False or a "
                "list of the names of tables."
            )
        for name in (
            "drop_unsupported_db_defaults",
            "resume_migrations",
            "skip_fulltext_indexes",
        ):
            if type(value := options.get(name, False)) is not bool:
                raise ImproperlyConfigured(
                    f"{where}[{name!r}] is {value!r}; it must be True or False."
                )
        self.check_idle_option(where)
        skip_locked = options.get("skip_locked", "wait")
        if skip_locked != "wait":
            raise ImproperlyConfigured(
                f"{where}['skip_locked'] is {skip_locked!r}; it must be 'wait' or left "
                "out."
            )

    @property
    def _hosts(self) -> tuple[hosts.Host, ...]:
        """The servers in ``HOST`` if there are several, else an empty tuple."""
        if "host" in self.settings_dict["OPTIONS"]:
            return ()
        return hosts.parse_hosts(
            self.settings_dict["HOST"], f"DATABASES[{self.alias!r}]['HOST']"
        )

    def connect(self) -> None:
        super().connect()
        if self.close_at is not None and self._hosts:
            self.close_at -= hosts.early_end(self.settings_dict["CONN_MAX_AGE"])

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """
        Return a new connection of the driver, which uses TLS as ``ssl_mode`` requires.
        If ``HOST`` names several servers, the connection is to a server that answers.

        If TLS fails, the message of the ``OperationalError`` names the ``ssl_mode``. If
        no server answers, the message names each server with its error.
        """
        if not (servers := self._hosts):
            return self._connect_with_tls(conn_params)
        errors = []
        for host in hosts.in_order(servers):
            try:
                connection = self._connect_with_tls(
                    {**conn_params, **host.parameters()}
                )
            except Database.OperationalError as error:
                if not hosts.is_unreachable(error):
                    raise
                host.rest()
                errors.append((host, error))
            else:
                host.answered()
                return connection
        details = "; ".join(f"{host}: {error}" for host, error in errors)
        raise Database.OperationalError(
            ErrorNumber.CANNOT_CONNECT.value,
            f"No server of DATABASES[{self.alias!r}]['HOST'] takes a connection. "
            f"{details}",
        ) from errors[-1][1]

    def _connect_with_tls(self, conn_params: dict[str, Any]) -> Any:
        options = self.settings_dict["OPTIONS"]
        mode = options.get("ssl_mode")
        if mode is None:
            return self._connect(conn_params)
        asked = (
            f"The database connection {self.alias!r} to {conn_params.get('host')!r} "
            f"asks for ssl_mode {mode!r} with ssl {options.get('ssl')!r}."
        )
        try:
            connection = self._connect(conn_params)
        except Database.OperationalError as error:
            # PyMySQL raises another error number if Python's ssl module rejects the
            # server.
            if error.args[:1] == (ErrorNumber.TLS_FAILED,) or isinstance(
                error.__context__, ssl.SSLError
            ):
                raise Database.OperationalError(
                    error.args[0], f"{error.args[1]}. {asked}"
                ) from error
            raise
        # With mode REQUIRED, MariaDB's client library connects without TLS if the
        # server does not support it: https://github.com/PyMySQL/mysqlclient/issues/474
        if (
            mode in tls.ENCRYPTED_MODES
            and not connection.server_capabilities & CLIENT.SSL
        ):
            connection.close()
            raise Database.OperationalError(
                ErrorNumber.TLS_FAILED.value, f"The server has no TLS. {asked}"
            )
        return connection

    @async_unsafe
    def create_cursor(self, name: str | None = None) -> CursorWrapper:
        return CursorWrapper(self.connection.cursor(), self)

    def _connect(self, conn_params: dict[str, Any]) -> Any:
        # Tracing libraries replace Database.connect; their function must then be
        # called.
        if _DRIVER.is_pymysql and Database.connect is Database.connections.Connection:
            return tls.connect_with_pymysql(conn_params)
        return super().get_new_connection(conn_params)

    @cached_property
    def tidb_version(self) -> TiDBVersion:
        """
        The server's version, which is read once per process and server.

        Raises ``NotSupportedError`` if the server is not a TiDB.
        """
        if self._server not in self._versions:
            self._versions[self._server] = self._ask_version()
        return self._versions[self._server]

    @property
    def known_tidb_version(self) -> TiDBVersion | None:
        """The server's version, or None if it is not known without a new connection."""
        if self.connection is not None:
            return self.tidb_version
        return self._versions.get(self._server)

    @property
    def _server(self) -> tuple[Any, ...]:
        settings, options = self.settings_dict, self.settings_dict["OPTIONS"]
        names = ("host", "port", "unix_socket", "read_default_file")
        return (
            self.alias,
            settings["HOST"],
            str(settings["PORT"]),
            *(options.get(name) for name in names),
        )

    def _ask_version(self) -> TiDBVersion:
        with self.temporary_connection() as cursor:
            try:
                cursor.execute("SELECT VERSION(), tidb_version()")
                version, details = cursor.fetchone()
            except DatabaseError as error:
                if error.args[0] not in _NO_SUCH_FUNCTION:
                    raise
                cursor.execute("SELECT VERSION()")
                (version,), details = cursor.fetchone(), ""
        tidb_version = TiDBVersion.parse(version, details)
        if tidb_version is None:
            host = self.settings_dict["HOST"] or "localhost"
            raise NotSupportedError(
                f"The database connection {self.alias!r} has the ENGINE "
                f"'django_tidb', but its server at {host!r} is not a TiDB: it calls "
                f"itself {version!r}. For MySQL and MariaDB the ENGINE is "
                "'django.db.backends.mysql'."
            )
        return tidb_version

    def init_connection_state(self) -> None:
        try:
            super().init_connection_state()
        except NotSupportedError:
            # The connection is closed, because Django would otherwise reuse it without
            # checking the version again.
            self.close()
            raise

    def get_database_version(self) -> tuple[int, ...]:
        return self.tidb_version.release

    @contextmanager
    def session_variables(self, **values: Any) -> Iterator[None]:
        """
        Set variables of this session for the duration of a block, and restore
        their previous values at its end, also after an error and inside a
        transaction marked for rollback.

        The names must be names of server variables. Raises the server's error
        for an unknown variable.
        """
        self.ensure_connection()
        connection, session = self.connection, self.tidb_session

        def assign(changes: dict[str, Any]) -> None:
            if changes:
                session.effect = NOTHING
                assignments = ", ".join(f"@@{name} = %s" for name in changes)
                with self.wrap_database_errors, connection.cursor() as cursor:
                    cursor.execute(f"SET {assignments}", list(changes.values()))

        session.effect = NOTHING
        with self.wrap_database_errors, connection.cursor() as cursor:
            cursor.execute("SELECT " + ", ".join(f"@@{name}" for name in values))
            before = dict(zip(values, cursor.fetchone(), strict=True))
        changes = {n: value for n, value in values.items() if value != before[n]}
        assign(changes)
        was_personal, session.personal = session.personal, True
        try:
            yield
        finally:
            # If the connection was lost, there is no session to restore. If Django has
            # reconnected, the new session has the default values already.
            if (
                self.connection is connection
                and not session.transaction.is_connection_lost
            ):
                session.personal = was_personal
                assign({name: before[name] for name in changes})

    @property
    def data_type_check_constraints(self) -> dict[str, str]:
        # Django's MySQL backend caches this mapping. It is computed each time here,
        # because the variable that enables CHECK constraints can change. Django also
        # reads the mapping for an operation that does not concern CHECK constraints, so
        # the variables that were read before are used.
        checks = MySQLDatabaseWrapper.data_type_check_constraints
        with self.tidb_variables.without_refresh():
            return checks.func(self)

    @property
    def mysql_server_data(self) -> dict[str, Any]:
        # Django's MySQL backend uses these keys and types of values.
        variables = self.tidb_variables
        return {
            "version": self.tidb_version.text,
            "sql_mode": variables["sql_mode"],
            "default_storage_engine": variables["default_storage_engine"],
            "sql_auto_is_null": variables["sql_auto_is_null"] in ("1", "ON"),
            "lower_case_table_names": variables["lower_case_table_names"] != "0",
            "has_zoneinfo_database": variables["has_zoneinfo_database"] == "1",
        }

    @contextmanager
    def constraint_checks_disabled(self) -> Iterator[None]:
        # Django loads fixtures, and restores the rows of a serialized test database,
        # inside this block.
        with super().constraint_checks_disabled(), plugins.loading_fixtures(self):
            yield

    def disable_constraint_checking(self) -> bool:
        was_personal = self.tidb_session.personal
        disabled: bool = super().disable_constraint_checking()
        self._was_personal = was_personal
        return disabled

    def enable_constraint_checking(self) -> None:
        # The variable foreign_key_checks belongs to the session, so it is restored even
        # if the server has rolled back the transaction.
        if not self.tidb_session.transaction.is_connection_lost:
            with self.ignoring_ended_transaction():
                super().enable_constraint_checking()
            self.tidb_session.personal = self._was_personal
