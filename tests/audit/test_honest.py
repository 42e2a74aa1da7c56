"""An honest database passes, on both engines."""

from aitbc.audit.database import audit
from aitbc.audit.trust import Trust, read_kept
from aitbc.coordinator.chain import sealer
from tests.audit.scene import Scene
from tests.audit.test_outside import POLICY
from tests.support.flows import CHAIN, Market


def test_an_honest_database_passes(market: Market) -> None:
    assert market.db.read_sync(audit, CHAIN).ok  # with nothing in it
    Scene(market)
    head = market.db.read_sync(sealer.head)
    assert head is not None
    trust = Trust(policy=POLICY, kept=(read_kept("kept.txt", head.checkpoint),))
    report = market.db.read_sync(audit, CHAIN, [], None, trust)
    assert report.ok, report.problems
    assert report.not_checked == []
    counts = report.counts
    assert (counts["blocks"], counts["cosignatures"], counts["payments"]) == (4, 3, 7)
    assert counts["leaves"] == counts["transfers"] + counts["receipts"] + counts["parameters"] > 256
    assert counts["parameters"] == 2
    assert counts["receipts"] == 7
    assert counts["wallet_transactions"] == 3


def test_what_cannot_be_checked_is_said(market: Market) -> None:
    Scene(market, grants=1)
    report = market.db.read_sync(audit, CHAIN)
    assert report.ok
    keys, cut, witnesses = report.not_checked
    assert "whether the signing keys are the right ones: they are this database's own word" in keys
    assert "no checkpoint kept from before was given" in cut
    assert witnesses == "3 cosignatures by witnesses whose keys are not known here"
    assert "the settings name another" in market.db.read_sync(audit, "another").problems[0]
