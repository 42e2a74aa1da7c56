"""Counts what is new for the explorer."""

from aitbc.coordinator.chain import witnessing
from aitbc.coordinator.flows.views import activity
from aitbc.coordinator.process.loops import Loop
from aitbc.coordinator.process.runtime import Runtime


async def run_once(runtime: Runtime) -> bool:
    """True where more waits than one round takes in."""
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


LOOP = Loop(
    name="count",
    does="counts what is new for the explorer, and up to where the log is final, each `BLOCK_INTERVAL_S`",
    every_s=lambda settings: settings.block_interval_s,
    run_once=run_once,
)
