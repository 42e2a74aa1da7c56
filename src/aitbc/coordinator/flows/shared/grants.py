"""A new account and the devnet's grant to it.

Shared by the flows that open accounts: for a key, and for a wallet that logs in.
"""

from __future__ import annotations

from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import InvalidRequest
from aitbc.coordinator.ledger import service as ledger
from aitbc.core.transfer_ids import ACCOUNT_NAME, ACCOUNT_NAME_SAYS, GRANT, GRANTED


def open_account_with_grant(tx: Tx, account_id: str, grant_units: int) -> bool:
    """Opens a user account and pays it `grant_units` from the mint, once ever; True where it was new.

    The grant's transfer id is made of the account's name, so that a second one cannot exist.
    Raises InvalidRequest for a name that is not one.
    """
    if ACCOUNT_NAME.fullmatch(account_id) is None:
        raise InvalidRequest(ACCOUNT_NAME_SAYS, field="account")
    created = ledger.open_account(tx, account_id)
    if created and grant_units > 0:
        ledger.open_system_accounts(tx)
        ledger.mint(tx, GRANT.of(account_id), account_id, grant_units, GRANTED)
    return created
