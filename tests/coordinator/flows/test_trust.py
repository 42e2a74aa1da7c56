"""What a stranger's miners can do to the market: little, until they have delivered."""

from dataclasses import replace

import pytest

from aitbc.coordinator.errors import InsufficientFunds, JobNotAvailable
from aitbc.coordinator.flows.acts import dispatch, job_lifecycle, registration
from aitbc.coordinator.flows.shared import retries
from aitbc.coordinator.jobs.matching.constraints import Ask, MinerNeeds
from aitbc.coordinator.jobs.matching.idle_miners import NEWCOMER_TURN, IdleMiners
from aitbc.coordinator.jobs.matching.merit import Merit
from aitbc.coordinator.jobs.matching.rules import RULES, MinerProfile
from aitbc.coordinator.miners import standing
from aitbc.coordinator.miners.rows import MinerSpec, ModelSpec
from tests.support.flows import Market, Provider, spec_of


def wait(market: Market, seconds: float) -> None:
    market.clock.advance(seconds)
    market.expire()


def approve(market: Market, miner: Provider, how: str = "approved") -> None:
    market.db.write_sync(standing.set_approval, miner.principal.account_id, how)


def reason(market: Market, miner: Provider) -> str:
    return market.db.write_sync(dispatch.take, market.ctx, *miner, 1, ()).room.reason


def test_leases_grow_with_answers_and_are_counted_for_the_account(market: Market) -> None:
    client = market.client()
    for _ in range(60):
        market.submit(client)
    ids = [market.miner(f"m{n}", account="stranger", models={"llama": 0}, concurrency=4096) for n in range(5)]
    taken = [(miner, job.id) for miner in ids for job in market.take(miner, 500)]
    assert len(taken) == standing.START_LEASES, "over all its ids"
    assert reason(market, ids[1]) == "TRUST"
    for miner, job in taken:
        market.complete(miner, job)
    assert len(market.take(ids[2], 500)) == 2 * standing.START_LEASES
    market.check()


def test_answers_to_oneself_earn_no_trust(market: Market) -> None:
    owner = market.client("both")
    miner = market.miner(account="both", concurrency=100)
    for _ in range(10):
        market.submit(owner)
    for job in market.take(miner, 8):
        market.complete(miner, job.id)
    for _ in range(10):
        market.submit(owner)
    assert len(market.take(miner, 100)) == standing.START_LEASES


def test_a_stranger_cannot_fail_the_jobs_of_others(market: Market) -> None:
    """With ids and accounts as it likes: a proven miner's word is waited for."""
    client, honest = market.client(), market.miner("honest")
    approve(market, honest)
    jobs = [market.submit(client).id for _ in range(6)]
    for n in range(4):
        for account in ("mallory", "eve", "trent"):
            bad = market.miner(f"{account}-{n}", account=account, models={"llama": 0}, concurrency=4096)
            for job in market.take(bad, 500):
                market.fail(bad, job.id, "BAD_REQUEST", False)
        wait(market, 70)
    assert {market.job(job).status for job in jobs} == {"pending"}
    while taken := market.take(honest, 10):
        for job in taken:
            market.complete(honest, job.id)
        wait(market, 1)
    assert {market.job(job).status for job in jobs} == {"completed"}
    market.check()


def test_two_accounts_that_agree_end_a_job_and_are_not_blamed(market: Market) -> None:
    client, first, second = market.client(), market.miner("a"), market.miner("b")
    job = market.submit(client)
    market.take(first)
    assert market.fail(first, job.id, "BAD_REQUEST").status == "pending"
    assert market.take(first) == []
    market.take(second)
    ended = market.fail(second, job.id, "BAD_REQUEST")
    assert (ended.status, ended.cause) == ("failed", "BAD_REQUEST")
    assert reason(market, first) == reason(market, second) == ""
    market.check()


def test_requests_that_nobody_can_answer_make_no_proven_miner_pause(market: Market) -> None:
    """A client could else stop all miners with them, for nothing."""
    client, honest, other = (
        market.client(),
        market.miner("a", concurrency=8),
        market.miner("b", concurrency=8),
    )
    for one in (honest, other):
        approve(market, one)
    bad = [market.submit(client).id for _ in range(16)]
    for one in (honest, other):
        for _ in range(2):
            for job in market.take(one, 8):
                market.fail(one, job.id, "BAD_REQUEST")
            assert reason(market, one) == ""
    assert {market.job(job).cause for job in bad} == {"BAD_REQUEST"}
    assert {market.job(job).status for job in bad} == {"failed"}


def test_a_proven_miner_that_was_wrong_about_a_job_has_failed_it(market: Market) -> None:
    client, wrong, other = market.client(), market.miner("a"), market.miner("b")
    approve(market, wrong)
    job = market.submit(client)
    market.take(wrong)
    market.fail(wrong, job.id, "BAD_REQUEST")
    assert reason(market, wrong) == ""
    market.take(other)
    market.complete(other, job.id)
    assert reason(market, wrong) == "PAUSED"
    market.check()


def test_two_miners_of_one_account_do_not_agree(market: Market) -> None:
    client, other = market.client(), market.miner("c")
    one, two = market.miner("a", account="same"), market.miner("b", account="same")
    market.miner("d", account="same")
    job = market.submit(client)
    for miner in (one, two):
        assert market.take(miner)
        assert market.fail(miner, job.id, "BAD_REQUEST").status == "pending"
    assert market.take(Provider(one.principal, "d")) == [], "kept from the account as a whole"
    assert [taken.id for taken in market.take(other)] == [job.id]


def test_a_failing_miner_pauses_longer_each_time(market: Market) -> None:
    client, bad = market.client(), market.miner("bad")
    market.miner("good")
    for strikes in range(1, 9):
        market.submit(client)
        market.fail(bad, market.take(bad)[0].id)
        pause_s = standing.pause_ms(strikes) / 1000
        assert pause_s == min(60, 2 ** (strikes - 1))
        market.clock.advance(pause_s - 0.1)
        assert reason(market, bad) == "PAUSED"
        with pytest.raises(JobNotAvailable):
            market.claim(bad, market.submit(client).id)
        market.clock.advance(0.1)
    done = market.take(bad)[0]
    market.complete(bad, done.id)
    assert reason(market, bad) == "", "an answer ends it"


def test_going_away_is_one_failure_however_many_jobs_it_drops(market: Market) -> None:
    client = market.client()
    for _ in range(12):
        market.submit(client)
    for n, leaves in enumerate((True, False)):
        miner = market.miner(f"m{n}", concurrency=3)
        held = market.take(miner, 3)
        if leaves:
            market.leave(miner)
        else:
            for job in held:
                market.fail(miner, job.id, "SHUTTING_DOWN")
        miner = market.miner(f"m{n}", concurrency=3)
        assert reason(market, miner) == "PAUSED"
        wait(market, 1)
        assert len(market.take(miner, 3)) == 3, "one strike: it pauses for a second"
    idle = market.miner("idle")
    market.leave(idle)
    assert reason(market, market.miner("idle")) == "", "who drops nothing fails nothing"


@pytest.mark.parametrize("how", ["SHUTTING_DOWN", "leaves", "is taken over"])
def test_strangers_that_keep_going_away_end_no_jobs(market: Market, how: str) -> None:
    """Three accounts, each back at once, beside an honest newcomer."""
    client, honest = market.client(), market.miner("honest", concurrency=8)
    jobs = [market.submit(client).id for _ in range(20)]
    dropped = 0
    for _ in range(10):
        for name in ("mallory", "eve", "trent"):
            bad = market.miner(name, account=name, concurrency=500, takeover=how == "is taken over")
            taken = market.take(bad, 500)
            dropped += len(taken)
            if how == "leaves":
                market.leave(bad)
            elif how == "SHUTTING_DOWN":
                for job in taken:
                    market.fail(bad, job.id, how)
    assert dropped <= 3 * standing.START_LEASES, "they pause"
    for _ in range(60):
        for job in market.take(honest, 8):
            market.complete(honest, job.id)
        wait(market, 1)
    assert {market.job(job).status for job in jobs} == {"completed"}
    market.check()


@pytest.mark.parametrize("trusted", [True, False])
def test_a_miner_that_never_comes_holds_up_no_job(market: Market, trusted: bool) -> None:
    """It is here, cheap and idle, and has failed nothing; but it does not ask for work."""
    client, honest = market.client(), market.miner("honest", concurrency=2)
    idle = market.miner("idle", models={"llama": 0})
    if trusted:
        approve(market, honest)
    unlucky, hopeless = market.submit(client), market.submit(client)
    market.take(honest, 2)
    market.fail(honest, unlucky.id)
    market.fail(honest, hopeless.id, "BAD_REQUEST")
    since = market.clock.now_ms()
    while any(market.job(job.id).status == "pending" for job in (unlucky, hopeless)):
        assert market.clock.now_ms() - since < 6 * (retries.PATIENCE_MS + 5_000)
        market.heartbeat(idle)
        for job in market.take(honest, 2):
            if job.id == unlucky.id:
                market.complete(honest, job.id)
            else:
                market.fail(honest, job.id, "BAD_REQUEST")
        wait(market, 1)
    assert market.job(unlucky.id).status == "completed"
    assert market.job(hopeless.id).cause == "BAD_REQUEST"
    market.check()


def test_a_job_that_waits_for_proven_miners_goes_back_to_no_newcomer(market: Market) -> None:
    client, new, busy = market.client(), market.miner("new", concurrency=2), market.miner("busy")
    approve(market, busy)
    jobs = [market.submit(client).id for _ in range(2)]
    for job, cause in zip(market.take(new, 2), ("ENGINE_ERROR", "BAD_REQUEST"), strict=True):
        market.fail(new, job.id, cause)
    for _ in range(60):
        market.heartbeat(busy)
        market.heartbeat(new)
        assert market.take(new, 2) == []
        wait(market, 1)
    for _ in jobs:
        market.complete(busy, market.take(busy)[0].id)
    market.check()


def test_the_only_miner_on_the_network(market: Market) -> None:
    client, miner = market.client(), market.miner()
    hopeless, unlucky = market.submit(client), market.submit(client, model="other")
    lone = market.miner("m2", models={"other": 1})
    market.take(miner)
    market.fail(miner, hopeless.id, "BAD_REQUEST")
    wait(market, retries.OPINION_MS / 1000)
    ended = market.job(hopeless.id)
    assert (ended.status, ended.cause, ended.attempts) == ("failed", "BAD_REQUEST", 1)
    for pause_s in (1, 2, 0):
        assert [job.id for job in market.take(lone)] == [unlucky.id]
        market.fail(lone, unlucky.id)
        wait(market, pause_s)
    ended = market.job(unlucky.id)
    assert (ended.status, ended.cause, ended.attempts) == ("failed", "ENGINE_ERROR", 3)
    market.check()


def test_admission_and_revocation(market: Market) -> None:
    client, miner = market.client(), market.miner()
    market.submit(client)
    market.ctx = replace(market.ctx, only_approved=True)
    assert market.take(miner) == []
    assert reason(market, miner) == "NOT_APPROVED"
    approve(market, miner)
    assert len(market.take(miner)) == 1
    approve(market, miner, "revoked")
    market.ctx = replace(market.ctx, only_approved=False)
    assert reason(market, miner) == "NOT_APPROVED"


def test_a_deposit_is_held_while_a_miner_is_registered(market: Market) -> None:
    market.ctx = replace(market.ctx, deposit_units=500)
    with pytest.raises(InsufficientFunds):
        market.miner("poor")
    owner = market.client("rich", 1200)
    miners = [market.miner(name, account=owner.account_id) for name in ("a", "b", "a")]
    assert market.balance("rich").held_units == 1000, "one for each, once"
    with pytest.raises(InsufficientFunds):
        market.miner("c", account=owner.account_id)
    market.check()
    market.leave(miners[0])
    assert market.balance("rich").held_units == 500
    market.leave(miners[0])
    assert market.balance("rich").held_units == 500
    market.check()


def test_a_job_goes_where_its_context_fits(market: Market) -> None:
    client = market.client()
    job = market.submit(client, prompt="w " * 10_000, cap=0)
    assert job.min_context == 20_000 // 6 + 10
    wanted = RULES.wanted(
        "llm_inference", "llama", job.max_units, max_price_units=0, min_context=job.min_context
    )
    waiting = IdleMiners()
    needs = MinerNeeds("m", "", 0)

    def enter(context: int) -> object:
        return waiting.enter(MinerProfile(needs, (Ask("llm_inference", "llama", 0, context),)))

    enter(2048)
    assert not waiting.wake(wanted)
    maybe, surely = enter(4096), enter(32_768)
    assert waiting.wake(wanted)
    assert (maybe.woken_by, surely.woken_by) == (None, wanted)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("context", "retryable", "needed"),
    [(64, None, 65), (0, None, 0), (64, True, 0), (4096, None, 0)],
)
def test_a_job_that_was_too_long_for_a_miner_needs_more_than_that_one_has(
    market: Market, context: int, retryable: bool | None, needed: int
) -> None:
    """Nothing is known where the miner named no context, took its word back, or the job would have fitted."""
    client, miner = market.client(), market.miner()
    offer = [ModelSpec("llama", 100, context_length=context)]
    market.db.write_sync(
        registration.register, market.ctx, miner.principal, MinerSpec("m1", ("llm_inference",), tuple(offer))
    )
    market.miner("other")
    spec = spec_of(prompt="w " * 50)._replace(min_context=0)
    job = market.db.write_sync(job_lifecycle.submit, market.ctx, client, spec)
    assert 64 < job.max_units < 4096
    market.take(miner)
    failed = market.fail(miner, job.id, "CONTEXT_LENGTH_EXCEEDED", retryable)
    assert (failed.status, failed.min_context) == ("pending", needed)


def test_a_price_of_zero_buys_a_share_and_not_everything() -> None:
    waiting = IdleMiners()
    wanted = RULES.wanted("llm_inference", "llama", max_price_units=10**9)
    ask = Ask("llm_inference", "llama", 10**6)
    known = MinerProfile(MinerNeeds("known", "", 0), (ask,), Merit(100, 0, 100_000, 50_000, proven=True))
    stranger = MinerProfile(MinerNeeds("new", "", 0), (ask._replace(price_units=0),))
    went = []
    for _ in range(3 * NEWCOMER_TURN):
        tickets = {name: waiting.enter(one) for name, one in (("known", known), ("new", stranger))}
        waiting.wake(wanted)
        went += [name for name, ticket in tickets.items() if ticket.woken_by]
        for ticket in tickets.values():
            ticket.woken_by = None
            waiting.leave(ticket, satisfied=True)
    assert went.count("new") == 3


def test_speed_and_success_weigh_beside_the_price() -> None:
    quick = Merit(delivered=100, run_ms=100_000, units=100_000)
    slow = Merit(delivered=100, run_ms=4_000_000, units=100_000)
    flaky = Merit(delivered=50, failed=64, run_ms=50_000, units=50_000)
    assert quick.cost(1_000_000) < slow.cost(0)
    assert quick.cost(1_000_000) < flaky.cost(900_000)
    assert quick.cost(1_000_000) < quick.cost(1_000_001)


def test_what_a_miner_costs_all_told() -> None:
    """Rounded down twice, the time to whole milliseconds for 1000 tokens and the sum to base units."""
    assert Merit().cost(0) == 2_000_000 * 2, "20 s for the first 1000 tokens, and every second try fails"
    assert Merit().cost(10**18 + 7) == (10**18 + 2_000_007) * 2, "exact, as any price"
    # (10_000 + 20_000) ms for 4000 tokens is 7.5 s, 11 tries for 9 answers.
    assert Merit(8, 1, 10_000, 3_000).cost(1_000_000) == (1_000_000 + 750_000) * 11 // 9 == 2_138_888
    assert Merit(0, 0, 0, 2_000).cost(0) == 666_600 * 2, "6666.67 ms for 1000 tokens count as 6666"
    assert Merit(2, 0, 0, 0).cost(1) == 2_000_001 * 4 // 3 == 2_666_668
