"""TiDB's AUTO_RANDOM primary keys and AUTO_ID_CACHE for Django."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .explicit import allow_explicit_ids
    from .fields import BigAutoRandomField

__all__ = ["BigAutoRandomField", "__version__", "allow_explicit_ids"]

__version__ = "0.2.0"

_MODULES = {
    "BigAutoRandomField": "fields",
    "allow_explicit_ids": "explicit",
}


def __getattr__(name: str) -> object:
    # The engine loads this package for its plugin before Django's models can
    # be imported.
    if name in _MODULES:
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
