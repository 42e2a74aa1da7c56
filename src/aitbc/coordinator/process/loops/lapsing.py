"""Marks silent miners inactive."""

from aitbc.coordinator.flows.acts import expiry
from aitbc.coordinator.process.loops import Loop
from aitbc.coordinator.process.runtime import Runtime


async def run_once(runtime: Runtime) -> bool:
    """All of them at once."""
    await runtime.db.write(expiry.lapse_miners, runtime.context)
    return False


LOOP = Loop(
    name="lapse",
    does="marks miners inactive that fell silent",
    every_s=lambda _settings: 5.0,
    run_once=run_once,
    needs_steady_clock=True,
)
