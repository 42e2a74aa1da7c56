"""Who is calling: what a good API key, or a wallet user's session, says about its holder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["client", "miner", "admin", "user"]

ROLES: tuple[Role, ...] = ("client", "miner", "admin")
"""What keys are made for. A "user" has a session instead."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of a key or of a session, whose id `key_id` is then.

    `scopes` are the roles it may act in; an admin may also read everything.
    `limited` is False where the key has no spending limit, so that nothing needs to be reserved on it.
    `secret_hash` is of the key as it was shown ('' for a static key and a session): a rotation ends it.
    `reservation` is the booking of a GPU whose key it is: it submits jobs there, and may nothing else ('' for others).
    `expires_at_ms` is when the credential that was shown stops working (None: never).
    """

    account_id: str
    role: Role
    key_id: str
    scopes: frozenset[str]
    limited: bool = False
    expires_at_ms: int | None = None
    secret_hash: str = ""
    reservation: str = ""

    @property
    def is_admin(self) -> bool:
        return "admin" in self.scopes
