"""What proposals of each type do: what stands in the way of it now, and what would be different afterwards."""

from typing import NamedTuple

from aitbc.coordinator.database import Tx
from aitbc.coordinator.flows.shared.context import FlowContext
from aitbc.coordinator.governance.service import ProposalRow
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.ledger.models import TREASURY
from aitbc.coordinator.parameters import service as parameters
from aitbc.core.money import format_ait


class DryRun(NamedTuple):
    """What the proposal would do if it was executed now.

    `what` is the parameter's name or `treasury`; `before` and `after` are in `unit`, integers. `obstacle`: why it
    cannot be done now, '' where it can. All empty for a text, which does nothing.
    """

    what: str = ""
    before: int | None = None
    after: int | None = None
    unit: str = ""
    obstacle: str = ""


def dry_run(tx: Tx, ctx: FlowContext, row: ProposalRow) -> DryRun:
    """What would change now."""
    if row.type == "parameter_change":
        definition = parameters.DEFINITIONS.get(row.parameter)
        unit = "" if definition is None else definition.unit
        before = None if definition is None else value_now(tx, ctx, row.parameter)
        return DryRun(row.parameter, before, row.value, unit, obstacle(tx, row))
    if row.type == "fund_allocation":
        has = ledger.balance(tx, TREASURY).available_units
        return DryRun("treasury", has, max(0, has - row.amount_units), "base units", obstacle(tx, row))
    return DryRun()


def obstacle(tx: Tx, row: ProposalRow) -> str:
    """Why what was proposed cannot be done now; '' where it can."""
    if row.type == "parameter_change":
        definition = parameters.DEFINITIONS.get(row.parameter)
        if definition is None:
            return f"there is no parameter {row.parameter}"
        if row.value is None or not definition.low <= row.value <= definition.high:
            return f"{row.parameter} is {definition.low} to {definition.high} {definition.unit}"
    if row.type == "fund_allocation":
        has = ledger.balance(tx, TREASURY).available_units
        if has < row.amount_units:
            return f"the treasury has {format_ait(has)} of {format_ait(row.amount_units)} AIT"
    return ""


def value_now(tx: Tx, ctx: FlowContext, name: str) -> int:
    """What a parameter is on this coordinator: as it was changed, or by its default or setting."""
    if parameters.DEFINITIONS[name].by_setting:
        return ctx.lease_ms_in(tx) // 1000
    return parameters.get(tx, name)
