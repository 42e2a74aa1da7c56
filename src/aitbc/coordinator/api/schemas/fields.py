"""Field types of request bodies: numbers that are numbers, money that is decimal, ids that are ids."""

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
)
from pydantic_core.core_schema import CoreSchema, literal_schema, no_info_before_validator_function

from aitbc.core.money import EXACT_NUMBER_UNITS, format_ait, parse_ait
from aitbc.core.text import clean
from aitbc.core.transfer_ids import MINER_ID

MAX_JOB_ID_CHARS = 128
MAX_MEMORY_GB = 1_000_000
MINER_ID_PATTERN = f"^{MINER_ID.pattern}$"


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError("must be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError("must be a finite number")
    return number


def _amount(value: Any) -> int:
    if isinstance(value, str):
        raise ValueError("an amount is a number, not a string")
    return parse_ait(value)


def _unit_price(value: Any) -> int:
    units = _amount(value)
    if units > EXACT_NUMBER_UNITS:
        most = format_ait(EXACT_NUMBER_UNITS)
        raise ValueError(f"a price cannot exceed {most} AIT: a receipt could not state it exactly")
    return units


@dataclass(frozen=True)
class Cut:
    """Free text that a miner gives: any JSON value, made text, cleaned and cut, so that it is never refused.

    Stands in `Annotated[str | None, Cut(64)]`.
    """

    most_chars: int

    def read(self, value: Any) -> str | None:
        if value is None:
            return None
        text = value if isinstance(value, str) else str(value)[: 4 * self.most_chars]
        return clean(text, self.most_chars)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_before_validator_function(self.read, handler(source))

    def __get_pydantic_json_schema__(self, _: CoreSchema, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "description": f"Cut after {self.most_chars} characters."}


class OneOf:
    """A text that is one of a few: to the type checker any text, for rows hold their states as such."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return literal_schema(self.texts)


def _text_or_number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueError('must be a size such as "24GB"')
    return str(value)


Number = Annotated[float, BeforeValidator(_number), WithJsonSchema({"type": "number"})]
"""A finite JSON number, as a float."""

AmountUnits = Annotated[
    int,
    BeforeValidator(_amount),
    WithJsonSchema({"type": "number", "minimum": 0, "description": "AIT, at most 8 decimals."}),
]
"""A JSON number in AIT, as base units."""

UnitPrice = Annotated[
    int,
    BeforeValidator(_unit_price),
    WithJsonSchema(
        {"type": "number", "minimum": 0, "description": "AIT per 1000 tokens, at most 8 decimals."}
    ),
]
"""A price as a JSON number in AIT, as base units; never more than a receipt's number can say to the unit."""

JobId = Annotated[
    str, Field(max_length=MAX_JOB_ID_CHARS), AfterValidator(lambda text: clean(text, MAX_JOB_ID_CHARS))
]
MinerId = Annotated[str, Field(pattern=MINER_ID_PATTERN)]
SessionId = Annotated[
    str, Field(max_length=64, description="The session that the registration gave; left out: any.")
]
Size = Annotated[str, BeforeValidator(_text_or_number), Field(max_length=32)]
"""A memory size as text ("24GB") or a number of gigabytes."""
