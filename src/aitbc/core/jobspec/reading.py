"""Fields of requests and results, read one by one.

What is wrong with a request's is added to `errors`; a result's raises InvalidResult.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

from aitbc.core.jobspec.base import FieldError, InvalidResult

DEFAULT_MODEL = "llama3.2"
MAX_STOPS = 4
MAX_STOP_CHARS = 64
MAX_MESSAGES = 256
MAX_DIMENSIONS = 16_384
MAX_VECTOR_NUMBER = 2**53 - 1
ROLES = frozenset({"system", "user", "assistant", "tool"})

_MODEL = re.compile(r"[A-Za-z0-9._:/@+-]{1,128}", re.ASCII)


def is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def read_text(value: object, field: str, errors: list[FieldError], *, allow_empty: bool) -> str:
    if not isinstance(value, str):
        errors.append(FieldError(field, "must be a string"))
        return ""
    if not value and not allow_empty:
        errors.append(FieldError(field, "must not be empty"))
    elif not is_unicode(value):
        errors.append(FieldError(field, "must be valid Unicode"))
    return value


def read_model(value: object, field: str, errors: list[FieldError]) -> str:
    if value is None:
        return DEFAULT_MODEL
    if not isinstance(value, str) or _MODEL.fullmatch(value) is None:
        errors.append(FieldError(field, "must be 1 to 128 characters of A-Z a-z 0-9 . _ : / @ + -"))
        return ""
    return value


def read_messages(value: object, field: str, errors: list[FieldError]) -> list[dict[str, str]]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_MESSAGES:
        errors.append(FieldError(field, f"must be a list of 1 to {MAX_MESSAGES} messages"))
        return []
    messages = []
    for index, message in enumerate(value):
        at = f"{field}[{index}]"
        if not isinstance(message, Mapping):
            errors.append(FieldError(at, 'must be {"role", "content"}'))
            continue
        role = message.get("role")
        if not isinstance(role, str) or role not in ROLES:
            errors.append(FieldError(f"{at}.role", f"must be one of {', '.join(sorted(ROLES))}"))
            role = ""
        content = read_text(message.get("content"), f"{at}.content", errors, allow_empty=True)
        messages.append({"role": role, "content": content})
    return messages


def read_int(value: object, field: str, errors: list[FieldError], least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        errors.append(FieldError(field, f"must be an integer from {least} to {most}"))
        return least
    return value


def read_number(
    value: object, field: str, errors: list[FieldError], most: int, *, above_zero: bool = False
) -> int | float:
    # A whole number becomes an int: RFC 8785 writes both alike, and one form makes requests compare equal.
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool) and 0 <= value <= most:
        number = float(value)
        if number > 0 or not above_zero:
            return int(number) if number.is_integer() else number
    bound = "above 0 and at most" if above_zero else "from 0 to"
    errors.append(FieldError(field, f"must be a number {bound} {most}"))
    return most


def read_stop(value: object, field: str, errors: list[FieldError]) -> list[str]:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or len(stops) > MAX_STOPS:
        errors.append(FieldError(field, f"must be a string or a list of at most {MAX_STOPS} strings"))
        return []
    for stop in stops:
        if not isinstance(stop, str) or not 1 <= len(stop) <= MAX_STOP_CHARS or not is_unicode(stop):
            errors.append(FieldError(field, f"each must be 1 to {MAX_STOP_CHARS} characters"))
            return []
    return list(stops)


def read_vector(row: object) -> list[float]:
    if not isinstance(row, list) or not 1 <= len(row) <= MAX_DIMENSIONS:
        raise InvalidResult(f"a vector is a list of 1 to {MAX_DIMENSIONS} numbers")
    vector = []
    for value in row:
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            raise InvalidResult("a vector holds numbers only")
        # Below 2**53, so that an integer's every digit tells; NaN fails both comparisons.
        if not -MAX_VECTOR_NUMBER <= value <= MAX_VECTOR_NUMBER:
            raise InvalidResult("a vector's numbers are finite and below 2**53 in size")
        # Adding zero turns -0.0, which RFC 8785 cannot tell from 0, into 0.0.
        vector.append(float(value) + 0.0)
    return vector
