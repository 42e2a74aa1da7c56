"""Reputation by its formula, and as what breaks ties in dispatch."""

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc.coordinator.jobs.matching.constraints import Ask, MinerNeeds
from aitbc.coordinator.jobs.matching.idle_miners import IdleMiners
from aitbc.coordinator.jobs.matching.merit import REPUTATION_STEP, Merit
from aitbc.coordinator.jobs.matching.rules import MinerProfile
from aitbc.coordinator.miners import reputation
from aitbc.coordinator.miners.reputation import FLOOR_BPS, HOUR_MS, NEWCOMER_TRIES, TOP_BPS
from tests.coordinator.jobs.test_idle_miners import wanted, woken


class Facts(NamedTuple):
    delivered: int = 0
    failed: int = 0
    run_ms: int = 0
    units: int = 0
    up_ms: int = 0
    away_ms: int = 0
    promised_ms: int = 0
    served_ms: int = 0


TIMES = st.integers(0, 1000 * HOUR_MS)


@st.composite
def facts(draw: st.DrawFn) -> Facts:
    promised = draw(TIMES)
    return Facts(
        draw(st.integers(0, 256)),
        draw(st.integers(0, 64)),
        draw(st.integers(0, 10**8)),
        draw(st.integers(0, 10**7)),
        draw(TIMES),
        draw(TIMES),
        promised,
        draw(st.integers(0, promised)),
    )


@pytest.mark.parametrize(
    ("known", "score"),
    [
        (Facts(), 8_600),
        (Facts(delivered=92, run_ms=0, units=10**6), 9_559),
        (Facts(failed=8), 6_350),
        (Facts(up_ms=24 * HOUR_MS), 8_700),
        (Facts(away_ms=24 * HOUR_MS), 7_700),
        (Facts(promised_ms=10 * HOUR_MS, served_ms=10 * HOUR_MS), 8_700),
        (Facts(promised_ms=10 * HOUR_MS), 7_700),
    ],
)
def test_known_scores(known: Facts, score: int) -> None:
    assert reputation.score_bps(known) == score


@given(facts())
def test_the_number_is_the_formula_over_the_parts(known: Facts) -> None:
    parts = reputation.parts(known)
    assert set(parts) == set(reputation.WEIGHTS) == set(reputation.FORMULAE)
    assert all(0 <= part.bps <= 10_000 and part.samples >= 0 for part in parts.values())
    weighed = sum(weight * parts[name].bps for name, weight in reputation.WEIGHTS.items())
    assert reputation.score_bps(known) == weighed // sum(reputation.WEIGHTS.values())
    assert 0 <= reputation.score_bps(known) <= 10_000


@given(facts())
def test_what_is_done_well_raises_it_and_what_fails_lowers_it(known: Facts) -> None:
    score = reputation.score_bps(known)
    better = (
        known._replace(delivered=known.delivered + 1),
        known._replace(up_ms=known.up_ms + HOUR_MS),
        known._replace(promised_ms=known.promised_ms + HOUR_MS, served_ms=known.served_ms + HOUR_MS),
        known._replace(units=known.units + 1000),
    )
    worse = (
        known._replace(failed=known.failed + 1),
        known._replace(away_ms=known.away_ms + HOUR_MS),
        known._replace(promised_ms=known.promised_ms + HOUR_MS),
        known._replace(run_ms=known.run_ms + 1000),
    )
    assert all(reputation.score_bps(one) >= score for one in better)
    assert all(reputation.score_bps(one) <= score for one in worse)


@given(facts())
def test_dispatch_has_bounds_and_newcomers_stand_with_the_best(known: Facts) -> None:
    found = reputation.in_dispatch_bps(known)
    assert FLOOR_BPS <= found <= TOP_BPS
    if known.delivered + known.failed < NEWCOMER_TRIES:
        assert found == TOP_BPS


def profile(name: str, price: int, known: int) -> MinerProfile:
    asks = (Ask("llm_inference", "llama", price),)
    return MinerProfile(MinerNeeds(name, "", 0), asks, Merit(reputation=known))


def test_among_miners_of_one_cost_the_better_reputation_is_woken_first() -> None:
    waiting = IdleMiners()
    worse, better, alike, cheaper = (
        waiting.enter(profile("worse", 100, FLOOR_BPS)),
        waiting.enter(profile("better", 100, TOP_BPS)),
        waiting.enter(profile("alike", 100, TOP_BPS + REPUTATION_STEP - 1)),
        waiting.enter(profile("cheaper", 99, FLOOR_BPS)),
    )
    order = (cheaper, better, alike, worse)
    for count in range(1, 5):
        assert waiting.wake(wanted())
        assert woken(*order) == [True] * count + [False] * (4 - count)
