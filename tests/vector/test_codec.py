from __future__ import annotations

import array
import gc
import json
import struct
import threading
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from django_tidb_vector import VectorField, codec
from django_tidb_vector.codec import (
    decode,
    encode,
    numbers,
    parse,
    preview,
    to_vector,
)


class WithArray:
    """An object with __array__(), such as a tensor of PyTorch."""

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
        memoryview(array.array("d", [1, 2.5, -3])),
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


# The bits of the smallest and largest numbers, of both zeros, and of the only number
# whose shortest text is rounded to another float32 if it is first parsed as a double.
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
    # Because of this result, encode() writes one more digit for this number. If this
    # test fails, TiDB has changed, and encode() need not do so any more.
    tidb.execute("SELECT CAST(%s AS VECTOR)", [text])
    ((answer,),) = tidb.fetchall()
    assert abs(float(answer[1:-1])) == 7.0385313e-26


# decode() uses another parser for long texts than for short texts.
PADDING = ",0.25" * 200


@pytest.fixture(params=["as installed", "without simdjson"])
def reader(request, monkeypatch):
    if request.param == "without simdjson":
        monkeypatch.setattr(codec, "simdjson", None)


def both_lengths(*texts):
    """Return the given texts of lists, and each of them once more with PADDING."""
    return [*texts, *(f"{PADDING}]".join(text.rsplit("]", 1)) for text in texts)]


def text_of_the_server(vector):
    """
    Return the text that TiDB writes: without exponents, and whole numbers without a
    point.
    """
    numbers = (np.format_float_positional(number, trim="-") for number in vector)
    return f"[{','.join(numbers)}]"


@pytest.mark.long
@given(
    st_numpy.arrays(
        np.float32,
        st.integers(1, 400),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
        fill=st.nothing(),
    )
)
def test_decode_is_exact_whatever_the_length(vector):
    for text in (encode(vector), text_of_the_server(vector)):
        for value in (text, text.encode()):
            assert decode(value).tobytes() == vector.tobytes()


@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.integers(1, 12))
def test_decode_is_exact_for_any_bits(seed, size, digits):
    bits = np.random.default_rng(seed).integers(0, 2**32, size, dtype=np.uint32)
    vector = bits.view(np.float32)
    vector = np.where(np.isfinite(vector), vector, np.float32(-0.0))
    assert decode(text_of_the_server(vector)).tobytes() == vector.tobytes()
    # Make numbers of a size for which _decode_long() uses the result of simdjson.
    vector = np.round(vector.view(np.uint32) / 2**32 - 0.5, digits).astype(np.float32)
    assert decode(text_of_the_server(vector)).tobytes() == vector.tobytes()


@pytest.mark.parametrize("bits", EXTREMES)
@pytest.mark.parametrize("size", [1, 20, 500])
@pytest.mark.parametrize("others", [0, 1.5, -1e-9])
def test_decode_of_the_extremes_among_others(reader, bits, size, others):
    vector = np.full(size, others, np.float32)
    vector.view(np.uint32)[size // 2] = bits
    text = text_of_the_server(vector)
    assert decode(text).tobytes() == vector.tobytes()
    assert decode(text.encode()).tobytes() == vector.tobytes()


def test_long_vectors_are_read_with_simdjson(monkeypatch):
    vector = np.random.default_rng(1).normal(size=768).astype(np.float32)
    text = text_of_the_server(vector)
    assert codec._decode_long(text).tobytes() == vector.tobytes()
    # _decode_long() also reads zeros.
    vector[::2] = 0
    assert codec._decode_long(text_of_the_server(vector)).tobytes() == vector.tobytes()
    vector[0] = -0.0
    assert codec._decode_long(text_of_the_server(vector)) is None


@pytest.mark.parametrize("text", both_lengths("[1,2]"))
def test_decoded_vectors_can_be_written_to(reader, text):
    vector, other = decode(text), decode(text)
    assert vector.dtype == np.float32
    assert vector.flags.owndata and vector.flags.writeable
    vector[0] = 3
    assert vector[:2].tolist() == [3, 2]
    assert other[:2].tolist() == decode(text)[:2].tolist() == [1, 2]


def test_decoded_vectors_keep_nothing_of_the_parser():
    vector = decode(f"[1{PADDING}]")
    before = vector.tobytes()
    for size in (300, 20_000):
        decode(f"[{'7.5,' * size}7.5]")
    gc.collect()
    assert vector.tobytes() == before


def test_decode_in_threads():
    vectors = np.random.default_rng(3).normal(size=(8, 1536)).astype(np.float32)
    wrong: list[int] = []
    start = threading.Barrier(len(vectors))

    def work(number):
        text = text_of_the_server(vectors[number])
        expected = vectors[number].tobytes()
        start.wait()
        for _ in range(100):
            # The result is None if the parser is in use, since decode() then has to use
            # orjson. A parser for each thread is never in use.
            found = codec._decode_long(text)
            if found is None or found.tobytes() != expected:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=[n]) for n in range(len(vectors))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.skipif(codec.simdjson is None, reason="has no wheels for this Python")
def test_decode_while_the_parser_of_the_thread_is_in_use():
    document = codec._local.parser.parse(b"[1]")
    assert codec._decode_long(f"[1{PADDING}]") is None
    assert decode(f"[1{PADDING}]").tolist()[:2] == [1, 0.25]
    assert document.as_list() == [1]


@pytest.mark.parametrize("text", both_lengths("[-0,0,-0.5,-0]", "[-0]", "[0,-0]"))
def test_decode_keeps_the_sign_of_zero(reader, text):
    signs = [part.strip("[]").startswith("-") for part in text.split(",")]
    assert np.signbit(decode(text)).tolist() == signs
    assert np.signbit(decode(text.encode())).tolist() == signs


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


class Array:
    """An object that numpy converts by __array__(), and that is no sequence."""

    def __init__(self, value):
        self.value = value

    def __array__(self, dtype=None, copy=None):
        if isinstance(self.value, Exception):
            raise self.value
        return np.array(self.value, dtype)


def test_other_numbers():
    assert to_vector([Decimal("0.5"), Fraction(1, 4)]).tolist() == [0.5, 0.25]
    assert to_vector(Array([1, 2])).tolist() == [1, 2]
    assert to_vector(np.ma.array([1, 2])).tolist() == [1, 2]


BYTES = [
    b"[1,2]",
    bytearray(b"[1,2]"),
    memoryview(b"[1,2]"),
    memoryview(bytearray(b"[1,2]")),
    memoryview(b"[1,2]").cast("c"),
]


@pytest.mark.parametrize("text", BYTES)
def test_fields_read_bytes_of_all_types_as_text(text):
    field = VectorField(dimensions=2)
    assert field.to_python(text).tolist() == [1, 2]
    assert field.get_prep_value(text) == "[1.0,2.0]"


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
        (Array([1, float("nan")]), "element 1 is .*nan"),
        (Array(RuntimeError("elsewhere")), "no array can be made of it: elsewhere"),
        (np.ma.array([1, 2], mask=[0, 1]), "has masked elements"),
        (np.ones(16384), "a vector has at most 16383 dimensions"),
        ([1] * 16384, "a vector has at most 16383 dimensions"),
        ([Decimal("nan")], "element 0 is Decimal"),
        ([1.5, np.bool_(True)], "element 1 is .*True.*, which is not a real number"),
        (np.array([True, False]), "not a sequence of real numbers"),
        ([1j, 2], "element 0 is 1j, which is not a real number"),
        (np.array([1j, 2]), "not a sequence of real numbers"),
        ([1, "2"], "element 1 is '2', which is not a real number"),
        ("[1,2]", "not a sequence of real numbers"),
        *((text, r"^b'\[1,2\]' is not a sequence of real numbers") for text in BYTES),
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


NO_VECTORS = [
    *("", "[", "{}", "1", "null", '"[1]"', "[]", "[ ]", "1,2", "nonsense"),
    *both_lengths(
        *("[1,null]", "[true]", "[1,false]", "[true,-0]", "[1e39]", "[-1e39]"),
        *('["1"]', '["1",-0]', '["-0,1"]', "[[1]]", "[[1,-0],2]", "[1,{}]"),
        *("[NaN]", "[1,Infinity]", "[1,]", "[,1]", "[01]", "[+1]", "[.5]", "[1.]"),
        *("[1e400]", f"[1{'0' * 39}]", f"[1{'0' * 400}]", f"[-1{'0' * 400}.0]"),
        *(f"[1{'0' * 39}.5]", "[340282357000000000000000000000000000000]", "[é]"),
        *("[1] 2]", "[\ud800]", "[1,\x00]"),
    ),
    f"[1{PADDING}]]",
    f"[1{PADDING}] 1",
    f"[1{PADDING}",
    f"[[1{PADDING}]]",
    f"[[1{PADDING}],[2]]",
    f"[{' ' * 1000}]",
]


@pytest.mark.parametrize("text", NO_VECTORS, ids=range(len(NO_VECTORS)))
def test_decode_refuses(reader, text):
    with pytest.raises(ValueError, match="is not a vector, as in") as caught:
        decode(text)
    assert repr(text)[:8] in str(caught.value)
    with pytest.raises(ValueError, match="is not a vector, as in"):
        decode(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize(
    "text",
    both_lengths(
        *("[340282350000000000000000000000000000000]", "[18446744073709551616]"),
        *("[-9223372036854775809]", "[18446744073709551615,-9223372036854775808]"),
        *("[340282356700000000000000000000000000000]", "[ 1 , 2 ]", " [1]", "[1]\n"),
    ),
)
def test_decode_of_whole_numbers_and_spaces(reader, text):
    assert decode(text).tolist() == to_vector(json.loads(text)).tolist()


@pytest.mark.parametrize("size", [1, 20, 500])
def test_decode_does_not_warn_of_small_numbers(reader, size):
    vector = np.full(size, 1e-40, np.float32)
    vector[1:2] = 0
    text = text_of_the_server(vector)
    with np.errstate(all="raise"):
        assert decode(text).tobytes() == vector.tobytes()
