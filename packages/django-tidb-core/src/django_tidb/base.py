"""TiDB database backend for Django: what differs from Django's MySQL backend."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, NotSupportedError
from django.utils.functional import cached_property

from . import plugins, tls
from .driver import ensure_driver
from .version import TiDBVersion

# What follows imports the driver under the name that Django gives it.
ensure_driver()

from django.db.backends.mysql.base import CLIENT, Database  # noqa: E402
from django.db.backends.mysql.base import (  # noqa: E402
    DatabaseWrapper as MySQLDatabaseWrapper,
)

from .creation import DatabaseCreation  # noqa: E402
from .features import DatabaseFeatures  # noqa: E402
from .introspection import DatabaseIntrospection  # noqa: E402
from .operations import DatabaseOperations  # noqa: E402
from .schema import DatabaseSchemaEditor  # noqa: E402
from .validation import DatabaseValidation  # noqa: E402

# A server need not know all of them: some are newer than it is.
_VARIABLES = (
    "allow_auto_random_explicit_insert",
    "collation_database",
    "default_storage_engine",
    "foreign_key_checks",
    "lower_case_table_names",
    "sql_auto_is_null",
    "sql_mode",
    "tidb_allow_remove_auto_inc",
    "tidb_enable_check_constraint",
    "tidb_enable_clustered_index",
    "tidb_enable_fast_create_table",
    "tidb_enable_noop_functions",
    "tidb_txn_mode",
    "time_zone",
    "transaction_isolation",
)

# What OPTIONS may hold beside the driver's options.
_OPTIONS = ("drop_unsupported_db_defaults", "rebuild_tables")

# What servers other than TiDB answer to tidb_version(): no database selected
# (MySQL), no such function, no right to execute it (MariaDB).
_NO_SUCH_FUNCTION = (1046, 1305, 1370)

for plugin in plugins.get_plugins():
    plugins.register_meta_options(plugin.meta_options)


class DatabaseWrapper(MySQLDatabaseWrapper):
    """
    A connection to TiDB.

    ``vendor`` stays "mysql", so that the ``as_mysql`` methods of Django and of
    third parties apply; :func:`django_tidb.is_tidb` tells the two apart.
    """

    display_name = "TiDB"
    # What is_tidb() looks at.
    tidb = True

    # Constants, because whatever a server says here describes the protocol
    # and not what TiDB can do. With this version Django's MySQL backend sends
    # the statements that TiDB understands; the option server-version of the
    # server can replace its own answer by any text:
    # https://docs.pingcap.com/tidb/stable/tidb-configuration-file#server-version
    mysql_is_mariadb = False
    mysql_version = (8, 0, 11)

    # SERIALIZABLE is refused with error 8048, READ UNCOMMITTED likewise:
    # https://docs.pingcap.com/tidb/stable/transaction-isolation-levels
    isolation_levels = {"read committed", "repeatable read"}

    # Case is ignored by comparing in lower case, together with
    # DatabaseOperations.lookup_cast(): TiDB's default collation is utf8mb4_bin,
    # with which LIKE is case-sensitive. An explicit collation would do as well
    # but for columns and connections in another character set (error 1253),
    # Collate() (1267), and clusters without the new collation framework; and
    # an index on Lower() serves this form alone.
    # https://docs.pingcap.com/tidb/stable/character-set-and-collation
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

    creation_class = DatabaseCreation
    SchemaEditorClass = DatabaseSchemaEditor
    features_class = DatabaseFeatures
    introspection_class = DatabaseIntrospection
    ops_class = DatabaseOperations
    validation_class = DatabaseValidation

    # The versions of the servers that this process has met. Threads have
    # connections of their own, which need not ask again.
    _versions: ClassVar[dict[tuple[Any, ...], TiDBVersion]] = {}

    @property
    def tidb_options(self) -> dict[str, Any]:
        """
        The options of this backend and its plugins that OPTIONS has set.
        """
        names = {*_OPTIONS, *(n for p in plugins.get_plugins() for n in p.options)}
        options = self.settings_dict["OPTIONS"]
        return {name: options[name] for name in names & options.keys()}

    @cached_property
    def tidb_dropped_defaults(self) -> dict[Any, bool]:
        """
        Whether ``drop_unsupported_db_defaults`` leaves out the ``db_default``
        of a field, as far as it has been found out.
        """
        return {}

    def get_connection_params(self) -> dict[str, Any]:
        """
        Return the driver's options: mysqlclient's ``ssl_mode`` and ``ssl``
        are for both drivers.

        Raises ``ImproperlyConfigured`` if they cannot be used.
        """
        params: dict[str, Any] = super().get_connection_params()
        for name in self.tidb_options:
            del params[name]
        self._check_options()
        # Django sets what AUTOCOMMIT asks for; before that, the drivers would
        # switch it off: two round trips for a value that the server starts with.
        params.setdefault("autocommit", None)
        # Django 4.2 asks for utf8, which newer client libraries call utf8mb3,
        # a name that TiDB before 7.5 does not know.
        if "charset" not in self.settings_dict["OPTIONS"]:
            params["charset"] = "utf8mb4"
        return tls.with_tls_options(
            params,
            f"DATABASES[{self.alias!r}]['OPTIONS']",
            pymysql=Database.__name__ == "pymysql",
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
        drop = options.get("drop_unsupported_db_defaults", False)
        if type(drop) is not bool:
            raise ImproperlyConfigured(
                f"{where}['drop_unsupported_db_defaults'] is {drop!r}; it must be True "
                "or False."
            )

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """
        Return a new connection of the driver, with the TLS that ``ssl_mode``
        asks for; the driver's ``OperationalError`` says what it asks for.
        """
        options = self.settings_dict["OPTIONS"]
        mode = options.get("ssl_mode")
        if mode is None:
            return super().get_new_connection(conn_params)
        asked = (
            f"The database connection {self.alias!r} to {conn_params.get('host')!r} "
            f"asks for ssl_mode {mode!r} with ssl {options.get('ssl')!r}."
        )
        try:
            connection = super().get_new_connection(conn_params)
        except Database.OperationalError as error:
            # PyMySQL has a number of its own for what Python's ssl refuses.
            if error.args[:1] == (tls.CONNECTION_ERROR,) or isinstance(
                error.__context__, ssl.SSLError
            ):
                raise Database.OperationalError(
                    error.args[0], f"{error.args[1]}. {asked}"
                ) from error
            raise
        # With REQUIRED, MariaDB's client library goes on in plain text if the
        # server has no TLS: https://github.com/PyMySQL/mysqlclient/issues/474
        if (
            mode in tls.ENCRYPTED_MODES
            and not connection.server_capabilities & CLIENT.SSL
        ):
            connection.close()
            raise Database.OperationalError(
                tls.CONNECTION_ERROR, f"The server has no TLS. {asked}"
            )
        return connection

    @cached_property
    def tidb_version(self) -> TiDBVersion:
        """
        The server's version. Asked for once per process and server.

        Raises ``NotSupportedError`` if the server is not a TiDB.
        """
        params = self.get_connection_params()
        server = ("host", "port", "unix_socket", "read_default_file")
        key = (self.alias, *(params.get(name) for name in server))
        if key not in self._versions:
            self._versions[key] = self._ask_version()
        return self._versions[key]

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
            # Django would go on using the connection without another look.
            self.close()
            raise

    def get_database_version(self) -> tuple[int, ...]:
        return self.tidb_version.release

    @contextmanager
    def session_variables(self, **values: Any) -> Iterator[None]:
        """
        Give variables of this session other values for the length of a block,
        and then the ones that they had, also after an error and within a
        broken transaction.

        The names must be those of server variables. Raises what the server
        answers to one that it does not know.
        """
        self.ensure_connection()
        connection = self.connection

        def assign(changes: dict[str, Any]) -> None:
            if changes:
                assignments = ", ".join(f"@@{name} = %s" for name in changes)
                with self.wrap_database_errors, connection.cursor() as cursor:
                    cursor.execute(f"SET {assignments}", list(changes.values()))

        with self.wrap_database_errors, connection.cursor() as cursor:
            cursor.execute("SELECT " + ", ".join(f"@@{name}" for name in values))
            before = dict(zip(values, cursor.fetchone(), strict=True))
        changes = {n: value for n, value in values.items() if value != before[n]}
        assign(changes)
        try:
            yield
        finally:
            # A new connection has the values that it should have.
            if self.connection is connection:
                assign({name: before[name] for name in changes})

    @cached_property
    def tidb_variables(self) -> dict[str, str]:
        """
        The server variables that matter here, as texts. Read in one statement
        when the first is needed, and again for each schema editor.
        """
        with self.temporary_connection() as cursor:
            # CONVERT_TZ returns NULL if the server has no time zone database.
            cursor.execute(
                "SELECT variable_name, variable_value "
                "FROM information_schema.session_variables "
                "WHERE variable_name IN %s "
                "UNION ALL SELECT 'has_zoneinfo_database', "
                "CONVERT_TZ('2001-01-01 01:00:00', 'UTC', 'UTC') IS NOT NULL",
                [_VARIABLES],
            )
            return dict(sorted(cursor.fetchall()))

    @property
    def mysql_server_data(self) -> dict[str, Any]:
        # In the form that Django's MySQL backend has it.
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
        # What Django loads fixtures, and the rows of a serialized test
        # database, in.
        with super().constraint_checks_disabled(), plugins.loading(self):
            yield

    def schema_editor(self, *args: Any, **kwargs: Any) -> DatabaseSchemaEditor:
        # Variables may have been set since the last one.
        self.__dict__.pop("tidb_variables", None)
        return super().schema_editor(*args, **kwargs)
