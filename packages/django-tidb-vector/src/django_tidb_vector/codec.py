"""
Vectors as TiDB writes them: the text ``[1,2.5,-3]``, single precision.

https://docs.pingcap.com/tidb/stable/vector-search-data-types
"""

from __future__ import annotations

import functools
import math
import struct
import threading
from collections.abc import Callable, Sequence
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

try:
    import simdjson
except ImportError:  # where there are no wheels of it
    simdjson = None  # type: ignore[assignment]

__all__ = ["Vector", "decode", "encode", "numbers", "parse", "preview", "to_vector"]

#: An array of one dimension and dtype float32.
Vector = npt.NDArray[np.float32]

#: The server's limit.
MAX_DIMENSIONS = 16383

_NUMBERS = (Real, Decimal)
_BOOLEANS = (bool, np.bool_)

# The one magnitude whose shortest text is wrong for readers that parse a
# double first, as TiDB and Python do: it lies exactly between this number and
# the next one of single precision, and is rounded away.
_ODD = np.uint32(0x15AE43FD).view(np.float32)
_ODD_TEXT, _ODD_LONGER_TEXT = "7.038531e-26", "7.0385307e-26"
# The server writes no exponents.
_ODD_DIGITS = "00000000007038531"
_ODD_DOUBLE = float(_ODD_TEXT)
# The server's text of this number and of all smaller ones.
_TINY = "0." + 25 * "0"
_LARGEST = float(np.finfo(np.float32).max)

# From this number of characters on, simdjson is faster than orjson; below this
# number of elements, numpy is.
_LONG = 600
_FEW = 16

# struct raises OverflowError for integers of more than 1024 bits.
_TOO_LARGE = (OverflowError, struct.error)


class _Local(threading.local):
    """
    A parser for each thread. It keeps its memory, some 15 times the longest
    text; a new parser for each text would make the system clear that memory
    again.
    """

    def __init__(self) -> None:
        self.parser: Any = None if simdjson is None else simdjson.Parser()


_local = _Local()


def to_vector(value: Any, dimensions: int | None = None) -> Vector:
    """
    Return `value` as a float32 array of one dimension: a list or tuple of
    numbers, a numeric array of numpy, array.array, or an object that
    ``numpy.asarray`` makes such an array of, as those of PyTorch and pandas.
    An array that is one already is returned as it is.

    Raises ValueError, saying which element is wrong, unless `value` has one
    dimension, 1 to 16383 elements (exactly `dimensions`, if given), and all
    elements are numbers that are finite in single precision. Truth values are
    not numbers.
    """
    if isinstance(value, list | tuple):
        array = _from_numbers(value)
    elif isinstance(value, str | bytes):
        raise ValueError(f"{_shorten(value)} is not a sequence of real numbers")
    else:
        array = _from_array(value)
    if array.ndim == 1 and not array.size:
        # The dtype of an empty array carries no information.
        raise ValueError("a vector must have at least one dimension")
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{_shorten(value)} is not a sequence of real numbers")
    if array.ndim != 1:
        raise ValueError(
            f"an array of shape {array.shape} is not a vector; it must have one "
            "dimension"
        )
    if dimensions is not None and array.size != dimensions:
        raise ValueError(f"expected {dimensions} dimensions, not {array.size}")
    if array.size > MAX_DIMENSIONS:
        raise ValueError(f"a vector has at most {MAX_DIMENSIONS} dimensions")
    vector = array
    if array.dtype != np.float32:
        # Values beyond single precision become infinite here, and are refused below.
        with np.errstate(over="ignore"):
            vector = array.astype(np.float32)
    finite = np.isfinite(vector)
    if not finite.all():
        index = int(np.argmin(finite))
        element = value[index] if isinstance(value, list | tuple) else array[index]
        raise _not_finite(index, element)
    return vector


def _from_array(value: Any) -> npt.NDArray[Any]:
    if type(value) is np.ndarray:
        return value
    if np.ma.is_masked(value):
        raise ValueError(f"{_shorten(value)} has masked elements")
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        # The message is the object's own, such as that of a tensor on another device.
        raise ValueError(f"no array can be made of it: {error}") from error


def _from_numbers(value: Sequence[Any]) -> Vector:
    # numpy would convert booleans and texts to numbers, and nested lists to matrices.
    for kind in set(map(type, value)):
        if kind in _BOOLEANS or not issubclass(kind, _NUMBERS):
            index = next(i for i, element in enumerate(value) if type(element) is kind)
            raise ValueError(
                f"element {index} is {_shorten(value[index])}, which is not a real "
                "number"
            )
    try:
        return _pack(value)
    except _TOO_LARGE:
        for index, element in enumerate(value):
            try:
                _pack([element])
            except _TOO_LARGE:
                raise _not_finite(index, element) from None
        raise


def _pack(value: Sequence[Any]) -> Vector:
    # This is some four times as fast as numpy's conversion of a list, and as exact:
    # both round Python's double once. Integers beyond 2**53 become a double first.
    vector = np.empty(len(value), np.float32)
    _packer(len(value))(vector, 0, *value)
    return vector


@functools.lru_cache(maxsize=64)
def _packer(size: int) -> Callable[..., None]:
    return struct.Struct(f"={size}f").pack_into


def _not_finite(index: int, element: object) -> ValueError:
    return ValueError(
        f"element {index} is {_shorten(element)}, which is not a finite number in "
        "single precision"
    )


def encode(value: Any, dimensions: int | None = None) -> str:
    """
    Return `value` as TiDB's text, each number with the fewest digits that
    give the same float32 again on the server. Raises ValueError as
    :func:`to_vector` does.
    """
    vector = np.ascontiguousarray(to_vector(value, dimensions))
    text = orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    # No other number contains this text. Exponents are rare, and searching for a single
    # character is some thirty times as fast.
    if "e" in text and _ODD_TEXT in text:
        text = text.replace(_ODD_TEXT, _ODD_LONGER_TEXT)
    return text


def decode(text: str | bytes) -> Vector:
    """
    Return TiDB's text as an array of dtype float32, which can be written to.

    Raises ValueError if `text` is not a list of numbers that are finite in
    single precision.
    """
    if isinstance(text, bytes):
        # The drivers return str. Anything but ASCII is refused, in any encoding.
        text = text.decode("latin-1")
    if len(text) >= _LONG and (vector := _decode_long(text)) is not None:
        return vector
    try:
        value = orjson.loads(text)
        if type(value) is list and value:
            if "e" in text and bool in map(type, value):
                raise TypeError  # JSON booleans would become numbers
            if "-0," in text or "-0]" in text:
                # JSON reads this as an integer, which has no negative zero.
                value = [float(number) for number in text.strip()[1:-1].split(",")]
            # numpy is faster for a few elements, but accepts texts and None and
            # overflows; hypot() does not.
            if len(value) < _FEW and math.hypot(*value) < _LARGEST:
                vector = np.array(value, np.float32)
            else:
                vector = _pack(value)
            if _ODD_DIGITS in text:
                for index, number in enumerate(value):
                    if abs(number) == _ODD_DOUBLE:
                        vector[index] = np.copysign(_ODD, number)
            return vector
    except (TypeError, ValueError, *_TOO_LARGE):
        pass
    raise ValueError(f"{_shorten(text)} is not a vector, as in [1, 2.5, -3]")


def _decode_long(text: str) -> Vector | None:
    """Return the result of decode(), or None if anything about `text` is unusual."""
    # simdjson flattens nested lists.
    if simdjson is None or text.rfind("[") != 0:
        return None
    try:
        buffer = _local.parser.parse(text).as_buffer(of_type="d")
    except (RuntimeError, TypeError, ValueError):
        # Integers of more than 64 bits raise too, and so does a parser that is in use,
        # which a signal handler may interrupt.
        return None
    doubles = np.frombuffer(buffer)
    if not doubles.size:
        return None
    sizes = np.abs(doubles)
    if sizes.max() > _LARGEST:
        return None
    # Searching the text takes long, and most vectors have no such numbers.
    if sizes.min() <= _ODD_DOUBLE and ("-0," in text or "-0]" in text or _TINY in text):
        return None
    return doubles.astype(np.float32)


def parse(text: str | bytes, dimensions: int | None = None) -> Vector:
    """
    Parse a vector that a person or a file has written. Raises the ValueError of
    :func:`to_vector`, which names the wrong element.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, list):
        raise ValueError(f"{_shorten(text)} is not a vector, as in [1, 2.5, -3]")
    return to_vector(value, dimensions)


def numbers(value: Any) -> list[float]:
    """
    Return `value` as a list of Python numbers with few digits: 0.1, where
    ``tolist()`` of a float32 array has 0.10000000149011612.
    """
    found: list[float] = orjson.loads(encode(value))
    return found


def preview(value: Any) -> str:
    """Return a short description of a vector for people: its beginning and size."""
    vector = to_vector(value)
    first = ", ".join(f"{number:.4g}" for number in vector[:3])
    more = ", …" if vector.size > 3 else ""
    unit = "dimension" if vector.size == 1 else "dimensions"
    return f"[{first}{more}] ({vector.size} {unit})"


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
