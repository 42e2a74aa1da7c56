"""Top-ups as their owners see them, the exchange's rate, and what its operator has to know."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import bindparam, func, select

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.database import Tx, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.errors import TopupNotFound
from aitbc.coordinator.exchange import outputs, standing, topups, watch
from aitbc.coordinator.exchange.models import BitcoinOutput, Topup
from aitbc.coordinator.exchange.outputs import OutputRow
from aitbc.coordinator.exchange.states import confirmations_asked
from aitbc.coordinator.exchange.terms import Terms
from aitbc.coordinator.exchange.topups import TopupRow
from aitbc.coordinator.exchange.watch import WatchRow

_t: Any = table_of(Topup).c
_o: Any = table_of(BitcoinOutput).c
LAST_PAID = statement(
    select(func.max(_t.key_index).label("index"))
    .select_from(BitcoinOutput)
    .join(Topup, _t.id == _o.topup_id)
    .where(_t.key_id == bindparam("key"))
)
SHOWN = 50
"""Outputs of one payment that are shown: who sends more has sent them to bother."""


class TopupView(NamedTuple):
    """A top-up with all that arrived for it. `needed`: confirmations that it needs now."""

    row: TopupRow
    outputs: list[OutputRow]
    tip_height: int
    needed: int

    @property
    def received_sat(self) -> int:
        """What is in the chain or on its way."""
        return sum(row.sat for row in self.outputs if not row.gone)

    @property
    def credited_units(self) -> int:
        """What of the credits stands."""
        return sum(row.credited_units for row in self.outputs if not row.reversed)


class Health(NamedTuple):
    """What an operator has to know. `indexes`: by extended key, its next index and the last one that was paid (-1)."""

    levels: standing.Levels
    indexes: dict[str, tuple[int, int]]


def show(tx: Tx, terms: Terms, principal: Principal, topup_id: str) -> TopupView:
    """One's own; an admin sees all. Raises TopupNotFound."""
    row = topups.get(tx, topup_id)
    if row is None or (row.account_id != principal.account_id and not principal.is_admin):
        raise TopupNotFound(payment_id=topup_id)
    own = outputs.of_topups(tx, [row.id])
    found = watch.get(tx)
    tip_height = 0 if found is None else found.height
    needed = confirmations_asked([one.fact(False) for one in own], row.sat, tip_height, terms.needed)
    return TopupView(row, own, tip_height, needed)


def looked(tx: Tx) -> WatchRow | None:
    """How far the chain was looked at; None: not yet."""
    return watch.get(tx)


def health(tx: Tx) -> Health:
    """The watch, and what waits for an operator."""
    indexes = {key: (following, _last_paid(tx, key)) for key, following in topups.next_indexes(tx).items()}
    return Health(standing.levels(tx), indexes)


def _last_paid(tx: Tx, key_id: str) -> int:
    row = tx.one(LAST_PAID, key=key_id)
    return -1 if row.index is None else int(row.index)
