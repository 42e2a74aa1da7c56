"""Spending limits of keys: reserve before a job, give back what it did not use."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import bindparam, case, select, update

from aitbc.coordinator.api_keys.models import ApiKey
from aitbc.coordinator.api_keys.service import STATIC_PREFIX, KeyInfo
from aitbc.coordinator.database import Tx, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.errors import KeyLimitExceeded
from aitbc.core.clock import rfc3339

_K = table_of(ApiKey).c

# A clock that jumped back must not open a fresh period, so the stored one counts while it is not older.
_SPENT_NOW = case((_K.period_start_ms >= bindparam("start"), _K.spent_units), else_=0)
_PERIOD_NOW = case((_K.period_start_ms >= bindparam("start"), _K.period_start_ms), else_=bindparam("start"))

_LIMIT = statement(
    select(_K.limit_units, _K.limit_period, _K.period_start_ms, _K.spent_units).where(
        _K.id == bindparam("key_id")
    )
)
_RESERVE = statement(
    update(ApiKey)
    .where(_K.id == bindparam("key_id"), _SPENT_NOW + bindparam("units") <= _K.limit_units)
    .values(spent_units=_SPENT_NOW + bindparam("units"), period_start_ms=_PERIOD_NOW)
)
_RELEASE = statement(
    update(ApiKey)
    .where(
        _K.id == bindparam("key_id"),
        _K.period_start_ms == bindparam("start"),
        _K.spent_units >= bindparam("units"),
    )
    .values(spent_units=_K.spent_units - bindparam("units"))
)


def reserve_spend(tx: Tx, key_id: str, units: int) -> int:
    """Counts `units` against the key's limit; gives the start of the period (ms) that they count in.

    0 where the key has no limit (static keys have none). Raises KeyLimitExceeded, changing nothing, where the
    limit would be passed: the guard is in the update itself, so racing requests cannot pass it together.
    """
    if key_id.startswith(STATIC_PREFIX):
        return 0
    row = tx.one(_LIMIT, key_id=key_id)
    if row is None or row.limit_units is None:
        return 0
    start = period_start(row.limit_period, tx.now_ms)
    if tx.run(_RESERVE, key_id=key_id, units=units, start=start) != 1:
        raise _exceeded(tx, key_id, units, start)
    return max(start, int(row.period_start_ms))


def _exceeded(tx: Tx, key_id: str, units: int, start: int) -> KeyLimitExceeded:
    """The refusal, with the numbers as they are now: another request may have been quicker."""
    row = tx.one(_LIMIT, key_id=key_id)
    begun_ms = max(start, row.period_start_ms)
    reserved = row.spent_units if row.period_start_ms >= start else 0
    return KeyLimitExceeded(
        needed_units=units,
        available_units=row.limit_units - reserved,
        limit_units=row.limit_units,
        reserved_units=reserved,
        limit_period=row.limit_period,
        key_id=key_id,
        resets_at=rfc3339(period_end(row.limit_period, begun_ms)),
    )


def release_spend(tx: Tx, key_id: str, period_start_ms: int, units: int) -> None:
    """Gives back what a job reserved and did not use, unless the key's period has changed since."""
    if period_start_ms and units:
        tx.run(_RELEASE, key_id=key_id, start=period_start_ms, units=units)


def spent_now(key: KeyInfo, now_ms: int) -> int:
    """What counts against the key's limit at `now_ms`, base units: 0 once its period is over."""
    over = key.limit_period is None or key.period_start_ms < period_start(key.limit_period, now_ms)
    return 0 if over else key.spent_units


def period_end(period: str, start_ms: int) -> int:
    """When the UTC day or month that began at `start_ms` is over, ms since the epoch."""
    return period_start(period, start_ms + (24 if period == "day" else 32 * 24) * 3_600_000)


def period_start(period: str, now_ms: int) -> int:
    """When the UTC day or month around `now_ms` began, ms since the epoch."""
    day = datetime.fromtimestamp(now_ms / 1000, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return int((day if period == "day" else day.replace(day=1)).timestamp()) * 1000
