"""TiDB's AUTO_RANDOM primary keys and AUTO_ID_CACHE for Django."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .capacity import IdUsage, id_usage
    from .explicit import allow_explicit_ids
    from .fields import BigAutoRandomField

__all__ = [
    "BigAutoRandomField",
    "IdUsage",
    "__version__",
    "allow_explicit_ids",
    "id_usage",
]

__version__ = "0.2.0"

_MODULES = {
    "BigAutoRandomField": "fields",
    "IdUsage": "capacity",
    "allow_explicit_ids": "explicit",
    "id_usage": "capacity",
}


def __getattr__(name: str) -> object:
    # The engine loads this package for its plugin before Django's models can
    # be imported.
    if name in _MODULES:
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
