from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc.core.exactjson import loads_exact

json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**53) + 1, 2**53 - 1),
        st.floats(allow_nan=False, allow_infinity=False).map(lambda number: number + 0.0),
        st.text(st.characters(codec="utf-8"), max_size=6),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), inner, max_size=4),
    ),
    max_leaves=8,
)
writers = st.sampled_from(
    [
        lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(),
        lambda value: json.dumps(value, separators=(",", ":")).encode(),
        lambda value: json.dumps(value).encode() + b"\n",
        lambda value: json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n",
        lambda value: json.dumps(value, indent=4).encode(),
        lambda value: orjson.dumps(value),
        lambda value: orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE),
        lambda value: rfc8785.dumps(value),
    ]
)


@settings(max_examples=100, deadline=None)
@given(json_values, writers)
def test_reads_what_the_usual_writers_write(value: Any, write: Any) -> None:
    data = write(value)
    assert loads_exact(data) == json.loads(data)


@settings(max_examples=100, deadline=None)
@given(json_values, writers, st.data())
def test_a_changed_byte_is_a_changed_value(value: Any, write: Any, data: st.DataObject) -> None:
    text = bytearray(write(value))
    position = data.draw(st.integers(0, len(text) - 1))
    text[position] = data.draw(st.integers(0, 255).filter(lambda byte: byte != text[position]))
    try:
        changed = loads_exact(bytes(text))
    except ValueError:
        return
    # repr tells 1 from 1.0 and True: a change of type is a change, too.
    assert repr(changed) != repr(value)


@pytest.mark.parametrize(
    "text",
    [
        "12.5",
        "12.0",
        "0.1",
        "1e-8",
        "1e-08",
        "0.00000001",
        "1.5e-7",
        "1e16",
        "1e+16",
        "-1.5",
        "-0.01",
        "-0.000003639811266913648",
    ],
)
def test_accepts_the_usual_spellings_of_a_number(text: str) -> None:
    assert loads_exact(f"[{text}]".encode()) == [float(text)]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "12.50",
            "1.00",
            "1e0",
            "1E-8",
            "0.10",
            "10e-9",
            "1e-008",
            "1e00",
            "1e016",
            "0e0",
            "0.0e1",
            "-0.0",
            "-0",
        ),
        *(
            "0.1000000000000000055",
            "0.30000000000000001",
            "1e400",
            "1e-400",
            "01.5",
            "1.",
            ".5",
            "+1.5",
            "1e05",
        ),
        *("123456789012345678.5", "9007199254740993.0", "1.e5", "1_0"),
    ],
)
def test_refuses_other_spellings_of_a_number(text: str) -> None:
    with pytest.raises(ValueError):
        loads_exact(f"[{text}]".encode())


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": 1,"b":2}',
        b'{"a":1, "b":2}',
        b"[1,2] ",
        b" [1,2]",
        b"[1,2]\n\n",
        b"[1,2]\r\n",
        b"[1,\t2]",
        b'{\n   "a": 1\n}',
        b'{\n\t"a": 1\n}',
        b'["\\u0061"]',
        b'["\\/"]',
        b'["\\u00e9\xc3\xa9"]',
        b'["\\u000A"]',
        b'["\\u00E9"]',
        b'["\\ud83d\\uDE00"]',
        b'{"a":1,"a":1}',
        b"[ ]",
        b"{ }",
    ],
)
def test_refuses_other_layouts(data: bytes) -> None:
    with pytest.raises(ValueError):
        loads_exact(data)


def test_characters_may_be_escaped_if_they_always_are() -> None:
    value = ["\x7f\x85é", "\\u0085é", "\u202e\U0001f600"]
    text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f").replace("\x85", "\\u0085")
    text = text.replace("\u202e", "\\u202e").replace("\U0001f600", "\\ud83d\\ude00")
    assert loads_exact(text.encode()) == value
    assert loads_exact((text[:-2] + '\\u202e"]').encode()) == [*value[:2], value[2] + "\u202e"]
    for other in (
        text[:-2] + '\u202e"]',
        text.replace("\\u202e", "\\u202E"),
        text.replace("é", "\\u00e9", 1),
    ):
        assert json.loads(other)
        with pytest.raises(ValueError):
            loads_exact(other.encode())


def test_refuses_what_the_strict_reader_refuses() -> None:
    for data in (
        b"",
        b"\xff",
        b"[NaN]",
        b"[" * 1000,
        b"[" * 65 + b"]" * 65,
        b'["\\ud800"]',
        b"\xef\xbb\xbf[]",
    ):
        with pytest.raises(ValueError):
            loads_exact(data)


def test_large_integers_are_read_exactly() -> None:
    assert loads_exact(b"[18446744073709551616]") == [2**64]
