"""A miner goes, or is forgotten after a long silence. Shared by the flows in which that happens."""

from typing import Any

from sqlalchemy import bindparam, literal_column, select

from aitbc.coordinator.database import Tx, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.flows.shared import holds
from aitbc.coordinator.ledger.models import Transfer
from aitbc.coordinator.ledger.service import Hold
from aitbc.coordinator.marketplace import gpus
from aitbc.coordinator.miners import service as miners
from aitbc.coordinator.miners import standing
from aitbc.coordinator.miners.rows import MinerRow
from aitbc.coordinator.receipts.models import Receipt
from aitbc.core.transfer_ids import DEPOSIT, new_transfer_id, stored_id

_t: Any = table_of(Transfer).c
_r: Any = table_of(Receipt).c
ANSWERED = statement(select(_r.id).where(_r.miner_id == bindparam("miner")).limit(1))
WAS_PAID = statement(
    select(_t.id).where(_t.credit_id == bindparam("account"), _t.kind == literal_column("'post'")).limit(1)
)


def take_deposit(tx: Tx, miner: MinerRow, units: int) -> None:
    """Holds so much of the account for its miner. Raises InsufficientFunds."""
    held = holds.take_beside_limits(
        tx, new_transfer_id(tx.now_ms), miner.account_id, units, DEPOSIT.of(miner.id)
    )
    standing.keep_deposit(tx, miner.id, held.id, units)


def return_deposit(tx: Tx, miner: MinerRow) -> None:
    """What was held for the miner goes back to its account."""
    if miner.deposit_hold_id:
        held_id, ref = stored_id(miner.deposit_hold_id), DEPOSIT.of(miner.id)
        holds.give_back(tx, Hold(held_id, miner.account_id, miner.deposit_units, ref))
        standing.keep_deposit(tx, miner.id, "", 0)


def forget(tx: Tx, miner: MinerRow) -> None:
    """Drops what an inactive miner said about itself: it has to register again. Its row goes too, unless
    something refers to it: an answer, a listed GPU, or a payment of its account's, which may be for a run of this
    miner's."""
    return_deposit(tx, miner)
    answered = tx.one(ANSWERED, miner=miner.id) is not None
    listed = gpus.of_miner(tx, miner.id) is not None  # whoever had its id next would be let by the hour
    if answered or listed or tx.one(WAS_PAID, account=miner.account_id) is not None:
        miners.strip(tx, miner)
    else:
        miners.remove(tx, miner)
