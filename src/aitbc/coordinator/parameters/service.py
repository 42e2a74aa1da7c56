"""Reads and sets the network's parameters. All are integers with bounds; money is in base units."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, bindparam, func, literal_column, select

from aitbc.coordinator.database import Tx, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.errors import InvalidRequest
from aitbc.coordinator.parameters.models import Parameter
from aitbc.core.money import UNITS_PER_AIT
from aitbc.core.wallet.transaction import USUAL_FEE_UNITS

_parameters = table_of(Parameter)
SELECT_ONE = statement(select(_parameters.c.value).where(_parameters.c.name == bindparam("name")))
CHANGED = statement(
    select(_parameters.c.name).where(
        _parameters.c.name == bindparam("name"), _parameters.c.value != bindparam("usual")
    )
)
_changed: set[str] = set()  # what somebody had changed when it was last looked at


@dataclass(frozen=True, slots=True)
class Definition:
    """A parameter's default and bounds, both ends included."""

    default: int
    low: int
    high: int
    unit: str
    purpose: str


DEFINITIONS: dict[str, Definition] = {
    "fee_bps": Definition(250, 0, 5_000, "basis points", "share of each price that goes to the treasury"),
    "default_price_per_1k_tokens": Definition(
        UNITS_PER_AIT // 100, 0, 1_000_000 * UNITS_PER_AIT, "base units", "price of a miner that names none"
    ),
    "default_max_price_per_1k_tokens": Definition(
        UNITS_PER_AIT // 10, 0, 1_000_000 * UNITS_PER_AIT, "base units", "cap of a client that names none"
    ),
    "min_transaction_fee": Definition(
        USUAL_FEE_UNITS, 0, 1_000 * UNITS_PER_AIT, "base units", "least fee of a transfer between wallets"
    ),
}


def get(tx: Tx, name: str) -> int:
    """The parameter's value now; its default where nobody changed it. KeyError for an unknown name."""
    known = tx.memo.get(name)
    if known is None:
        row = tx.one(SELECT_ONE, name=name)
        known = tx.memo[name] = DEFINITIONS[name].default if row is None else int(row.value)
    return int(known)


def in_force(name: str) -> ColumnElement[int]:
    """The parameter's value now as an expression, for a statement that keeps it with what it writes."""
    found = select(_parameters.c.value).where(_parameters.c.name == literal_column(f"'{name}'"))
    return func.coalesce(found.scalar_subquery(), literal_column(str(DEFINITIONS[name].default)))


def usual(tx: Tx, name: str) -> int:
    """`get` of what hardly anybody changes, and nobody twice a day (see `Tx.none`)."""
    default = DEFINITIONS[name].default
    if name not in _changed and tx.none(CHANGED, name=name, usual=default):
        return default
    value = get(tx, name)
    (_changed.discard if value == default else _changed.add)(name)
    return value


def set_value(tx: Tx, name: str, value: int) -> None:
    """Sets a parameter within its bounds. Raises InvalidRequest."""
    definition = DEFINITIONS.get(name)
    if definition is None or not definition.low <= value <= definition.high:
        raise InvalidRequest(f"{name} cannot be {value}.", parameter=name)
    tx.memo.pop(name, None)
    tx.change(_parameters.delete().where(_parameters.c.name == name))
    tx.change(_parameters.insert().values(name=name, value=value, updated_at_ms=tx.now_ms))
