"""Whoever is refused over money is told all the numbers: in the message exactly, in the details as JSON numbers."""

import re
from collections.abc import Callable
from typing import Any

from aitbc.coordinator.errors import AitbcError, MoneyError
from aitbc.core.money import format_ait, parse_ait
from tests.coordinator.api.conftest import sqlite_only
from tests.coordinator.api.support import Headers, Market, expect_error
from tests.coordinator.api.test_rpc import send
from tests.coordinator.api.test_users import session
from tests.coordinator.users.support import NativeWallet
from tests.support.flows import set_parameter

JOB: dict[str, Any] = {"prompt": "x", "params": {"max_tokens": 1000}, "constraints": {"max_price": 10}}
"""Holds more than 10 AIT."""
FUNDS = {"needed", "available", "balance", "held"}
OF_KEY = {"needed", "available", "limit", "reserved"}


def told(error: dict[str, Any], amounts: set[str]) -> dict[str, int]:
    """The amounts of an error's details, in base units, each of them in its message too."""
    details, units = error["details"], {}
    assert "?" not in error["message"]
    for name in amounts:
        assert isinstance(details[name], int | float), (name, details)
        units[name] = parse_ait(details[name])
        assert f"{format_ait(units[name])} AIT" in error["message"], (name, error)
    return units


def short_of_funds(error: dict[str, Any]) -> None:
    units = told(error, FUNDS)
    assert units["available"] == units["balance"] - units["held"] < units["needed"]


def submissions(api: Market, who: Headers) -> list[dict[str, Any]]:
    """The refusals of a job that is too dear, by every way to submit it."""
    role = {"job_type": "llm_inference", "parameters": {"prompt": "x", "max_tokens": 1000}}
    role["constraints"] = JOB["constraints"]
    found = [
        api.post(path, who, json=body).json() for path, body in (("/v1/jobs", JOB), ("/v1/client/jobs", role))
    ]
    items = api.post("/v1/jobs/batch", who, json={"jobs": [JOB, role]}).json()["items"]
    return [answer["error"] for answer in (*found, *items)]


def test_too_little_money_for_a_job(api: Market) -> None:
    poor = api.key("client", "poor", grant_units=12 * 10**8)
    api.job(poor, params={"max_tokens": 100}, constraints={"max_price": 50})
    errors = submissions(api, poor)
    assert [error["code"] for error in errors] == ["INSUFFICIENT_FUNDS"] * 4
    for error in errors:
        short_of_funds(error)
        assert error["details"]["held"] > 0


def test_a_keys_limit(api: Market) -> None:
    limited = api.key("client", "rich", limit_units=12 * 10**8, limit_period="day")
    api.job(limited, params={"max_tokens": 100}, constraints={"max_price": 50})
    errors = submissions(api, limited)
    assert [error["code"] for error in errors] == ["KEY_LIMIT_EXCEEDED"] * 4
    for error in errors:
        units = told(error, OF_KEY)
        assert units["available"] == units["limit"] - units["reserved"] < units["needed"]
        assert units["reserved"] > 0
        assert error["details"]["resets_at"].endswith("T00:00:00.000Z")
        assert error["details"]["resets_at"] in error["message"]


@sqlite_only
def test_a_key_without_any_limit_left_from_another_day(api: Market) -> None:
    limited = api.key("client", "rich", limit_units=1, limit_period="month")
    units = told(submissions(api, limited)[0], OF_KEY)
    assert (units["limit"], units["reserved"], units["available"]) == (1, 0, 1)


@sqlite_only
def test_a_payment_by_hand(api: Market) -> None:
    poor = api.key("client", "poor", grant_units=10**8)
    job = api.job(poor, payment="manual", **{name: JOB[name] for name in ("params", "constraints")})
    answer = api.post("/v1/payments", poor, json={"job_id": job})
    short_of_funds(expect_error(answer, 402, "INSUFFICIENT_FUNDS")["error"])


@sqlite_only
def test_more_than_a_receipt_can_state(api: Market) -> None:
    dear = {"prompt": "x", "params": {"max_tokens": 32_768}, "constraints": {"max_price": 60_000_000}}
    for more in ({}, {"payment": "manual"}):
        answer = api.post("/v1/jobs", api.key("client"), json={**dear, **more})
        told(expect_error(answer, 402, "INSUFFICIENT_FUNDS")["error"], {"limit"})


@sqlite_only
def test_transfers(api: Market) -> None:
    alice, bob, nobody = NativeWallet(), NativeWallet(2), NativeWallet(3)
    session(api, alice)
    for wallet in (alice, nobody):
        wallet.network_id = api.runtime.network.network_id
        answer = send(api, wallet.transfer(bob.address, 10**14, 1, fee_units=100_000))
        short_of_funds(expect_error(answer, 402, "INSUFFICIENT_FUNDS")["error"])
    api.write(set_parameter, "min_transaction_fee", 10)
    answer = send(api, alice.transfer(bob.address, 1, 1, fee_units=9))
    units = told(expect_error(answer, 400, "INVALID_REQUEST")["error"], {"fee", "min_fee"})
    assert (units["fee"], units["min_fee"]) == (9, 10)


@sqlite_only
def test_refunds(api: Market) -> None:
    payer, miner = api.key("client", "payer"), api.key("miner", "mill")
    api.miner(miner)
    job = api.job(payer, payment="manual")
    payment = api.post("/v1/payments", payer, json={"job_id": job}).json()["payment_id"]
    api.claim(miner, job)
    assert api.complete(miner, job).status_code == 200
    for amount in (100, 0):
        answer = api.post(f"/v1/payments/{payment}/refund", miner, json={"amount": amount})
        error = expect_error(answer, 400, "INVALID_REQUEST")["error"]
        assert told(error, {"amount", "price"})["amount"] == amount * 10**8
        assert error["details"]["fields"][0]["field"] == "amount"


def test_a_full_queue(start_api: Callable[..., Market]) -> None:
    api = start_api(max_pending_jobs=3)
    client = api.key("client")
    for _ in range(3):
        api.job(client)
    errors = [expect_error(api.post("/v1/jobs", client, json={"prompt": "x"}), 429, "QUEUE_FULL")["error"]]
    items = api.post("/v1/jobs/batch", client, json={"jobs": [{"prompt": "x"}] * 3}).json()["items"]
    for error in (*errors, *(item["error"] for item in items)):
        assert error["details"] == {"limit": 3, "waiting": 3}
        assert error["message"].startswith("3 jobs of this account are waiting, and 3 may")


def test_every_money_error_names_its_numbers() -> None:
    """None of their messages is without: a new one shows what it is about."""

    def below(kind: type[AitbcError]) -> list[type[AitbcError]]:
        return [kind, *(one for sub in kind.__subclasses__() for one in below(sub))]

    kinds = below(MoneyError)[1:]
    assert len(kinds) >= 5
    for kind in kinds:
        amounts = re.findall(r"\{(\w+)\} AIT", kind.template)
        assert len(amounts) >= 2, kind
        error = kind(**{f"{name}_units": 150_000_000 for name in amounts})
        assert error.message.count("1.5 AIT") == len(amounts)
        assert all(error.details[name] == 1.5 for name in amounts)
