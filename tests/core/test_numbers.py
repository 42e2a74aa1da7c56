"""Numbers of JSON texts: exactly their value, or refused before they cost anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc.core.canonical import NumberRefused, loads_strict
from aitbc.core.exactjson import loads_exact
from aitbc.core.numbers import MAX_INTEGER_DIGITS, MAX_NUMBER_CHARS, read_count

DIGITS = st.one_of(
    st.text("0123456789", min_size=1, max_size=12),
    st.integers(1, 6000).map(lambda length: "7" * length),
    st.integers(1, 6000).map(lambda length: "0" * length),
)
NUMBER_TEXTS = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["", "-", "+", "--"]),
    DIGITS,
    st.one_of(st.just(""), DIGITS.map(lambda digits: f".{digits}")),
    st.sampled_from(["", "e", "E", "e+", "e-", "ee", "e."]),
    st.one_of(st.just(""), DIGITS, st.integers(0, 10**30).map(str)),
)
NUMBERS = st.one_of(
    NUMBER_TEXTS,
    st.text("0123456789.eE+-_ ", max_size=30),
    st.sampled_from(["NaN", "-Infinity", "1e1000000", "1e9999999999999999999", "٣", "0x10", "1_000", "-0"]),
)
NAMES = st.one_of(st.sampled_from(["a", "priority", "a.b", ""]), st.text(max_size=70))


def nest(inner: Any) -> Any:
    return st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]"),
        st.lists(st.tuples(NAMES.map(quote), inner), max_size=3).map(
            lambda pairs: "{" + ",".join(f"{name}:{item}" for name, item in pairs) + "}"
        ),
        st.tuples(inner, st.integers(1, 80)).map(lambda deep: "[" * deep[1] + deep[0] + "]" * deep[1]),
    )


def quote(name: str) -> str:
    return '"' + "".join(f"\\u{unit:04x}" for unit in _units(name)) + '"'


def _units(text: str) -> Iterator[int]:
    data = text.encode("utf-16-be", "surrogatepass")
    return (int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))


JSON_TEXTS = st.recursive(NUMBERS, nest, max_leaves=6)


def numbers_in(value: Any) -> Iterator[int | float | Decimal]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from numbers_in(item)
    elif isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        yield value


def read_decimals(data: bytes) -> Any:
    return loads_strict(data, decimals=True)


@settings(max_examples=500, deadline=None)
@given(JSON_TEXTS, st.sampled_from([loads_strict, read_decimals, loads_exact]))
def test_any_text_is_a_value_of_bounded_numbers_or_a_value_error(
    text: str, load: Callable[[bytes], Any]
) -> None:
    """Counted, not timed: what any later conversion of the number to an integer would cost at most."""
    try:
        value = load(text.encode())
    except ValueError as error:
        assert len(str(error)) < 70 * 80 + 200
        return
    for number in numbers_in(value):
        if isinstance(number, Decimal):
            assert -MAX_INTEGER_DIGITS <= number.adjusted() < MAX_INTEGER_DIGITS
            assert len(number.as_tuple().digits) <= MAX_NUMBER_CHARS
        assert len(str(int(number))) <= MAX_INTEGER_DIGITS + 1  # a sign


@settings(max_examples=500, deadline=None)
@given(NUMBER_TEXTS)
def test_a_number_is_read_exactly_or_not_at_all(text: str) -> None:
    try:
        number = read_decimals(text.encode())
    except ValueError:
        return
    assert Decimal(number) == Decimal(text)
    nearest = float(text) if isinstance(number, Decimal) else int(text)
    if nearest in (math.inf, -math.inf):
        with pytest.raises(NumberRefused, match="out of range"):
            loads_strict(text.encode())
    else:
        assert repr(loads_strict(text.encode())) == repr(nearest)


BEYOND = [
    "1e1000000",
    "1E+1000",
    "-1e-1000",
    "1e9999999999999999999",
    "9" * (MAX_NUMBER_CHARS + 1),
    "0." + "0" * MAX_NUMBER_CHARS,
    "9" * 100_000,
]


@pytest.mark.parametrize("text", BEYOND, ids=lambda text: text[:12])
@pytest.mark.parametrize(
    ("around", "path"),
    [
        ("{}", ""),
        ('{{"ttl_s":{}}}', "ttl_s"),
        ('{{"jobs":[{{}},{{"constraints":{{"max_price":{}}}}}]}}', "jobs.1.constraints.max_price"),
        ('[1,2.5,[[]],{{"x":"1e1000000"}},{}]', "4"),
    ],
)
def test_what_is_out_of_bounds_is_named(text: str, around: str, path: str) -> None:
    for decimals in (False, True):
        with pytest.raises(NumberRefused) as caught:
            loads_strict(around.format(text).encode(), decimals=decimals)
        assert caught.value.path == path
        assert len(str(caught.value)) < 200
    with pytest.raises(ValueError):
        loads_exact(around.format(text).encode())


def test_a_name_in_a_path_is_cut() -> None:
    with pytest.raises(NumberRefused) as caught:
        loads_strict(b'{"' + b"n" * 100_000 + b'":1e1000000}')
    assert caught.value.path == "n" * 64


def test_what_is_within_bounds_is_read() -> None:
    for text in ("9" * MAX_NUMBER_CHARS, "1e0000000000000000001", "1e999", "-1e-999", "0." + "1" * 390):
        assert read_decimals(text.encode()) == Decimal(text)


@given(st.one_of(st.text(max_size=25), st.integers(0, 10**25).map(str)))
def test_counts_are_plain_digits(text: str) -> None:
    count = read_count(text)
    if count is None:
        assert not text or not set(text) <= set("0123456789") or len(text) > 19 or int(text) >= 2**63
    else:
        assert count == int(text) < 2**63
