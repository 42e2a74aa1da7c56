"""New accounts and keys: the ledger account, the devnet's grant, the key."""

from __future__ import annotations

import re
from typing import Any

from aitbc.accounts.service import NewKey, create_key, static_principals
from aitbc.config import Settings
from aitbc.core.ids import new_id
from aitbc.database import Tx
from aitbc.errors import InvalidRequest
from aitbc.ledger import service as ledger

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


def issue_key(
    tx: Tx, *, role: str, account_id: str | None = None, grant_units: int = 0, **options: Any
) -> NewKey:
    """A new key; its account is opened (with the grant) where it does not exist yet.

    Without `account_id` the account gets a name of its own. `options` are those of accounts.create_key.
    """
    account = account_id if account_id is not None else f"{role}-{new_id(tx.now_ms)[-12:]}"
    open_account_with_grant(tx, account, grant_units)
    return create_key(tx, role=role, account_id=account, **options)


def ensure_static_accounts(tx: Tx, settings: Settings) -> None:
    """Opens the accounts of API_KEYS at start; changes nothing for those that exist."""
    for principal in static_principals(settings):
        open_account_with_grant(tx, principal.account_id, settings.devnet_grant_units)
