"""TiDB's VECTOR columns, distances and vector search for Django."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .fields import VectorField
    from .functions import (
        CosineDistance,
        L1Distance,
        L2Distance,
        NegativeInnerProduct,
        VectorAsText,
        VectorDims,
        VectorFromText,
        VectorNorm,
        VectorValue,
    )
    from .indexes import VectorIndex
    from .query import VectorManager, VectorQuerySet

__all__ = [
    "CosineDistance",
    "L1Distance",
    "L2Distance",
    "NegativeInnerProduct",
    "VectorAsText",
    "VectorDims",
    "VectorField",
    "VectorFromText",
    "VectorIndex",
    "VectorManager",
    "VectorNorm",
    "VectorQuerySet",
    "VectorValue",
    "__version__",
]

__version__ = "0.1.0"

_MODULES = {
    "CosineDistance": "functions",
    "L1Distance": "functions",
    "L2Distance": "functions",
    "NegativeInnerProduct": "functions",
    "VectorAsText": "functions",
    "VectorDims": "functions",
    # VectorField is imported with its lookups, which are in functions.py.
    "VectorField": "functions",
    "VectorFromText": "functions",
    "VectorIndex": "indexes",
    "VectorManager": "query",
    "VectorNorm": "functions",
    "VectorQuerySet": "query",
    "VectorValue": "functions",
}


def __getattr__(name: str) -> object:
    # The database engine imports this package to load its plugin, without numpy and
    # before Django can import models. The names are therefore imported on first use.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
