"""An honest database passes, on both engines."""

from aitbc.audit.database import audit
from tests.audit.scene import WITNESS, Scene
from tests.support_flows import CHAIN, Market


def test_an_honest_database_passes(market: Market) -> None:
    assert market.db.read_sync(audit, CHAIN).ok  # with nothing in it
    Scene(market)
    report = market.db.read_sync(audit, CHAIN, [WITNESS])
    assert report.ok, report.problems
    assert report.not_checked == []
    counts = report.counts
    assert (counts["blocks"], counts["cosignatures"], counts["payments"]) == (4, 3, 6)
    assert counts["leaves"] == counts["transfers"] + counts["receipts"] > 256
    assert counts["receipts"] == 7
    assert counts["wallet_transactions"] == 3


def test_what_cannot_be_checked_is_said(market: Market) -> None:
    Scene(market, grants=1)
    report = market.db.read_sync(audit, CHAIN)
    assert report.ok
    assert report.not_checked == ["3 cosignatures by witnesses whose keys are not known here"]
    assert "the settings name another" in market.db.read_sync(audit, "another").problems[0]
