"""Accounts and their keys."""

from typing import Annotated, NotRequired

from aitbc.coordinator.api.schemas.fields import OneOf
from aitbc.coordinator.api.schemas.replies.base import Reply


class KeyState(Reply):
    key_id: str
    role: str
    limit: NotRequired[float | None]
    limit_period: NotRequired[Annotated[str, OneOf("day", "month")] | None]
    spent: NotRequired[float | None]


class Account(Reply):
    """An account's money, in AIT: available = balance - held."""

    account: str
    balance: float
    held: float
    available: float
    key: KeyState
