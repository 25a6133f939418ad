from __future__ import annotations

import array
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from django_tidb_vector.codec import decode, encode, to_vector


@pytest.mark.parametrize(
    "value",
    [
        [1, 2.5, -3],
        (1, 2.5, -3),
        array.array("d", [1, 2.5, -3]),
        np.array([1, 2.5, -3]),
        np.array([1, 2.5, -3], dtype=np.float16),
        np.array([[1, 0], [2.5, 0], [-3, 0]])[:, 0],
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


@pytest.mark.parametrize("bits", [0x00000001, 0x80000000, 0x007FFFFF, 0x7F7FFFFF])
def test_round_trip_of_the_extremes(bits):
    vector = np.array(struct.unpack("<f", struct.pack("<I", bits)), dtype=np.float32)
    assert decode(encode(vector)).view(np.uint32).tolist() == [bits]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, float("nan")], "element 1 is nan"),
        ([float("-inf"), 1], "element 0 is -inf"),
        ([1, 2, 1e39], r"element 2 is 1e\+39"),
        ([], "at least one dimension"),
        ([[1, 2], [3, 4]], r"shape \(2, 2\)"),
        (5, r"shape \(\)"),
        ([True, False], "not a sequence of real numbers"),
        ([1j, 2], "not a sequence of real numbers"),
        (["1", "2"], "not a sequence of real numbers"),
        ("[1,2]", "not a sequence of real numbers"),
        ([None, 1], "not a sequence of real numbers"),
    ],
)
def test_refuses(value, message):
    with pytest.raises(ValueError, match=message):
        encode(value)


def test_refuses_wrong_number_of_dimensions():
    with pytest.raises(ValueError, match="expected 3 dimensions, not 2"):
        encode([1, 2], 3)


@pytest.mark.parametrize("text", ["", "[", "{}", "1", "null", "[1,null]", "[1,,2]"])
def test_decode_refuses(text):
    with pytest.raises(ValueError):
        decode(text)
