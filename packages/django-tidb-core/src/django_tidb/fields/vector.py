"""The import paths of django-tidb's vector search; see the package."""

from __future__ import annotations

from django_tidb.plugins import import_moved

__all__ = [
    "CosineDistance",
    "L1Distance",
    "L2Distance",
    "NegativeInnerProduct",
    "VectorField",
    "VectorIndex",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_moved(f"{__name__}.{name}", "django-tidb-vector")
