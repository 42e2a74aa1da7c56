"""Money that is held for something: taken, settled and given back together with the key's limit that it counts against.

A job's price, a payment by hand, a miner's deposit or a booking: one way in, and two ways out. Nothing else calls the
ledger's `hold`, `post` and `void`.
"""

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.api_keys.spending import release_spend, reserve_spend
from aitbc.coordinator.database import Tx
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.ledger.models import TREASURY
from aitbc.coordinator.ledger.service import Hold, Payout
from aitbc.core.transfer_ids import Reference, TransferId


def take(tx: Tx, principal: Principal, hold_id: TransferId, units: int, ref: Reference) -> Hold:
    """Holds `units` of the caller's account for `ref`, and counts them against its key's limit.

    Raises InsufficientFunds, KeyLimitExceeded.
    """
    period_ms = reserve_spend(tx, principal.key_id, units) if principal.limited else 0
    made = Hold(hold_id, principal.account_id, units, ref, principal.key_id, period_ms)
    ledger.hold(tx, made)
    return made


def take_beside_limits(tx: Tx, hold_id: TransferId, account_id: str, units: int, ref: Reference) -> Hold:
    """Holds `units` of an account for what no key's limit is about, as a miner's deposit. Raises InsufficientFunds."""
    made = Hold(hold_id, account_id, units, ref)
    ledger.hold(tx, made)
    return made


def pay(tx: Tx, held: Hold, payee_id: str, price_units: int, fee_units: int) -> TransferId:
    """Pays the price, of which the fee goes to the treasury, and frees the rest. Returns the post's transfer id.

    Raises TransferConflict where the hold is not as it is said to be, or settled already;
    AccountNotFound where the payee has no account.
    """
    payouts = [Payout(payee_id, price_units - fee_units, "post"), Payout(TREASURY, fee_units, "fee")]
    post_id = ledger.post(tx, held, payouts)
    release_spend(tx, held.key_id, held.period_ms, held.units - price_units)
    return post_id


def give_back(tx: Tx, held: Hold) -> TransferId:
    """Frees the whole hold. Returns the void's transfer id. Raises TransferConflict as `pay` does."""
    void_id = ledger.void(tx, held)
    release_spend(tx, held.key_id, held.period_ms, held.units)
    return void_id
