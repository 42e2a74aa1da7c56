"""Ids and references of transfers by short names, so that tests can tell them apart."""

import hashlib
import re
from collections.abc import Iterable

import pytest

from aitbc.core.ids import UUID_V7
from aitbc.core.transfer_ids import IDS, JOB, SIGNED, IdForm, Reference, TransferId, stored_id

# Forms as a later part of the program would declare them, for what so far only transfers of tests are.
COIN = IdForm(
    "coin:",
    re.compile(r"[0-9a-f]{64}:(?:0|[1-9][0-9]{0,9})", re.ASCII),
    frozenset({"mint", "transfer"}),
    "An outpoint is 64 hex digits, a colon and a number.",
)
BOOKING = IdForm("booking:", UUID_V7, frozenset({"transfer"}), "A booking's id is a UUID of version 7.")


def uuid_of(name: str) -> str:
    """Always the same UUID of version 7 for a name."""
    digits = hashlib.sha256(name.encode()).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-7{digits[12:15]}-8{digits[15:18]}-{digits[18:30]}"


def id_of(name: str) -> TransferId:
    return stored_id(uuid_of(name))


def job_of(name: str = "job") -> Reference:
    return JOB.of(uuid_of(name))


def signed_of(name: str = "signed") -> Reference:
    """Of a transfer between wallets: the hash of what was signed."""
    return SIGNED.of(hashlib.sha256(name.encode()).hexdigest())


def outpoint_of(name: str, output: int = 0) -> TransferId:
    return COIN.of(f"{hashlib.sha256(name.encode()).hexdigest()}:{output}")


def booking_of(name: str) -> TransferId:
    return BOOKING.of(uuid_of(name))


def declare(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on the program has bookings' and outpoints' ids."""
    monkeypatch.setitem(IDS, "coin", COIN)
    monkeypatch.setitem(IDS, "booking", BOOKING)


def names_of(ids: Iterable[str], *names: str) -> list[str]:
    """The names, sorted, by which these were made; an id stays as it is where none of `names` is its own."""
    known = {uuid_of(name): name for name in names}
    return sorted(known.get(one, one) for one in ids)
