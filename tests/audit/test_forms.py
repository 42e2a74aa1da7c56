"""A transfer whose id or reference is of no declared form is found, however well everything else fits."""

import pytest

from aitbc.audit.database import audit
from aitbc.coordinator.database import Tx
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.ledger.service import Hold
from aitbc.core.transfer_ids import GRANT, GRANTED, MINTED, REASON, Reference, TransferId
from tests.support.flows import CHAIN, Market
from tests.support.transfers import declare, id_of, job_of, outpoint_of, signed_of

FREE = TransferId("prize-1")
RENT = Reference("rent")


def faults(market: Market) -> tuple[str, str] | None:
    """The audit's finding: of which transfer, and what."""
    wrong = market.db.read_sync(audit, CHAIN).wrong
    assert wrong is None or wrong.kind == "transfer"
    return None if wrong is None else (wrong.id, wrong.what)


@pytest.mark.parametrize(
    ("transfer_id", "ref", "what"),
    [
        (FREE, GRANTED, "no mint has such an id"),
        (outpoint_of("x"), GRANTED, "no mint has such an id"),
        (TransferId("grant:"), GRANTED, "no mint has such an id"),
        (id_of("x"), Reference(""), "it is for '', which no mint is for"),
        (id_of("x"), Reference("two\nlines"), "it is for 'two\\nlines', which no mint is for"),
    ],
)
def test_of_a_mint(market: Market, transfer_id: TransferId, ref: Reference, what: str) -> None:
    market.client("alice")
    assert faults(market) is None
    market.db.write_sync(ledger.mint, transfer_id, "alice", 5, ref)
    assert faults(market) == (transfer_id, what)


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (Hold(FREE, "alice", 5, job_of()), "no hold has such an id"),
        (Hold(GRANT.of("x"), "alice", 5, job_of()), "no hold has such an id"),
        (Hold(id_of("x"), "alice", 5, RENT), "it is for 'rent', which no hold is for"),
        (Hold(id_of("x"), "alice", 5, signed_of()), f"it is for {signed_of()!r}, which no hold is for"),
    ],
)
def test_of_a_hold(market: Market, made: Hold, what: str) -> None:
    market.client("alice")
    market.db.write_sync(ledger.hold, made)
    assert faults(market) == (made.id, what)


@pytest.mark.parametrize(
    ("transfer_id", "ref", "what"),
    [
        (MINTED.of("x"), signed_of(), "no transfer has such an id"),
        (id_of("x"), RENT, "it is for 'rent', which no transfer is for"),
        (id_of("x"), job_of(), f"it is for {job_of()!r}, which no transfer is for"),
    ],
)
def test_of_a_transfer(market: Market, transfer_id: TransferId, ref: Reference, what: str) -> None:
    for name in ("alice", "bob"):
        market.client(name)

    def act(tx: Tx) -> None:
        ledger.transfer(tx, transfer_id, "alice", "bob", 5, ref=ref)

    market.db.write_sync(act)
    assert faults(market) == (transfer_id, what)


def test_a_kind_of_id_that_is_declared_is_right(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    market.client("alice")
    market.db.write_sync(ledger.mint, outpoint_of("x", 3), "alice", 5, REASON.of("a Bitcoin credit"))
    assert faults(market) == (outpoint_of("x", 3), "no mint has such an id")
    declare(monkeypatch)
    assert faults(market) is None
