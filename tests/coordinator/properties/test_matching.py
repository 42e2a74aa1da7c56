"""`jobs.matching` and the queue's SQL say the same of every miner and job, on both databases."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import BigInteger, Text, bindparam, case, select

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.database import Database, Tx, statement
from aitbc.coordinator.flows.acts import dispatch
from aitbc.coordinator.jobs import claims
from aitbc.coordinator.jobs import service as jobs
from aitbc.coordinator.jobs.exclusion import set_of
from aitbc.coordinator.jobs.matching.constraints import (
    ANY_CONTEXT,
    CONSTRAINTS,
    Ask,
    Constraint,
    MinerNeeds,
    Supply,
    ask_of,
    needs_of,
)
from aitbc.coordinator.jobs.matching.rules import RULES, MinerProfile
from aitbc.coordinator.jobs.models import Job
from aitbc.coordinator.jobs.rows import JobRow
from aitbc.coordinator.jobs.service import INSERT_JOB
from aitbc.coordinator.ledger import service as ledger
from aitbc.core.clock import ManualClock
from tests.support.flows import spec_of

BOUNDED = settings(
    max_examples=80,
    deadline=None,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
NAMES = ("m0", "m1", "m2")
TYPES = ("llm_inference", "embedding")
MODELS = ("x", "y")
REGIONS = ("", "eu", "us")
BOOKINGS = ("", "", "b0", "b1")

# A miner names its models, or none and serves any: never both.
offers = st.one_of(
    st.dictionaries(
        st.tuples(st.sampled_from(TYPES), st.sampled_from(MODELS)), st.integers(0, 4), min_size=1, max_size=3
    ),
    st.dictionaries(
        st.tuples(st.sampled_from(TYPES), st.just("*")), st.integers(0, 4), min_size=1, max_size=2
    ),
)
miners = st.builds(
    lambda name, region, memory, account, proven, reservation, context, asks: MinerProfile(
        MinerNeeds(name, region, memory, account, proven, reservation),
        tuple(Ask(*where, price, context) for where, price in sorted(asks.items())),
    ),
    st.sampled_from(NAMES),
    st.sampled_from(REGIONS),
    st.integers(0, 3),
    st.sampled_from(("a0", "a1")),
    st.booleans(),
    st.sampled_from(BOOKINGS),
    st.sampled_from((0, 1, 2, ANY_CONTEXT)),
    offers,
)
WISHES: dict[str, st.SearchStrategy[Any]] = {
    "job_type": st.sampled_from(TYPES),
    "model": st.sampled_from(MODELS),
    "max_price_units": st.integers(0, 4),
    "min_memory_mb": st.integers(0, 3),
    "region": st.sampled_from(REGIONS),
    "required_miner_id": st.sampled_from(("", "", *NAMES)),
    "excluded": st.lists(st.sampled_from((*NAMES, "@a0", "@a1", "?", "!", "m", "@a")), max_size=3).map(
        set_of
    ),
    "min_context": st.integers(0, 3),
    "reservation": st.sampled_from(BOOKINGS),
    "expires_at_ms": st.sampled_from((-1, 0, 1, 2)),
    "rank": st.integers(0, 2),
    "queued": st.sampled_from((1, 1, 1, 0)),
}
wishes = st.fixed_dictionaries(WISHES)
TEXTS = ("id", "account_id", "region", "reservation")
NUMBERS = ("memory_mb", "price_units", "context_length", "proven")


@pytest.fixture
def client(db: Database) -> Principal:
    db.write_sync(ledger.open_account, "alice")
    return Principal("alice", "client", "key", frozenset({"client"}))


class Undo(Exception):
    """Ends a transaction of which nothing is to stay."""


def test_the_queue_gives_what_matching_allows(db: Database, client: Principal, clock: ManualClock) -> None:
    pattern = db.write_sync(blank, client)

    @BOUNDED
    @given(miner=miners, asked=st.lists(wishes, max_size=6), count=st.integers(1, 4))
    def agrees(miner: MinerProfile, asked: list[dict[str, Any]], count: int) -> None:
        def look(tx: Tx) -> None:
            rows = [insert(tx, pattern, wish, n) for n, wish in enumerate(asked)]
            fitting = [row for row in rows if allowed(tx, miner, row)]
            best = [row.id for row in sorted(fitting, key=lambda row: (row.rank, row.id))]
            for ask in miner.asks:
                own = [row for row in fitting if miner.ask_for(RULES.wanted_by(row)) == ask]
                order = [(row.rank, row.id) for row in sorted(own, key=lambda row: (row.rank, row.id))]
                for lock in (True, False):
                    assert [
                        head[:2] for head in claims.heads(tx, miner.needs, ask, count, lock=lock)
                    ] == order[:count]
            ctx = dispatch.FlowContext("chain", signing_key=None)  # type: ignore[arg-type]
            taken = dispatch._claim_heads(tx, ctx, miner, count, "")
            assert [one.job.id for one in taken] == best[:count]
            for row in rows:
                ask = miner.ask_for(RULES.wanted_by(row))
                if ask is not None and row.id not in best[:count]:
                    claimed = claims.claim(tx, [row.id], miner.needs, ask, "lease", 1000)
                    assert bool(claimed) == (row.id in best)
            raise Undo

        with pytest.raises(Undo):
            db.write_sync(look)

    agrees()


def test_every_constraint_is_gone_through() -> None:
    assert {one.column for one in CONSTRAINTS} <= WISHES.keys()


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=lambda one: one.column)
def test_miners_that_are_here_are_seen_as_matching_sees_them(db: Database, constraint: Constraint) -> None:
    """`here` over all miners, each constraint by itself: as `allows` has it."""
    kinds: dict[str, Any] = {**dict.fromkeys(TEXTS, Text), **dict.fromkeys(NUMBERS, BigInteger)}
    columns = SimpleNamespace(**{name: bindparam(f"its_{name}", type_=kind) for name, kind in kinds.items()})
    met = constraint.here(constraint.parameter(), Supply(columns, columns, columns.proven == 1))
    look = statement(select(case((met, 1), else_=0).label("met")))

    @BOUNDED
    @given(miner=miners, wish=wishes)
    def agrees(miner: MinerProfile, wish: dict[str, Any]) -> None:
        needs, ask = miner.needs, miner.asks[0]
        row = {
            "id": needs.miner_id,
            "account_id": needs.account_id,
            "proven": int(needs.proven),
            "region": needs.region,
            "reservation": needs.reservation,
            "memory_mb": needs.memory_mb,
            "price_units": ask.price_units,
            "context_length": 0 if ask.context == ANY_CONTEXT else ask.context,
        }
        assert needs_of(SimpleNamespace(**row), needs.proven) == needs
        assert ask_of(ask.job_type, ask.model, SimpleNamespace(**row)) in (
            ask,
            ask._replace(context=ANY_CONTEXT),
        )
        asked = wish[constraint.column]
        its = {f"its_{name}": value for name, value in row.items()}
        found = db.read_sync(lambda tx: tx.one(look, **{constraint.column: asked}, **its).met)
        if ask.context:  # 0 stands for ANY_CONTEXT in an offer
            assert bool(found) == constraint.allows(asked, needs, ask)

    agrees()


def blank(tx: Tx, client: Principal) -> JobRow:
    """A job that no miner gets, to make others of."""
    return jobs.create(
        tx,
        spec_of(miner_id="nobody"),
        job_id="pattern",
        client_id=client.account_id,
        key_id="key",
        spend_period_ms=0,
        max_price_units=0,
        hold_id="",
        held_units=0,
        max_run_ms=60_000,
    )


def insert(tx: Tx, pattern: JobRow, wish: dict[str, Any], number: int) -> JobRow:
    times = {name: tx.now_ms + wish[name] for name in ("expires_at_ms",)}
    row = pattern._replace(**{**wish, **times}, id=f"job-{number}")
    assert set(wish) <= set(Job.__table__.c.keys())  # type: ignore[attr-defined]
    tx.run(INSERT_JOB, **row._asdict())
    return row


def allowed(tx: Tx, miner: MinerProfile, row: JobRow) -> bool:
    """By the words of `jobs.matching`, and of the queue: in it, and in time."""
    in_time = row.queued == 1 and row.expires_at_ms > tx.now_ms
    return in_time and RULES.reason_against(miner, RULES.wanted_by(row)) == ""
