"""What follows from a top-up's outputs, by a table; and that no state leads where no way is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc.coordinator.exchange.states import EXCEPTIONS, STATES, TRANSITIONS, Output, decide, tiers

NEEDED = tiers((1, 3, 6))
SAT = 500_000
TIP = 1_000


def output(depth: int = 0, sat: int = SAT, name: str = "a", **more: object) -> Output:
    """In the block so deep, 0: in none."""
    return Output(name, sat, TIP - depth + 1 if depth else -1, **more)  # type: ignore[arg-type]


CREDITED, LOST = {"events": 1}, {"events": 1, "lost_height": TIP}
CASES = {
    "nothing": ([], False, "pending", "none"),
    "nothing, too late": ([], True, "expired", "none"),
    "on its way": ([output()], False, "seen", "none"),
    "on its way when the lock ended": ([output()], True, "seen", "none"),
    "deep enough": ([output(1)], False, "confirmed", "none"),
    "too little": ([output(1, SAT - 1)], False, "confirmed", "underpaid"),
    "too much": ([output(1, SAT + 1)], False, "confirmed", "overpaid"),
    "the rest on its way": ([output(9, SAT - 1, **CREDITED), output(0, 1, "b")], False, "seen", "none"),
    "a second time": ([output(9, **CREDITED), output(0, SAT, "b")], False, "confirmed", "overpaid"),
    "late": ([output(1, late=True)], True, "confirmed", "late"),
    "replaced": ([output(gone=True)], False, "pending", "replaced"),
    "replaced for good": ([output(gone=True)], True, "invalid", "replaced"),
    "replaced, and paid anew": ([output(gone=True), output(name="b")], False, "seen", "none"),
    "lost just now": ([output(gone=True, **LOST)], True, "confirmed", "none"),
    "lost for good": ([output(gone=True, events=1, lost_height=TIP - 9)], True, "invalid", "replaced"),
    "lost, and waiting again": ([output(events=1, lost_height=TIP - 9)], True, "seen", "none"),
    "medium, not deep enough": ([output(2, 5_000_000)], False, "seen", "overpaid"),
    "large, not deep enough": ([output(5, 50_000_000)], False, "seen", "overpaid"),
    "a coinbase": ([output(99, coinbase=True)], False, "seen", "none"),
    "a ripe coinbase": ([output(100, coinbase=True)], False, "confirmed", "none"),
    "too large": ([output(50, too_large=True)], False, "seen", "none"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_state_follows_from_the_outputs(name: str) -> None:
    outputs, lock_over, state, exception = CASES[name]
    decided = decide(SAT, lock_over, outputs, TIP, NEEDED)
    assert (decided.state, decided.exception) == (state, exception)


@pytest.mark.parametrize(
    ("sat", "blocks"), [(1, 1), (999_999, 1), (1_000_000, 3), (9_999_999, 3), (10_000_000, 6), (10**15, 6)]
)
def test_confirmations_by_amount(sat: int, blocks: int) -> None:
    assert NEEDED(sat) == blocks
    assert [decide(1, False, [output(depth, sat)], TIP, NEEDED).credit for depth in (blocks - 1, blocks)] == [
        [],
        ["a"],
    ]


OUTPUTS = st.builds(
    Output,
    st.just(""),
    st.sampled_from([1, SAT - 1, SAT, 20_000_000]),
    st.sampled_from([-1, TIP, TIP - 2, TIP - 5, TIP - 200]),
    st.sampled_from([-1, TIP - 1, TIP - 9]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(0, 3),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(OUTPUTS, max_size=4), st.booleans())
def test_credits_and_reversals_only_of_what_can_be(found: list[Output], lock_over: bool) -> None:
    outputs = [
        Output(str(n), o.sat, -1 if o.gone else o.height, o.lost_height, o.gone, o.late, o.coinbase, o.events)
        for n, o in enumerate(found)
    ]
    decided = decide(SAT, lock_over, outputs, TIP, NEEDED)
    by_name = {one.id: one for one in outputs}
    assert all(by_name[name].events % 2 == 0 and by_name[name].height >= 0 for name in decided.credit)
    assert all(by_name[name].events % 2 == 1 and by_name[name].height < 0 for name in decided.reverse)
    assert decided.state in STATES and decided.exception in EXCEPTIONS
    assert not set(decided.final) & set(decided.reverse) - {name for name in by_name if by_name[name].gone}


def test_every_state_has_its_ways() -> None:
    assert set(TRANSITIONS) == set(STATES)
    assert all(set(ways) <= set(STATES) and state not in ways for state, ways in TRANSITIONS.items())
