"""The import paths of django-tidb's vector search; see the docstring of the package."""

from __future__ import annotations

from django_tidb.plugins import legacy_names

__getattr__ = legacy_names(
    __name__,
    [
        "CosineDistance",
        "L1Distance",
        "L2Distance",
        "NegativeInnerProduct",
        "VectorField",
        "VectorIndex",
    ],
    "django-tidb-vector",
)
