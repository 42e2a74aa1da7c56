"""What the holder of a key sees of its account."""

from typing import NamedTuple

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.api_keys.service import KeyInfo, key_info
from aitbc.coordinator.database import Tx
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.ledger.service import Balance


class OwnAccount(NamedTuple):
    """The account's money, the key's limit where it has one, and the time."""

    money: Balance
    key: KeyInfo | None
    now_ms: int


def own_account(tx: Tx, principal: Principal) -> OwnAccount:
    """The money is all of the account's, whatever the key may spend of it."""
    info = key_info(tx, principal.key_id) if principal.limited else None
    return OwnAccount(ledger.balance(tx, principal.account_id), info, tx.now_ms)
