"""A new account and the devnet's grant to it.

Shared by the flows that open accounts: for a key, and for a wallet that logs in.
"""

from __future__ import annotations

import re

from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import InvalidRequest
from aitbc.coordinator.ledger import service as ledger

_ACCOUNT_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def open_account_with_grant(tx: Tx, account_id: str, grant_units: int) -> bool:
    """Opens a user account and pays it `grant_units` from the mint, once ever; True where it was new.

    The grant's transfer id is made of the account's name, so that a second one cannot exist.
    Raises InvalidRequest for a name that is not one.
    """
    if _ACCOUNT_ID.fullmatch(account_id) is None:
        raise InvalidRequest(
            "An account's name is 1 to 64 of a-z 0-9 . _ - and begins with a letter or digit.",
            field="account",
        )
    created = ledger.open_account(tx, account_id)
    if created and grant_units > 0:
        ledger.open_system_accounts(tx)
        ledger.mint(tx, f"grant:{account_id}", account_id, grant_units, ref="devnet grant")
    return created
