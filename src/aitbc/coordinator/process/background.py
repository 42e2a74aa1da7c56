"""Loops that run beside the API. Each is a plain function that does one round; tests call it directly.

What a round cannot take back waits until the clock is steady (docs/operating.md has the table).
"""

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import structlog

from aitbc.coordinator.chain import continuity, sealer, witnessing
from aitbc.coordinator.errors import StorageUnavailable
from aitbc.coordinator.flows.acts import expiry, payment
from aitbc.coordinator.flows.acts.idempotency import forget_old
from aitbc.coordinator.flows.views import activity
from aitbc.coordinator.idempotency.service import KEEP_S
from aitbc.coordinator.jobs import free
from aitbc.coordinator.ledger import closing, marks
from aitbc.coordinator.metrics import BLOCKS_SEALED, LEASE_EXPIRIES
from aitbc.coordinator.process.cosigning import Cosigner, examine
from aitbc.coordinator.process.runtime import Runtime
from aitbc.coordinator.signing.headfile import HeadFile, HeadFileError
from aitbc.coordinator.users import service as users

log = structlog.get_logger(__name__)

EXPIRE_EVERY_S = 0.5
LAPSE_EVERY_S = 5.0
MARK_EVERY_S = 5.0
RELEASE_EVERY_S = 5.0
ERASE_EVERY_S = 60.0
FORGET_EVERY_S = 60.0
JUMP_MS = 2_000  # the wall clock and the monotonic one may drift this far apart between two rounds
OUTAGE_S = 5.0  # without a good round for so long, miners could not reach us: a pause, a full disk


class Expiry:
    """Ends leases and jobs whose time has come. Clock jumps and outages are not held against miners."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._wall_ms = runtime.clock.now_ms()
        self._mono_s = runtime.clock.monotonic()
        self._frozen_since_s: float | None = None

    async def run_once(self) -> bool:
        """One round; True where another one is due at once."""
        database, context = self.runtime.db, self.runtime.context
        now_ms, mono_s = self.runtime.clock.now_ms(), self.runtime.clock.monotonic()
        since_s = mono_s - self._mono_s
        jumped_ms = now_ms - self._wall_ms - round(since_s * 1000)
        if abs(jumped_ms) > JUMP_MS:
            count = await database.write(expiry.follow_clock, context, jumped_ms)
            self._wall_ms += jumped_ms
            log.warning("clock_jumped", by_ms=jumped_ms, leases=count)
        if since_s > OUTAGE_S:
            count = await database.write(expiry.renew_leases, context)
            log.warning("leases_renewed", away_s=round(since_s, 1), leases=count)
        frozen_for_s = 0.0 if self._frozen_since_s is None else mono_s - self._frozen_since_s
        found = await database.write(
            expiry.expire_due,
            context,
            frozen_for_ms=round(frozen_for_s * 1000),
            waiting_too=self.runtime.steady.is_steady(),
        )
        self._wall_ms, self._mono_s = now_ms, mono_s  # last: a round that failed is part of an outage
        if found.frozen and self._frozen_since_s is None:
            self._frozen_since_s = mono_s
            log.warning("rescheduling_waits", reason="most miners that hold leases went silent at once")
        elif not found.silent:
            self._frozen_since_s = None
        for cause in found.causes:
            LEASE_EXPIRIES.labels(cause).inc()
        return found.more


async def lapse_once(runtime: Runtime) -> bool:
    """Marks silent miners inactive."""
    if not runtime.steady.is_steady():
        return False
    await runtime.db.write(expiry.lapse_miners, runtime.context)
    return False


async def erase_once(runtime: Runtime) -> bool:
    """Erases prompts and results past their retention, and what long gone miners said; True where more are due."""
    if not runtime.steady.is_steady():
        return False
    erased = await runtime.db.write(expiry.erase_old, runtime.settings.job_retention_days)
    forgotten = await runtime.db.write(expiry.forget_miners, runtime.settings.miner_retention_days)
    return erased == expiry.ERASE_BATCH or forgotten == expiry.GONE_BATCH


async def release_once(runtime: Runtime) -> bool:
    """Releases manual payments whose acceptance window is over; True where more are due."""
    if not runtime.steady.is_steady():
        return False
    return await runtime.db.write(payment.release_due) == payment.DUE_BATCH


async def forget_once(runtime: Runtime) -> bool:
    """Forgets what has run out and nobody asks for again: login texts, sessions, days' counts, answers kept for
    Idempotency-Keys, which may hold prompts and so go no later than these."""
    if not runtime.steady.is_steady():
        return False
    await runtime.db.write(users.forget)
    await runtime.db.write(free.forget)
    keep_s = min(KEEP_S, runtime.settings.job_retention_days * 86_400)
    return await runtime.db.write(forget_old, keep_s)


async def seal_once(runtime: Runtime) -> bool:
    """Seals what waits into the next block; True where more waits than one block takes.

    What is signed is on disk outside the database before anyone can see it there (`signing.headfile`).
    """
    if runtime.sealing_stopped:
        return False
    database, context, head_file = runtime.db, runtime.context, runtime.head_file
    if head_file is None:
        made = await database.read(sealer.draft, context.chain_id, context.signing_key)
    else:
        made = await _draft_kept(runtime, head_file)
    if made is None:
        return False
    if head_file is not None:
        block = made.block
        await asyncio.to_thread(head_file.intend, block.checkpoint, block.first_leaf, made.runs)
    sealed = await database.write(sealer.seal, made)
    if sealed:
        BLOCKS_SEALED.inc()
    if head_file is not None and sealed:
        await asyncio.to_thread(head_file.keep, made.block.checkpoint)
    return made.full and sealed


async def _draft_kept(runtime: Runtime, head_file: HeadFile) -> sealer.Draft | None:
    """The next block upon the kept head; what another coordinator sealed meanwhile is kept first."""
    context = runtime.context
    try:
        kept = await asyncio.to_thread(head_file.read)
    except HeadFileError as error:
        runtime.refuse_log(str(error))
        return None
    found = await runtime.db.read(continuity.look, kept, context.chain_id, context.signing_key)
    if found.fault:
        runtime.refuse_log(continuity.refusal(found.fault, head_file))
        return None
    if found.lost:
        await asyncio.to_thread(head_file.drop_intent)
    newest = found.newest
    if newest is not None and (kept.head is None or kept.head.head.size < newest.tree_size):
        await asyncio.to_thread(head_file.keep, newest.checkpoint)
    return found.draft


class Sealing:
    """Seals blocks, but first asks the witnesses whether this database is still where the log ended.

    One that was restored from a backup would otherwise sign a second history before anybody noticed.
    """

    def __init__(self, runtime: Runtime, client: httpx.AsyncClient | None = None) -> None:
        self.runtime = runtime
        self._client = client
        self._examined = False

    async def run_once(self) -> bool:
        """One round; True where more waits than one block takes."""
        if not self._examined:
            await examine(self.runtime, self._client)
            self._examined = True
        return await seal_once(self.runtime)


async def count_once(runtime: Runtime) -> bool:
    """Counts what is new for the explorer; True where more waits than one round takes in."""
    database = runtime.db
    more = False
    seen = await database.read(activity.draft_activity)
    if seen is not None:
        more = await database.write(activity.write_activity, seen) and seen.more
    jobs = await database.read(activity.draft_jobs)
    if jobs is not None:
        more = (await database.write(activity.write_jobs, jobs) and jobs.more) or more
    quorum = runtime.settings.witness_quorum
    final = await database.read(witnessing.draft_finality, quorum)
    if final is not None:
        await database.write(witnessing.keep_finality, quorum, final)
    return more


async def mark_once(runtime: Runtime) -> bool:
    """Marks balances, so that a statement need not add up all that ever moved; True where more are due."""
    database = runtime.db
    if not await database.read(marks.due):
        return False
    now_ms = runtime.steady.now_ms()
    await database.write(closing.close, now_ms - marks.SETTLED_MS, now_ms)
    made = await database.read(marks.draft)
    await database.write(marks.write, made)
    return made.more


async def every(seconds: float, runtime: Runtime, run_once: Callable[[], Awaitable[bool]], name: str) -> None:
    """Calls `run_once` until shutdown: at once while there is more to do, else after a pause."""
    while not runtime.shutdown.is_set():
        more = False
        try:
            more = await run_once()
        except StorageUnavailable:
            log.warning("background_round_failed", loop=name)
        except Exception:  # a loop outlives a bad round: without it leases would never end
            log.exception("background_round_failed", loop=name)
        if more:
            continue
        try:
            await asyncio.wait_for(runtime.shutdown.wait(), seconds)
        except TimeoutError:
            continue


async def cosign(runtime: Runtime) -> None:
    """Brings new blocks to the witnesses until shutdown."""
    cosigner = Cosigner(runtime)
    try:
        await every(runtime.settings.block_interval_s, runtime, cosigner.run_once, "cosign")
    finally:
        await cosigner.close()


def start(runtime: Runtime) -> list[asyncio.Task[None]]:
    """Starts every loop; they end by themselves once `runtime.shutdown` is set."""
    expire, sealing = Expiry(runtime), Sealing(runtime)
    rounds: list[tuple[float, Callable[[], Awaitable[bool]], str]] = [
        (EXPIRE_EVERY_S, expire.run_once, "expiry"),
        (runtime.settings.block_interval_s, sealing.run_once, "seal"),
        (runtime.settings.block_interval_s, lambda: count_once(runtime), "count"),
        (MARK_EVERY_S, lambda: mark_once(runtime), "mark"),
        (RELEASE_EVERY_S, lambda: release_once(runtime), "release"),
        (LAPSE_EVERY_S, lambda: lapse_once(runtime), "lapse"),
        (ERASE_EVERY_S, lambda: erase_once(runtime), "erase"),
        (FORGET_EVERY_S, lambda: forget_once(runtime), "forget"),
    ]
    return [
        asyncio.create_task(every(seconds, runtime, run_once, name), name=name)
        for seconds, run_once, name in rounds
    ] + [asyncio.create_task(cosign(runtime), name="cosign")]
