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
    # The database engine imports this package to load its plugin, before Django can
    # import models. The names below are therefore imported on first use.
    if name in _MODULES:
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
