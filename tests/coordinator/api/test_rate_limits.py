"""So many requests a minute for each account, and so many failed attempts for each address."""

from collections.abc import Callable

import pytest

from aitbc.coordinator.api.plumbing import ratelimit
from aitbc.coordinator.api.plumbing.ratelimit import MAX_COUNTERS, RateLimits, WindowCounters, network_of
from aitbc.coordinator.config import Settings
from aitbc.core.clock import ManualClock
from tests.coordinator.api.conftest import sqlite_only
from tests.coordinator.api.support import Market, expect_error
from tests.coordinator.api.test_users import session
from tests.coordinator.users.support import NativeWallet


@sqlite_only
def test_a_key_has_its_requests_a_minute(start_api: Callable[..., Market], clock: ManualClock) -> None:
    api = start_api(rate_limit_client=3, rate_limit_miner=5)
    alice, bob, miner = api.key("client", "alice"), api.key("client", "bob"), api.key("miner")
    for left in (2, 1, 0):
        answer = api.get("/v1/jobs", alice)
        assert answer.status_code == 200
        assert answer.headers["ratelimit"] == f'"client";r={left};t=60'
        assert answer.headers["ratelimit-policy"] == '"client";q=3;w=60'
    clock.advance(20.5)
    refused = api.get("/v1/jobs", alice)
    expect_error(refused, 429, "RATE_LIMITED")
    assert refused.headers["retry-after"] == "40"
    assert refused.headers["ratelimit"] == '"client";r=0;t=40'
    assert api.get("/v1/jobs", bob).status_code == 200
    assert api.get("/v1/account", miner).headers["ratelimit"] == '"miner";r=4;t=60'
    clock.advance(40)
    assert api.get("/v1/jobs", alice).status_code == 200


@sqlite_only
def test_refusals_count_too(start_api: Callable[..., Market]) -> None:
    api = start_api(rate_limit_client=2)
    client = api.key("client")
    expect_error(api.post("/v1/jobs", client, json={}), 400, "INVALID_REQUEST")
    expect_error(api.get("/v1/miner/jobs", client), 403, "FORBIDDEN")
    expect_error(api.get("/v1/jobs", client), 429, "RATE_LIMITED")


@sqlite_only
def test_zero_switches_a_limit_off(start_api: Callable[..., Market]) -> None:
    api = start_api(rate_limit_client=0, rate_limit_miner=1)
    client, miner = api.key("client"), api.key("miner")
    for _ in range(5):
        answer = api.get("/v1/jobs", client)
        assert answer.status_code == 200
        assert "ratelimit" not in answer.headers
    assert api.get("/v1/account", miner).status_code == 200
    expect_error(api.get("/v1/account", miner), 429, "RATE_LIMITED")


@sqlite_only
def test_admins_are_not_limited(start_api: Callable[..., Market]) -> None:
    api = start_api(rate_limit_client=1, rate_limit_miner=1, rate_limit_user=1)
    admin = api.key("admin")
    assert {api.get("/v1/jobs", admin).status_code for _ in range(4)} == {200}


@sqlite_only
def test_an_address_may_fail_so_often(start_api: Callable[..., Market], clock: ManualClock) -> None:
    api = start_api(rate_limit_user=3)
    good, late = api.key("client"), api.key("client")
    assert api.get("/v1/jobs", good).status_code == 200
    for wrong in ({}, {"X-Api-Key": "nonsense"}, {"X-Api-Key": good["X-Api-Key"][:-1] + "_"}):
        expect_error(api.get("/v1/jobs", wrong), 401, "UNAUTHORIZED")
    for wrong in ({}, {"X-Api-Key": "nonsense"}):
        refused = api.get("/v1/jobs", wrong)
        expect_error(refused, 429, "RATE_LIMITED")
        assert int(refused.headers["retry-after"]) in range(1, 61)
    assert api.get("/v1/jobs", good).status_code == 200
    # Others' failures refuse nobody who is good, not even at first sight.
    assert api.get("/v1/jobs", late).status_code == 200
    assert api.get("/health").status_code == 200
    clock.advance(60)
    expect_error(api.get("/v1/jobs", {}), 401, "UNAUTHORIZED")


@sqlite_only
def test_the_keys_of_an_account_share_its_limit(start_api: Callable[..., Market]) -> None:
    api = start_api(rate_limit_client=10, api_keys="client:one-static-key-0001,client:one-static-key-0002")
    keys = [api.key("client", "alice") for _ in range(20)]
    answers = [api.get("/v1/jobs", key).status_code for key in keys]
    assert answers == [200] * 10 + [429] * 10
    assert api.get("/v1/jobs", api.key("client", "bob")).status_code == 200
    for number in (1, 2):  # each has an account of its own
        shown = {"X-Api-Key": f"one-static-key-000{number}"}
        assert [api.get("/v1/jobs", shown).status_code for _ in range(11)] == [200] * 10 + [429]


@sqlite_only
def test_a_session_shares_the_limit_of_its_accounts_keys(start_api: Callable[..., Market]) -> None:
    api = start_api(rate_limit_client=10, rate_limit_user=6)
    wallet = NativeWallet()
    headers = session(api, wallet)
    made = [api.post("/v1/users/me/keys", headers, json={}).json()["key"] for _ in range(2)]
    for key in (*made, *made, *made):
        assert api.get("/v1/jobs", {"X-Api-Key": key}).status_code == 200
    refused = api.get("/v1/jobs", headers)  # six of the account's, and a user's limit is six
    expect_error(refused, 429, "RATE_LIMITED")
    assert [api.get("/v1/jobs", {"X-Api-Key": made[0]}).status_code for _ in range(5)] == [200] * 3 + [
        429
    ] * 2
    # What only a session may is counted for itself: who has a stolen key cannot keep its owner from revoking it.
    listed = api.get("/v1/users/me/keys", headers).json()["keys"]
    assert api.call("DELETE", f"/v1/users/me/keys/{listed[0]['key_id']}", headers).status_code == 200


def test_the_defaults_are_the_documented_ones() -> None:
    settings = Settings(_env_file=None)
    assert (settings.rate_limit_client, settings.rate_limit_miner, settings.rate_limit_user) == (
        100,
        1000,
        60,
    )


def test_a_caller_is_a_network(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    for address, network in (
        ("10.0.0.9", "10.0.0.9"),
        ("unknown", "unknown"),
        ("::ffff:10.0.0.9", "10.0.0.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("no:address", "no:address"),
    ):
        assert network_of(address) == network
    limits = RateLimits(Settings(_env_file=None, rate_limit_user=1, rate_limit_client=1), clock.monotonic)
    limits.hit("client", "alice")
    limits.hit("address", "2001:db8::1")
    monkeypatch.setattr(ratelimit, "MAX_COUNTERS", 10)
    for number in range(100):  # many addresses push nobody's account out
        limits.hit("address", f"2001:db8:1:{number:x}::1")
    assert not limits.allows("client", "alice")
    limits.hit("peer", "2001:db8:9:9::1")
    assert not limits.allows("peer", "2001:db8:9:9::2")
    assert limits.allows("peer", "2001:db8:9:8::2")


def test_counters_are_bounded(clock: ManualClock) -> None:
    counters = WindowCounters(clock.monotonic)
    for number in range(MAX_COUNTERS + 10):
        counters.incr(str(number), 60)
    assert len(counters._counters) == MAX_COUNTERS
    assert counters.get("0") == 0
    assert counters.get(str(MAX_COUNTERS)) == 1
    assert counters.reset() == MAX_COUNTERS
