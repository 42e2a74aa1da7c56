"""API keys: make, check, list, revoke, rotate.

Key text is `aitbc_{role}_{key_id}_{secret}`: role and id are visible, the secret has 256 random bits. A plain
SHA-256 of the text is stored: with that much entropy a slow hash would protect nothing more.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, cast

from sqlalchemy import bindparam, delete, literal_column, null, select, update

from aitbc.coordinator.api_keys.models import ApiKey
from aitbc.coordinator.api_keys.principal import ROLES, Principal, Role
from aitbc.coordinator.config import Settings
from aitbc.coordinator.config.lists import split_api_keys
from aitbc.coordinator.database import Tx, insert_into, statement
from aitbc.coordinator.database.columns import among, table_of
from aitbc.coordinator.errors import (
    InvalidRequest,
    KeyExpired,
    KeyNotFound,
    KeyRevoked,
    KeyRotated,
    KeyUnknown,
)
from aitbc.core.clock import rfc3339

ID_LENGTH = 12
ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
MAX_KEY_CHARS = 512
MAX_LABEL_CHARS = 200
LIMIT_PERIODS = ("day", "month")
STATIC_PREFIX = "static-"

_SCOPES: dict[str, frozenset[str]] = {role: frozenset({role}) for role in ROLES}
_STATIC_SCOPES = frozenset({"client", "miner"})
_NO_HASH = "0" * 64
_KEY = re.compile(
    rf"aitbc_(?:{'|'.join(ROLES)})_[{ID_ALPHABET}]{{{ID_LENGTH}}}_[A-Za-z0-9_-]{{1,{MAX_KEY_CHARS}}}",
    re.ASCII,
)

_K = table_of(ApiKey).c
_BY_ID = statement(
    select(
        _K.account_id,
        _K.role,
        _K.secret_hash,
        _K.previous_hash,
        _K.previous_expires_at_ms,
        _K.expires_at_ms,
        _K.revoked_at_ms,
        _K.limit_units,
        _K.booking_id,
    ).where(_K.id == bindparam("key_id"))
)
_given: Any = bindparam("given")
_now: Any = bindparam("now")
ENDED = statement(
    select(_K.id).where(
        _K.id == bindparam("key_id"),
        _K.revoked_at_ms.is_not(None)
        | (_K.expires_at_ms <= _now)
        | (
            (_K.secret_hash != _given)
            & (
                _K.previous_hash.is_(None)
                | (_K.previous_hash != _given)
                | (_K.previous_expires_at_ms <= _now)
            )
        ),
    )
)
_SECRETS = statement(
    lambda dialect: select(
        _K.id,
        _K.secret_hash,
        _K.previous_hash,
        _K.previous_expires_at_ms,
        _K.expires_at_ms,
        _K.revoked_at_ms,
    ).where(among(dialect, "api_keys.id", "keys"))
)
_INSERT = insert_into(ApiKey)
_REVOKE = statement(
    update(ApiKey)
    .where(_K.id == bindparam("key_id"))
    .values(revoked_at_ms=bindparam("now"), previous_hash=null())
)
_ROTATE = statement(
    update(ApiKey)
    .where(_K.id == bindparam("key_id"), _K.secret_hash == bindparam("old_hash"), _K.revoked_at_ms.is_(None))
    .values(
        secret_hash=bindparam("new_hash"),
        previous_hash=bindparam("old_hash"),
        previous_expires_at_ms=bindparam("grace_until"),
    )
)
_FORGET = statement(delete(ApiKey).where(_K.id == bindparam("key_id")))
_LIST_COLUMNS = (
    _K.id,
    _K.account_id,
    _K.role,
    _K.label,
    _K.created_at_ms,
    _K.expires_at_ms,
    _K.revoked_at_ms,
    _K.limit_units,
    _K.limit_period,
    _K.period_start_ms,
    _K.spent_units,
)
_ordinary = _K.booking_id == literal_column("''")
_LIST = statement(select(*_LIST_COLUMNS).where(_ordinary).order_by(_K.created_at_ms, _K.id))
_LIST_OF = statement(
    select(*_LIST_COLUMNS)
    .where(_K.account_id == bindparam("account_id"), _ordinary)
    .order_by(_K.created_at_ms, _K.id)
)
_INFO = statement(select(*_LIST_COLUMNS).where(_K.id == bindparam("key_id")))


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made. `key` is the only time its text is seen."""

    key: str
    key_id: str
    account: str
    role: Role


class KeyInfo(Protocol):
    """A row of list_keys: everything about a key but its hashes. Times in ms, money in base units."""

    id: str
    account_id: str
    role: str
    label: str
    created_at_ms: int
    expires_at_ms: int | None
    revoked_at_ms: int | None
    limit_units: int | None
    limit_period: str | None
    period_start_ms: int
    spent_units: int


def hash_key(key_text: str) -> str:
    """Hex SHA-256 of a key's text: what is stored and compared."""
    return hashlib.sha256(key_text.encode("utf-8", "surrogatepass")).hexdigest()


def looks_like_key(key_text: str) -> bool:
    """Whether the text has the form of a key; what has not needs no look into the database."""
    return _KEY.fullmatch(key_text) is not None


def authenticate(tx: Tx, key_text: str) -> Principal:
    """The holder of a key.

    Raises KeyUnknown, with the same words whether its id or its secret is wrong; to who shows the right
    secret KeyRevoked, KeyExpired, or KeyRotated for a secret that was replaced.
    """
    if not looks_like_key(key_text):
        raise KeyUnknown()
    key_id = key_text.split("_", 3)[2]
    row = tx.one(_BY_ID, key_id=key_id)
    given = hash_key(key_text)
    current = hmac.compare_digest(given, row.secret_hash if row else _NO_HASH)
    previous = hmac.compare_digest(given, (row.previous_hash if row else None) or _NO_HASH)
    if row is None or not (current or previous):
        raise KeyUnknown()
    if row.revoked_at_ms is not None:
        raise KeyRevoked(key_id=key_id, at=rfc3339(row.revoked_at_ms))
    if row.expires_at_ms is not None and row.expires_at_ms <= tx.now_ms:
        raise KeyExpired(key_id=key_id, at=rfc3339(row.expires_at_ms))
    replaced_at_ms = None if current else row.previous_expires_at_ms
    if replaced_at_ms is not None and replaced_at_ms <= tx.now_ms:
        raise KeyRotated(key_id=key_id, at=rfc3339(replaced_at_ms))
    ends = [at for at in (row.expires_at_ms, replaced_at_ms) if at is not None]
    expires_at_ms = min(ends) if ends else None
    return Principal(
        account_id=row.account_id,
        role=row.role,
        key_id=key_id,
        scopes=_SCOPES[row.role],
        limited=row.limit_units is not None,
        expires_at_ms=expires_at_ms,
        secret_hash=given,
        reservation=row.booking_id,
    )


def is_good(tx: Tx, principal: Principal) -> bool:
    """Whether the key that was shown still works. Cheap: as a rule it does (see `Tx.none`)."""
    return tx.none(ENDED, key_id=principal.key_id, given=principal.secret_hash, now=tx.now_ms)


def ended(tx: Tx, principals: Collection[Principal]) -> set[Principal]:
    """Those of the holders whose key, as it was shown, works no more."""
    if not principals:
        return set()
    keys = json.dumps(sorted({one.key_id for one in principals}))
    rows = {row.id: row for row in tx.all(_SECRETS, keys=keys)}
    return {one for one in principals if not _works(rows.get(one.key_id), one.secret_hash, tx.now_ms)}


def _works(row: Any, given: str, now_ms: int) -> bool:
    if row is None or row.revoked_at_ms is not None:
        return False
    if row.expires_at_ms is not None and row.expires_at_ms <= now_ms:
        return False
    if given == row.secret_hash:
        return True
    return bool(given == row.previous_hash and (row.previous_expires_at_ms or 0) > now_ms)


def create_key(
    tx: Tx,
    *,
    role: str,
    account_id: str,
    label: str = "",
    expires_at_ms: int | None = None,
    limit_units: int | None = None,
    limit_period: str | None = None,
    booking_id: str = "",
) -> NewKey:
    """A new key of an existing account. A limit needs both its amount and its period ("day" or "month", UTC).

    `booking_id`: the booking of a GPU that it gives access to, and to nothing else.

    Raises InvalidRequest for an unknown role or period, a limit without period, or an expiry in the past.
    """
    if role not in ROLES:
        raise InvalidRequest(f"A key's role is one of {', '.join(ROLES)}.", field="role")
    if (limit_units is None) != (limit_period is None):
        raise InvalidRequest("A spending limit needs both an amount and a period.", field="limit_period")
    if limit_period is not None and limit_period not in LIMIT_PERIODS:
        raise InvalidRequest("A spending limit is per day or per month.", field="limit_period")
    if limit_units is not None and limit_units < 0:
        raise InvalidRequest("A spending limit is not negative.", field="limit")
    if expires_at_ms is not None and expires_at_ms <= tx.now_ms:
        raise InvalidRequest("The key would have expired already.", field="expires_at")
    if len(label) > MAX_LABEL_CHARS:
        raise InvalidRequest(f"A label has at most {MAX_LABEL_CHARS} characters.", field="label")
    key_id = "".join(secrets.choice(ID_ALPHABET) for _ in range(ID_LENGTH))
    key_text = _key_text(role, key_id)
    tx.run(
        _INSERT,
        id=key_id,
        account_id=account_id,
        role=role,
        label=label,
        secret_hash=hash_key(key_text),
        previous_hash=None,
        previous_expires_at_ms=None,
        created_at_ms=tx.now_ms,
        expires_at_ms=expires_at_ms,
        revoked_at_ms=None,
        limit_units=limit_units,
        limit_period=limit_period,
        period_start_ms=0,
        spent_units=0,
        booking_id=booking_id,
    )
    return NewKey(key=key_text, key_id=key_id, account=account_id, role=role)


def list_keys(tx: Tx, account_id: str | None = None) -> Sequence[KeyInfo]:
    """All keys, or an account's, oldest first; without those that bookings give."""
    rows: Sequence[Any] = tx.all(_LIST) if account_id is None else tx.all(_LIST_OF, account_id=account_id)
    return rows


def key_info(tx: Tx, key_id: str) -> KeyInfo | None:
    """One key as in list_keys; None for an unknown or static one."""
    row: Any = tx.one(_INFO, key_id=key_id)
    return cast("KeyInfo | None", row)


def revoke_key(tx: Tx, key_id: str) -> None:
    """Ends a key for good. Revoking it again changes nothing. Raises KeyNotFound."""
    row = tx.one(_BY_ID, key_id=key_id)
    if row is None:
        raise KeyNotFound(key_id=key_id)
    if row.revoked_at_ms is None:
        tx.run(_REVOKE, key_id=key_id, now=tx.now_ms)
        tx.signal(("key", key_id))


def forget_keys(tx: Tx, key_ids: Sequence[str]) -> None:
    """Forgets keys that have ended: to who still shows one it is unknown from now on."""
    for key_id in key_ids:
        tx.run(_FORGET, key_id=key_id)
        tx.signal(("key", key_id))


def rotate_key(tx: Tx, key_id: str, grace_s: float) -> NewKey:
    """A new secret for the same key id, limit and account; the old secret works for `grace_s` seconds more.

    A secret still in the grace of an earlier rotation ends at once. KeyNotFound also for a revoked key.
    """
    row = tx.one(_BY_ID, key_id=key_id)
    if row is None or row.revoked_at_ms is not None:
        raise KeyNotFound(key_id=key_id)
    key_text = _key_text(row.role, key_id)
    changed = tx.run(
        _ROTATE,
        key_id=key_id,
        old_hash=row.secret_hash,
        new_hash=hash_key(key_text),
        grace_until=tx.now_ms + round(max(0.0, grace_s) * 1000),
    )
    if changed != 1:  # rotated or revoked by somebody else since we looked
        raise KeyNotFound(key_id=key_id)
    tx.signal(("key", key_id))
    return NewKey(key=key_text, key_id=key_id, account=row.account_id, role=row.role)


def static_principal(settings: Settings, key_text: str) -> Principal | None:
    """The holder of one of API_KEYS, or None. Every entry is compared, in constant time each."""
    given = hashlib.sha256(key_text.encode("utf-8", "surrogatepass")).digest()
    found: Principal | None = None
    for digest, principal in _static_table(settings.api_keys, settings.secret_key):
        if hmac.compare_digest(given, digest):
            found = principal
    return found


def static_principals(settings: Settings) -> list[Principal]:
    """The holders of all API_KEYS: each needs its ledger account."""
    return [principal for _, principal in _static_table(settings.api_keys, settings.secret_key)]


@lru_cache(maxsize=8)
def _static_table(api_keys: str, secret_key: str) -> tuple[tuple[bytes, Principal], ...]:
    table = []
    for role, key in split_api_keys(api_keys):
        # The account's name is public (receipts carry it): without SECRET_KEY nobody can test guesses on it.
        tag = hmac.new(secret_key.encode(), key.encode(), hashlib.sha256).hexdigest()[:8]
        name = f"{STATIC_PREFIX}{tag}"
        principal = Principal(
            account_id=name,
            role=cast(Role, role or "client"),
            key_id=name,
            scopes=_SCOPES[role] if role else _STATIC_SCOPES,
        )
        table.append((hashlib.sha256(key.encode()).digest(), principal))
    return tuple(table)


def _key_text(role: str, key_id: str) -> str:
    return f"aitbc_{role}_{key_id}_{secrets.token_urlsafe(32)}"
