"""What this distribution adds to the backend; see django_tidb.plugins."""

from __future__ import annotations

from django_tidb.plugins import Plugin

plugin = Plugin(
    name="vector",
    api_version=1,
    moved={
        f"django_tidb.fields.vector.{name}": f"django_tidb_vector.{name}"
        for name in (
            "CosineDistance",
            "L1Distance",
            "L2Distance",
            "NegativeInnerProduct",
            "VectorField",
            "VectorIndex",
        )
    },
)
