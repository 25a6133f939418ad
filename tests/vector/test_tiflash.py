"""Test the vector index on a cluster with TiFlash, which TIDB_HOST names."""

from __future__ import annotations

import pytest
from django.db import NotSupportedError, connections, models

from django_tidb_vector import (
    CosineDistance,
    L2Distance,
    VectorField,
    VectorIndex,
    VectorManager,
)

pytestmark = [pytest.mark.works("vector"), pytest.mark.django_db(transaction=True)]


@pytest.fixture
def connection(tidb):
    tidb.execute("SELECT type FROM information_schema.cluster_info")
    if ("tiflash",) not in tidb.fetchall():
        pytest.skip(
            "The cluster has no TiFlash: "
            "https://docs.pingcap.com/tidb/stable/vector-search-index#restrictions"
        )
    return connections["default"]


def replicas(connection, table):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT replica_count FROM information_schema.tiflash_replica "
            "WHERE table_schema = DATABASE() AND table_name = %s",
            [table],
        )
        return (cursor.fetchone() or (0,))[0]


def test_index_of_a_new_table(connection, create_tables):
    class Model(models.Model):
        embedding = VectorField(dimensions=3)

        objects = VectorManager()

        class Meta:
            indexes = [VectorIndex(CosineDistance("embedding"), name="near")]

    (index,) = Model._meta.indexes
    create_tables(Model)
    assert replicas(connection, "vector_model") == 1
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, "vector_model")
    assert found["near"]["columns"] == ["embedding"]
    assert found["near"]["type"] == "hnsw"
    Model.objects.bulk_create(Model(embedding=[n, 1, 100 - n]) for n in range(100))
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE vector_model COMPACT")
    assert index.wait_until_built(Model).not_indexed == 0
    nearest = Model.objects.nearest("embedding", [50, 1, 50], k=3, candidates=30)
    assert "annIndex:COSINE" in nearest.explain()
    assert nearest[0].embedding.tolist() == [50, 1, 50]
    with connection.schema_editor() as editor:
        editor.remove_index(Model, index)
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, "vector_model")
    assert "near" not in found


def test_index_of_a_table_with_rows(connection, create_tables):
    class Model(models.Model):
        embedding = VectorField(dimensions=3)

    create_tables(Model)
    Model.objects.create(embedding=[1, 2, 3])
    index = VectorIndex(L2Distance("embedding"), name="near")
    with (
        pytest.raises(NotSupportedError, match="which has rows, but no replica"),
        connection.schema_editor() as editor,
    ):
        editor.add_index(Model, index)
    asked = VectorIndex(*index.expressions, name="near", tiflash_replicas=1)
    with connection.schema_editor() as editor:
        editor.add_index(Model, asked)
    assert replicas(connection, "vector_model") == 1
