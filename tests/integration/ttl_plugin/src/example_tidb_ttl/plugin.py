"""https://docs.pingcap.com/tidb/stable/time-to-live"""

from __future__ import annotations

import warnings
from contextlib import contextmanager

from django_tidb.plugins import Plugin


def has_ttl(connection, table):
    # This module needs the driver, so it cannot be imported with the plugin.
    from django_tidb.introspection import read_definition

    return read_definition(connection, table, exact=False).option("TTL") is not None


def ttl_of(model):
    """Return the column and the number of days, or None."""
    if ttl := getattr(model._meta, "tidb_ttl", None):
        name, days = ttl
        return model._meta.get_field(name).column, days
    return None


def is_expires_field(field):
    # Import this module only now, because the plugin is imported before Django can
    # import models and fields.
    from .fields import ExpiresField

    return isinstance(field, ExpiresField)


class TTLPlugin(Plugin):
    name = "ttl"
    api_version = 2
    meta_options = ("tidb_ttl", "tidb_partitions")
    database_options = ("ttl_paused",)
    default_functions = ("CURRENT_TIMESTAMP",)

    # These sets contain aliases of databases. They are attributes of the class, of
    # which there is only one instance.
    test_databases = set()
    loading = set()

    # -- Tables

    def ttl_sql(self, model, connection):
        column, days = ttl_of(model)
        return f"TTL = {connection.ops.quote_name(column)} + INTERVAL {days:d} DAY"

    def is_paused(self, connection):
        return connection.alias in self.test_databases or connection.tidb_options.get(
            "ttl_paused", False
        )

    def table_options(self, model, connection):
        if ttl_of(model):
            yield self.ttl_sql(model, connection)
            yield f"TTL_ENABLE = '{'OFF' if self.is_paused(connection) else 'ON'}'"

    def partitioning(self, model, connection):
        if not (partitions := getattr(model._meta, "tidb_partitions", None)):
            return ""
        name, count = partitions
        column = connection.ops.quote_name(model._meta.get_field(name).column)
        return f"PARTITION BY KEY ({column}) PARTITIONS {count:d}"

    def clustering(self, model, connection):
        if getattr(model._meta, "tidb_partitions", None):
            return "NONCLUSTERED GLOBAL"
        return ""

    def unique_suffix(self, model, connection):
        return "GLOBAL" if getattr(model._meta, "tidb_partitions", None) else ""

    def alter_table_options(self, schema_editor, old_model, new_model):
        if ttl_of(old_model) == ttl_of(new_model):
            return
        table = schema_editor.quote_name(new_model._meta.db_table)
        change = (
            self.ttl_sql(new_model, schema_editor.connection)
            if ttl_of(new_model)
            else "REMOVE TTL"
        )
        schema_editor.execute(f"ALTER TABLE {table} {change}")

    def check_altered_options(self, old_state, new_state):
        old, new = (state.options.get("tidb_ttl") for state in (old_state, new_state))
        if new and (not old or new[1] < old[1]):
            warnings.warn(
                f"{new_state.name}: rows will be deleted after {new[1]} days.",
                RuntimeWarning,
                stacklevel=2,
            )

    def check_foreign_key(self, field, schema_editor):
        from django.db import NotSupportedError

        if ttl_of(field.remote_field.model):
            raise NotSupportedError(
                f"The foreign key {field} refers to a table with a TTL: error 8152."
            )

    @contextmanager
    def rebuilding(self, schema_editor, table):
        connection = schema_editor.connection
        expires = has_ttl(connection, table)
        quoted = schema_editor.quote_name(table)
        if expires:
            schema_editor.execute(f"ALTER TABLE {quoted} TTL_ENABLE = 'OFF'")
        yield
        if expires and not self.is_paused(connection):
            schema_editor.execute(f"ALTER TABLE {quoted} TTL_ENABLE = 'ON'")

    # -- Columns

    def takes_default(self, field, connection):
        return not is_expires_field(field)

    def add_field(self, schema_editor, model, field):
        # ADD COLUMN would give existing rows the zero date, so they would expire at
        # once.
        if not is_expires_field(field) or field.null:
            return False
        schema_editor.add_nullable_field(model, field)
        return True

    def alter_field(self, schema_editor, model, old_field, new_field):
        from django.db import NotSupportedError

        if is_expires_field(old_field) and new_field.get_internal_type() != (
            "DateTimeField"
        ):
            raise NotSupportedError(f"{new_field} has to stay a date: error 8148.")
        return False

    def introspect_column(self, column, connection):
        from .fields import COMMENT

        if column.column_type.startswith("datetime") and column.comment == COMMENT:
            return "example_tidb_ttl.fields.ExpiresField", {}
        return None

    # -- Rows

    def check_write(self, query, connection):
        from django.db.models.sql import InsertQuery
        from django.utils import timezone

        if not isinstance(query, InsertQuery) or connection.alias in self.loading:
            return
        for field in filter(is_expires_field, query.fields):
            for obj in query.objs:
                value = getattr(obj, field.attname)
                if value is not None and value < timezone.now():
                    raise ValueError(f"{field} is {value}, which is past.")

    @contextmanager
    def loading_fixtures(self, connection):
        self.loading.add(connection.alias)
        try:
            yield
        finally:
            self.loading.discard(connection.alias)

    # -- Projects

    def set_up_test_database(self, connection):
        self.test_databases.add(connection.alias)

    def known_issues(self):
        from django_tidb.known_issues import KnownIssue

        yield KnownIssue(
            "ttl-time-zone",
            "A TTL reads DATETIME in the global time zone of the cluster.",
            "https://docs.pingcap.com/tidb/stable/time-to-live",
            "The check example_ttl.W001 compares the time zones.",
            since=(6, 5),
        )

    def check_database(self, connection):
        from django.core.checks import Warning

        with connection.cursor() as cursor:
            cursor.execute("SELECT @@global.time_zone")
            (zone,) = cursor.fetchone()
        if zone != connection.timezone_name:
            yield Warning(
                f"The global time zone is {zone}, not {connection.timezone_name}.",
                id="example_ttl.W001",
            )

    def report(self, connection):
        tables = connection.introspection.table_names()
        return {"TTL": [{"table": t} for t in tables if has_ttl(connection, t)]}

    def add_subcommands(self, subparsers):
        parser = subparsers.add_parser("ttl", help="List the tables with a TTL.")
        parser.add_argument("--count", action="store_true")
        parser.set_defaults(subcommand=self.list_tables)

    def list_tables(self, command, **options):
        from django.db import connection

        tables = [row["table"] for row in self.report(connection)["TTL"]]
        command.stdout.write(str(len(tables)) if options["count"] else " ".join(tables))


plugin = TTLPlugin()
