"""TiDB's AUTO_RANDOM primary keys and AUTO_ID_CACHE for Django."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .fields import BigAutoRandomField

__all__ = ["BigAutoRandomField", "__version__"]

__version__ = "0.2.0"


def __getattr__(name: str) -> object:
    # The engine loads this package for its plugin before Django's models can
    # be imported.
    if name == "BigAutoRandomField":
        from .fields import BigAutoRandomField

        return BigAutoRandomField
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
