"""Jobs and their money against a model: whoever does what, in whatever order and however late."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text as sql

from aitbc.coordinator.api_keys import service as keys
from aitbc.coordinator.database import Database, Tx
from aitbc.coordinator.errors import AitbcError
from aitbc.coordinator.flows.acts import completion
from aitbc.coordinator.jobs.lifecycle import MINER_CAUSES, TRANSITIONS
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.ledger.models import TREASURY
from aitbc.core.clock import ManualClock
from tests.coordinator.properties import job_model
from tests.coordinator.properties.job_model import Model, Wallet, Work
from tests.support.flows import Market, Provider, result_of

BOUNDED = settings(
    max_examples=24,
    stateful_step_count=8,
    deadline=None,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
MINERS = ("m1", "m2", "m3")
MODELS = ("llama", "qwen")
miners = st.sampled_from(MINERS)
clients = st.sampled_from(["ann", "bea"])
ANY_JOB = st.integers(0, 10_000)

ARGUMENTS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "register": st.fixed_dictionaries(
        {
            "name": miners,
            "prices": st.dictionaries(
                st.sampled_from(MODELS), st.sampled_from([0, 80, 100, 150]), min_size=1
            ),
            "region": st.sampled_from(["", "eu"]),
            "memory_mb": st.sampled_from([0, 8192]),
            "places": st.integers(1, 3),
        }
    ),
    "submit": st.fixed_dictionaries(
        {
            "client": clients,
            "model": st.sampled_from(["llama", "llama", "qwen"]),
            "cap": st.sampled_from([1000, 100, 100, 90, 0]),
            "max_tokens": st.integers(1, 60),
            "priority": st.integers(3, 6),
            "ttl_s": st.sampled_from([3600, 90, 20]),
            "max_run_s": st.sampled_from([1800, 90, 25]),
            "region": st.sampled_from(["", "", "", "eu"]),
            "memory_gb": st.sampled_from([0, 0, 0, 8]),
            "only": st.sampled_from(["", "", "", "m2"]),
        }
    ),
    "take": st.fixed_dictionaries({"name": miners, "count": st.integers(1, 4)}),
    "claim": st.fixed_dictionaries({"name": miners, "number": ANY_JOB}),
    "complete": st.fixed_dictionaries(
        {
            "name": miners,
            "number": ANY_JOB,
            "text": st.sampled_from(["", "yes", "a longer answer"]),
            "usage": st.tuples(st.integers(0, 30), st.integers(0, 80)),
            "stale": st.sampled_from([False, False, False, True]),
            "mine": st.sampled_from([True, True, False]),
        }
    ),
    "fail": st.fixed_dictionaries(
        {
            "name": miners,
            "number": ANY_JOB,
            "cause": st.sampled_from(MINER_CAUSES),
            "retryable": st.sampled_from([None, None, True, False]),
            "mine": st.sampled_from([True, True, False]),
        }
    ),
    "cancel": st.fixed_dictionaries({"client": clients, "number": ANY_JOB}),
    "heartbeat": st.fixed_dictionaries(
        {
            "name": miners,
            "draining": st.sampled_from([False, False, True]),
            "numbers": st.none() | st.sets(ANY_JOB, max_size=3),
        }
    ),
    "leave": st.fixed_dictionaries({"name": miners}),
    "time_passes": st.fixed_dictionaries({"seconds": st.sampled_from([1, 19, 31, 45, 61, 3600, 40_000])}),
    "expire": st.just({}),
}
USUAL = ["submit"] * 5 + ["take"] * 5 + ["complete"] * 5 + ["time_passes"] * 3 + ["fail"] * 2 + [*ARGUMENTS]
"""What a spell is made of: Hypothesis alone would leave most networks without a single job."""

JOBS_OF = sql(
    "SELECT j.*, (SELECT COUNT(*) FROM receipts r WHERE r.job_id = j.id) AS receipts,"
    " (SELECT COUNT(*) FROM job_events e WHERE e.job_id = j.id) AS events"
    " FROM jobs j WHERE j.client_id = :ann OR j.client_id = :bea ORDER BY j.id"
)


class Seen(NamedTuple):
    """One look at the database."""

    jobs: list[Any]
    balances: dict[str, tuple[int, int]]
    treasury: int
    spent: int
    running: dict[str, int]


class Lifecycle(RuleBasedStateMachine):
    """Names of accounts, miners and models carry the example's number: all examples share a database."""

    db: Database
    clock: ManualClock
    rounds = 0

    @initialize()
    def begin(self) -> None:
        Lifecycle.rounds += 1
        self.round = Lifecycle.rounds
        self.market = Market(self.db, self.clock, fee_bps=job_model.FEE_BPS)
        self.model = Model()
        self.model.wallets = {"ann": Wallet(60), "bea": Wallet(1_000_000, limit=70)}
        self.principals = {
            "ann": self.market.client(self.name("ann"), 60),
            "bea": self.market.client(self.name("bea"), 1_000_000, limit=70),
        }
        self.providers: dict[str, Provider] = {}
        self.ids: list[str] = []
        self.receipts: dict[int, str] = {}
        self.treasury_before = self.market.balance(TREASURY).balance_units
        for index, name in enumerate(MINERS[:2]):
            self.register(name, {"llama": 100 - 10 * index}, "", 0, 1 + index)

    def name(self, short: str) -> str:
        return f"{short}-{self.round}" if short else ""

    @property
    def now(self) -> int:
        return self.clock.now_ms()

    def pick(self, number: int, *, running: bool = False) -> Work:
        """Any job; a running one where that is asked for and there is one."""
        jobs = [job for job in self.model.jobs if job.status == "running"] if running else []
        jobs = jobs or self.model.jobs
        return jobs[number % len(jobs)]

    @staticmethod
    def outcome(fn: Any, *args: Any, **kwargs: Any) -> Any:
        """What the program answered, or the code of its error."""
        try:
            return fn(*args, **kwargs)
        except AitbcError as error:
            return error.code

    @rule(act=st.sampled_from(sorted(ARGUMENTS)), data=st.data())
    def one_thing(self, act: str, data: st.DataObject) -> None:
        arguments = data.draw(ARGUMENTS[act], label=act)
        if self.model.jobs or "number" not in arguments:
            getattr(self, act)(**arguments)

    @rule(acts=st.lists(st.sampled_from(USUAL), min_size=5, max_size=15), data=st.data())
    def a_spell(self, acts: list[str], data: st.DataObject) -> None:
        for act in acts:
            arguments = data.draw(ARGUMENTS[act], label=act)
            if self.model.jobs or "number" not in arguments:
                getattr(self, act)(**arguments)
                self.both_say_the_same()

    # --- what can happen --------------------------------------------------------------------------------

    def register(self, name: str, prices: dict[str, int], region: str, memory_mb: int, places: int) -> None:
        known = self.model.miners.get(name)
        self.providers[name] = self.market.miner(
            self.name(name),
            models={self.name(model): price for model, price in prices.items()},
            region=region,
            memory_mb=memory_mb,
            concurrency=places,
        )
        fresh = job_model.Machine(prices, region, memory_mb, places)
        if known is not None:  # what it did stays with it
            fresh = replace(known, prices=prices, region=region, memory_mb=memory_mb, places=places)
            fresh.state = "active"
        self.model.miners[name] = fresh

    def submit(self, client: str, model: str, ttl_s: int, memory_gb: int, only: str, **asked: Any) -> None:
        expected = self.model.submit(
            self.now, client, model=model, ttl_s=ttl_s, memory_mb=memory_gb * 1024, only=only, **asked
        )
        found = self.outcome(
            self.market.submit,
            self.principals[client],
            model=self.name(model),
            min_memory_gb=memory_gb,
            miner_id=self.name(only),
            ttl_s=ttl_s,
            **asked,
        )
        if isinstance(expected, Work):
            assert (found.status, found.held_units) == ("pending", expected.held)
            self.ids.append(found.id)
        else:
            assert found == expected

    def take(self, name: str, count: int) -> None:
        if name not in self.providers:
            return
        expected = self.model.take(self.now, name, count)
        found = self.outcome(self.market.take, self.providers[name], count)
        if isinstance(expected, str):
            assert found == expected
        else:
            assert [job.id for job in found] == [self.ids[job.number] for job in expected]

    def claim(self, name: str, number: int) -> None:
        if name not in self.providers:
            return
        job = self.pick(number)
        expected = self.model.claim(self.now, name, job)
        found = self.outcome(self.market.claim, self.providers[name], self.ids[job.number])
        assert found == expected if isinstance(found, str) else found.status == expected

    def complete(
        self, name: str, number: int, text: str, usage: tuple[int, int], stale: bool, mine: bool
    ) -> None:
        job = self.pick(number, running=mine)
        name = job.miner if mine and job.miner else name
        if name not in self.providers:
            return
        expected = self.model.complete(name, job, text, usage, stale=stale)
        sent = result_of(self.ids[job.number], text, usage)._replace(lease_id="stale" if stale else None)
        found = self.outcome(
            self.db.write_sync, completion.complete, self.market.ctx, *self.providers[name], sent
        )
        if isinstance(expected, str):
            assert found == expected
        else:
            assert found.price_units == expected
            assert self.receipts.setdefault(job.number, found.id) == found.id, "one receipt, ever"

    def fail(self, name: str, number: int, cause: str, retryable: bool | None, mine: bool) -> None:
        job = self.pick(number, running=mine)
        name = job.miner if mine and job.miner else name
        if name not in self.providers:
            return
        expected = self.model.fail(self.now, name, job, cause, retryable)
        found = self.outcome(self.market.fail, self.providers[name], self.ids[job.number], cause, retryable)
        assert found == expected if isinstance(found, str) else found.status == expected

    def cancel(self, client: str, number: int) -> None:
        job = self.pick(number)
        expected = self.model.cancel(self.now, client, job)
        found = self.outcome(self.market.cancel, self.principals[client], self.ids[job.number])
        assert found == expected if isinstance(found, str) else found.status == expected

    def heartbeat(self, name: str, draining: bool, numbers: set[int] | None) -> None:
        if name not in self.providers:
            return
        state = "draining" if draining else "active"
        named = None if numbers is None or not self.model.jobs else [self.pick(n) for n in sorted(numbers)]
        running = None if named is None else [self.ids[job.number] for job in named]
        expected = self.model.heartbeat(self.now, name, state, named)
        found = self.outcome(self.market.heartbeat, self.providers[name], running, state)
        if isinstance(expected, str):
            assert found == expected
        else:
            assert {job_id for job_id, _end in found.leases} == {self.ids[number] for number in expected}
            held = {self.ids[job.number] for job in self.model.running(name)}
            assert set(found.cancelled) == set(running or ()) - held

    def leave(self, name: str) -> None:
        if name not in self.providers:
            return
        assert self.market.leave(self.providers[name]) == self.model.leave(self.now, name)

    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    def expire(self) -> None:
        self.model.expire(self.now)
        while self.market.expire().more:
            pass

    # --- what must hold ---------------------------------------------------------------------------------

    def look(self, tx: Tx) -> Seen:
        rows = tx.query(JOBS_OF.bindparams(ann=self.name("ann"), bea=self.name("bea")))
        names = {name: self.name(name) for name in ("ann", "bea")}
        names |= {name: f"owner-{self.name(name)}" for name in self.providers}
        found = {name: ledger.balance(tx, account) for name, account in names.items()}
        key = keys.key_info(tx, self.principals["bea"].key_id)
        assert key is not None
        running = {
            row.miner_id: row.n
            for row in tx.query(
                sql("SELECT miner_id, COUNT(*) AS n FROM jobs WHERE status = 'running' GROUP BY miner_id")
            )
        }
        return Seen(
            rows,
            {name: (one.balance_units, one.held_units) for name, one in found.items()},
            ledger.balance(tx, TREASURY).balance_units - self.treasury_before,
            key.spent_units,
            running,
        )

    @invariant()
    def both_say_the_same(self) -> None:
        seen = self.db.read_sync(self.look)
        model = self.model
        assert [row.id for row in seen.jobs] == self.ids
        for row, job in zip(seen.jobs, model.jobs, strict=True):
            told = (row.status, row.miner_id, row.attempts, row.held_units, row.price_units, row.receipts)
            # An ended job remembers the miner that had it last; the model does not care which.
            miner = (
                self.name(job.miner) if job.status in ("pending", "running", "completed") else row.miner_id
            )
            wanted = (job.status, miner, job.attempts, job.held, job.price, int(job.status == "completed"))
            assert told == wanted
            assert row.event_count == row.events == len(job.moves)
            assert (row.lease_id != "") == (job.status == "running")
            assert row.price_units <= row.held_units <= job_model.ceil_price(75, row.max_price_units)
            if job.status == "running":
                assert row.unit_price_units == job.price_per <= row.max_price_units
                assert row.lease_expires_at_ms == job.lease_ms
        for name, wallet in model.wallets.items():
            assert seen.balances[name] == (wallet.granted - wallet.paid, model.held(name))
        for name, miner in model.miners.items():
            assert seen.balances[name] == (miner.earned, 0)
        assert seen.treasury == model.fees
        assert seen.spent == model.wallets["bea"].spent <= 70

    def teardown(self) -> None:
        """Histories are walks through TRANSITIONS, the books are right, and nothing stays behind."""
        if not hasattr(self, "model"):
            return
        for job in self.model.jobs:
            history = self.market.history(self.ids[job.number])
            assert [kind for kind, _status in history] == job.moves
            states = [status for _kind, status in history]
            assert states[0] == "pending"
            for before, after in pairwise(states):
                assert after in TRANSITIONS[before]
            if job.status in job_model.OPEN:
                self.market.cancel(self.principals[job.client], self.ids[job.number])
        self.market.check()


@pytest.fixture
def machine(db: Database, clock: ManualClock) -> Iterator[type[Lifecycle]]:
    Lifecycle.db, Lifecycle.clock = db, clock
    yield Lifecycle
    del Lifecycle.db, Lifecycle.clock


def test_jobs_and_money_agree_with_their_model(machine: type[Lifecycle]) -> None:
    examples = 24 if machine.db.dialect == "sqlite" else 12
    run_state_machine_as_test(machine, settings=settings(BOUNDED, max_examples=examples))
