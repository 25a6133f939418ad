"""Vector indexes: https://docs.pingcap.com/tidb/stable/vector-search-index"""

from __future__ import annotations

from typing import Any

from django.db.backends.ddl_references import Statement, Table
from django.db.models import Index, Model

__all__ = ["VectorIndex"]


class VectorIndex(Index):
    """
    An index for the nearest neighbours by one distance function, as in
    ``VectorIndex(CosineDistance("embedding"), name="doc_embedding")``.

    The index lives on a TiFlash node; before it is made, the table gets a
    TiFlash replica. Needs TiDB 8.4 or later.
    """

    def __init__(self, *expressions: Any, name: str) -> None:
        super().__init__(*expressions, name=name)

    def create_sql(
        self, model: type[Model], schema_editor: Any, using: str = "", **kwargs: Any
    ) -> Statement:
        statement = super().create_sql(
            model,
            schema_editor,
            using,
            sql="CREATE VECTOR INDEX %(name)s ON %(table)s (%(columns)s) USING HNSW",
            **kwargs,
        )
        statement.prerequisites = [
            Statement(
                "ALTER TABLE %(table)s SET TIFLASH REPLICA 1",
                table=Table(model._meta.db_table, schema_editor.quote_name),
            )
        ]
        return statement
