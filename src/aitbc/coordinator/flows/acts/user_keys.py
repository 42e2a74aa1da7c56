"""API keys that a wallet user makes for its own account: the key's money is the wallet's money."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aitbc.coordinator.api_keys import service as accounts
from aitbc.coordinator.api_keys.service import KeyInfo, NewKey
from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import Forbidden, KeyNotFound, TooManyKeys

USER_KEY_ROLES = ("client", "miner")
MAX_KEYS = 100
MAX_ENDED_KEYS = 100  # of one account that are still listed; the oldest are forgotten for more


def create(tx: Tx, account_id: str, /, *, role: str, **options: Any) -> NewKey:
    """A new key; `options` are those of accounts.create_key. Raises TooManyKeys, InvalidRequest."""
    if role not in USER_KEY_ROLES:
        raise Forbidden("Users make client and miner keys.")
    known = list_own(tx, account_id)
    ended = [key.id for key in known if not _in_force(tx, key)]
    in_force = len(known) - len(ended)
    if in_force >= MAX_KEYS:
        raise TooManyKeys(limit=MAX_KEYS, in_force=in_force)
    accounts.forget_keys(tx, ended[:-MAX_ENDED_KEYS])
    return accounts.create_key(tx, role=role, account_id=account_id, **options)


def list_own(tx: Tx, account_id: str) -> Sequence[KeyInfo]:
    """The account's keys, oldest first, also those that have ended."""
    return accounts.list_keys(tx, account_id)


def revoke(tx: Tx, account_id: str, key_id: str) -> None:
    """Ends one of the account's keys. Raises KeyNotFound, also for somebody else's."""
    info = accounts.key_info(tx, key_id)
    if info is None or info.account_id != account_id:
        raise KeyNotFound(key_id=key_id)
    accounts.revoke_key(tx, key_id)


def _in_force(tx: Tx, key: KeyInfo) -> bool:
    expired = key.expires_at_ms is not None and key.expires_at_ms <= tx.now_ms
    return key.revoked_at_ms is None and not expired
