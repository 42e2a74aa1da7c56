"""Rate limits: so many requests a minute for each account, and failures for each address, in this process.

Who proves himself is limited by what he did himself, and by nothing that others can do in his place: failed
attempts count against the network address that they come from, and only failed ones are refused for them.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network
from math import ceil
from typing import Any

from limits import RateLimitItem, RateLimitItemPerDay, RateLimitItemPerMinute
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from aitbc.coordinator.config import Settings
from aitbc.coordinator.errors import RateLimited
from aitbc.coordinator.metrics import RATE_LIMITED

MAX_COUNTERS = 100_000
"""Accounts and addresses that are counted at once; the oldest counter makes room."""

BY_ADDRESS = frozenset({"address", "peer", "newcomer", "newcomers"})
"""Limits by network address; the others are by account."""

Headers = tuple[tuple[bytes, bytes], ...]


class WindowCounters(Storage):
    """Counters of fixed windows in a bounded dict.

    The library's own memory storage starts a timer thread over and over to drop old counters; here they are
    dropped when they are met, or when there are too many.
    """

    STORAGE_SCHEME = ["windows"]

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = monotonic
        self._counters: OrderedDict[str, tuple[int, float]] = OrderedDict()

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        return KeyError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        now = self._now()
        count, ends = self._counters.get(key, (0, 0.0))
        if ends <= now:
            count, ends = 0, now + expiry
            self._counters.pop(key, None)
            if len(self._counters) >= MAX_COUNTERS:
                self._counters.popitem(last=False)
        self._counters[key] = (count + amount, ends)
        return count + amount

    def get(self, key: str) -> int:
        count, ends = self._counters.get(key, (0, 0.0))
        return count if ends > self._now() else 0

    def get_expiry(self, key: str) -> float:
        """When the key's window ends, on the monotonic clock; now where it has none."""
        return max(self._now(), self._counters.get(key, (0, 0.0))[1])

    def check(self) -> bool:
        return True

    def reset(self) -> int | None:
        count = len(self._counters)
        self._counters.clear()
        return count

    def clear(self, key: str) -> None:
        self._counters.pop(key, None)


def network_of(address: str) -> str:
    """What one caller has of addresses: an IPv4 address, or the first 64 bits of an IPv6 one."""
    if ":" not in address:
        return address
    try:
        found = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(found.ipv4_mapped or IPv6Network((int(found) >> 64 << 64, 64)))


class _PerMinute(RateLimitItemPerMinute):
    """Limits of one namespace share their counters, whatever their amounts are."""

    def key_for(self, *identifiers: bytes | str | int | float) -> str:
        return f"{self.namespace}/{identifiers[0]!s}"


class _PerDay(RateLimitItemPerDay):
    def key_for(self, *identifiers: bytes | str | int | float) -> str:
        return f"{self.namespace}/{identifiers[0]!s}"


class RateLimits:
    """The limits of one application. A limit that is switched off (0) costs one dict lookup.

    By account: `client` and `miner` for requests with such keys; `session` for a wallet's session that acts
    as a client, which shares the counter of its account's client keys; `user` for what only a session may;
    `wallet` for logins and `sender` for transfers with a good signature. By network address: `address` for
    keys and sessions that were not good, `peer` for logins and transfers that were refused, `newcomer` for
    wallets that log in for the first time, `newcomers` for these by the day.
    """

    def __init__(self, settings: Settings, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._now = monotonic
        self._accounts = FixedWindowRateLimiter(WindowCounters(monotonic))
        # Apart, or whoever has many addresses could push his account's counter out.
        self._networks = FixedWindowRateLimiter(WindowCounters(monotonic))
        user = settings.rate_limit_user
        amounts = {"client": settings.rate_limit_client, "miner": settings.rate_limit_miner}
        amounts |= dict.fromkeys(("user", "wallet", "sender", "address", "peer", "newcomer"), user)
        self._items: dict[str, RateLimitItem] = {
            name: _PerMinute(amount, namespace=name) for name, amount in amounts.items() if amount
        }
        if settings.rate_limit_newcomers:
            self._items["newcomers"] = _PerDay(settings.rate_limit_newcomers, namespace="newcomers")
        if user or settings.rate_limit_client:
            self._items["session"] = _PerMinute(user or settings.rate_limit_client, namespace="client")
        self._policies = {
            name: (b"ratelimit-policy", f'"{name}";q={item.amount};w={item.get_expiry()}'.encode())
            for name, item in self._items.items()
        }

    def hit(self, name: str, who: str) -> Headers:
        """Counts one request of `who` against a limit; the headers to answer with.

        Raises RateLimited, whose details carry `retry_after_s`, where the minute's requests are used up.
        """
        item = self._items.get(name)
        if item is None:
            return ()
        windows, who = self._of(name, who)
        if not windows.hit(item, who):
            raise self._refusal(name, item, who)
        return self._headers(name, item, who)

    def headers(self, name: str, who: str) -> Headers:
        """The headers of a limit as it stands."""
        item = self._items.get(name)
        return () if item is None else self._headers(name, item, who)

    def allows(self, name: str, who: str) -> bool:
        """Whether one more would be let in, without counting."""
        item = self._items.get(name)
        if item is None:
            return True
        windows, who = self._of(name, who)
        return windows.test(item, who)

    def check(self, name: str, who: str) -> None:
        """Raises RateLimited where `who` has used up the limit, without counting."""
        if not self.allows(name, who):
            raise self._refusal(name, self._items[name], who)

    def _of(self, name: str, who: str) -> tuple[FixedWindowRateLimiter, str]:
        """Where the limit is counted, and under which name."""
        return (self._networks, network_of(who)) if name in BY_ADDRESS else (self._accounts, who)

    def _stats(self, name: str, item: Any, who: str) -> Any:
        windows, who = self._of(name, who)
        return windows.get_window_stats(item, who)

    def _headers(self, name: str, item: Any, who: str) -> Headers:
        stats = self._stats(name, item, who)
        reset_s = max(0, ceil(stats.reset_time - self._now()))
        return (
            (b"ratelimit", f'"{name}";r={stats.remaining};t={reset_s}'.encode()),
            self._policies[name],
        )

    def _refusal(self, name: str, item: Any, who: str) -> RateLimited:
        RATE_LIMITED.labels(name).inc()
        stats = self._stats(name, item, who)
        details = {"limit": item.amount, "retry_after_s": max(1, ceil(stats.reset_time - self._now()))}
        if isinstance(item, _PerDay):
            message = (
                "Too many new wallets from your address: the limit is {limit} a day; known ones are let in."
            )
            return RateLimited(message.format(**details), **details)
        return RateLimited(**details)
