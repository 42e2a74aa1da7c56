"""Nobody can lock another out: who proves himself is let in, whatever others tried before, and at a bounded cost."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from aitbc.coordinator.api.plumbing import auth
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.users.models import Challenge
from aitbc.core.clock import ManualClock
from tests.coordinator.api.conftest import sqlite_only
from tests.coordinator.api.support import Headers, Market, expect_error
from tests.coordinator.api.test_rpc import send
from tests.coordinator.api.test_users import ask, enter, session
from tests.coordinator.users.support import EvmWallet, NativeWallet, Wallet
from tests.support.flows import set_parameter

LIMIT = 5
STATIC = "a-static-key-of-this-coordinator"


@pytest.fixture
def api(start_api: Callable[..., Market]) -> Market:
    return start_api(rate_limit_user=LIMIT, api_keys=f"client:{STATIC}")


def bad_key(number: int) -> Headers:
    """A key of the right form that nobody has."""
    return {"X-Api-Key": f"aitbc_client_{'abcdefghijkl'}_{number:043d}"}


def lookups(api: Market) -> list[str]:
    """What is looked up in the database from here on to find out who calls."""
    seen: list[str] = []
    glance = api.runtime.db.glance

    async def counted(act: Callable[..., Any], *args: Any) -> Any:
        seen.extend(map(str, args))
        return await glance(act, *args)

    vars(api.runtime.db)["glance"] = counted
    return seen


@sqlite_only
def test_a_good_credential_behind_a_bad_address_is_let_in(api: Market, clock: ManualClock) -> None:
    good, wallet = api.key("client"), NativeWallet()
    token = session(api, wallet)
    for number in range(1000):
        assert api.get("/v1/account", bad_key(number)).status_code == (401 if number < LIMIT else 429)
        if number % 250 == 0:
            clock.advance(auth.CACHE_S)
            for shown in (
                good,
                token,
                {"X-Api-Key": STATIC},
                {"Authorization": f"Bearer {good['X-Api-Key']}"},
            ):
                assert api.get("/v1/account", shown).status_code == 200
    assert api.get("/v1/account", api.key("client")).status_code == 200, "one never seen before"
    assert session(api, NativeWallet(2))


@sqlite_only
def test_what_a_bad_credential_costs(api: Market, clock: ManualClock) -> None:
    seen = lookups(api)
    for shown in (
        {},
        {"X-Api-Key": "nonsense"},
        {"X-Api-Key": "x" * 60_000},
        {"X-Api-Key": "aitbc_client_short"},
        {"X-Api-Key": "aitbc_root_abcdefghijkl_" + "x" * 43},
        {"X-Session-Token": "no token has a space"},
        {"X-Session-Token": "x" * 129},
    ):
        assert api.get("/v1/account", shown).status_code in (401, 429)
    assert seen == [], "what has not the form of one needs no look"
    for _ in range(50):
        assert api.get("/v1/account", bad_key(1)).status_code in (401, 429)
    assert len(seen) == 1, "the same again needs no second one"
    clock.advance(auth.REFUSED_S)
    api.get("/v1/account", bad_key(1))
    assert len(seen) == 2


@sqlite_only
def test_what_was_refused_is_remembered_within_bounds(api: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "REFUSED_ENTRIES", 10)
    for number in range(100):
        api.get("/v1/account", bad_key(number))
    keys = api.app.access.keys
    assert len(keys._refused) == 10
    good = api.key("client")
    for _ in range(3):
        assert api.get("/v1/account", good).status_code == 200
    assert len(keys._known) == 1


@sqlite_only
def test_a_flood_of_bad_keys_is_looked_up_one_at_a_time(api: Market) -> None:
    """So that others wait for one of them at most, where credentials are looked up."""
    for number in range(LIMIT + 1):
        api.get("/v1/account", bad_key(number))
    now, most = 0, 0
    glance = api.runtime.db.glance

    async def counted(act: Callable[..., Any], *args: Any) -> Any:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        try:
            return await glance(act, *args)
        finally:
            now -= 1

    vars(api.runtime.db)["glance"] = counted
    good = api.key("client")

    async def flood() -> Any:
        bad = [api.client.get("/v1/account", headers=bad_key(100 + number)) for number in range(60)]
        return await asyncio.gather(*bad, api.client.get("/v1/account", headers=good))

    *refused, let_in = api.run(flood())
    assert {answer.status_code for answer in refused} == {429}
    assert let_in.status_code == 200
    assert most == auth.SUSPECT_LOOKUPS


@pytest.mark.parametrize("wallet", [NativeWallet(), EvmWallet()], ids=["native", "evm"])
def test_a_wallet_whose_address_is_flooded_logs_in(api: Market, wallet: Wallet) -> None:
    for _ in range(200):
        ask(api, wallet)
    for number in range(3 * LIMIT):
        wrong = enter(api, wallet, ask(api, wallet), EvmWallet(9).sign("something else"))
        assert wrong.status_code == (401 if number < LIMIT else 429)
    assert rows(api) == 0, "what is asked for fills nothing"
    assert session(api, wallet)
    assert rows(api) == 1


def rows(api: Market) -> int:
    table = table_of(Challenge)
    return len(api.run(api.runtime.db.read(lambda tx: tx.query(table.select()))))


@sqlite_only
def test_a_transfer_of_ones_own_is_taken_whatever_others_sent(api: Market, clock: ManualClock) -> None:
    alice, bob = NativeWallet(), NativeWallet(2)
    alice.network_id = api.runtime.network.network_id
    api.write(set_parameter, "min_transaction_fee", 0)
    session(api, alice)
    first = alice.transfer(bob.address, 5, 1)
    assert send(api, first).status_code == 200
    # Signed transfers are public: what others can do with them must not count for the sender.
    for number in range(3 * LIMIT):
        code = "TX_REPLAYED" if number < LIMIT else "RATE_LIMITED"
        assert send(api, first).json()["error_code"] == code
    for _ in range(LIMIT):
        forged = {**alice.transfer(bob.address, 6, 2), "signature": first["signature"]}
        assert send(api, forged).status_code in (400, 429)
    for nonce in range(2, LIMIT + 1):
        assert send(api, alice.transfer(bob.address, 1, nonce)).status_code == 200
    # Its own are limited, and nothing was done for the one that was refused.
    refused = send(api, alice.transfer(bob.address, 1, LIMIT + 1))
    expect_error(refused, 429, "RATE_LIMITED")
    clock.advance(60)
    assert send(api, alice.transfer(bob.address, 1, LIMIT + 1)).status_code == 200


@sqlite_only
def test_only_the_holder_learns_why_a_credential_has_ended(
    start_api: Callable[..., Market], clock: ManualClock
) -> None:
    from aitbc.coordinator.api_keys import service as accounts

    api = start_api(rate_limit_user=LIMIT)
    wallet = NativeWallet()
    token = session(api, wallet)
    revoked, rotated = api.key("client"), api.key("client")
    expired = api.key("client", expires_at_ms=clock.now_ms() + 1000)
    key_id = {name: key["X-Api-Key"].split("_")[2] for name, key in locals().items() if name in ENDS}
    api.write(accounts.revoke_key, key_id["revoked"])
    api.write(accounts.rotate_key, key_id["rotated"], 0)
    api.post("/v1/users/logout", token)
    clock.advance(2)
    said = set()
    shown_keys: dict[str, Headers] = {"revoked": revoked, "rotated": rotated, "expired": expired}
    for reason, shown in shown_keys.items():
        error = expect_error(api.get("/v1/account", shown), 401, "UNAUTHORIZED")["error"]
        assert (error["details"]["reason"], error["details"]["key_id"]) == (reason, key_id[reason])
        assert key_id[reason] in error["message"]
        said.add(error["message"])
        # Who has not the secret learns nothing of a key whose id he knows.
        guess = {"X-Api-Key": shown["X-Api-Key"][:-1] + ("A" if shown["X-Api-Key"][-1] != "A" else "B")}
        unknown = expect_error(api.get("/v1/account", guess), 401, "UNAUTHORIZED")["error"]
        assert unknown["details"] == {"reason": "unknown"}
        said.add(unknown["message"])
    ended = expect_error(api.get("/v1/account", token), 401, "UNAUTHORIZED")["error"]
    assert ended["details"]["reason"] == "revoked"
    nobody = expect_error(api.get("/v1/account"), 401, "UNAUTHORIZED")["error"]
    assert nobody["details"] == {"reason": "missing"}
    said |= {ended["message"], nobody["message"]}
    assert len(said) == 6
    for _ in range(2 * LIMIT):  # the rightful owner learns it however often anybody failed
        api.get("/v1/account", bad_key(7))
    assert api.get("/v1/account", revoked).json()["error"]["details"]["reason"] == "revoked"


ENDS = ("revoked", "rotated", "expired")
