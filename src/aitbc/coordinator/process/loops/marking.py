"""Marks balances, so that a statement need not add up all that ever moved."""

from aitbc.coordinator.ledger import closing, marks
from aitbc.coordinator.process.loops import Loop
from aitbc.coordinator.process.runtime import Runtime


async def run_once(runtime: Runtime) -> bool:
    """True where more are due."""
    database = runtime.db
    if not await database.read(marks.due):
        return False
    now_ms = runtime.steady.now_ms()
    await database.write(closing.close, now_ms - marks.SETTLED_MS, now_ms)
    made = await database.read(marks.draft)
    await database.write(marks.write, made)
    return made.more


LOOP = Loop(
    name="mark",
    does="marks what accounts' movements come to, every 500 of an account, for statements to start from",
    every_s=lambda _settings: 5.0,
    run_once=run_once,
)
