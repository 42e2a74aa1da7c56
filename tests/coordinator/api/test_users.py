"""Wallet users over HTTP: who gets in, what a session may do, and whose sessions, keys and money it sees."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from aitbc.coordinator.api.schemas import wallets
from aitbc.core.clock import ManualClock
from tests.coordinator.api.conftest import sqlite_only
from tests.coordinator.api.support import Headers, Market, expect_error, held_to
from tests.coordinator.users.support import EvmWallet, NativeWallet, Wallet

# (method, path, body) of everything that needs a session; {key} and {session} are the caller's own.
OF_USERS: list[tuple[str, str, Any]] = [
    ("GET", "/v1/users/me", None),
    ("GET", "/v1/users/me/sessions", None),
    ("GET", "/v1/users/me/keys", None),
    ("POST", "/v1/users/me/keys", {}),
    ("GET", "/v1/users/{user_id}/balance", None),
    ("DELETE", "/v1/users/me/keys/{key_id}", None),
    ("DELETE", "/v1/users/me/sessions/{session_id}", None),
    ("POST", "/v1/users/logout", None),
]


def ask(api: Market, wallet: Wallet) -> str:
    answer = api.post("/v1/users/challenge", json={"wallet_address": wallet.address})
    assert answer.status_code == 200, answer.text
    assert answer.json()["wallet_address"] == wallet.address
    return str(answer.json()["message"])


def enter(
    api: Market, wallet: Wallet, message: str | None = None, signature: str | None = None
) -> httpx.Response:
    text = ask(api, wallet) if message is None else message
    body = {
        "wallet_address": wallet.address,
        "message": text,
        "signature": signature or wallet.sign(text),
    }
    if wallet.public_key:
        body["public_key"] = wallet.public_key
    return api.post("/v1/users/login", json=body)


def session(api: Market, wallet: Wallet) -> Headers:
    answer = enter(api, wallet)
    assert answer.status_code == 200, answer.text
    return {"X-Session-Token": answer.json()["session_token"]}


@pytest.mark.parametrize("wallet", [NativeWallet(), EvmWallet()], ids=["native", "evm"])
def test_a_wallet_logs_in_and_out(api: Market, wallet: Wallet) -> None:
    answer = enter(api, wallet)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["token"] == body["session_token"]
    assert body["expires_at"] == "2026-01-02T00:00:00.000Z"
    assert (body["user"]["id"], body["user"]["address"]) == (wallet.account, wallet.address)
    assert body["user"]["balance"] == 1000
    headers = {"X-Session-Token": body["token"]}
    assert api.get("/v1/users/me", headers).json() == body["user"]
    assert api.get("/v1/account", headers).json()["account"] == wallet.account
    for name in (wallet.account, wallet.address, "me"):
        money = api.get(f"/v1/users/{name}/balance", headers).json()
        assert (money["user_id"], money["balance"], money["available"]) == (wallet.account, 1000, 1000)
    assert api.post("/v1/users/logout", headers).json()["session_id"] == body["session_id"]
    expect_error(api.get("/v1/users/me", headers), 401, "UNAUTHORIZED")
    expect_error(api.post("/v1/users/logout", headers), 401, "UNAUTHORIZED")


def test_logins_that_are_refused(api: Market, clock: ManualClock) -> None:
    wallet, other = EvmWallet(), EvmWallet(2)
    message = ask(api, wallet)
    expect_error(enter(api, wallet, message, other.sign(message)), 401, "LOGIN_SIGNATURE_INVALID")
    expect_error(enter(api, other, message), 401, "CHALLENGE_INVALID")
    expect_error(enter(api, wallet, message[:-5]), 401, "CHALLENGE_INVALID")
    expect_error(
        enter(api, wallet, message.replace("127.0.0.1:8000", "evil.example")), 401, "CHALLENGE_INVALID"
    )
    assert enter(api, wallet, message).status_code == 200
    expect_error(enter(api, wallet, message), 401, "CHALLENGE_USED")
    clock.advance(300)
    expect_error(enter(api, wallet, message), 401, "CHALLENGE_EXPIRED")
    native = NativeWallet()
    body = {"wallet_address": native.address, "message": ask(api, native)}
    body["signature"] = native.sign(body["message"])
    expect_error(api.post("/v1/users/login", json=body), 400, "INVALID_REQUEST")


@sqlite_only
@pytest.mark.parametrize(
    "address",
    [
        "",
        "alice",
        NativeWallet().address.upper(),
        NativeWallet().address[:-1] + "q",
        EvmWallet().address.swapcase(),
        "0x" + EvmWallet().address[2:].upper(),
        "0x12",
        7,
        None,
    ],
)
def test_addresses_that_are_none(api: Market, address: Any) -> None:
    body = {"wallet_address": address, "message": "x", "signature": "x"}
    for path in ("/v1/users/challenge", "/v1/users/login"):
        error = expect_error(api.post(path, json=body), 400, "INVALID_REQUEST")
        assert error["error"]["details"]["fields"][0]["field"] == "wallet_address"


def test_a_session_is_a_client_of_the_wallets_account(api: Market) -> None:
    wallet = NativeWallet()
    headers = session(api, wallet)
    miner = api.key("miner")
    api.miner(miner)
    job_id = api.job(headers)
    job = api.get(f"/v1/jobs/{job_id}", headers).json()
    assert job["client_id"] == wallet.account
    assert api.get("/v1/users/me", headers).json()["held"] == job["price_held"]
    api.claim(miner, job_id)
    assert api.complete(miner, job_id).status_code == 200
    assert api.get(f"/v1/jobs/{job_id}/result", headers).json()["result"] == "Hi."
    assert api.get("/v1/users/me", headers).json()["held"] == 0
    expect_error(api.get(f"/v1/jobs/{job_id}", session(api, EvmWallet())), 404, "JOB_NOT_FOUND")
    expect_error(
        api.post("/v1/miners/register", headers, json={"capabilities": ["llama3.2"]}), 403, "FORBIDDEN"
    )
    expect_error(api.get("/v1/miner/jobs", headers), 403, "FORBIDDEN")


def test_every_endpoint_of_users_as_everybody(api: Market) -> None:
    own, other = session(api, NativeWallet()), session(api, EvmWallet())
    keys = {role: api.key(role) for role in ("client", "miner", "admin")}
    names = {
        "user_id": NativeWallet().account,
        "key_id": api.post("/v1/users/me/keys", own, json={}).json()["key_id"],
        "session_id": api.get("/v1/users/me/sessions", own).json()["sessions"][0]["session_id"],
    }
    last = session(api, NativeWallet())
    for method, path, body in OF_USERS:
        where = path.format(**names)
        for nobody in (None, {"X-Session-Token": ""}, {"X-Session-Token": "x"}, {"X-Api-Key": "x"}):
            expect_error(api.call(method, where, nobody, json=body), 401, "UNAUTHORIZED")
        for role in ("client", "miner", "admin"):
            answer = api.call(method, where, keys[role], json=body)
            if (role, path) == ("admin", "/v1/users/{user_id}/balance"):
                assert answer.json()["user_id"] == names["user_id"]
            else:
                expect_error(answer, 403, "FORBIDDEN")
        if "{" in path:
            codes = {"user_id": "USER", "key_id": "KEY", "session_id": "SESSION"}
            kind = next(code for name, code in codes.items() if "{" + name in path)
            expect_error(api.call(method, where, other, json=body), 404, f"{kind}_NOT_FOUND")
        answer = api.call(method, where, last if "logout" in path else own, json=body)
        assert answer.status_code == (201 if path.endswith("keys") and method == "POST" else 200), where
    for ended in (own, last):
        expect_error(api.get("/v1/users/me", ended), 401, "UNAUTHORIZED")
    assert api.get("/v1/users/me", other).status_code == 200
    expect_error(api.get("/v1/users/me/balance", keys["admin"]), 404, "USER_NOT_FOUND")
    expect_error(api.get("/v1/users/0x12/balance", keys["admin"]), 404, "USER_NOT_FOUND")


def test_a_key_of_a_user_spends_the_wallets_money(api: Market) -> None:
    headers = session(api, EvmWallet())
    body = {"label": "laptop", "limit": 2.5, "limit_period": "day", "expires_at": "2026-02-01T00:00:00Z"}
    made = api.post("/v1/users/me/keys", headers, json=body).json()
    assert (made["account"], made["role"]) == (EvmWallet().account, "client")
    account = api.get("/v1/account", {"X-Api-Key": made["key"]}).json()
    assert (account["account"], account["balance"]) == (EvmWallet().account, 1000)
    assert account["key"]["limit"] == 2.5
    [listed] = api.get("/v1/users/me/keys", headers).json()["keys"]
    assert listed["key_id"] == made["key_id"]
    assert (listed["label"], listed["limit"], listed["expires_at"]) == (
        "laptop",
        2.5,
        "2026-02-01T00:00:00.000Z",
    )
    assert made["key"] not in str(listed)
    assert api.call("DELETE", f"/v1/users/me/keys/{made['key_id']}", headers).json()["revoked"] is True
    expect_error(api.get("/v1/account", {"X-Api-Key": made["key"]}), 401, "UNAUTHORIZED")
    assert api.get("/v1/users/me/keys", headers).json()["keys"][0]["revoked_at"] is not None


@sqlite_only
@pytest.mark.parametrize(
    "body",
    [
        {"role": "admin"},
        {"role": 1},
        {"limit": 5},
        {"limit_period": "day"},
        {"limit": -1, "limit_period": "day"},
        {"limit": 0.000000001, "limit_period": "day"},
        {"limit": "5", "limit_period": "day"},
        {"limit": 5, "limit_period": "week"},
        {"expires_at": "2025-01-01T00:00:00Z"},
        {"expires_at": "soon"},
        {"expires_at": 5},
        {"label": "x" * 201},
    ],
)
def test_keys_that_cannot_be_made(api: Market, body: dict[str, Any]) -> None:
    headers = session(api, NativeWallet())
    expect_error(api.post("/v1/users/me/keys", headers, json=body), 400, "INVALID_REQUEST")
    assert api.get("/v1/users/me/keys", headers).json()["keys"] == []


@sqlite_only
def test_a_user_has_so_many_keys(api: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aitbc.coordinator.flows.acts.user_keys.MAX_KEYS", 2)
    headers = session(api, NativeWallet())
    made = [api.post("/v1/users/me/keys", headers, json={"role": role}) for role in ("client", "miner")]
    assert [answer.status_code for answer in made] == [201, 201]
    expect_error(api.post("/v1/users/me/keys", headers, json={}), 409, "TOO_MANY_KEYS")
    api.call("DELETE", f"/v1/users/me/keys/{made[0].json()['key_id']}", headers)
    assert api.post("/v1/users/me/keys", headers, json={}).status_code == 201


@sqlite_only
def test_so_many_keys_that_ended_are_remembered(
    api: Market, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aitbc.coordinator.flows.acts.user_keys.MAX_ENDED_KEYS", 2)
    headers = session(api, NativeWallet())
    made = []
    for _ in range(4):
        clock.advance(1)
        made.append(api.post("/v1/users/me/keys", headers, json={"role": "client"}).json())
        api.call("DELETE", f"/v1/users/me/keys/{made[-1]['key_id']}", headers)
    kept = api.post("/v1/users/me/keys", headers, json={"role": "client"}).json()
    listed = [key["key_id"] for key in api.get("/v1/users/me/keys", headers).json()["keys"]]
    assert sorted(listed) == sorted([made[2]["key_id"], made[3]["key_id"], kept["key_id"]])
    for key in made:
        expect_error(api.get("/v1/jobs", {"X-Api-Key": key["key"]}), 401, "UNAUTHORIZED")
    assert api.get("/v1/jobs", {"X-Api-Key": kept["key"]}).status_code == 200


def test_a_user_has_so_many_sessions(api: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest ends for one more, at once; other users' stay."""
    monkeypatch.setattr("aitbc.coordinator.users.service.MAX_SESSIONS", 2)
    wallet = NativeWallet()
    other = session(api, NativeWallet(2))
    opened = []
    for _ in range(4):
        opened.append(session(api, wallet))
        assert api.get("/v1/users/me", opened[-1]).status_code == 200
    assert [api.get("/v1/users/me", one).status_code for one in opened] == [401, 401, 200, 200]
    assert api.get("/v1/users/me", other).status_code == 200
    assert len(api.get("/v1/users/me/sessions", opened[-1]).json()["sessions"]) == 2


@sqlite_only
def test_so_many_new_wallets_a_day_come_from_one_address(
    start_api: Callable[..., Market], clock: ManualClock
) -> None:
    """Those that are known are let in all the same."""
    api = start_api(rate_limit_newcomers=2)
    for number in (1, 2):
        session(api, NativeWallet(number))
        clock.advance(3_600)
    refused = expect_error(enter(api, NativeWallet(3)), 429, "RATE_LIMITED")
    assert "2 a day" in refused["detail"]
    assert refused["error"]["details"]["retry_after_s"] > 3_600
    session(api, NativeWallet(1))
    clock.advance(86_400)
    session(api, NativeWallet(3))


def test_sessions_are_listed_ended_and_expire(api: Market, clock: ManualClock) -> None:
    wallet = NativeWallet()
    first, second = session(api, wallet), session(api, wallet)
    listed = api.get("/v1/users/me/sessions", second).json()["sessions"]
    assert [found["current"] for found in listed] == [True, False]
    assert not any(headers["X-Session-Token"] in str(listed) for headers in (first, second))
    assert api.get("/v1/users/me", first).status_code == 200
    ended = api.call("DELETE", f"/v1/users/me/sessions/{listed[1]['session_id']}", second)
    assert ended.json() == {"session_id": listed[1]["session_id"], "revoked": True}
    expect_error(api.get("/v1/users/me", first), 401, "UNAUTHORIZED")
    clock.advance(86_399)
    assert api.get("/v1/users/me", second).status_code == 200
    clock.advance(1)
    expect_error(api.get("/v1/users/me", second), 401, "UNAUTHORIZED")


@sqlite_only
def test_a_token_is_no_key_and_a_key_no_token(api: Market) -> None:
    headers = session(api, NativeWallet())
    token = headers["X-Session-Token"]
    assert api.get("/v1/account", headers).status_code == 200
    for wrong in ({"X-Api-Key": token}, {"Authorization": f"Bearer {token}"}):
        expect_error(api.get("/v1/account", wrong), 401, "UNAUTHORIZED")
    key = api.key("client")["X-Api-Key"]
    assert api.get("/v1/account", {"X-Api-Key": key}).status_code == 200
    expect_error(api.get("/v1/account", {"X-Session-Token": key}), 401, "UNAUTHORIZED")
    expect_error(api.get("/v1/account", {**headers, "X-Api-Key": "wrong"}), 401, "UNAUTHORIZED")


@sqlite_only
def test_what_a_wallet_did_itself_is_limited(start_api: Callable[..., Market], clock: ManualClock) -> None:
    api = start_api(rate_limit_user=4)
    wallet, other = NativeWallet(), EvmWallet()
    headers = session(api, wallet)
    for _ in range(3):
        assert session(api, wallet)
    refused = enter(api, wallet)
    expect_error(refused, 429, "RATE_LIMITED")
    assert int(refused.headers["retry-after"]) in range(1, 61)
    assert refused.headers["ratelimit"].startswith('"wallet";r=0')
    assert session(api, other)
    for left in (3, 2, 1, 0):
        assert api.get("/v1/users/me", headers).headers["ratelimit"] == f'"user";r={left};t=60'
    expect_error(api.get("/v1/users/me", headers), 429, "RATE_LIMITED")
    clock.advance(60)
    assert api.get("/v1/users/me", headers).status_code == 200
    assert session(api, wallet)


@sqlite_only
def test_so_many_new_wallets_come_from_an_address(
    start_api: Callable[..., Market], clock: ManualClock
) -> None:
    """Each opens an account for good. Wallets that are known already are let in all the same."""
    api = start_api(rate_limit_user=2)
    known = NativeWallet(1)
    for wallet in (known, NativeWallet(2)):
        assert session(api, wallet)
    expect_error(enter(api, NativeWallet(3)), 429, "RATE_LIMITED")
    assert session(api, known)
    clock.advance(60)
    assert session(api, NativeWallet(3))


@sqlite_only
def test_answers_are_as_documented(api: Market) -> None:
    """Every field that goes out is declared, and of its type."""
    wallet = EvmWallet()
    asked = api.post("/v1/users/challenge", json={"wallet_address": wallet.address})
    held_to(wallets.Challenge, asked.json())
    entered = held_to(wallets.Login, enter(api, wallet).json())
    headers = {"X-Session-Token": entered["session_token"]}
    made = api.post("/v1/users/me/keys", headers, json={"limit": 1, "limit_period": "month"}).json()
    held_to(wallets.MadeKey, made)
    for path, model in (
        ("/v1/users/me", wallets.User),
        ("/v1/users/me/balance", wallets.UserBalance),
        ("/v1/users/me/keys", wallets.UserKeys),
        ("/v1/users/me/sessions", wallets.Sessions),
    ):
        held_to(model, api.get(path, headers).json())
    held_to(wallets.EndedKey, api.call("DELETE", f"/v1/users/me/keys/{made['key_id']}", headers).json())
    held_to(wallets.EndedSession, api.post("/v1/users/logout", headers).json())


@sqlite_only
def test_the_text_names_the_public_address(start_api: Callable[..., Market]) -> None:
    api = start_api(public_url="https://coordinator.example/")
    message = ask(api, EvmWallet())
    assert message.startswith("coordinator.example wants you to sign in")
    assert "\nURI: https://coordinator.example\n" in message
    assert enter(api, EvmWallet(), message).status_code == 200
