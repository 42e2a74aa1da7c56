"""Releases manual payments whose acceptance window is over."""

from aitbc.coordinator.flows.acts import payment
from aitbc.coordinator.process.loops import Loop
from aitbc.coordinator.process.runtime import Runtime


async def run_once(runtime: Runtime) -> bool:
    """A batch; True where more are due."""
    return await runtime.db.write(payment.release_due) == payment.DUE_BATCH


LOOP = Loop(
    name="release",
    does="pays manual payments out whose `ACCEPTANCE_WINDOW_S` is over",
    every_s=lambda _settings: 5.0,
    run_once=run_once,
    needs_steady_clock=True,
)
