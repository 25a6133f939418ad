"""
Vectors as TiDB writes them: the text ``[1,2.5,-3]``, single precision.

https://docs.pingcap.com/tidb/stable/vector-search-data-types
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

__all__ = ["Vector", "decode", "encode", "to_vector"]

#: An array of one dimension and dtype float32.
Vector = npt.NDArray[np.float32]


def to_vector(value: Any, dimensions: int | None = None) -> Vector:
    """
    Return `value`, a sequence or an array of numbers, as a float32 array of
    one dimension. An array that is one already is returned as it is.

    Raises ValueError, saying which element is wrong, unless `value` has one
    dimension, at least one element (exactly `dimensions`, if given), and all
    elements are numbers that are finite in single precision.
    """
    array = np.asarray(value) if not isinstance(value, str | bytes) else None
    if array is None or array.dtype.kind not in "iuf":
        raise ValueError(f"{_shorten(value)} is not a sequence of real numbers")
    if array.ndim != 1:
        raise ValueError(
            f"an array of shape {array.shape} is not a vector; it must have one "
            "dimension"
        )
    if dimensions is None and not array.size:
        raise ValueError("a vector must have at least one dimension")
    if dimensions is not None and array.size != dimensions:
        raise ValueError(f"expected {dimensions} dimensions, not {array.size}")
    with np.errstate(over="ignore"):
        vector = array.astype(np.float32, copy=False)
    if not np.isfinite(vector).all():
        index = int(np.flatnonzero(~np.isfinite(vector))[0])
        raise ValueError(
            f"element {index} is {array[index]}, which is not a finite number in "
            "single precision"
        )
    return vector


def encode(value: Any, dimensions: int | None = None) -> str:
    """
    Return `value` as TiDB's text, each number with the fewest digits that
    give the same float32 again. Raises ValueError as :func:`to_vector` does.
    """
    vector = np.ascontiguousarray(to_vector(value, dimensions))
    return orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def decode(text: str | bytes) -> Vector:
    """
    Return TiDB's text as an array of dtype float32.

    Raises ValueError if `text` is not a list of numbers.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, list):
        raise ValueError(f"{_shorten(text)} is not a vector, as in [1, 2.5, -3]")
    return to_vector(value)


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
