from __future__ import annotations

import json
import math
import random
import struct
import time
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aitbc.core import canonical
from aitbc.core.canonical import (
    CanonicalError,
    encode,
    encode_floats,
    float_text,
    is_deep,
    loads_strict,
    sha256_hex,
)

# Surrogates included: both sides must refuse them alike.
any_text = st.text(st.characters(codec=None), max_size=20)
keys = st.one_of(st.text(st.characters(max_codepoint=127), max_size=6), any_text)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**53) - 2, -(2**53) + 2),
    st.integers(2**53 - 2, 2**53 + 2),
    st.floats(),
    st.floats(-10, 10),
    any_text,
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=5),
    ),
    max_leaves=12,
)


def reference(value: Any) -> bytes | None:
    try:
        return rfc8785.dumps(value)
    except ValueError:  # its own errors and UnicodeEncodeError
        return None


@settings(max_examples=200, deadline=None)
@given(values)
@example({"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\x80": 6, "\xf6": 7})
@example({"a": "\ud800"})
@example({"\ud800": 1})
@example({"control": "".join(map(chr, range(0x20))) + '\x7f\x80\u2028\u2029"\\/'})
@example([2**53 - 1, -(2**53) + 1])
@example([2**53])
@example([-(2**53)])
@example([0.0, -0.0, 1.0, 1e-4, 9.999e-5, 1e-5, 1e-6, 1e-7, 5e-324, 1e16, 1e20, 1e21, 1.5e300, 123456.789])
@example([float("nan")])
@example([float("inf")])
@example([-float("inf")])
def test_equals_the_reference(value: Any) -> None:
    expected = reference(value)
    if expected is None:
        with pytest.raises(CanonicalError):
            encode(value)
    else:
        assert encode(value) == expected


plain_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**53) + 1, 2**53 - 1), st.floats(1e-4, 1e16), any_text
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(st.characters(max_codepoint=127), max_size=8), plain_scalars, max_size=12))
def test_a_flat_object_equals_the_reference(value: dict[str, Any]) -> None:
    expected = reference(value)
    if expected is None:
        with pytest.raises(CanonicalError):
            encode(value)
    else:
        assert encode(value) == expected


def test_receipts_take_the_quick_way() -> None:
    assert canonical._is_plain({"text": "é", "n": 1, "f": 0.7, "l": [1, None, True], "d": {"k": "v"}}, 64)
    assert not canonical._is_plain({"é": 1}, 64)
    assert not canonical._is_plain([1.0], 64)


class _Text(StrEnum):
    A = "a"


class _Number(IntEnum):
    ONE = 1


class _Name(str):
    __slots__ = ()


def test_subclasses_go_the_references_way() -> None:
    value = {"s": _Text.A, "n": _Number.ONE, "t": (1, 2), _Name("k"): _Name("v")}
    assert encode(value) == rfc8785.dumps(value) == b'{"k":"v","n":1,"s":"a","t":[1,2]}'


@pytest.mark.parametrize("value", [{1: 2}, {None: 1}, {1, 2}, b"x", Decimal(1), object(), {"a": Decimal(1)}])
def test_refuses_what_json_has_not(value: Any) -> None:
    with pytest.raises(CanonicalError):
        encode(value)


def nested(depth: int, leaf: Any) -> Any:
    for level in range(depth):
        leaf = [leaf] if level % 2 else {"a": leaf}
    return leaf


@pytest.mark.parametrize("leaf", [1, 1.0])
def test_depth_is_bounded_both_ways(leaf: float) -> None:
    assert encode(nested(64, leaf)) == rfc8785.dumps(nested(64, leaf))
    for depth in (65, 300, 5_000):
        with pytest.raises(CanonicalError, match="deeper"):
            encode(nested(depth, leaf))


def test_a_cycle_is_refused() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(CanonicalError, match="deeper"):
        encode(cycle)


@settings(max_examples=200, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_float_text_equals_the_reference(number: float) -> None:
    assert float_text(number).encode() == rfc8785.dumps(number)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_float_text_refuses_what_is_not_finite(number: float) -> None:
    with pytest.raises(CanonicalError):
        float_text(number)


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=6), max_size=4))
def test_rows_of_floats_equal_the_reference(rows: list[list[float]]) -> None:
    assert encode_floats(rows) == rfc8785.dumps(rows)


def test_floats_of_every_size_equal_the_reference() -> None:
    source = random.Random(8785)
    bits = [struct.unpack("<d", source.randbytes(8))[0] for _ in range(3_000)]
    sizes = [source.uniform(-1, 1) * 10 ** source.randint(-9, 24) for _ in range(3_000)]
    whole = [float(source.randint(-(10**17), 10**17) // 10 ** source.randint(0, 17)) for _ in range(1_000)]
    floats = [number for number in bits + sizes + whole if math.isfinite(number)]
    assert encode_floats([floats]) == rfc8785.dumps([floats])
    assert all(encode([number]) == rfc8785.dumps([number]) for number in floats)


def test_sha256_is_that_of_the_standard() -> None:
    assert sha256_hex(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@settings(deadline=None)
@given(values)
def test_strict_reading_reads_what_json_reads(value: Any) -> None:
    expected = reference(value)
    if expected is not None:
        assert loads_strict(expected) == json.loads(expected)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"a":1,"a":1}', "duplicate key 'a'"),
        (b'[{"x":{"a":1,"b":2,"a":3}}]', "duplicate key 'a'"),
        (b'{"a":1,"\\u0061":2}', "duplicate key 'a'"),
        (b"NaN", "NaN"),
        (b"[Infinity]", "Infinity"),
        (b"[-Infinity]", "-Infinity"),
        (b"1e400", "out of range"),
        (b"\xff", "UTF-8"),
        (b'"\xc3"', "UTF-8"),
        (b'"\xed\xa0\x80"', "UTF-8"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\uDFFF":1}', "surrogate"),
        (b"\xef\xbb\xbf{}", ""),
        (b"", ""),
        (b"{} {}", ""),
        (b"{'a':1}", ""),
        (b'{"a":1,}', ""),
        (b"[1,]", ""),
        (b"01", ""),
        (b'"\x01"', ""),
        (b'"\\x41"', ""),
        (b"\x0b1", ""),
        (b"nul", ""),
        (b"1" * 5_000, ""),
        (b"[" * 65 + b"]" * 65, "deeper"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "deeper"),
        (b"[" * 1_000_000, "match"),
        (b"[" * 100_000 + b"]" * 100_000, "deeper"),
        (b'{"a":[' * 33 + b"]}" * 33, "deeper"),
        (b'["\\"]", ' + b"[" * 70, "match"),
    ],
)
def test_strict_reading_refuses(data: bytes, reason: str) -> None:
    for decimals in (False, True):
        if reason == "out of range" and decimals:
            continue  # a Decimal holds it; money's own limit refuses it
        with pytest.raises(ValueError, match=reason or None):
            loads_strict(data, decimals=decimals)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 65 + b'"' + b'\\"' * 500_000,
        b"[" * 65 + b'"' + b"\\" * 1_000_001,
        b"[" * 500_000 + b"]" * 500_000,
        b"[" + b"{}," * 300_000,
    ],
)
def test_strict_reading_is_quick_to_refuse(data: bytes) -> None:
    started = time.process_time()
    with pytest.raises(ValueError):
        loads_strict(data)
    assert time.process_time() - started < 1


def test_strict_reading_takes_what_is_well_formed() -> None:
    assert loads_strict(b'\n {"a": [1, -0.5e1, "\\ud83d\\ude00"]} ') == {"a": [1, -5.0, "\U0001f600"]}
    assert loads_strict(b"[" * 64 + b"]" * 64)
    assert loads_strict(json.dumps(["[" * 500, '"{' * 100]).encode())[0] == "[" * 500
    assert loads_strict(b"[" + b"[]," * 500 + b"[]]")
    assert loads_strict(b"123456789012345678901234567890") == 123456789012345678901234567890


def test_decimals_keep_every_digit() -> None:
    read = loads_strict(b"[0.100000000000000001, 1, 1e3]", decimals=True)
    assert read == [Decimal("0.100000000000000001"), 1, Decimal("1e3")]
    assert isinstance(read[1], int)


STRINGY = st.text(st.sampled_from('[]{}"\\ a\n'), max_size=12)


@settings(max_examples=300, deadline=None)
@given(STRINGY, st.integers(60, 68), st.booleans())
def test_brackets_in_strings_are_no_nesting(text: str, depth: int, escaped: bool) -> None:
    """With an escape anywhere in it a text is looked at in another way: to the same end."""
    leaves = [text, "\\" if escaped else "", *(["[", "]", "{", "}"] * 17)]
    written = json.dumps(nested(depth - 1, leaves)).encode()
    if depth <= 64:
        assert loads_strict(written) == json.loads(written)
    else:
        with pytest.raises(ValueError, match="nested deeper"):
            loads_strict(written)


def test_depth_is_told_before_any_parser_is_asked() -> None:
    """Also of a beginning that was cut, whose brackets do not match."""
    for shallow in (
        b"[" * 64,
        b"[[1], {}" * 30,
        b"{}" * 10_000,
        b'["' + b"[" * 1000 + b'"]',
        b"]" * 100,
        b"",
    ):
        assert not is_deep(shallow), shallow[:40]
    for deep in (
        b"[" * 65,
        b"[" * 100_000,
        b"[" * 65 + b"]" * 65,
        b'{"a":' * 70,
        b"[1]" * 50 + b"[" * 66 + b"]",
    ):
        assert is_deep(deep), deep[:40]
