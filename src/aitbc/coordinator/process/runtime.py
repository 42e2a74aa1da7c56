"""One running coordinator: its settings, database, keys and idle miners, put together once."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Concatenate, ParamSpec, TypeVar

import structlog

from aitbc import keyfile
from aitbc.coordinator.chain import continuity, founding, network, sealer
from aitbc.coordinator.chain.network import NetworkRow
from aitbc.coordinator.config import Settings
from aitbc.coordinator.database import Database, Tx
from aitbc.coordinator.errors import LogRefused, WrongNetwork
from aitbc.coordinator.exchange.terms import Terms
from aitbc.coordinator.flows.acts import expiry
from aitbc.coordinator.flows.acts.onboarding import ensure_static_accounts
from aitbc.coordinator.flows.shared.context import FlowContext
from aitbc.coordinator.flows.views import newest
from aitbc.coordinator.jobs.matching.idle_miners import IdleMiners
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.receipts import service as receipts
from aitbc.coordinator.signing.headfile import HeadFile
from aitbc.coordinator.signing.signatures import SigningWorker
from aitbc.coordinator.users import service as users
from aitbc.core.clock import Clock, SteadyClock, SystemClock
from aitbc.core.log.block import NO_HASH, genesis, origin_of
from aitbc.core.money import parse_ait
from aitbc.core.network import new_origin
from aitbc.core.signing import PrivateKey, parse_vkey, public_from_text

log = structlog.get_logger(__name__)
P = ParamSpec("P")
R = TypeVar("R")

DATABASE_END_S = 2.0
"""After a signal, so long requests under way may wait for the database: the whole exit stays within 5 s."""
KEY_FILE = "coordinator.key"
NO_GAP_MS = 3_600_000  # a start so long after the newest job or block is nothing strange


@dataclass
class Runtime:
    """What endpoints and background loops share. `shutdown` is set once: long polls answer at once.

    `clock` is what the database's transactions go by; `steady` says whether it can be trusted now, and is that
    same clock in a coordinator. `sealing_stopped` says why no block is sealed any more ('' while they are): a
    witness proved, or the head kept beside the signing key shows, that this database is not the one that the log
    was last sealed from. In the second case the log is not served either: `log_refused`. Only another start asks
    again.
    """

    settings: Settings
    db: Database
    context: FlowContext
    clock: Clock
    idle_miners: IdleMiners
    steady: SteadyClock = field(init=False)
    shutdown: asyncio.Event = field(default_factory=asyncio.Event)
    sealing_stopped: str = ""
    log_refused: str = ""
    head_file: HeadFile | None = None
    founded: NetworkRow | None = None
    login_secret: bytes = b""

    def __post_init__(self) -> None:
        clock = self.clock
        self.steady = (
            clock if isinstance(clock, SteadyClock) else SteadyClock(clock, self.settings.clock_steady_s)
        )

    @classmethod
    def open(cls, settings: Settings, clock: Clock | None = None) -> "Runtime":
        """Opens the (migrated) database and the signing key; starts nothing."""
        clock = SteadyClock(clock or SystemClock(), settings.clock_steady_s)
        database = Database.open(
            settings.database_url,
            clock,
            pool_size=settings.database_pool_size,
            timeout_s=settings.database_timeout_s,
        )
        key = signing_key(settings)
        context = FlowContext(
            chain_id=settings.chain_id,
            signing_key=key,
            lease_ms=int(settings.lease_s * 1000),
            heartbeat_ms=int(settings.heartbeat_s * 1000),
            max_attempts=settings.max_attempts,
            max_pending_jobs=settings.max_pending_jobs,
            max_pending_bytes=settings.max_pending_bytes,
            max_free_jobs=settings.max_free_jobs_per_day,
            acceptance_ms=int(settings.acceptance_window_s * 1000),
            default_max_run_ms=settings.default_max_run_s * 1000,
            max_max_run_ms=settings.max_max_run_s * 1000,
            worker=SigningWorker(key),
            only_approved=settings.miner_admission == "approved",
            deposit_units=parse_ait(settings.miner_deposit),
            min_booking_ms=round(settings.booking_min_hours * 3_600_000),
            max_booking_ms=round(settings.booking_max_hours * 3_600_000),
            no_show_ms=round(settings.booking_no_show_s * 1000),
        )
        idle_miners = IdleMiners()
        database.signals.listen(idle_miners.hear)
        head_file = HeadFile(settings.home, settings.chain_id)
        return cls(settings, database, context, clock, idle_miners, head_file=head_file)

    @property
    def signing_key(self) -> PrivateKey:
        """What the coordinator signs receipts with."""
        return self.context.signing_key

    async def start(self) -> None:
        """Prepares the database for service: system accounts, the published key, leases after an outage."""
        await self.db.start()
        if self.head_file is not None:
            await self.db.read(continuity.check, self.head_file, self.settings.chain_id, self.signing_key)
        await self._look_at_the_clock()
        self.founded = await self.db.write(prepare, self.settings, self.context)
        self.context = replace(self.context, network_id=self.founded.network_id)
        self.login_secret = await self.db.write(users.login_secret)
        wanted = self.settings.log_url
        if wanted and new_origin("", "", wanted) != self.founded.origin:
            log.warning("log_origin_kept", origin=self.founded.origin, public_url=self.settings.public_url)

    @cached_property
    def exchange(self) -> Terms:
        """What top-ups with Bitcoin go by."""
        return Terms.of(self.settings)

    @property
    def network(self) -> NetworkRow:
        """The network that this coordinator serves; known from its start on."""
        if self.founded is None:
            raise RuntimeError("the coordinator has not started")
        return self.founded

    async def _look_at_the_clock(self) -> None:
        """A wall clock that is behind the newest job or block, or far ahead, has to prove itself first."""
        newest_ms = await self.db.read(newest.time_ms)
        ahead_ms = self.clock.now_ms() - newest_ms
        if newest_ms and not -SteadyClock.JUMP_MS <= ahead_ms <= NO_GAP_MS:
            self.steady.distrust()
            log.warning("clock_to_prove_itself", ahead_s=ahead_ms // 1000, for_s=self.settings.clock_steady_s)

    def check_history(self) -> None:
        """Raises LogRefused where the database does not continue the kept head. Before the start, for its message."""
        if self.head_file is not None:
            self.db.read_sync(continuity.check, self.head_file, self.settings.chain_id, self.signing_key)

    def refuse_log(self, fault: str) -> None:
        """The database does not continue the log: no block is sealed and nothing of it is served any more."""
        self.sealing_stopped = self.log_refused = fault
        log.error("log_refused", error=fault)

    def check_log(self) -> None:
        """Raises LogRefused where the log is not served."""
        if self.log_refused:
            raise LogRefused(reason=self.log_refused)

    async def read_log(self, fn: Callable[Concatenate[Tx, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """`db.read` of anything that is signed in the log or proven from it: every route reads that by this alone.

        Raises LogRefused where the log is not served.
        """
        self.check_log()
        return await self.db.read(fn, *args, **kwargs)

    def begin_shutdown(self) -> None:
        """Ends every long poll; requests under way still get their answers, unless the database hangs."""
        self.db.end_within(DATABASE_END_S)
        self.shutdown.set()
        self.idle_miners.wake_all()
        self.db.signals.close()

    async def stop(self) -> None:
        self.begin_shutdown()
        await self.db.stop()
        if self.context.worker is not None:
            self.context.worker.close()


def prepare(tx: Tx, settings: Settings, context: FlowContext) -> NetworkRow:
    """What a coordinator makes sure of each time it starts; its network. WrongNetwork with nothing written."""
    founded = found_network(tx, settings, context.signing_key)
    ledger.open_system_accounts(tx)
    ensure_static_accounts(tx, settings)
    receipts.publish_key(tx, context.signing_key, founded.origin)
    newest = sealer.head(tx)
    for retired in receipts.retire_other_keys(tx, context.signing_key, newest.time_ms if newest else 0):
        log.warning("signing_key_retired", key_id=retired, now_signs=context.signing_key.key_id)
    expiry.renew_leases(tx, context)
    return founded


def found_network(tx: Tx, settings: Settings, key: PrivateKey) -> NetworkRow:
    """Makes a new database one of CHAIN_ID's network, whose log `key` signs; WrongNetwork where it is another's.

    Whoever writes to a database that no coordinator has opened yet does this first: what is in it is then of
    that network for good.
    """
    check_network(tx, settings.chain_id)
    first = [public_from_text(row.public_key) for row in receipts.keys(tx)[:1]]
    founded = founding.ensure(tx, settings.chain_id, key, settings.log_url, first[0] if first else None)
    if not first:
        receipts.publish_key(tx, key, founded.origin)
    return founded


def check_network(tx: Tx, chain_id: str) -> None:
    """Raises WrongNetwork, with both names, where the database is of another network.

    Looks at databases of earlier versions as well, which have no table that says so.
    """
    block = sealer.block_zero(tx)
    if block is None:
        return
    old = block.previous_hash == NO_HASH
    name = _network_named(tx) if old else network.of(tx).chain_id
    if (block.hash != genesis(chain_id).hash) if old else (name != chain_id):
        raise WrongNetwork(database=name, configured=chain_id)


def _network_named(tx: Tx) -> str:
    """What the database's network is called: the genesis hash does not say, the log's keys do."""
    for row in receipts.keys(tx):
        return parse_vkey(row.vkey)[0].removeprefix(origin_of(""))
    return "another name"


def signing_key(settings: Settings) -> PrivateKey:
    """The coordinator's Ed25519 key: made from SECRET_KEY where that is set, so that several coordinators
    share it; else kept in AITBC_HOME, created once."""
    if settings.secret_key:
        return keyfile.derive_key(settings.secret_key, f"aitbc/coordinator/{settings.chain_id}")
    return keyfile.load_or_create_key(settings.home / KEY_FILE)


def has_signing_key(settings: Settings) -> bool:
    """Whether `signing_key` has one without making it."""
    return bool(settings.secret_key) or (settings.home / KEY_FILE).exists()
