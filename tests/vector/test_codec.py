from __future__ import annotations

import array
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from django_tidb_vector.codec import (
    decode,
    encode,
    numbers,
    parse,
    preview,
    to_vector,
)


class WithArray:
    """Such as the tensors of PyTorch."""

    def __array__(self, dtype=None, copy=None):
        return np.array([1, 2.5, -3], dtype=dtype)


@pytest.mark.parametrize(
    "value",
    [
        [1, 2.5, -3],
        (1, 2.5, -3),
        array.array("d", [1, 2.5, -3]),
        np.array([1, 2.5, -3]),
        np.array([1, 2.5, -3], dtype=np.float16),
        np.array([[1, 0], [2.5, 0], [-3, 0]])[:, 0],
        [np.float32(1), np.float64(2.5), np.int8(-3)],
        memoryview(array.array("f", [1, 2.5, -3])),
        WithArray(),
    ],
)
def test_accepts_sequences_and_arrays(value):
    vector = to_vector(value, 3)
    assert vector.dtype == np.float32
    assert vector.tolist() == [1, 2.5, -3]
    assert encode(value) == "[1.0,2.5,-3.0]"


@given(
    st_numpy.arrays(
        np.float32,
        st.integers(1, 20),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
def test_round_trip_is_exact(vector):
    assert decode(encode(vector)).tobytes() == vector.tobytes()


# The smallest and the largest numbers, the zeros, and the one number whose
# shortest text is read as its neighbour by way of a double.
EXTREMES = [0x00000001, 0x80000000, 0x007FFFFF, 0x7F7FFFFF, 0x15AE43FD, 0x95AE43FD]


@pytest.mark.parametrize("bits", [*EXTREMES, 0x15AE43FE])
def test_round_trip_of_the_extremes(bits):
    vector = np.array([1, *struct.unpack("<f", struct.pack("<I", bits))], np.float32)
    assert decode(encode(vector)).view(np.uint32)[1] == bits
    assert to_vector(numbers(vector)).view(np.uint32)[1] == bits


@pytest.mark.works("vector")
def test_round_trip_through_the_server_is_exact(tidb):
    bits = np.random.default_rng(2).integers(0, 2**32, 2000, dtype=np.uint32)
    bits = np.concatenate([bits, np.array(EXTREMES, np.uint32)])
    vector = bits.view(np.float32)
    vector = vector[np.isfinite(vector)]
    tidb.execute("SELECT CAST(%s AS VECTOR)", [encode(vector)])
    ((text,),) = tidb.fetchall()
    assert decode(text).tobytes() == vector.tobytes()


@pytest.mark.works("vector")
@pytest.mark.parametrize("text", ["[7.038531e-26]", "[-7.038531e-26]"])
def test_server_stores_its_own_text_as_another_number(tidb, text):
    # Why encode() writes one more digit; when this fails, it need not.
    tidb.execute("SELECT CAST(%s AS VECTOR)", [text])
    ((answer,),) = tidb.fetchall()
    assert abs(float(answer[1:-1])) == 7.0385313e-26


def test_decoded_vectors_can_be_written_to():
    vector = decode("[1,2]")
    vector[0] = 3
    assert vector.tolist() == [3, 2]


@pytest.mark.parametrize("text", ["[-0,0,-0.5,-0]", b"[-0,0,-0.5,-0]"])
def test_decode_keeps_the_sign_of_zero(text):
    assert np.signbit(decode(text)).tolist() == [True, False, True, True]


def test_numbers_are_short():
    assert numbers(np.array([0.1, 1, -2.5e-8], np.float32)) == [0.1, 1, -2.5e-8]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([1], "[1] (1 dimension)"),
        ([1, 2.5, 1 / 3], "[1, 2.5, 0.3333] (3 dimensions)"),
        (np.zeros(1536), "[0, 0, 0, …] (1536 dimensions)"),
    ],
)
def test_preview(value, text):
    assert preview(value) == text


def test_parse_says_which_element_is_wrong():
    assert parse("[1, 2.5]", 2).tolist() == [1, 2.5]
    with pytest.raises(ValueError, match="element 1 is True"):
        parse("[1, true]")
    with pytest.raises(ValueError, match="element 0 is 1e"):
        parse("[1e39]")
    with pytest.raises(ValueError, match="is not a vector, as in"):
        parse("1, 2")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, float("nan")], "element 1 is nan"),
        ([float("-inf"), 1], "element 0 is -inf"),
        ([1, 2, 1e39], r"element 2 is 1e\+39"),
        ([], "at least one dimension"),
        ([1, 10**39], "element 1 is 1000.*, which is not a finite number"),
        ([1, 10**400], "element 1 is 1000.*, which is not a finite number"),
        (np.array([1, 1e39]), r"element 1 is np.float64\(1e\+39\)|element 1 is 1e\+39"),
        ([[1, 2], [3, 4]], r"element 0 is \[1, 2\], which is not a real number"),
        ([[1, 2], [3]], r"element 0 is \[1, 2\], which is not a real number"),
        (np.array([[1, 2], [3, 4]]), r"shape \(2, 2\)"),
        (5, r"shape \(\)"),
        ([1, True], "element 1 is True, which is not a real number"),
        ([1.5, np.bool_(True)], "element 1 is .*True.*, which is not a real number"),
        (np.array([True, False]), "not a sequence of real numbers"),
        ([1j, 2], "element 0 is 1j, which is not a real number"),
        (np.array([1j, 2]), "not a sequence of real numbers"),
        ([1, "2"], "element 1 is '2', which is not a real number"),
        ("[1,2]", "not a sequence of real numbers"),
        (b"[1,2]", "not a sequence of real numbers"),
        ({1, 2}, "not a sequence of real numbers"),
        ([None, 1], "element 0 is None, which is not a real number"),
    ],
)
def test_refuses(value, message):
    with pytest.raises(ValueError, match=message):
        encode(value)


def test_refuses_wrong_number_of_dimensions():
    with pytest.raises(ValueError, match="expected 3 dimensions, not 2"):
        encode([1, 2], 3)


@pytest.mark.parametrize(
    "text", ["", "[", "{}", "1", "null", "[]", "[1,null]", "[1e39]"]
)
def test_decode_refuses(text):
    with pytest.raises(ValueError):
        decode(text)
