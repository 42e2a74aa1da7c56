"""Who is woken for a job, and that no wake-up is ever lost."""

import asyncio
import random
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc.coordinator.jobs.exclusion import set_of
from aitbc.coordinator.jobs.matching.constraints import Ask, MinerNeeds
from aitbc.coordinator.jobs.matching.idle_miners import IdleMiners, Ticket
from aitbc.coordinator.jobs.matching.rules import RULES, MinerProfile, Wanted


def profile(name: str = "m", price: int = 100, model: str = "llama", **needs: Any) -> MinerProfile:
    region, memory = needs.get("region", ""), needs.get("memory_mb", 0)
    return MinerProfile(MinerNeeds(name, region, memory), (Ask("llm_inference", model, price),))


def wanted(model: str = "llama", cap: int = 1000, **constraints: Any) -> Wanted:
    return RULES.wanted(
        "llm_inference",
        model,
        max_price_units=cap,
        min_memory_mb=constraints.get("memory_mb", 0),
        region=constraints.get("region", ""),
        required_miner_id=constraints.get("only", ""),
        excluded=set_of([constraints["not_for"]] if "not_for" in constraints else []),
    )


def woken(*tickets: Ticket) -> list[bool]:
    return [ticket.woken_by is not None for ticket in tickets]


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 20))


@pytest.fixture
def waiting() -> IdleMiners:
    return IdleMiners()


def test_the_cheapest_that_fits_is_woken(waiting: IdleMiners) -> None:
    dear, cheap, elsewhere, cheapest_but_small = (
        waiting.enter(profile("a", 300)),
        waiting.enter(profile("b", 200)),
        waiting.enter(profile("c", 100, region="us")),
        waiting.enter(profile("d", 50)),
    )
    assert waiting.wake(wanted(memory_mb=1, region="eu")) is False
    assert waiting.wake(wanted(region="us"))
    assert woken(dear, cheap, elsewhere, cheapest_but_small) == [False, False, True, False]
    assert waiting.wake(wanted(not_for="d"))
    assert woken(dear, cheap, cheapest_but_small) == [False, True, False]
    assert waiting.wake(wanted(only="a"))
    assert woken(dear, cheapest_but_small) == [True, False]
    assert waiting.wake(wanted(cap=50))
    assert not waiting.wake(wanted()), "all of them are up"


def test_miners_of_any_model_compete_on_price(waiting: IdleMiners) -> None:
    named = waiting.enter(profile("a", 100))
    anything = waiting.enter(profile("b", 60, model="*"))
    assert waiting.wake(wanted())
    assert woken(named, anything) == [False, True]
    assert waiting.wake(wanted())
    assert woken(named) == [True]
    assert not waiting.wake(wanted("qwen"))


def test_among_equals_the_one_that_waited_longest(waiting: IdleMiners) -> None:
    tickets = [waiting.enter(profile(f"m{n}")) for n in range(5)]
    for n in range(5):
        waiting.wake(wanted())
        assert woken(*tickets) == [m <= n for m in range(5)]


def test_one_job_wakes_one_miner(waiting: IdleMiners) -> None:
    async def main() -> None:
        tickets = [waiting.enter(profile(f"m{n}", n)) for n in range(4)]
        asked = wanted()
        job = SimpleNamespace(
            job_type=asked.job_type, model=asked.model, max_units=asked.most_context, **asked.limits
        )
        waits = [asyncio.create_task(waiting.wait(ticket, 5)) for ticket in tickets]
        await asyncio.sleep(0)
        waiting.hear(RULES.signal_of(job))
        waiting.hear(("job", "some id"))
        assert await waits[0] is True
        assert [wait.done() for wait in waits] == [True, False, False, False]
        waiting.wake_all()
        assert await asyncio.gather(*waits[1:]) == [True] * 3

    run(main())


def test_a_wait_ends_in_time_and_can_be_taken_up_again(waiting: IdleMiners) -> None:
    async def main() -> None:
        ticket = waiting.enter(profile())
        assert await waiting.wait(ticket, 0.01) is False
        waiting.wake(wanted())
        assert await waiting.wait(ticket, 5) is True, "woken between two waits"
        assert await waiting.wait(ticket, 0.01) is False, "and only once"

    run(main())


# --- no wake-up is lost -----------------------------------------------------------------------------------


def test_who_leaves_before_following_a_wake_up_passes_it_on(waiting: IdleMiners) -> None:
    first, second = waiting.enter(profile("a", 1)), waiting.enter(profile("b", 2))
    waiting.wake(wanted())
    assert woken(first, second) == [True, False]
    waiting.leave(first, satisfied=False)
    assert woken(second) == [True]


def test_who_leaves_while_looking_passes_it_on(waiting: IdleMiners) -> None:
    """Its connection broke after it woke, before it could take the job."""

    async def main() -> None:
        first, second = waiting.enter(profile("a", 1)), waiting.enter(profile("b", 2))
        waiting.wake(wanted())
        assert await waiting.wait(first, 5)
        waiting.leave(first, satisfied=False)
        assert woken(second) == [True]

    run(main())


def test_who_got_a_job_passes_on_what_woke_it_meanwhile(waiting: IdleMiners) -> None:
    """A second job came while it took the first: that one is for somebody else."""

    async def main() -> None:
        first, second = waiting.enter(profile("a", 1)), waiting.enter(profile("b", 2))
        waiting.wake(wanted())
        assert await waiting.wait(first, 5)
        waiting.wake(wanted())
        assert woken(first, second) == [True, False]
        waiting.leave(first, satisfied=True)
        assert woken(second) == [True]

    run(main())


def test_who_got_its_job_wakes_nobody_for_it(waiting: IdleMiners) -> None:
    async def main() -> None:
        first, second = waiting.enter(profile("a", 1)), waiting.enter(profile("b", 2))
        waiting.wake(wanted())
        assert await waiting.wait(first, 5)
        waiting.leave(first, satisfied=True)
        assert woken(second) == [False]

    run(main())


def test_a_cancelled_wait_passes_its_wake_up_on(waiting: IdleMiners) -> None:
    async def main() -> None:
        first, second = waiting.enter(profile("a", 1)), waiting.enter(profile("b", 2))
        wait = asyncio.create_task(waiting.wait(first, 5))
        await asyncio.sleep(0)
        waiting.wake(wanted())
        wait.cancel()
        await asyncio.wait({wait})
        waiting.leave(first, satisfied=False)
        assert woken(second) == [True]

    run(main())


# --- many -------------------------------------------------------------------------------------------------


def test_nothing_is_kept_of_those_who_left(waiting: IdleMiners) -> None:
    mixed = random.Random(1)
    anchor = waiting.enter(profile("anchor", 0, model="model-0"))
    present: list[Ticket] = []
    for n in range(5_000):
        present.append(
            waiting.enter(profile(f"m{n}", mixed.randrange(1, 100), f"model-{mixed.randrange(5)}"))
        )
        if len(present) > 20:
            waiting.leave(present.pop(mixed.randrange(len(present))), satisfied=bool(n % 2))
        if n % 7 == 0:
            waiting.wake(wanted(f"model-{mixed.randrange(5)}"))
    assert len(waiting) == 21
    assert sum(map(len, waiting._buckets.values())) <= 5 * (2 * 21 + 16)
    for ticket in present:
        waiting.leave(ticket, satisfied=True)
    waiting.leave(anchor, satisfied=True)
    assert len(waiting) == 0
    assert not waiting._buckets


def test_a_thousand_waiters_are_woken_in_order_of_price(waiting: IdleMiners) -> None:
    prices = list(range(1_000))
    random.Random(2).shuffle(prices)
    tickets = {price: waiting.enter(profile(f"m{price}", price)) for price in prices}

    async def main() -> None:
        served: list[int] = []

        async def mine(price: int) -> None:
            assert await waiting.wait(tickets[price], 10)
            served.append(price)
            waiting.leave(tickets[price], satisfied=True)

        tasks = [asyncio.create_task(mine(price)) for price in prices]
        await asyncio.sleep(0)
        for _ in range(1_000):
            waiting.wake(wanted())
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        assert served == sorted(prices)

    run(main())
    assert not waiting.wake(wanted())
    assert not waiting._buckets


ASKS = st.lists(
    st.tuples(
        st.sampled_from(["llm_inference", "embedding"]), st.sampled_from(["x", "y"]), st.integers(0, 3)
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda ask: ask[:2],
)


@settings(max_examples=80, deadline=None, database=None)
@given(
    crowd=st.lists(st.tuples(ASKS, st.sampled_from(["", "eu"]), st.integers(0, 2)), max_size=6),
    jobs=st.lists(
        st.tuples(
            st.sampled_from(["llm_inference", "embedding"]),
            st.sampled_from(["x", "y"]),
            st.integers(0, 3),
            st.integers(0, 2),
            st.sampled_from(["", "", "eu"]),
            st.sampled_from(["", "", "m1"]),
            st.sampled_from(["", "", " m0 "]),
        ),
        max_size=8,
    ),
)
def test_each_job_wakes_the_best_that_is_free(crowd: list[Any], jobs: list[Any]) -> None:
    """Against the definition: of all that fit and are not up yet, the lowest price, then the longest wait."""
    waiting = IdleMiners()
    tickets = []
    for n, (asks, region, memory) in enumerate(crowd):
        one = MinerProfile(MinerNeeds(f"m{n}", region, memory), tuple(Ask(*ask) for ask in asks))
        tickets.append(waiting.enter(one))
    for job in jobs:
        kind, model, cap, memory, region, required, kept_from = job
        asked = RULES.wanted(
            kind,
            model,
            max_price_units=cap,
            min_memory_mb=memory,
            region=region,
            required_miner_id=required,
            excluded=kept_from,
        )
        free = [t for t in tickets if t.woken_by is None and not RULES.reason_against(t.profile, asked)]
        best = min(free, key=lambda t: t.profile.ask_for(asked).price_units, default=None)  # type: ignore[union-attr]
        before = woken(*tickets)
        assert waiting.wake(asked) is (best is not None)
        expected = [was or ticket is best for was, ticket in zip(before, tickets, strict=True)]
        assert woken(*tickets) == expected
