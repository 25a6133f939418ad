from __future__ import annotations

import pytest
from django.db import connection


@pytest.fixture(autouse=True)
def server_with_vectors(request):
    """Tests that use the database need TiDB 8.4."""
    if request.node.get_closest_marker("django_db") or "db" in request.fixturenames:
        request.getfixturevalue("db")
        if connection.tidb_version < (8, 4):
            pytest.skip(
                f"TiDB {connection.tidb_version} has no vectors: "
                "https://docs.pingcap.com/tidb/stable/vector-search-overview"
            )
