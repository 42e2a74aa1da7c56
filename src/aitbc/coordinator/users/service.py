"""Wallet users, their challenges, sessions and signed transfers, in the database.

What may happen once (a challenge, a nonce) is a guarded update checked by its row count.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import bindparam, delete, literal_column, select, update

from aitbc.coordinator.database import Tx, insert_into, statement
from aitbc.coordinator.database.columns import among, table_of
from aitbc.coordinator.errors import (
    ChallengeUsed,
    SessionExpired,
    SessionNotFound,
    SessionRevoked,
    SessionUnknown,
)
from aitbc.coordinator.users.models import Challenge, Session, SharedSecret, User, WalletTransaction
from aitbc.core.clock import rfc3339
from aitbc.core.ids import new_id
from aitbc.core.wallet.address import kind_of

CHALLENGE_MS = 5 * 60_000
SESSION_MS = 24 * 3_600_000
MAX_SESSIONS = 100  # of one user; the oldest ends for one more
TOKEN_BYTES = 32
MAX_TOKEN_CHARS = 128
LOGIN_TEXTS = "login"
SECRET_BYTES = 32

_u: Any = table_of(User).c
_c: Any = table_of(Challenge).c
_s: Any = table_of(Session).c
_x: Any = table_of(SharedSecret).c
_w: Any = table_of(WalletTransaction).c
_ZERO: Any = literal_column("0")


class UserRow(NamedTuple):
    """Every column of `users`, in the table's order."""

    id: str
    kind: str
    public_key: str
    nonce: int
    created_at_ms: int
    last_login_ms: int


class SessionRow(NamedTuple):
    """A session without its token's hash."""

    id: str
    user_id: str
    created_at_ms: int
    expires_at_ms: int


class SignedRow(NamedTuple):
    """Every column of `wallet_transactions`, in the table's order."""

    hash: str
    sender_id: str
    nonce: int
    body: str
    signature: str
    transfer_id: str
    created_at_ms: int


class NewSession(NamedTuple):
    """A session just opened. `token` is seen this once."""

    id: str
    token: str
    expires_at_ms: int


USER_COLUMNS = list(table_of(User).columns)
SIGNED_COLUMNS = list(table_of(WalletTransaction).columns)
for _row, _columns in ((UserRow, USER_COLUMNS), (SignedRow, SIGNED_COLUMNS)):
    if _row._fields != tuple(column.name for column in _columns):
        raise RuntimeError(f"{_row.__name__} and its table have drifted apart")

_SESSION_COLUMNS = (_s.id, _s.user_id, _s.created_at_ms, _s.expires_at_ms)
INSERT_USER = insert_into(User, on_conflict_ignore=True)
SELECT_USER = statement(select(*USER_COLUMNS).where(_u.id == bindparam("user")), UserRow)
LEARN_KEY = statement(
    update(User)
    .where(_u.id == bindparam("user"), _u.public_key == literal_column("''"))
    .values(public_key=bindparam("key"))
)
NOTE_LOGIN = statement(update(User).where(_u.id == bindparam("user")).values(last_login_ms=bindparam("now")))
ADVANCE = statement(
    update(User)
    .where(_u.id == bindparam("user"), _u.nonce == bindparam("next_nonce") - literal_column("1"))
    .values(nonce=bindparam("next_nonce"))
)
INSERT_CHALLENGE = insert_into(Challenge, on_conflict_ignore=True)
INSERT_SECRET = insert_into(SharedSecret, on_conflict_ignore=True)
SELECT_SECRET = statement(select(_x.value).where(_x.name == bindparam("wanted")))
FORGET_CHALLENGES = statement(delete(Challenge).where(_c.expires_at_ms < bindparam("now")))
INSERT_SESSION = insert_into(Session)
END_OLDEST = statement(
    delete(Session)
    .where(
        _s.id.in_(
            select(_s.id)
            .where(_s.user_id == bindparam("user"))
            .order_by(_s.id.desc())
            .offset(bindparam("kept"))
        )
    )
    .returning(_s.id)
)
SELECT_SESSION = statement(
    select(*_SESSION_COLUMNS, _s.revoked_at_ms).where(_s.token_hash == bindparam("hashed"))
)
OPEN_SESSIONS = statement(
    select(*_SESSION_COLUMNS)
    .where(_s.user_id == bindparam("user"), _s.revoked_at_ms == _ZERO, _s.expires_at_ms > bindparam("now"))
    .order_by(_s.id.desc()),
    SessionRow,
)
SESSIONS_AMONG = statement(
    lambda dialect: select(_s.id).where(
        among(dialect, "sessions.id", "sessions"),
        _s.revoked_at_ms == _ZERO,
        _s.expires_at_ms > bindparam("now"),
    )
)
REVOKE_SESSION = statement(
    update(Session)
    .where(
        _s.id == bindparam("session"),
        _s.user_id == bindparam("user"),
        _s.revoked_at_ms == _ZERO,
        _s.expires_at_ms > bindparam("now"),
    )
    .values(revoked_at_ms=bindparam("now"))
)
FORGET_SESSIONS = statement(delete(Session).where(_s.expires_at_ms < bindparam("now")))
INSERT_SIGNED = insert_into(WalletTransaction)
SELECT_SIGNED = statement(select(*SIGNED_COLUMNS).where(_w.hash == bindparam("hashed")), SignedRow)


def ensure(tx: Tx, address: str, public_key: str) -> None:
    """Makes sure that the wallet is known, with its public key (base64; '' for EVM). Its account exists."""
    inserted = tx.run(
        INSERT_USER,
        id=address,
        kind=kind_of(address),
        public_key=public_key,
        nonce=0,
        created_at_ms=tx.now_ms,
        last_login_ms=0,
    )
    if inserted == 0 and public_key:
        tx.run(LEARN_KEY, user=address, key=public_key)


def get(tx: Tx, user_id: str) -> UserRow | None:
    row: UserRow | None = tx.one(SELECT_USER, user=user_id)
    return row


def note_login(tx: Tx, user_id: str) -> None:
    tx.run(NOTE_LOGIN, user=user_id, now=tx.now_ms)


def login_secret(tx: Tx) -> bytes:
    """The secret that login texts are made with: drawn once, the same for all coordinators of a database."""
    row = tx.one(SELECT_SECRET, wanted=LOGIN_TEXTS)
    if row is None:
        drawn = secrets.token_hex(SECRET_BYTES)
        tx.run(INSERT_SECRET, name=LOGIN_TEXTS, value=drawn, created_at_ms=tx.now_ms)
        row = tx.one(SELECT_SECRET, wanted=LOGIN_TEXTS)
    return bytes.fromhex(row.value)


def use_challenge(tx: Tx, nonce: str, address: str, message: str, expires_at_ms: int) -> None:
    """Uses a login text up. Raises ChallengeUsed the second time: the guard is the nonce's uniqueness."""
    used = tx.run(
        INSERT_CHALLENGE,
        nonce=nonce,
        address=address,
        message=message,
        expires_at_ms=expires_at_ms,
        used_at_ms=tx.now_ms,
    )
    if used != 1:
        raise ChallengeUsed()


def forget(tx: Tx) -> None:
    """Forgets used login texts and sessions that have expired. Not while the clock is in doubt: a text that is
    forgotten too early could be used again."""
    tx.run(FORGET_CHALLENGES, now=tx.now_ms)
    tx.run(FORGET_SESSIONS, now=tx.now_ms)


def hash_token(token: str) -> str:
    """Hex SHA-256 of a session's token: what is stored. The token has 256 random bits, so nothing slower is
    needed."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def open_session(tx: Tx, user_id: str) -> NewSession:
    """A new session of SESSION_MS. Of those from before, all but the newest MAX_SESSIONS - 1 end."""
    for ended in tx.all(END_OLDEST, user=user_id, kept=MAX_SESSIONS - 1):
        tx.signal(("key", ended.id))
    made = NewSession(new_id(tx.now_ms), secrets.token_urlsafe(TOKEN_BYTES), tx.now_ms + SESSION_MS)
    tx.run(
        INSERT_SESSION,
        id=made.id,
        user_id=user_id,
        token_hash=hash_token(made.token),
        created_at_ms=tx.now_ms,
        expires_at_ms=made.expires_at_ms,
        revoked_at_ms=0,
    )
    return made


def authenticate(tx: Tx, token: str) -> SessionRow:
    """The session of a token. Raises SessionUnknown, SessionRevoked, SessionExpired."""
    row = tx.one(SELECT_SESSION, hashed=hash_token(token)) if len(token) <= MAX_TOKEN_CHARS else None
    if row is None:
        raise SessionUnknown()
    if row.revoked_at_ms:
        raise SessionRevoked(session_id=row.id, at=rfc3339(row.revoked_at_ms))
    if row.expires_at_ms <= tx.now_ms:
        raise SessionExpired(session_id=row.id, at=rfc3339(row.expires_at_ms))
    return SessionRow(*row[: len(SessionRow._fields)])


def sessions(tx: Tx, user_id: str) -> Sequence[SessionRow]:
    """The user's sessions that are good now, newest first."""
    return tx.all(OPEN_SESSIONS, user=user_id, now=tx.now_ms)


def open_sessions(tx: Tx, session_ids: list[str]) -> set[str]:
    """Those of the sessions that are good now."""
    if not session_ids:
        return set()
    return {row.id for row in tx.all(SESSIONS_AMONG, sessions=json.dumps(session_ids), now=tx.now_ms)}


def revoke_session(tx: Tx, user_id: str, session_id: str) -> None:
    """Ends one of the user's own sessions. Raises SessionNotFound, also for one that has ended."""
    if tx.run(REVOKE_SESSION, session=session_id, user=user_id, now=tx.now_ms) != 1:
        raise SessionNotFound(session_id=session_id)
    tx.signal(("key", session_id))


def advance_nonce(tx: Tx, user_id: str, nonce: int) -> bool:
    """Raises the user's nonce to `nonce`; False, with nothing changed, where it is not the next one."""
    return tx.run(ADVANCE, user=user_id, next_nonce=nonce) == 1


def keep_signed(tx: Tx, signed: SignedRow) -> None:
    """Keeps a transfer as it was signed."""
    tx.run(INSERT_SIGNED, **signed._asdict())


def find_signed(tx: Tx, transaction_hash: str) -> SignedRow | None:
    """The signed transfer of this hash (hex)."""
    row: SignedRow | None = tx.one(SELECT_SIGNED, hashed=transaction_hash)
    return row
