"""New keys, and the accounts of the keys that settings name."""

from __future__ import annotations

from typing import Any

from aitbc.coordinator.api_keys.service import NewKey, create_key, static_principals
from aitbc.coordinator.config import Settings
from aitbc.coordinator.database import Tx
from aitbc.coordinator.flows.shared.grants import open_account_with_grant
from aitbc.core.ids import new_id


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
