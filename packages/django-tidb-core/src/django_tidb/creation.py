"""The test database, and its copies for tests that run in parallel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError
from django.db.backends.mysql.creation import DatabaseCreation as MySQLDatabaseCreation
from django.db.migrations.recorder import MigrationRecorder
from django.db.models.signals import post_migrate, pre_migrate

from .definition import TableDefinition
from .error_numbers import ErrorNumber
from .introspection import read_definition
from .names import TableName, in_format, quote
from .pending import Creation
from .plugins import get_plugins
from .rebuild import batches, copying
from .together import create_together

if TYPE_CHECKING:
    from .base import DatabaseWrapper

_STRING = r"'(?:[^'\\]|''|\\.)*'"


class DatabaseCreation(MySQLDatabaseCreation):
    #: Whether a test database is being created, which no other connection uses yet.
    creating = False

    def _create_test_db(self, *args: Any, **kwargs: Any) -> str:
        name: str = super()._create_test_db(*args, **kwargs)
        self.creating = True
        # The plugins need a connection to the test database. This connection is still
        # set to the project's database, and Django changes it before the migrations.
        pre_migrate.connect(self._will_migrate)
        # A signal tells when the test database has been created. If this class
        # overrode create_test_db(), the stack level of Django's warnings in that method
        # would be wrong.
        post_migrate.connect(self._has_created)
        return name

    def setup_worker_connection(self, _worker_id: int) -> None:
        super().setup_worker_connection(_worker_id)
        self._set_up_by_plugins()

    def _will_migrate(self, *, using: str, **kwargs: Any) -> None:
        # The signal is sent for each app; the first one is enough.
        if using == self.connection.alias:
            pre_migrate.disconnect(self._will_migrate)
            self._set_up_by_plugins()

    def _set_up_by_plugins(self) -> None:
        for plugin in get_plugins():
            plugin.set_up_test_database(self.connection)

    def _has_created(self, *, using: str, **kwargs: Any) -> None:
        if using == self.connection.alias:
            self.creating = False
            post_migrate.disconnect(self._has_created)

    def _clone_test_db(self, suffix: str, verbosity: int, keepdb: bool = False) -> None:
        # Django would keep an existing copy although it lacks new migrations, so this
        # method replaces an outdated copy.
        if keepdb:
            source = self.connection.settings_dict["NAME"]
            target = self.get_test_db_clone_settings(suffix)["NAME"]
            keepdb = self._state(source) == self._state(target)
        super()._clone_test_db(suffix, verbosity, keepdb)

    def _clone_db(self, source_database_name: str, target_database_name: str) -> None:
        """
        Copy sequences, tables with their rows, and views to an empty database.

        The counters of AUTO_INCREMENT and AUTO_RANDOM continue from the values in
        TiDB's cache of ids. Neither privileges nor TiFlash replicas are copied, except
        for replicas that an index creates.
        https://docs.pingcap.com/tidb/stable/sql-statement-show-create-table
        """
        source = _Database(self.connection, source_database_name)
        with self._connection_to(target_database_name) as connection:
            target = _Database(connection, target_database_name)
            kinds = source.kinds()
            target.like(source)
            for name in kinds.get("SEQUENCE", ()):
                target.run(source.definition("SEQUENCE", name))
            tables = kinds.get("BASE TABLE", [])
            creations = [
                Creation(quote(name), [source.table(name).sql(name)], name=name)
                for name in tables
            ]
            left = create_together(connection, creations)
            with copying(connection):
                for creation in left:
                    target.run(creation.sql)
                # The table of applied migrations is copied last, because its rows mark
                # the copy as complete.
                recorded = MigrationRecorder.Migration._meta.db_table
                for name in sorted(source.not_empty(tables), key=recorded.__eq__):
                    target.copy_rows(source, name)
            self._create_views(source, target, kinds.get("VIEW", []))

    @staticmethod
    def _create_views(source: _Database, target: _Database, names: list[str]) -> None:
        qualified = re.compile(
            f"{_STRING}|{re.escape(source.quoted)}(?=\\.`)", re.DOTALL
        )
        pending = {
            name: qualified.sub(
                lambda match: target.quoted if match[0] == source.quoted else match[0],
                source.definition("VIEW", name),
            )
            for name in names
        }
        while pending:
            # A view can be created only after the views that it reads.
            before = len(pending)
            for name, sql in list(pending.items()):
                try:
                    target.run(sql)
                except DatabaseError as error:
                    if error.args[0] != ErrorNumber.NO_SUCH_TABLE:
                        raise
                    missing = error
                else:
                    del pending[name]
            if len(pending) == before:
                raise missing

    @contextmanager
    def _connection_to(self, name: str) -> Iterator[Any]:
        connection = type(self.connection)(
            {**self.connection.settings_dict, "NAME": name}, self.connection.alias
        )
        try:
            yield connection
        finally:
            connection.close()

    def _state(self, name: str) -> Any:
        """
        Return a value that is equal for databases with the same migrations, or
        None if the database does not exist.
        """
        database = _Database(self.connection, name)
        if not database.exists():
            return None
        kinds = database.kinds()
        tables = kinds.get("BASE TABLE", [])
        recorded = MigrationRecorder.Migration._meta.db_table
        return (
            {kind: sorted(names) for kind, names in kinds.items()},
            {
                # The next values of the counters differ as soon as there are rows.
                table: database.table(table).without_counters().sql(table)
                for table in tables
            },
            recorded in tables and database.migrations(recorded),
        )


class _Database:
    """A database of the server, accessed through `connection`."""

    def __init__(self, connection: DatabaseWrapper, name: str) -> None:
        self.connection = connection
        self.name = name
        self.quoted = quote(name)

    def run(self, sql: str) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(sql)

    def fetch(self, sql: str, params: Any = None) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, params)
            return list(cursor.fetchall())

    def full_name(self, table: str) -> str:
        return TableName(table, self.name).sql

    def _collation(self) -> list[tuple[Any, ...]]:
        return self.fetch(
            "SELECT default_character_set_name, default_collation_name "
            "FROM information_schema.schemata WHERE schema_name = %s",
            [self.name],
        )

    def exists(self) -> bool:
        return bool(self._collation())

    def like(self, other: _Database) -> None:
        """Set the collation to that of another database."""
        ((character_set, collation),) = other._collation()
        if [(character_set, collation)] != self._collation():
            self.run(
                f"ALTER DATABASE {self.quoted} "
                f"CHARACTER SET {character_set} COLLATE {collation}"
            )

    def kinds(self) -> dict[str, list[str]]:
        """
        Return the names of the tables, views and sequences, as a list for each table
        type. The types are the keys, such as "BASE TABLE".
        """
        kinds: dict[str, list[str]] = {}
        for name, kind in self.fetch(f"SHOW FULL TABLES FROM {self.quoted}"):
            kinds.setdefault(kind, []).append(name)
        return kinds

    def definition(self, kind: str, name: str) -> str:
        """Return the statement that creates a view or a sequence."""
        ((_, sql, *_),) = self.fetch(f"SHOW CREATE {kind} {self.full_name(name)}")
        return str(sql)

    def table(self, name: str) -> TableDefinition:
        """
        Return the definition of a table without the name of this database, so that the
        table can be created in another database.
        """
        return read_definition(self.connection, TableName(name, self.name))

    def not_empty(self, tables: list[str]) -> list[str]:
        """Return the names of those tables that hold rows."""
        names = {self.full_name(table): table for table in tables}
        with self.connection.cursor() as cursor:
            return [
                names[name] for name in self.connection.ops.not_empty(cursor, names)
            ]

    def migrations(self, table: str) -> list[tuple[Any, ...]]:
        """Return the applied migrations."""
        return self.fetch(f"SELECT app, name FROM {self.full_name(table)} ORDER BY id")

    def copy_rows(self, source: _Database, table: str) -> None:
        """Copy the rows of a table of `source` to the table of the same name."""
        columns, key = [], []
        for column, in_key, generated in source.fetch(
            "SELECT column_name, column_key = 'PRI', generation_expression <> '' "
            "FROM information_schema.columns "
            "WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position",
            [source.name, table],
        ):
            columns += [] if generated else [in_format(quote(column))]
            key += [column] if in_key else []
        names = ", ".join(columns)
        rows, target = (
            in_format(database.full_name(table)) for database in (source, self)
        )
        for where, params in batches(source.fetch, rows, key or ["_tidb_rowid"]):
            with self.connection.cursor() as cursor:
                cursor.execute(
                    f"INSERT INTO {target} ({names}) SELECT {names} FROM {rows}{where}",
                    params,
                )
