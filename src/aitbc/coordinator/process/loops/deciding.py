"""Opens and counts votes, and executes what passed."""

from aitbc.coordinator.errors import AitbcError
from aitbc.coordinator.flows.acts import governance as acts
from aitbc.coordinator.governance import service as governance
from aitbc.coordinator.process.loops import Loop
from aitbc.coordinator.process.runtime import Runtime


async def run_once(runtime: Runtime) -> bool:
    """A batch, each proposal in a transaction of its own; True where more are due.

    One that fails keeps none of the others waiting: the first error is raised when all had their turn.
    """
    due = await runtime.db.read(governance.due, acts.DUE_BATCH)
    failed: list[AitbcError] = []
    for proposal_id in due:
        try:
            await runtime.db.write(acts.advance, proposal_id)
        except AitbcError as error:
            failed.append(error)
    if failed:
        raise failed[0]
    return len(due) == acts.DUE_BATCH


LOOP = Loop(
    name="decide",
    does="opens and counts the votes on proposals, and executes what passed",
    every_s=lambda _settings: 5.0,
    run_once=run_once,
    needs_steady_clock=True,
)
