"""A small network on one database, driven through the flows, and what is true of it."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar
from unittest import mock

import psycopg
import pytest

from aitbc.audit.database import audit
from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.api_keys.service import create_key
from aitbc.coordinator.chain import founding
from aitbc.coordinator.chain.network import NetworkRow
from aitbc.coordinator.config import Settings
from aitbc.coordinator.database import Database, Tx
from aitbc.coordinator.flows.acts import completion, dispatch, expiry, job_lifecycle, registration
from aitbc.coordinator.flows.acts.completion import ResultSubmission
from aitbc.coordinator.flows.shared.context import FlowContext
from aitbc.coordinator.flows.shared.grants import open_account_with_grant
from aitbc.coordinator.jobs import queries as job_queries
from aitbc.coordinator.jobs import service as jobs
from aitbc.coordinator.jobs.matching.idle_miners import IdleMiners
from aitbc.coordinator.jobs.rows import JobRow, JobSpec
from aitbc.coordinator.jobs.spec import make_spec
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.ledger.service import Balance
from aitbc.coordinator.miners.rows import GpuSpec, MinerSpec, ModelSpec
from aitbc.coordinator.parameters import service as parameters
from aitbc.coordinator.process.runtime import Runtime
from aitbc.coordinator.receipts import service as receipts
from aitbc.coordinator.receipts.service import ReceiptRow
from aitbc.coordinator.schema import migrate
from aitbc.core import ids, jobspec
from aitbc.core.clock import ManualClock
from aitbc.core.log.block import origin_of
from aitbc.core.log.note import Verifier
from aitbc.core.network import Founding
from aitbc.core.signing import PrivateKey
from tests.support.databases import Databases

T = TypeVar("T")

CHAIN = "ait-devnet"
KEY = PrivateKey.from_seed(b"\x07" * 32)
SALT = "5a" * 32
ORIGIN = origin_of(CHAIN)
NETWORK_ID = Founding(CHAIN, ORIGIN, Verifier(ORIGIN, KEY.public_bytes).vkey, SALT).network_id
MODEL = "llama"
UNITS = 1_000_000_000


class Provider(NamedTuple):
    """A miner and the key that it acts with."""

    principal: Principal
    miner_id: str


def spec_of(
    prompt: str = "hi", model: str = MODEL, max_tokens: int = 10, cap: int | None = 1000, **options: Any
) -> JobSpec:
    """A submission of `prompt`; `cap` in base units per 1000 tokens."""
    request = jobspec.build_request(
        "llm_inference", model=model, body={"prompt": prompt}, params={"max_tokens": max_tokens}
    )
    manual = options.pop("payment", "auto") == "manual"
    return make_spec(request, max_price_units=cap, manual_payment=manual, **options)


def miner_spec(miner_id: str | None, models: Mapping[str, int] | None = None, **options: Any) -> MinerSpec:
    """A registration; `models` are prices per 1000 tokens by name, {} for any model."""
    named = {MODEL: 100} if models is None else models
    gpus = options.pop("memory_mb", None)
    return MinerSpec(
        miner_id,
        options.pop("job_types", ("llm_inference",)),
        tuple(ModelSpec(name, price) for name, price in named.items()),
        gpus=() if gpus is None else (GpuSpec("gpu", gpus),),
        **options,
    )


def context(**limits: Any) -> FlowContext:
    return FlowContext(**{"chain_id": CHAIN, "signing_key": KEY, "network_id": NETWORK_ID, **limits})


def found(tx: Tx, chain_id: str = CHAIN, key: PrivateKey = KEY) -> NetworkRow:
    """Founds the network, with an origin that is known beforehand, and so is its id: NETWORK_ID for KEY."""
    with mock.patch.object(founding, "secrets", SimpleNamespace(token_hex=lambda _: SALT)):
        return founding.ensure(tx, chain_id, key, f"https://{origin_of(chain_id)}")


def open_market(tx: Tx) -> None:
    """With every parameter at its default: nothing is in the log."""
    ledger.open_system_accounts(tx)
    receipts.publish_key(tx, KEY, CHAIN)


def prepare(tx: Tx, fee_bps: int) -> None:
    open_market(tx)
    set_parameter(tx, "fee_bps", fee_bps)
    set_parameter(tx, "min_transaction_fee", 0)  # tests say themselves what a transfer pays


def set_parameter(tx: Tx, name: str, value: int) -> None:
    parameters.set_value(tx, name, value, "operator", "a test")


class Market:
    """Every act is one durable transaction, on a connection of the calling thread."""

    def __init__(
        self, db: Database, clock: ManualClock, *, fee_bps: int | None = 1000, **limits: int
    ) -> None:
        """`fee_bps` None: the market is there already."""
        self.db = db
        self.clock = clock
        self.ctx = context(**limits)
        if fee_bps is not None:
            db.write_sync(prepare, fee_bps)

    def client(self, account: str = "alice", units: int = UNITS, limit: int | None = None) -> Principal:
        """A client with `units`, and with a key that may spend `limit` of them a day."""
        self.db.write_sync(open_account_with_grant, account, units)
        if limit is None:
            return Principal(account, "client", f"key-{account}", frozenset({"client"}))
        key = self.db.write_sync(
            create_key, role="client", account_id=account, limit_units=limit, limit_period="day"
        )
        return Principal(account, "client", key.key_id, frozenset({"client"}), limited=True)

    def miner(
        self,
        miner_id: str = "m1",
        account: str | None = None,
        models: Mapping[str, int] | None = None,
        **options: Any,
    ) -> Provider:
        """Registers (or registers again) a miner of `account` (default: one of its own)."""
        name = account or f"owner-{miner_id}"
        self.db.write_sync(ledger.open_account, name)
        principal = Principal(name, "miner", f"key-{name}", frozenset({"miner"}))
        spec = miner_spec(miner_id, models, **options)
        row, _offers = self.db.write_sync(registration.register, self.ctx, principal, spec)
        return Provider(principal, row.id)

    def submit(self, client: Principal, **spec: Any) -> JobRow:
        return self.db.write_sync(job_lifecycle.submit, self.ctx, client, spec_of(**spec))

    def take(self, miner: Provider, count: int = 1, known: Collection[str] = ()) -> list[JobRow]:
        taken = self.db.write_sync(dispatch.take, self.ctx, *miner, count, known)
        return [assignment.job for assignment in taken.assignments]

    def claim(self, miner: Provider, job_id: str) -> JobRow:
        return self.db.write_sync(dispatch.claim, self.ctx, miner.principal, job_id, miner.miner_id).job

    def complete(
        self, miner: Provider, job_id: str, text: str = "hello", usage: tuple[int, int] | None = (3, 2)
    ) -> ReceiptRow:
        return self.db.write_sync(completion.complete, self.ctx, *miner, result_of(job_id, text, usage))

    def fail(
        self,
        miner: Provider,
        job_id: str,
        cause: str = "ENGINE_ERROR",
        retryable: bool | None = None,
        lease_id: str | None = None,
    ) -> JobRow:
        return self.db.write_sync(
            job_lifecycle.fail,
            self.ctx,
            miner.principal,
            miner_id=miner.miner_id,
            job_id=job_id,
            cause=cause,
            retryable=retryable,
            lease_id=lease_id,
        )

    def cancel(self, client: Principal, job_id: str) -> JobRow:
        return self.db.write_sync(job_lifecycle.cancel, self.ctx, client, job_id)

    def heartbeat(
        self,
        miner: Provider,
        running: Collection[str] | None = None,
        status: str = "active",
        progress: Mapping[str, int] | None = None,
    ) -> registration.Heartbeat:
        return self.db.write_sync(
            registration.heartbeat,
            self.ctx,
            miner.principal,
            miner_id=miner.miner_id,
            status=status,
            running=running,
            progress=progress,
        )

    def leave(self, miner: Provider) -> int:
        return self.db.write_sync(job_lifecycle.leave, self.ctx, *miner)

    def expire(self, frozen_for_ms: int = 0) -> expiry.Expired:
        return self.db.write_sync(expiry.expire_due, self.ctx, frozen_for_ms=frozen_for_ms)

    def pass_time(self, seconds: float) -> None:
        """Time passes, and the coordinator looks at what is due: a failed job's next try among it."""
        self.clock.advance(seconds)
        self.expire()

    # --- what is true -----------------------------------------------------------------------------------

    def job(self, job_id: str) -> JobRow:
        row = self.db.read_sync(jobs.get, job_id)
        assert row is not None
        return row

    def history(self, job_id: str) -> list[tuple[str, str]]:
        """(type, status) of each event, oldest first."""
        return [(event.type, event.status) for event in self.db.read_sync(job_queries.events, job_id)]

    def balance(self, account: str) -> Balance:
        return self.db.read_sync(ledger.balance, account)

    def receipts(self) -> list[ReceiptRow]:
        return self.db.read_sync(receipts.find, limit=10_000).rows

    def check(self) -> None:
        """The whole audit passes."""
        report = self.db.read_sync(audit, CHAIN)
        assert report.ok, report.problems


def check_books(db: Database) -> None:
    """The audit passes but for this: no wallet signed the transfers, which a test made by itself."""
    report = db.read_sync(audit, CHAIN)
    unsigned = report.wrong is not None and report.wrong.what == "no wallet signed it"
    assert report.ok or (unsigned and "balances and holds" in report.checked), report.problems


def result_of(job_id: str, text: str = "hello", usage: tuple[int, int] | None = (3, 2)) -> ResultSubmission:
    counts = None if usage is None else {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return ResultSubmission(job_id, {"text": text, "finish_reason": "stop"}, counts)


def runtime_over(market: Market) -> Runtime:
    """A coordinator's runtime over the market's database and clock, with nothing started."""
    settings = Settings(database_url="sqlite:///unused.db", api_keys="")
    waiting = IdleMiners()
    market.db.signals.listen(waiting.hear)
    return Runtime(settings, market.db, market.ctx, market.clock, waiting)


def in_loop(
    db: Database,
    main: Coroutine[Any, Any, T],
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> T:
    """Runs `main` with the database started, and stops it afterwards."""

    async def run() -> T:
        await db.start()
        try:
            return await asyncio.wait_for(main, 30)
        finally:
            await db.stop()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(run())


# --- fixtures: the databases of these tests are quick rather than durable -----------------------------------

_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
_shared: dict[str, str] = {}


def emptied(databases: Databases) -> str:
    """The PostgreSQL database that these tests share, with every row gone.

    A new database takes ten times as long. The triggers that keep history look away.
    """
    server = databases.postgres
    if server.socket_folder not in _shared:
        name = server.create()
        migrate.upgrade(server.url(name))
        _shared[server.socket_folder] = server.url(name)
    url = _shared[server.socket_folder]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        for (table,) in connection.execute(_TABLES.encode()).fetchall():
            connection.execute(f"DELETE FROM {table}".encode())
    return url


@pytest.fixture
def memory_folder() -> Iterator[Path]:
    """A folder in memory where there is one: what is not about durability need not wait for a disk."""
    shared = Path("/dev/shm")
    parent = shared if os.access(shared, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="aitbc-test-", dir=parent) as folder:
        yield Path(folder)


@pytest.fixture
def database_url(databases: Databases, memory_folder: Path) -> str:
    """In place of the ordinary fixture of this name: an empty, migrated database, made more quickly."""
    return databases.migrated(memory_folder) if databases.kind == "sqlite" else emptied(databases)


@pytest.fixture(autouse=True)
def ids_of_this_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids never go back in time within a process, but the clocks of tests do."""
    monkeypatch.setattr(ids, "_generator", ids._Generator())


@pytest.fixture
def market(db: Database, clock: ManualClock) -> Market:
    """A market with a fee of 10 % and a lease of 60 s, on both databases."""
    return Market(db, clock)
