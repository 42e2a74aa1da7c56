"""Do something once per Idempotency-Key, in one transaction with what it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from aitbc.coordinator.database import Tx
from aitbc.coordinator.idempotency.service import Answer, IdempotencyKey, begin, finish, purge

T = TypeVar("T")


def once(tx: Tx, key: IdempotencyKey, act: Callable[[Tx], T], render: Callable[[T], Answer]) -> Answer:
    """The answer that `render` makes of what `act(tx)` gives, or the first one under this key.

    This is the one answer that is made inside a transaction: it has to be kept with what it tells of. Where
    `act` raises, the transaction is rolled back and with it the key: failures are never replayed.
    """
    first = begin(tx, key)
    if first is not None:
        return first
    answer = render(act(tx))
    finish(tx, key, answer.status, answer.body)
    return answer


def forget_old(tx: Tx, keep_s: float) -> bool:
    """One round of forgetting answers older than `keep_s` seconds; False: nothing more is due at once."""
    purge(tx, tx.now_ms - round(keep_s * 1000))
    return False
