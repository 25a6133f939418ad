"""Vector indexes: https://docs.pingcap.com/tidb/stable/vector-search-index"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.core import checks
from django.db import DEFAULT_DB_ALIAS, DatabaseError, NotSupportedError, connections
from django.db.backends.ddl_references import Statement, Table
from django.db.models import F, Index, Model

from django_tidb.names import TableName
from django_tidb.statements import IndexStatement

from .fields import VectorField
from .functions import CosineDistance, Distance, L2Distance

if TYPE_CHECKING:
    from django_tidb.base import DatabaseWrapper
    from django_tidb.schema import DatabaseSchemaEditor

__all__ = ["IndexStatus", "VectorIndex"]

#: The option in DATABASES[...]["OPTIONS"] for servers without TiFlash.
SKIP_OPTION = "skip_vector_indexes_without_tiflash"

# The distances for which TiDB supports vector indexes.
METRICS = (L2Distance, CosineDistance)


@dataclass(frozen=True)
class IndexStatus:
    """
    The number of rows that are in a vector index, and of rows that are not in
    it yet.
    """

    indexed: int
    not_indexed: int


class VectorIndex(Index):
    """
    An index for the nearest neighbours by one distance function:
    ``VectorIndex(CosineDistance("embedding"), name="doc_embedding")``, or
    equivalently ``VectorIndex(fields=["embedding"], metric=CosineDistance,
    …)``. The column needs fixed `dimensions`, and the distance is L2Distance or
    CosineDistance. Needs TiDB 8.4 or later with a TiFlash node.

    The index is stored in a TiFlash replica of the table. A new or empty table
    without a replica gets one. Creating the first replica of a table with rows
    copies all of them, so it has to be requested: `tiflash_replicas` is the
    number of replicas that the table gets if it has fewer.

    Raises TypeError or ValueError unless the index is about one distance of one
    column.
    """

    # The checks of VectorField look for this attribute.
    is_vector_index = True

    def __init__(
        self,
        *expressions: Any,
        name: str,
        fields: Iterable[str] = (),
        metric: type[Distance] | None = None,
        tiflash_replicas: int | None = None,
    ) -> None:
        if fields:
            if expressions or metric is None:
                raise TypeError(
                    f"VectorIndex {name!r} needs a distance, or fields and a metric."
                )
            expressions = tuple(metric(field) for field in fields)
        elif metric is not None:
            raise TypeError(f"VectorIndex {name!r} has a metric, but no fields.")
        if len(expressions) != 1:
            raise ValueError(
                f"VectorIndex {name!r} is about {len(expressions)} expressions; it "
                "must be one distance of one column."
            )
        if tiflash_replicas is not None and (
            type(tiflash_replicas) is not int or tiflash_replicas < 1
        ):
            raise ValueError(
                f"VectorIndex {name!r} has tiflash_replicas={tiflash_replicas!r}; it "
                "must be None or an integer of 1 or more."
            )
        self.tiflash_replicas = tiflash_replicas
        super().__init__(*expressions, name=name)

    def deconstruct(self) -> tuple[str, Any, dict[str, Any]]:
        _, expressions, kwargs = super().deconstruct()
        if self.tiflash_replicas is not None:
            kwargs["tiflash_replicas"] = self.tiflash_replicas
        return "django_tidb_vector.VectorIndex", expressions, kwargs

    # -- Checks

    @property
    def column(self) -> str | None:
        """The name of the field, or None if the expression is not a field."""
        (distance,) = self.expressions
        sources = distance.get_source_expressions()
        if len(sources) == 1 and isinstance(sources[0], F):
            return sources[0].name
        return None

    def check_model(self, model: type[Model]) -> Iterator[checks.CheckMessage]:
        """Yield a message for each problem of the index on `model`."""
        (distance,) = self.expressions
        if type(distance) not in METRICS:
            yield checks.Error(
                f"The VectorIndex {self.name!r} is about {type(distance).__name__}; "
                "TiDB has indexes for L2Distance and CosineDistance.",
                obj=model,
                id="tidb_vector.E006",
            )
            return
        field = next((f for f in model._meta.fields if f.name == self.column), None)
        if not isinstance(field, VectorField) or field.dimensions is None:
            what = (
                "is not the name of a field"
                if field is None
                else "has no fixed number of dimensions"
                if isinstance(field, VectorField)
                else f"is a {type(field).__name__}"
            )
            yield checks.Error(
                f"The VectorIndex {self.name!r} is about {self.column or distance!r}, "
                f"which {what}.",
                hint="It must be a VectorField with dimensions of this model.",
                obj=model,
                id="tidb_vector.E007",
            )
        twins = [
            index.name
            for index in model._meta.indexes
            if isinstance(index, VectorIndex)
            and index.expressions == self.expressions
            and index.name < self.name
        ]
        if twins:
            yield checks.Error(
                f"The VectorIndexes {twins[0]!r} and {self.name!r} are about the same "
                "distance of the same column; TiDB has one at most.",
                obj=model,
                id="tidb_vector.E008",
            )

    # -- SQL

    def create_sql(
        self,
        model: type[Model],
        schema_editor: DatabaseSchemaEditor,
        using: str = "",
        **kwargs: Any,
    ) -> Statement | None:
        """
        Return CREATE VECTOR INDEX with its prerequisites and its form inside
        CREATE TABLE.

        Returns None, with a warning, if the cluster has no TiFlash node and
        OPTIONS["skip_vector_indexes_without_tiflash"] is True. Raises
        ``NotSupportedError`` if there is no TiFlash node otherwise, or if the
        table has rows, but no TiFlash replica.
        """
        # The output of sqlmigrate may be intended for another cluster.
        if not (schema_editor.collect_sql or _has_tiflash(schema_editor.connection)):
            message = (
                f"The index {self.name!r} of {model._meta.label} needs a TiFlash node, "
                f"and the cluster of database {schema_editor.connection.alias!r} has "
                "none."
            )
            if schema_editor.connection.tidb_options.get(SKIP_OPTION):
                warnings.warn(f"Left out: {message}", RuntimeWarning, stacklevel=2)
                return None
            raise NotSupportedError(
                f"{message} Add one, or leave vector indexes out there with OPTIONS = "
                f"{{{SKIP_OPTION!r}: True}}: searches work without, but read all rows."
            )
        statement = super().create_sql(
            model,
            schema_editor,
            using,
            sql="CREATE VECTOR INDEX %(name)s ON %(table)s (%(columns)s) USING HNSW",
            **kwargs,
        )
        # The server creates one replica for a new table.
        inline = (
            "VECTOR INDEX %(name)s (%(columns)s) USING HNSW"
            if self.tiflash_replicas in (None, 1)
            else None
        )
        return IndexStatement(
            statement.template,
            inline=inline,
            prerequisites=self._replica_sql(model, schema_editor),
            **statement.parts,
        )

    def _replica_sql(
        self, model: type[Model], schema_editor: DatabaseSchemaEditor
    ) -> list[Statement]:
        table = model._meta.db_table
        wanted = self.tiflash_replicas or 1
        connection = schema_editor.connection
        if not schema_editor.collect_sql:
            condition, params = _is_table("table_schema", "table_name", table)
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT replica_count FROM information_schema.tiflash_replica "
                    f"WHERE {condition}",
                    params,
                )
                count = (cursor.fetchone() or (0,))[0]
                if count >= wanted:
                    return []
                if self.tiflash_replicas is None and _has_rows(connection, table):
                    raise NotSupportedError(
                        f"The index {self.name!r} needs a TiFlash replica of the table "
                        f"{table!r}, which has rows, but no replica: all of them would "
                        "be copied. Ask for that with tiflash_replicas=1, or run ALTER "
                        f"TABLE {connection.ops.quote_name(table)} SET TIFLASH REPLICA "
                        "1 first."
                    )
        return [
            Statement(
                f"ALTER TABLE %(table)s SET TIFLASH REPLICA {wanted:d}",
                table=Table(table, schema_editor.quote_name),
            )
        ]

    def remove_sql(
        self, model: type[Model], schema_editor: DatabaseSchemaEditor, **kwargs: Any
    ) -> Statement:
        statement = super().remove_sql(model, schema_editor, **kwargs)
        if schema_editor.connection.tidb_options.get(SKIP_OPTION):
            # DROP INDEX needs IF EXISTS, because the index does not exist if its
            # creation was skipped.
            return Statement(
                "DROP INDEX IF EXISTS %(name)s ON %(table)s", **statement.parts
            )
        return statement

    # -- Status

    def status(
        self, model: type[Model], *, using: str = DEFAULT_DB_ALIAS
    ) -> IndexStatus | None:
        """
        Return the number of rows in the index and outside of it, or None if TiFlash
        does not list the index yet.
        """
        condition, params = _is_table(
            "tidb_database", "tidb_table", model._meta.db_table
        )
        with connections[using].cursor() as cursor:
            cursor.execute(
                "SELECT SUM(rows_stable_indexed), SUM(rows_stable_not_indexed) "
                "FROM information_schema.tiflash_indexes "
                f"WHERE {condition} AND index_name = %s",
                [*params, self.name],
            )
            indexed, not_indexed = cursor.fetchone()
        if indexed is None:
            return None
        return IndexStatus(int(indexed), int(not_indexed))

    def wait_until_built(
        self,
        model: type[Model],
        *,
        using: str = DEFAULT_DB_ALIAS,
        timeout: float = 600,
        interval: float = 1,
    ) -> IndexStatus:
        """
        Wait until all stable rows are in the index, and return its status. The
        index is looked up every `interval` seconds. Rows of the last minutes
        may be missing from it, and searches read them from the table.

        Raises TimeoutError after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            status = self.status(model, using=using)
            if status is not None and not status.not_indexed:
                return status
            if time.monotonic() >= deadline:
                raise TimeoutError(
                    f"The index {self.name!r} of {model._meta.label} is not built "
                    f"after {timeout} s: {status or 'TiFlash does not know it'}."
                )
            time.sleep(interval)


def has_index(
    model: type[Model], using: str, column: str, metric: type[Distance]
) -> bool:
    """Return whether the database has an index of the model that a search can use."""
    return not getattr(connections[using], "tidb_options", {}).get(SKIP_OPTION) and any(
        isinstance(index, VectorIndex)
        and index.column == column
        and type(index.expressions[0]) is metric
        for index in model._meta.indexes
    )


def _is_table(
    schema_column: str, name_column: str, table: str
) -> tuple[str, list[str]]:
    """
    Return a condition for a query on information_schema, and the parameters of the
    condition. The condition selects the rows about `table`, a name as in
    ``Meta.db_table``, by the columns that contain the names of the database and the
    table.
    """
    name = TableName.of(table)
    if not name.database:
        return (
            f"{schema_column} = DATABASE() AND LOWER({name_column}) = LOWER(%s)",
            [name.name],
        )
    return (
        f"LOWER({schema_column}) = LOWER(%s) AND LOWER({name_column}) = LOWER(%s)",
        [name.database, name.name],
    )


def _has_tiflash(connection: DatabaseWrapper) -> bool:
    with connection.cursor() as cursor:
        try:
            cursor.execute(
                "SELECT SUM(type = 'tiflash'), SUM(type = 'tikv') "
                "FROM information_schema.cluster_info"
            )
        except DatabaseError:
            # TiDB Cloud does not list its nodes, and other clusters list them only with
            # the privilege PROCESS. If the nodes are unknown, the statement is sent,
            # and the server decides.
            return True
        tiflash, tikv = cursor.fetchone()
    return bool(tiflash) or not tikv


def _has_rows(connection: DatabaseWrapper, table: str) -> bool:
    if not connection.introspection.existing([table]):
        return False
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT 1 FROM {connection.ops.quote_name(table)} LIMIT 1")
        return cursor.fetchone() is not None


def check_indexes(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check the vector indexes of the apps' models."""
    from django.apps import apps

    configs = apps.get_app_configs() if app_configs is None else app_configs
    return [
        error
        for config in configs
        for model in config.get_models()
        for index in model._meta.indexes
        if isinstance(index, VectorIndex)
        for error in index.check_model(model)
    ]
