"""Forgets what has run out and nobody asks for again."""

from aitbc.coordinator.flows.acts.idempotency import forget_old
from aitbc.coordinator.idempotency.service import KEEP_S
from aitbc.coordinator.jobs import free
from aitbc.coordinator.process.loops import Loop
from aitbc.coordinator.process.runtime import Runtime
from aitbc.coordinator.users import service as users


async def run_once(runtime: Runtime) -> bool:
    """Login texts, sessions, days' counts, answers kept for Idempotency-Keys, which may hold prompts and so go no
    later than these; True where more are due."""
    await runtime.db.write(users.forget)
    await runtime.db.write(free.forget)
    keep_s = min(KEEP_S, runtime.settings.job_retention_days * 86_400)
    return await runtime.db.write(forget_old, keep_s)


LOOP = Loop(
    name="forget",
    does="forgets used login texts, sessions, counts of days and answers kept for Idempotency-Keys",
    every_s=lambda _settings: 60.0,
    run_once=run_once,
    needs_steady_clock=True,
)
