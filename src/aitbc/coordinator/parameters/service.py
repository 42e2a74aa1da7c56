"""Reads and sets the network's parameters. All are integers with bounds; money is in base units."""

from typing import NamedTuple

from sqlalchemy import ColumnElement, bindparam, func, literal_column, select

from aitbc.coordinator.chain import service as chain
from aitbc.coordinator.database import Tx, insert_into, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.errors import InvalidRequest, ServerBusy
from aitbc.coordinator.parameters.models import ParameterChange
from aitbc.core.log.leaf import PARAMETER, parameter_leaf
from aitbc.core.money import UNITS_PER_AIT
from aitbc.core.text import clean
from aitbc.core.wallet.transaction import USUAL_FEE_UNITS

MAX_REASON_CHARS = 200
MAX_BY_CHARS = 100
DAY_S = 86_400
TRIES = 100  # each that fails means that another coordinator made a change


class Definition(NamedTuple):
    """One parameter: what it means, its unit, its bounds (both included), and what holds until it is changed.

    A default never changes: nothing in the log would say so. Who wants another sets the parameter. `by_setting`: until
    then the coordinator's own setting holds, which the log does not know; `default` is what that is usually.
    """

    name: str
    default: int
    low: int
    high: int
    unit: str
    meaning: str
    type: str = "integer"
    by_setting: bool = False


class Change(NamedTuple):
    """A row of `parameter_changes`."""

    number: int
    name: str
    value_before: int | None
    value_after: int
    effective_at_ms: int
    by: str
    reason: str


class Standing(NamedTuple):
    """A parameter, its value now, and what made it so; None where its default holds."""

    definition: Definition
    value: int
    changed: Change | None


DEFINITIONS: dict[str, Definition] = {
    one.name: one
    for one in (
        Definition("fee_bps", 250, 0, 5_000, "basis points", "share of each price that goes to the treasury"),
        Definition(
            "default_price_per_1k_tokens",
            UNITS_PER_AIT // 100,
            0,
            1_000_000 * UNITS_PER_AIT,
            "base units",
            "price of a miner that names none",
        ),
        Definition(
            "default_max_price_per_1k_tokens",
            UNITS_PER_AIT // 10,
            0,
            1_000_000 * UNITS_PER_AIT,
            "base units",
            "cap of a client that names none",
        ),
        Definition(
            "min_transaction_fee",
            USUAL_FEE_UNITS,
            0,
            1_000 * UNITS_PER_AIT,
            "base units",
            "least fee of a transfer between wallets",
        ),
        Definition(
            "lease_s",
            60,
            30,
            3_600,
            "seconds",
            "how long a job's lease lasts after each word of its miner; until changed, the setting LEASE_S",
            by_setting=True,
        ),
        Definition(
            "governance_quorum_bps",
            1_000,
            100,
            10_000,
            "basis points",
            "share of all AIT outside the treasury that has to vote for a proposal to count",
        ),
        Definition(
            "governance_threshold_bps",
            5_000,
            5_000,
            9_000,
            "basis points",
            "share of the votes for and against that has to be exceeded for a proposal to pass",
        ),
        Definition(
            "governance_delay_s",
            DAY_S,
            60,
            30 * DAY_S,
            "seconds",
            "from a proposal to the opening of its vote",
        ),
        Definition("governance_voting_s", 7 * DAY_S, 3_600, 90 * DAY_S, "seconds", "how long a vote is open"),
        Definition(
            "governance_extension_s",
            DAY_S,
            0,
            30 * DAY_S,
            "seconds",
            "how long a vote stays open at least after its quorum is reached, once",
        ),
        Definition(
            "governance_timelock_s",
            2 * DAY_S,
            3_600,
            90 * DAY_S,
            "seconds",
            "from the end of a vote to when what passed can be executed",
        ),
        Definition(
            "governance_window_s",
            14 * DAY_S,
            DAY_S,
            90 * DAY_S,
            "seconds",
            "for how long what passed can be executed, before it expires",
        ),
        Definition(
            "governance_deposit",
            100 * UNITS_PER_AIT,
            0,
            1_000_000 * UNITS_PER_AIT,
            "base units",
            "deposit of a proposal, lost where it misses its quorum or is vetoed",
        ),
        Definition(
            "governance_min_power",
            100 * UNITS_PER_AIT,
            0,
            1_000_000 * UNITS_PER_AIT,
            "base units",
            "least voting power of a proposer",
        ),
        Definition(
            "governance_age_s",
            7 * DAY_S,
            0,
            90 * DAY_S,
            "seconds",
            "for how long AIT has to be held to vote",
        ),
    )
}

_changes = table_of(ParameterChange)
_c = _changes.c
_of_name = select(*_changes.columns).where(_c.name == bindparam("name")).order_by(_c.number.desc()).limit(1)
NEWEST_OF = statement(_of_name, Change)
NEWEST = statement(select(*_changes.columns).order_by(_c.number.desc()).limit(1), Change)
_newest = _of_name.subquery("newest")
CHANGED = statement(select(_newest.c.name).where(_newest.c.value_after != bindparam("usual")))
INSERT = insert_into(ParameterChange, on_conflict_ignore=True)
_changed: set[str] = set()  # what somebody had changed when it was last looked at


def get(tx: Tx, name: str) -> int:
    """The parameter's value now; its default where nobody changed it. KeyError for an unknown name."""
    known = tx.memo.get(name)
    if known is None:
        row = newest(tx, name)
        known = tx.memo[name] = DEFINITIONS[name].default if row is None else row.value_after
    return int(known)


def newest(tx: Tx, name: str) -> Change | None:
    """The newest change of a parameter."""
    row: Change | None = tx.one(NEWEST_OF, name=name)
    return row


def standing(tx: Tx) -> list[Standing]:
    """Every parameter as it is now."""
    found = ((definition, newest(tx, name)) for name, definition in DEFINITIONS.items())
    return [
        Standing(definition, definition.default if change is None else change.value_after, change)
        for definition, change in found
    ]


def in_force(name: str) -> ColumnElement[int]:
    """The parameter's value now as an expression, for a statement that keeps it with what it writes."""
    return func.coalesce(changed(name), literal_column(str(DEFINITIONS[name].default)))


def changed(name: str) -> ColumnElement[int]:
    """What the parameter was changed to, as an expression; NULL where it never was."""
    named = _c.name == literal_column(f"'{name}'")
    found = select(_c.value_after).where(named).order_by(_c.number.desc()).limit(literal_column("1"))
    return found.scalar_subquery()


def changed_to(tx: Tx, name: str) -> int | None:
    """What the parameter was changed to; None where it never was, and its default or a setting holds."""
    row = newest(tx, name)
    return None if row is None else row.value_after


def check(name: str, value: object) -> Definition:
    """The parameter's definition, where the value is one that it can have. Raises InvalidRequest."""
    definition = DEFINITIONS.get(name)
    if definition is None:
        raise InvalidRequest(f"There is no parameter {clean(name, 64)}.", parameter=clean(name, 64))
    if type(value) is not int or not definition.low <= value <= definition.high:
        what = f"{name} is an integer from {definition.low} to {definition.high} ({definition.unit})."
        raise InvalidRequest(what, parameter=name)
    return definition


def usual(tx: Tx, name: str) -> int:
    """`get` of what hardly anybody changes, and nobody twice a day (see `Tx.none`)."""
    default = DEFINITIONS[name].default
    if name not in _changed and tx.none(CHANGED, name=name, usual=default):
        return default
    value = get(tx, name)
    (_changed.discard if value == default else _changed.add)(name)
    return value


def set_value(tx: Tx, name: str, value: int, by: str, reason: str) -> Change | None:
    """Changes a parameter within its bounds, with effect on what begins after this transaction.

    `by` and `reason` are public. None where that is its value already: nothing changes, nothing is written.
    Raises InvalidRequest; ServerBusy where other coordinators were faster again and again.
    """
    definition = check(name, value)
    by, reason = _line("Who changes a parameter", by, MAX_BY_CHARS), reason_of(reason)
    tx.memo.pop(name, None)
    for _ in range(TRIES):
        # In this order: who makes a change between the two has the number that is tried below.
        last: Change | None = tx.one(NEWEST)
        before = newest(tx, name)
        usual_value = None if definition.by_setting else definition.default
        was = usual_value if before is None else before.value_after
        if was == value:
            return None
        number, not_before = (1, 0) if last is None else (last.number + 1, last.effective_at_ms)
        change = Change(number, name, was, value, max(tx.now_ms, not_before), by, reason)
        if tx.run(INSERT, **change._asdict()) == 1:
            chain.append(tx, PARAMETER, f"parameter:{number}", parameter_leaf(*change))
            return change
    raise ServerBusy()


def reason_of(text: str) -> str:
    """A reason as it is kept. Raises InvalidRequest: empty or too long."""
    return _line("A reason", text, MAX_REASON_CHARS)


def _line(what: str, text: str, most: int) -> str:
    """One line without control characters."""
    line = " ".join(clean(text, len(text)).split())
    if not 1 <= len(line) <= most:
        raise InvalidRequest(f"{what} has 1 to {most} characters; everybody can read it.")
    return line
