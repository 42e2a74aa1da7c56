"""Seals what waits into blocks, once the witnesses have been asked where the log ended."""

import asyncio

import httpx

from aitbc.coordinator.chain import continuity, sealer
from aitbc.coordinator.metrics import BLOCKS_SEALED
from aitbc.coordinator.process.cosigning import examine
from aitbc.coordinator.process.loops import Loop
from aitbc.coordinator.process.runtime import Runtime
from aitbc.coordinator.signing.headfile import HeadFile, HeadFileError


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


LOOP = Loop(
    name="seal",
    does="seals what waits into the next block, each `BLOCK_INTERVAL_S`; asks the witnesses first, after a start",
    every_s=lambda settings: settings.block_interval_s,
    open=Sealing,
    run_once=Sealing.run_once,
    while_log_refused=False,
)
