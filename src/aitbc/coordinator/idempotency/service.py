"""First answers by Idempotency-Key: begin, finish, purge."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass

from sqlalchemy import bindparam, delete, select, update

from aitbc.coordinator.database import Tx, insert_into, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.errors import IdempotencyConflict
from aitbc.coordinator.idempotency.models import IdempotentAnswer

PACKED = "zlib:"  # no JSON begins so
PACKED_BYTES = 2048
KEEP_S = 24 * 3600
"""How long an answer can be replayed."""

_A = table_of(IdempotentAnswer).c
_THIS = (_A.scope == bindparam("scope_"), _A.key == bindparam("key_"))
_BEGIN = insert_into(IdempotentAnswer, on_conflict_ignore=True)
_GET = statement(select(_A.request_hash, _A.status, _A.body).where(*_THIS))
_FINISH = statement(
    update(IdempotentAnswer).where(*_THIS).values(status=bindparam("status_"), body=bindparam("body_"))
)
_PURGE = statement(delete(IdempotentAnswer).where(_A.created_at_ms < bindparam("before")))


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """`scope` is account and route, `key` the caller's header, `request_hash` hex SHA-256 of the body."""

    scope: str
    key: str
    request_hash: str


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP status and a JSON body."""

    status: int
    body: bytes
    replayed: bool = False


def begin(tx: Tx, key: IdempotencyKey) -> Answer | None:
    """Takes the key for this transaction; gives the first answer where it was taken before.

    A racing request with the same key waits in the database until this transaction ends.
    Raises IdempotencyConflict where the key came with another body.
    """
    fresh = tx.run(
        _BEGIN,
        scope=key.scope,
        key=key.key,
        request_hash=key.request_hash,
        status=0,
        body="",
        created_at_ms=tx.now_ms,
    )
    if fresh == 1:
        return None
    row = tx.one(_GET, scope_=key.scope, key_=key.key)
    if row is None or row.request_hash != key.request_hash:
        raise IdempotencyConflict()
    return Answer(status=row.status, body=_unpack(row.body), replayed=True)


def finish(tx: Tx, key: IdempotencyKey, status: int, body: bytes) -> None:
    """Stores the answer under a key taken in this transaction."""
    tx.run(_FINISH, scope_=key.scope, key_=key.key, status_=status, body_=_pack(body))


def _pack(body: bytes) -> str:
    """An answer as it is stored. Long ones repeat themselves (a miner's models): they shrink to a tenth."""
    if len(body) < PACKED_BYTES:
        return body.decode()
    return PACKED + base64.b64encode(zlib.compress(body, 1)).decode()


def _unpack(stored: str) -> bytes:
    if stored.startswith(PACKED):
        return zlib.decompress(base64.b64decode(stored[len(PACKED) :]))
    return stored.encode()


def purge(tx: Tx, before_ms: int) -> int:
    """Forgets answers made before `before_ms`; gives how many."""
    return tx.run(_PURGE, before=before_ms)
