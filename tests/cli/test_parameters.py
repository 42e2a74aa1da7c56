"""`aitbc parameter`: what the operator changes of the network, beside running coordinators or without one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from aitbc.core.canonical import loads_strict
from tests.cli.harness import User
from tests.support.server import ServerProcess

NAMES = ["fee_bps", "default_price_per_1k_tokens", "default_max_price_per_1k_tokens", "min_transaction_fee"]


@pytest.fixture
def operator(user: User) -> User:
    assert user("init").code == 0
    return user


def change(name: str, value: object, *more: str, reason: str = "as was decided") -> tuple[str, ...]:
    return ("parameter", "set", name, str(value), "--reason", reason, *more)


def listed(operator: User) -> dict[str, Any]:
    return {one["name"]: one for one in operator("parameter", "list", "--json").json}


def test_the_list_says_what_each_is(operator: User) -> None:
    found = listed(operator)
    assert list(found)[: len(NAMES)] == NAMES
    assert found["fee_bps"] == {
        "name": "fee_bps",
        "value": 250,
        "type": "integer",
        "unit": "basis points",
        "low": 0,
        "high": 5000,
        "default": 250,
        "meaning": "share of each price that goes to the treasury",
        "changed": None,
    }
    text = operator("parameter", "list")
    assert text.code == 0
    for part in (*NAMES, "basis points", "0..5000"):
        assert part in text.out


def test_a_change_says_what_it_was_before(operator: User) -> None:
    made = operator(*change("fee_bps", 300, "--yes"))
    assert (made.code, made.out) == (0, "fee_bps: 250 -> 300\n"), made.err
    assert "change 1 of the network's parameters" in made.err
    done = operator(*change("fee_bps", 0, "--yes", "--json", reason="a  try\x1b")).json
    assert (done["name"], done["value"]) == ("fee_bps", 0)
    changed = done["changed"]
    assert (changed["number"], changed["before"], changed["after"]) == (2, 300, 0)
    assert (changed["by"], changed["reason"]) == ("operator", "a try\N{REPLACEMENT CHARACTER}")
    assert listed(operator)["fee_bps"] | {"value": 0, "changed": changed} == listed(operator)["fee_bps"]
    assert "operator: a try" in operator("parameter", "list").out
    again = operator(*change("fee_bps", 0, "--yes"))
    assert (again.code, again.out) == (0, "fee_bps: 0\n")
    assert "nothing was changed" in again.err
    assert operator(*change("fee_bps", 0, "--yes", "--json")).json["changed"] is None
    report = operator("audit", "--json")
    assert report.code == 0, report.out


def test_what_is_not_changed(operator: User) -> None:
    for value in (-1, 5001, 2**63, "2.5", "x"):
        refused = operator("parameter", "set", "--reason", "r", "--yes", "--", "fee_bps", str(value))
        assert refused.code != 0, value
    unknown = operator(*change("no_such", 1, "--yes"))
    assert unknown.code == 1
    assert "aitbc parameter list" in unknown.err
    for reason in ("", "  ", "x" * 201):
        assert operator(*change("fee_bps", 1, "--yes", reason=reason)).code != 0, reason
    asked = operator(*change("fee_bps", 1))
    assert asked.code == 2
    assert "--yes" in asked.err
    assert listed(operator)["fee_bps"]["changed"] is None


def test_beside_a_running_coordinator(
    user: User, start_server: Callable[..., ServerProcess], database_url: str
) -> None:
    """The coordinator goes by it at once, and the change is sealed: an outsider finds it in the log."""
    server = start_server({"BLOCK_INTERVAL_S": "0.1"})
    named = ("--database-url", database_url, "--home", str(user.home))

    def read(path: str) -> httpx.Response:
        return httpx.get(f"{server.url}{path}", trust_env=False)

    before = read("/rpc/info").json()["min_fee"]
    made = user(*change("min_transaction_fee", 7_000_000, "--yes", "--json"), *named)
    assert made.code == 0, made.err
    assert made.json["changed"]["before"] == round(before * 10**8)
    assert read("/rpc/info").json()["min_fee"] == 0.07

    until = time.monotonic() + 20
    while read("/rpc/head").json().get("contents") != {"parameters": 1}:
        assert time.monotonic() < until
        time.sleep(0.05)
    entry = read("/log/tile/entries/000.p/1").content[2:]
    document = loads_strict(entry)
    assert (document["name"], document["value_after"], document["by"]) == (
        "min_transaction_fee",
        "7000000",
        "operator",
    )
    report = user("audit", "--url", server.url, "--json")
    assert report.code == 0, report.out
    assert report.json["counts"]["parameters"] == 1
