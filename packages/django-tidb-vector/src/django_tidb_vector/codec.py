"""
Conversion of vectors from and to TiDB's format, a text such as ``[1,2.5,-3]``,
in single precision.

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
except ImportError:  # simdjson has no wheels for some platforms
    simdjson = None  # type: ignore[assignment]

__all__ = [
    "Vector",
    "as_text",
    "decode",
    "encode",
    "numbers",
    "parse",
    "preview",
    "to_vector",
]

#: An array of one dimension and dtype float32.
Vector = npt.NDArray[np.float32]

#: The largest number of dimensions that TiDB accepts.
MAX_DIMENSIONS = 16383

_NUMBERS = (Real, Decimal)
_BOOLEANS = (bool, np.bool_)

# The shortest text of this float32 is not read as this float32. TiDB and Python first
# parse the text as a double. This double lies exactly halfway between this float32 and
# the next one, and is then rounded to the other float32. Only this number and its
# negative have this property.
_ODD = np.uint32(0x15AE43FD).view(np.float32)
_ODD_TEXT, _ODD_LONGER_TEXT = "7.038531e-26", "7.0385307e-26"
# The digits of this number in the server's text, which has no exponents.
_ODD_DIGITS = "00000000007038531"
_ODD_DOUBLE = float(_ODD_TEXT)
# The server's text of this number, and of all smaller numbers, begins with this prefix.
_TINY = "0." + 25 * "0"
_LARGEST = float(np.finfo(np.float32).max)

# simdjson is faster than orjson for texts of at least _LONG characters. Below
# _FEW elements, numpy is faster than struct.
_LONG = 600
_FEW = 16

# struct raises OverflowError for integers of more than 1024 bits.
_TOO_LARGE = (OverflowError, struct.error)


class _Local(threading.local):
    """
    A simdjson parser for each thread. A parser keeps its buffer, which has
    about 15 times the size of the longest text. With a new parser for each
    text, the operating system would have to clear that memory each time.
    """

    def __init__(self) -> None:
        self.parser: Any = None if simdjson is None else simdjson.Parser()


_local = _Local()


def as_text(value: Any) -> str | bytes | None:
    """
    Return a str or bytes unchanged, bytearray and memoryview of bytes as bytes, and
    None for every other value.
    """
    if isinstance(value, str | bytes):
        return value
    if isinstance(value, bytearray) or (
        isinstance(value, memoryview) and value.format.lstrip("@=<>!") in ("B", "c")
    ):
        return bytes(value)
    return None


def to_vector(value: Any, dimensions: int | None = None) -> Vector:
    """
    Return `value` as a float32 array of one dimension. `value` may be a list or tuple
    of numbers, a numeric array of numpy, array.array, or an object that
    ``numpy.asarray`` converts to such an array, as from PyTorch and pandas. A float32
    array of one dimension is returned unchanged.

    Raises ValueError, naming the wrong element, unless `value` has one dimension, 1 to
    16383 elements (exactly `dimensions`, if given), and all elements are numbers that
    are finite in single precision. Booleans are not numbers.
    """
    if isinstance(value, list | tuple):
        array = _from_numbers(value)
    elif (text := as_text(value)) is not None:
        # numpy would treat each byte as a number.
        raise ValueError(f"{_shorten(text)} is not a sequence of real numbers")
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
        # The message includes the object's own error, such as that of a tensor on
        # another device.
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
    # struct is about four times as fast as numpy's conversion of a list. Both are
    # equally exact: they round Python's double once. Integers above 2**53 are first
    # rounded to a double.
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
    Return `value` as TiDB's text. Each number has the fewest digits from which
    the server reads the same float32.

    Raises the same ValueErrors as :func:`to_vector`.
    """
    vector = np.ascontiguousarray(to_vector(value, dimensions))
    text = orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    # The text _ODD_TEXT contains an exponent, and is not part of the text of any other
    # number. Exponents are rare, and searching for "e" is about thirty times as fast as
    # searching for the whole text.
    if "e" in text and _ODD_TEXT in text:
        text = text.replace(_ODD_TEXT, _ODD_LONGER_TEXT)
    return text


def decode(text: str | bytes) -> Vector:
    """
    Return TiDB's text as a writable array of dtype float32.

    Raises ValueError if `text` is not a list of numbers that are finite in
    single precision.
    """
    if isinstance(text, bytes):
        # The drivers return str. Bytes may have any encoding, because every non-ASCII
        # character is an error below.
        text = text.decode("latin-1")
    if len(text) >= _LONG and (vector := _decode_long(text)) is not None:
        return vector
    try:
        value = orjson.loads(text)
        if type(value) is list and value:
            if "e" in text and bool in map(type, value):
                raise TypeError  # JSON booleans would become numbers
            if "-0," in text or "-0]" in text:
                # JSON reads -0 as an integer, which has no negative zero.
                value = [float(number) for number in text.strip()[1:-1].split(",")]
            # numpy is faster for a few elements. However, it accepts texts and None, to
            # which hypot() raises an error, and it turns too large numbers into
            # infinity.
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
    """
    Return the result of decode(), or None if `text` needs the slower general
    code.
    """
    # simdjson would flatten nested lists, so only texts with one opening bracket are
    # parsed.
    if simdjson is None or text.rfind("[") != 0:
        return None
    try:
        buffer = _local.parser.parse(text).as_buffer(of_type="d")
    except (RuntimeError, TypeError, ValueError):
        # simdjson also raises an error for integers of more than 64 bits, and if the
        # parser is already in use, for example because a signal handler has interrupted
        # it.
        return None
    doubles = np.frombuffer(buffer)
    if not doubles.size:
        return None
    sizes = np.abs(doubles)
    if sizes.max() > _LARGEST:
        return None
    # The text is searched only if a number is small enough, because searching takes
    # long and most vectors have no such numbers.
    if sizes.min() <= _ODD_DOUBLE and ("-0," in text or "-0]" in text or _TINY in text):
        return None
    return doubles.astype(np.float32)


def parse(text: str | bytes, dimensions: int | None = None) -> Vector:
    """
    Parse a vector from user input or from a file.

    Raises the ValueError of :func:`to_vector`, which names the wrong element.
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
    Return `value` as a list of Python floats with few digits, such as 0.1. In contrast,
    ``tolist()`` of a float32 array returns 0.10000000149011612.
    """
    found: list[float] = orjson.loads(encode(value))
    return found


def preview(value: Any) -> str:
    """
    Return a short description of a vector for display: its first elements and
    its size.
    """
    vector = to_vector(value)
    first = ", ".join(f"{number:.4g}" for number in vector[:3])
    more = ", …" if vector.size > 3 else ""
    unit = "dimension" if vector.size == 1 else "dimensions"
    return f"[{first}{more}] ({vector.size} {unit})"


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
