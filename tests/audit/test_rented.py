"""What the log says of a booking, held to itself and to its transfers: each lie that could be sealed is named."""

from __future__ import annotations

from typing import Any

import pytest

from aitbc.audit.books import Line, Settlement
from aitbc.audit.findings import Wrong
from aitbc.audit.rented import Ended, Rented

UUID = "019b7c1e-5a46-7000-8000-00000000000a"
HONEST = Ended(
    id=UUID,
    gpu_id="gpu",
    miner_id="m1",
    booker="alice",
    owner="bob",
    start_ms=1_000_000,
    end_ms=4_600_000,
    hour_units=6_000,
    fee_bps=1_000,
    hold_id="hold",
    held_units=6_000,
    used_ms=595_000,
    price_units=1_000,
    fee_units=100,
    transfer_id="post",
    outcome="released",
    ended_by="booker",
    ended_at_ms=1_700_000,
)
UNUSED = HONEST._replace(
    used_ms=0, price_units=0, fee_units=0, outcome="no_show", ended_by="coordinator", transfer_id="void"
)


def settlement(fee_units: int = 100, **changes: Any) -> Settlement:
    """How the hold of HONEST ended: 900 to bob, and the fee."""
    line = Line("post", "post", "alice", "bob", 900, "hold", f"booking {UUID}", 1_700_000)
    ended = Settlement(line._replace(**changes), 6_000)
    ended.fee_units = fee_units
    return ended


VOID = {"id": "void", "kind": "void", "credit": "system:escrow", "amount_units": 6_000}


@pytest.mark.parametrize("first", ["leaf", "transfers"])
def test_a_booking_and_its_transfers_in_either_order(first: str) -> None:
    for booking, paid in ((HONEST, settlement()), (UNUSED, settlement(0, **VOID))):
        rented = Rented()
        if first == "leaf":
            rented.ended(booking)
            assert rented.settled(paid)
        else:
            assert rented.settled(paid)
            rented.ended(booking)
        assert rented.close(whole=True) == 0
        assert rented.bookings == 1


LIES: dict[str, dict[str, Any]] = {
    "a dearer minute": {"price_units": 1_001},
    "a cheaper one": {"price_units": 900, "fee_units": 90},
    "more time": {"used_ms": 660_000},
    "time after the end": {"used_ms": 3_600_001},
    "less than no time": {"used_ms": -1},
    "another fee": {"fee_units": 99},
    "another share": {"fee_bps": 900},
    "another hour": {"hour_units": 6_060},
    "less held": {"held_units": 5_999},
    "no show, and used": {"outcome": "no_show", "ended_by": "coordinator"},
    "run out by hand": {"outcome": "ran_out"},
    "no outcome": {"outcome": "vanished"},
    "its own GPU": {"owner": "alice"},
    "the end before the start": {"end_ms": 999_999},
}


@pytest.mark.parametrize("changes", LIES.values(), ids=LIES.keys())
def test_a_lie_of_the_leaf_is_named(changes: dict[str, Any]) -> None:
    with pytest.raises(Wrong) as found:
        Rented().ended(HONEST._replace(**changes))
    assert found.value.kind == "booking"


MISPAID: dict[str, dict[str, Any]] = {
    "somebody else": {"credit": "mallory"},
    "by somebody else": {"debit": "carol"},
    "too little": {"amount_units": 899},
    "in another transfer": {"id": "other"},
    "for another booking": {"ref": f"booking {UUID[:-1]}b"},
    "given back": VOID,
}


@pytest.mark.parametrize("changes", MISPAID.values(), ids=MISPAID.keys())
def test_a_payment_that_is_another_is_named(changes: dict[str, Any]) -> None:
    rented = Rented()
    rented.ended(HONEST)
    with pytest.raises(Wrong, match="booking"):
        rented.settled(settlement(**changes))


def test_neither_stands_without_the_other() -> None:
    alone = Rented()
    alone.ended(HONEST)
    for whole in (True, False):
        with pytest.raises(Wrong, match="was not settled"):
            alone.close(whole=whole)
    paid = Rented()
    assert paid.settled(settlement())
    assert paid.close(whole=False) == 1
    with pytest.raises(Wrong, match="has not ended"):
        paid.close(whole=True)
    twice = Rented()
    twice.ended(HONEST)
    with pytest.raises(Wrong, match="another booking's"):
        twice.ended(HONEST._replace(id=UUID[:-1] + "b"))


def test_holds_of_others_are_not_its_business() -> None:
    assert not Rented().settled(settlement(ref=UUID))
