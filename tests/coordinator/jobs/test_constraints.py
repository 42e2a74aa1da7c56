"""A constraint is declared once: one that is added is in the claim's SQL, the match, the reasons and the signal."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import bindparam

from aitbc.coordinator.database import Tx
from aitbc.coordinator.flows.shared import supply
from aitbc.coordinator.flows.views import explain
from aitbc.coordinator.jobs import claims, models
from aitbc.coordinator.jobs import service as jobs
from aitbc.coordinator.jobs.matching.constraints import CONSTRAINTS, Advice, Ask, Constraint, MinerNeeds
from aitbc.coordinator.jobs.matching.idle_miners import IdleMiners
from aitbc.coordinator.jobs.matching.rules import RULES, MinerProfile, Rules, Wanted
from aitbc.coordinator.jobs.models import Job
from tests.support.flows import MODEL, Market

TOY = Constraint(
    column="max_run_ms",  # a column that is there, and not matched on
    nothing=2**40,
    reason="TOO_HASTY",
    looked_at=9,
    binds=lambda needs, ask: {"toy": needs.memory_mb},
    allows=lambda run_ms, needs, ask: run_ms >= needs.memory_mb,
    claims=lambda column: column >= bindparam("toy"),
    here=lambda run_ms, here: here.miners.memory_mb <= run_ms,
    ease=9,
    advise=lambda run_ms, some: Advice("max_run_s", f"{len(some)} could run it for longer than {run_ms} ms."),
)
WITH_TOY = Rules((*CONSTRAINTS, TOY))
MEMORY = 60_000
NEEDS = MinerNeeds("m1", "", MEMORY)
ASK = Ask("llm_inference", MODEL, 100)
PROFILE = MinerProfile(NEEDS, (ASK,))


def signal_of(rules: Rules, wanted: Wanted) -> tuple[Any, ...]:
    """The signal of a job that wants this."""
    sides = {"job_type": wanted.job_type, "model": wanted.model, "max_units": wanted.most_context}
    return rules.signal_of(SimpleNamespace(**sides, **wanted.limits))


def test_an_added_constraint_is_in_a_claims_sql(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    client = market.client()
    runs_s = {market.submit(client, max_run_s=run_s).id: run_s for run_s in (59, 60, 61)}
    fit = [job_id for job_id, run_s in runs_s.items() if run_s >= 60]
    monkeypatch.setattr(claims, "QUEUE", claims.Claims(WITH_TOY))

    def looks(tx: Tx) -> None:
        for named in (True, False):
            ask = ASK if named else ASK._replace(model="*")
            assert [one for _, one, _ in claims.heads(tx, NEEDS, ask, 9)] == fit

    market.db.write_sync(looks)
    hasty = next(iter(runs_s))
    assert market.db.write_sync(claims.claim, [hasty], NEEDS, ASK, "lease", 1000) == []
    (taken,) = market.db.write_sync(claims.claim, [hasty, fit[0]], NEEDS, ASK, "lease", 1000)
    (first,) = market.db.write_sync(claims.claim_first, NEEDS, ASK, 9, "lease", 1000)
    assert [taken.job.id, first.job.id] == fit


def test_an_added_constraint_is_in_the_match_and_the_reasons() -> None:
    assert set(WITH_TOY.reasons) - set(RULES.reasons) == {"TOO_HASTY"}
    assert WITH_TOY.reasons.index("TOO_HASTY") == WITH_TOY.reasons.index("PAUSED") - 1
    wanted = WITH_TOY.wanted("llm_inference", MODEL, max_run_ms=59_999)
    assert WITH_TOY.reason_against(PROFILE, wanted) == "TOO_HASTY"
    assert WITH_TOY.reason_against(PROFILE, wanted.but(max_run_ms=60_000)) == ""
    assert WITH_TOY.reason_against(PROFILE, WITH_TOY.wanted("llm_inference", MODEL)) == ""


def test_an_added_constraint_is_in_the_signal(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "RULES", WITH_TOY)
    made = [market.submit(market.client(), max_run_s=run_s) for run_s in (59, 60)]
    hasty, patient = map(jobs.queued_signal, made)
    assert hasty[hasty.index("max_run_ms") + 1] == 59_000
    idle = IdleMiners(WITH_TOY)
    ticket = idle.enter(PROFILE)
    idle.hear(hasty)
    assert ticket.woken_by is None
    idle.hear(tuple(json.loads(json.dumps(patient))))  # as another coordinator hears it
    assert ticket.woken_by == WITH_TOY.wanted_by(made[1])


def test_signals_go_by_names_and_not_by_places() -> None:
    """A coordinator of another version has constraints that this one has not, or lacks some that it has."""
    signal = signal_of(WITH_TOY, WITH_TOY.wanted("llm_inference", MODEL, 7, region="eu", max_run_ms=5))
    assert RULES.heard(signal) == RULES.wanted("llm_inference", MODEL, 7, region="eu")
    older = signal_of(RULES, RULES.wanted("llm_inference", MODEL, 7, region="eu"))
    assert WITH_TOY.heard(older) == WITH_TOY.wanted("llm_inference", MODEL, 7, region="eu")
    turned = (older[0], *(part for at in range(len(older) - 2, 0, -2) for part in older[at : at + 2]))
    assert RULES.heard(turned) == RULES.heard(older)


def test_an_added_constraint_is_in_what_miners_could_run(market: Market) -> None:
    market.miner(memory_mb=MEMORY)
    could_run = supply.could_run_statement(WITH_TOY)
    for run_ms, expected in ((MEMORY - 1, False), (MEMORY, True)):
        wanted = WITH_TOY.wanted("llm_inference", MODEL, max_run_ms=run_ms, max_price_units=1000)
        asked = {one.column: wanted.limits[one.column] for one in WITH_TOY.of_client}
        found = market.db.read_sync(
            lambda tx, asked=asked: tx.one(could_run, job_type="llm_inference", model=MODEL, **asked)
        )
        assert (found is not None) is expected


def test_an_added_constraint_is_in_an_explanation(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "RULES", WITH_TOY)
    client = market.client()
    market.miner(memory_mb=MEMORY)
    job = market.submit(client, max_run_s=59)
    told = market.db.read_sync(explain.explain, market.ctx, client, job.id)
    assert told.reasons == {"TOO_HASTY": 1}
    assert told.nearest_change == Advice("max_run_s", "1 could run it for longer than 59000 ms.")


def test_what_a_signal_leaves_out_is_for_the_claim_to_see() -> None:
    quiet = Rules((*CONSTRAINTS, TOY_UNSIGNALLED))
    wanted = quiet.wanted("llm_inference", MODEL, region="eu", max_run_ms=1)
    assert "max_run_ms" not in signal_of(quiet, wanted)
    assert quiet.heard(signal_of(quiet, wanted)) == wanted.but(max_run_ms=TOY.nothing)


TOY_UNSIGNALLED = Constraint(
    **{name: getattr(TOY, name) for name in TOY.__slots__ if name != "signalled"}, signalled=False
)


def test_the_queues_indexes_hold_what_is_matched_on() -> None:
    """So that jobs that do not fit are passed over without touching their rows."""
    columns = tuple(one.column for one in CONSTRAINTS)
    table: Any = Job.__table__  # type: ignore[attr-defined]
    indexes = {index.name: tuple(column.name for column in index.columns) for index in table.indexes}
    exact = tuple(one.column for one in CONSTRAINTS if one.exact)
    others = tuple(one.column for one in CONSTRAINTS if not one.exact)
    assert indexes["ix_jobs_queue"] == (*exact, "job_type", "model", "rank", "id", *others)
    assert indexes["ix_jobs_queue_any"] == (*exact, "job_type", "rank", "id", *others)
    assert columns == models.MATCHED


def test_codes_and_orders_are_said_once() -> None:
    assert len(set(RULES.reasons)) == len(RULES.reasons)
    for order in ("column", "looked_at", "ease"):
        assert len({getattr(one, order) for one in CONSTRAINTS}) == len(CONSTRAINTS), order
    binds = [name for one in CONSTRAINTS for name in one.binds(NEEDS, ASK)]
    assert len(set(binds)) == len(binds)


def test_unknown_limits_are_a_mistake() -> None:
    with pytest.raises(TypeError):
        RULES.wanted("llm_inference", MODEL, colour="red")


def test_a_signal_of_another_shape_wakes_nobody() -> None:
    """It is only a hint: who waits looks by itself (`Signals` logs what a listener could not read)."""
    idle = IdleMiners()
    ticket = idle.enter(PROFILE)
    with pytest.raises((KeyError, ValueError)):
        idle.hear(("queued", "llm_inference", MODEL, 1000))
    assert ticket.woken_by is None
