"""Erases prompts and results past their retention, and what long gone miners said."""

from aitbc.coordinator.flows.acts import expiry
from aitbc.coordinator.process.loops import Loop
from aitbc.coordinator.process.runtime import Runtime


async def run_once(runtime: Runtime) -> bool:
    """A batch of each; True where more are due."""
    erased = await runtime.db.write(expiry.erase_old, runtime.settings.job_retention_days)
    forgotten = await runtime.db.write(expiry.forget_miners, runtime.settings.miner_retention_days)
    return erased == expiry.ERASE_BATCH or forgotten == expiry.GONE_BATCH


LOOP = Loop(
    name="erase",
    does="erases prompts and results after `JOB_RETENTION_DAYS`, what gone miners said after `MINER_RETENTION_DAYS`",
    every_s=lambda _settings: 60.0,
    run_once=run_once,
    needs_steady_clock=True,
)
