"""One running coordinator: its settings, database, keys and waiting miners, put together once."""

import asyncio
from dataclasses import dataclass, field

from aitbc import keyfile
from aitbc.chain import queries, sealer
from aitbc.config import Settings
from aitbc.core.block import genesis, origin_of
from aitbc.core.clock import Clock, SystemClock
from aitbc.core.signing import PrivateKey, parse_vkey
from aitbc.database import Database, Tx
from aitbc.errors import WrongNetwork
from aitbc.flows import expiry
from aitbc.flows.context import FlowContext
from aitbc.flows.onboarding import ensure_static_accounts
from aitbc.jobs.waiting import WaitingMiners
from aitbc.ledger import service as ledger
from aitbc.receipts import service as receipts
from aitbc.signatures import SigningWorker
from aitbc.users import service as users

KEY_FILE = "coordinator.key"


@dataclass
class Runtime:
    """What endpoints and background loops share. `shutdown` is set once: long polls answer at once.

    `sealing_stopped` says why no block is sealed any more ('' while they are): a witness proved that this
    database is not the one that the log was last sealed from. Only another start asks again.
    """

    settings: Settings
    db: Database
    context: FlowContext
    clock: Clock
    waiting: WaitingMiners
    shutdown: asyncio.Event = field(default_factory=asyncio.Event)
    sealing_stopped: str = ""
    login_secret: bytes = b""

    @classmethod
    def open(cls, settings: Settings, clock: Clock | None = None) -> "Runtime":
        """Opens the (migrated) database and the signing key; starts nothing."""
        clock = clock or SystemClock()
        database = Database.open(settings.database_url, clock, pool_size=settings.database_pool_size)
        key = signing_key(settings)
        context = FlowContext(
            chain_id=settings.chain_id,
            signing_key=key,
            lease_ms=int(settings.lease_s * 1000),
            heartbeat_ms=int(settings.heartbeat_s * 1000),
            max_attempts=settings.max_attempts,
            max_pending_jobs=settings.max_pending_jobs,
            max_pending_bytes=settings.max_pending_bytes,
            acceptance_ms=int(settings.acceptance_window_s * 1000),
            default_max_run_ms=settings.default_max_run_s * 1000,
            max_max_run_ms=settings.max_max_run_s * 1000,
            worker=SigningWorker(key),
        )
        waiting = WaitingMiners()
        database.signals.listen(waiting.hear)
        return cls(settings, database, context, clock, waiting)

    @property
    def signing_key(self) -> PrivateKey:
        """What the coordinator signs receipts with."""
        return self.context.signing_key

    async def start(self) -> None:
        """Prepares the database for service: system accounts, the published key, leases after an outage."""
        await self.db.start()
        await self.db.write(prepare, self.settings, self.context)
        self.login_secret = await self.db.write(users.login_secret)

    def begin_shutdown(self) -> None:
        """Ends every long poll; requests under way still get their answers."""
        self.shutdown.set()
        self.waiting.wake_all()
        self.db.signals.close()

    async def stop(self) -> None:
        self.begin_shutdown()
        await self.db.stop()
        if self.context.worker is not None:
            self.context.worker.close()


def prepare(tx: Tx, settings: Settings, context: FlowContext) -> None:
    """What a coordinator makes sure of each time it starts. Raises WrongNetwork with nothing written."""
    found_network(tx, settings)
    ledger.open_system_accounts(tx)
    ensure_static_accounts(tx, settings)
    receipts.publish_key(tx, context.signing_key, origin_of(settings.chain_id))
    expiry.renew_leases(tx, context)


def found_network(tx: Tx, settings: Settings) -> None:
    """Makes a new database one of CHAIN_ID's network; WrongNetwork where it is another's already.

    Whoever writes to a database that no coordinator has opened yet does this first: what is in it is then of
    that network for good.
    """
    check_network(tx, settings.chain_id)
    sealer.ensure_genesis(tx, settings.chain_id)


def check_network(tx: Tx, chain_id: str) -> None:
    """Raises WrongNetwork, with both names, where the database's genesis is not this network's."""
    blocks = queries.blocks(tx, 1, 1)
    if blocks and blocks[0].hash != genesis(chain_id).hash:
        raise WrongNetwork(database=_network_named(tx), configured=chain_id)


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
