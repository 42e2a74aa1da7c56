"""Do something once per Idempotency-Key, in one transaction with what it does."""

from __future__ import annotations

from collections.abc import Callable

from aitbc.coordinator.database import Tx
from aitbc.coordinator.idempotency.service import Answer, IdempotencyKey, begin, finish, purge


def once(tx: Tx, key: IdempotencyKey | None, act: Callable[[Tx], Answer]) -> Answer:
    """The answer of `act(tx)`, or the first one given under this key.

    Where `act` raises, the transaction is rolled back and with it the key: failures are never replayed.
    """
    if key is None:
        return act(tx)
    first = begin(tx, key)
    if first is not None:
        return first
    answer = act(tx)
    finish(tx, key, answer.status, answer.body)
    return answer


def forget_old(tx: Tx, keep_s: float) -> bool:
    """One round of forgetting answers older than `keep_s` seconds; False: nothing more is due at once."""
    purge(tx, tx.now_ms - round(keep_s * 1000))
    return False
