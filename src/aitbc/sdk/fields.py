"""Reading typed fields out of a JSON answer, and JSON out of what was read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

from aitbc.sdk.errors import UnexpectedAnswer


class Fields:
    """Typed access to a JSON object. `opt_*` gives None where a field is absent or null; the others raise."""

    __slots__ = ("data", "what")

    def __init__(self, what: str, data: Any) -> None:
        if not isinstance(data, Mapping):
            raise UnexpectedAnswer(f"{what}: an object was expected, not {type(data).__name__}")
        self.what = what
        self.data: Mapping[str, Any] = data

    def _wrong(self, name: str, wanted: str) -> UnexpectedAnswer:
        state = "missing" if self.data.get(name) is None else "not " + wanted
        return UnexpectedAnswer(f"{self.what}: field {name!r} is {state}", {"field": name})

    def opt_text(self, name: str) -> str | None:
        value = self.data.get(name)
        if value is None or isinstance(value, str):
            return value
        raise self._wrong(name, "text")

    def text(self, name: str) -> str:
        value = self.opt_text(name)
        if value is None:
            raise self._wrong(name, "text")
        return value

    def opt_integer(self, name: str) -> int | None:
        value = self.data.get(name)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        raise self._wrong(name, "an integer")

    def integer(self, name: str) -> int:
        value = self.opt_integer(name)
        if value is None:
            raise self._wrong(name, "an integer")
        return value

    def opt_number(self, name: str) -> float | None:
        """A number that is not money."""
        value = self.opt_money(name)
        number = None if value is None else float(value)
        if number is not None and math.isinf(number):
            raise self._wrong(name, "a number of this size")
        return number

    def opt_money(self, name: str) -> Decimal | None:
        """A JSON number, exactly as it was written."""
        value = self.data.get(name)
        if value is None or isinstance(value, Decimal):
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return Decimal(value)
        raise self._wrong(name, "a number")

    def money(self, name: str) -> Decimal:
        value = self.opt_money(name)
        if value is None:
            raise self._wrong(name, "a number")
        return value

    def opt_time(self, name: str) -> datetime | None:
        value = self.opt_text(name)
        if value is None:
            return None
        try:
            moment = datetime.fromisoformat(value)
        except ValueError as error:
            raise self._wrong(name, "a time") from error
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)

    def time(self, name: str) -> datetime:
        value = self.opt_time(name)
        if value is None:
            raise self._wrong(name, "a time")
        return value

    def mapping(self, name: str) -> dict[str, Any] | None:
        value = self.data.get(name)
        if value is None or isinstance(value, dict):
            return value
        raise self._wrong(name, "an object")

    def items(self, name: str) -> list[Any] | None:
        value = self.data.get(name)
        if value is None or isinstance(value, list):
            return value
        raise self._wrong(name, "a list")


def http_date(text: str | None) -> datetime | None:
    """The time of a Date header; None where there is none, or none that can be read."""
    try:
        return parsedate_to_datetime(text).astimezone(UTC) if text else None
    except ValueError:
        return None


def plain(value: Any) -> Any:
    """A parsed answer with each Decimal as the float that Python's own JSON reader would have made of it.

    json.dumps writes it back to the same number: a float's shortest text is the decimal it came from, for all
    amounts that the coordinator can send.
    """
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
