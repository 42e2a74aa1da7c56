"""Canonical JSON (RFC 8785) for what is hashed and signed, and a strict reader for what comes in.

`encode` has two ways to the same bytes. Values of exact built-in types with ASCII keys, integers below 2**53
and floats that every shortest-digits printer writes alike go through orjson; everything else goes through
the `rfc8785` library. A property test holds the two together.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Never, cast

import orjson
import rfc8785

from aitbc.core.numbers import NumberOutOfBounds, read_decimal, read_float, read_integer

MAX_DEPTH = 64
MAX_INTEGER = 2**53 - 1
MAX_PATH_NAME_CHARS = 64
"""A member's name in a NumberRefused's path is cut here."""

# Between these, repr(), orjson and ECMAScript all write a float that is not whole without an exponent.
_PLAIN_FLOAT_MIN = 1e-4
# A string, or one that never ends: were that no match, each quote in it would be tried, in quadratic time.
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_ALIKE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89abcdefABCDEF]")


class CanonicalError(ValueError):
    """The value has no RFC 8785 form: an unsupported type, NaN, an integer of 2**53 or more, a lone
    surrogate, a key that is not a string, or nesting deeper than MAX_DEPTH."""


def encode(value: Any) -> bytes:
    """The RFC 8785 bytes (UTF-8) of a JSON value made of dict, list, tuple, str, int, float, bool and None.

    CanonicalError (a ValueError) where there is no such form.
    """
    if _is_plain(value, MAX_DEPTH):
        try:
            return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        except TypeError as error:
            # Of the values that pass the check above, orjson refuses only strings with lone surrogates.
            raise CanonicalError("a string holds a lone surrogate") from error
    _check_depth(value, MAX_DEPTH)
    try:
        return rfc8785.dumps(value)
    except ValueError as error:
        raise CanonicalError(str(error)) from error


def encode_plain(value: dict[str, Any]) -> bytes:
    """`encode` without the check: for objects built here of ASCII names, text, small integers and None.

    CanonicalError for text that holds a lone surrogate.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise CanonicalError("a string holds a lone surrogate") from error


def _is_plain(value: Any, depth: int) -> bool:
    """Whether orjson provably writes the RFC 8785 form. Exact types only: a subclass may differ."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        return bool(-MAX_INTEGER <= value <= MAX_INTEGER)
    if kind is float:
        # A whole float is "1" in RFC 8785 and "1.0" elsewhere; NaN fails the comparison, infinity is whole.
        return bool(abs(value) >= _PLAIN_FLOAT_MIN and not math.isinf(value) and not value.is_integer())
    if depth <= 0:
        return False
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str or not key.isascii():
                return False
            if type(item) is not str and not _is_plain(item, depth - 1):
                return False
        return True
    if kind is list or kind is tuple:
        return all(type(item) is str or _is_plain(item, depth - 1) for item in value)
    return False


def _check_depth(value: Any, depth: int) -> None:
    if isinstance(value, dict):
        items: Iterable[Any] = value.values()
    elif isinstance(value, list | tuple):
        items = value
    else:
        return
    if depth <= 0:
        raise CanonicalError(f"nested deeper than {MAX_DEPTH}")
    for item in items:
        _check_depth(item, depth - 1)


def float_text(value: float) -> str:
    """RFC 8785 text of one float. CanonicalError: NaN or infinite."""
    text = float.__repr__(value)
    if "e" in text or "n" in text or text.endswith(".0"):
        try:
            return rfc8785.dumps(value).decode("ascii")
        except ValueError as error:
            raise CanonicalError(str(error)) from error
    return text


def encode_floats(rows: Sequence[Sequence[float]]) -> bytes:
    """`encode` of a list of lists of floats (embeddings), many times as fast."""
    return ("[" + ",".join(map(_row_text, rows)) + "]").encode("ascii")


def _row_text(row: Sequence[float]) -> str:
    text = orjson.dumps(row).decode("ascii")
    # Only whole numbers, numbers with an exponent, and NaN (orjson: null) are written otherwise in RFC 8785.
    if "e" not in text and "n" not in text and ".0," not in text and ".0]" not in text:
        return text
    pairs = zip(text[1:-1].split(","), row, strict=True)
    exact = [
        float_text(number) if "e" in shown or shown[-2:] in (".0", "ll") else shown for shown, number in pairs
    ]
    return "[" + ",".join(exact) + "]"


def sha256_hex(data: bytes) -> str:
    """SHA-256 as 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dict of a JSON object's members. ValueError: a name occurs twice."""
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"duplicate key {name[:100]!r}")
            seen.add(name)
    return members


def refuse_constant(text: str) -> Never:
    """A JSON parser's hook for NaN and Infinity, which JSON does not have."""
    raise ValueError(f"{text} is not JSON")


def strict_decoder(parse_float: Callable[[str], Any]) -> json.JSONDecoder:
    """A JSON decoder that refuses what strict JSON has not; `parse_float` must bound what it reads."""
    return json.JSONDecoder(
        object_pairs_hook=unique_object,
        parse_constant=refuse_constant,
        parse_float=parse_float,
        parse_int=read_integer,
    )


_FLOATS = strict_decoder(read_float)
_DECIMALS = strict_decoder(read_decimal)


class NumberRefused(ValueError):
    """A JSON text holds a number out of bounds (`core.numbers`). `path` is where: `constraints.max_price`."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}" if path else reason)


def loads_strict(data: bytes, *, decimals: bool = False) -> Any:
    """The value of a JSON text in UTF-8.

    With `decimals`, a number with a point or an exponent becomes a Decimal of exactly its digits (for money),
    else a float. ValueError: not UTF-8 or not JSON, a duplicate key, NaN or Infinity, nesting deeper than
    MAX_DEPTH, a lone surrogate in a string; NumberRefused, which is one, for a number out of bounds.
    """
    decode = cast(Callable[[str], Any], (_DECIMALS if decimals else _FLOATS).decode)
    return decode_checked(data, decode)


def decode_checked(data: bytes, decode: Callable[[str], Any]) -> Any:
    """Run a JSON text decoder over `data` within `loads_strict`'s checks on encoding and nesting."""
    _check_nesting(data)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from None
    try:
        value = decode(text)
    except NumberOutOfBounds as error:
        raise NumberRefused(_first_refused(text, error), str(error)) from None
    if _SURROGATE_ESCAPE.search(data) is not None:
        try:
            json.dumps(value, ensure_ascii=False, default=str).encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError("a string holds a lone surrogate") from None
    return value


class _Refused:
    """Stands where a number out of bounds is."""


def _first_refused(text: str, error: NumberOutOfBounds) -> str:
    """The path of the first number that is refused for this reason; "" where the text is not even JSON."""

    def mark(read: Callable[[str], object]) -> Callable[[str], object]:
        def read_or_mark(number: str) -> object:
            try:
                return read(number)
            except NumberOutOfBounds as other:
                return _Refused() if str(other) == str(error) else 0

        return read_or_mark

    decoder = json.JSONDecoder(parse_float=mark(read_float), parse_int=mark(read_integer))
    try:
        return ".".join(_way_to_refused(decoder.decode(text)) or ())
    except ValueError:
        return ""


def _way_to_refused(value: object) -> tuple[str, ...] | None:
    if isinstance(value, _Refused):
        return ()
    if not isinstance(value, dict | list):
        return None
    for name, item in value.items() if isinstance(value, dict) else enumerate(value):
        way = _way_to_refused(item)
        if way is not None:
            return (str(name)[:MAX_PATH_NAME_CHARS], *way)
    return None


def _check_nesting(data: bytes) -> None:
    # Before parsing, so that no input reaches the parser's recursion limit.
    rest = _unmatched(data)
    if rest and rest.replace(b"[]", b"") == rest:
        raise ValueError("brackets that do not match")
    if rest:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")


def is_deep(data: bytes) -> bool:
    """Whether JSON, or the beginning of some, is nested deeper than a parser should be given: a parser's own limit
    is that of the process, which a library may have raised above what the stack holds."""
    rest = _unmatched(data)
    return rest.replace(b"[]", b"") != rest or rest.count(b"[") > MAX_DEPTH


def _unmatched(data: bytes) -> bytes:
    """The brackets that are left when MAX_DEPTH times the innermost pairs have been taken away."""
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return b""
    # Kinds of brackets are told apart by the parser. Each round takes away the innermost pairs, everywhere at
    # once, so that the work is done in C and is small whatever the input.
    # Where nothing is escaped, every other piece between quotes is a string: ten times as fast to tell.
    outside = _STRING.sub(b"", data) if b"\\" in data else b"".join(data.split(b'"')[::2])
    brackets = outside.translate(_ALIKE, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):
        rest = brackets.replace(b"[]", b"")
        if len(rest) == len(brackets):
            break
        brackets = rest
    return brackets
