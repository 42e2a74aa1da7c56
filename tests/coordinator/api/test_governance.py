"""Governance over HTTP: who may do what, what strangers may send, and a proposal from its making to its effect."""

from typing import Any

import pytest

from aitbc.coordinator.flows.acts import governance as acts
from aitbc.coordinator.parameters import service as parameters
from aitbc.core.clock import ManualClock
from tests.coordinator.api.conftest import sqlite_only
from tests.coordinator.api.support import Headers, Market, expect_error
from tests.coordinator.api.test_users import session
from tests.coordinator.users.support import NativeWallet

TEXT = {"type": "text", "title": "We say so"}
FEE = {"type": "parameter_change", "title": "A fee", "parameter": "fee_bps", "value": 300}
NOTHING = "019b7c1e-5a46-7000-8000-000000000001"

# (method, path, body) of everything that needs a caller.
OF_GOVERNANCE: list[tuple[str, str, Any]] = [
    ("POST", "/v1/governance/proposals", TEXT),
    ("POST", "/v1/governance/vote", {"proposal_id": NOTHING, "choice": "for"}),
    ("POST", "/v1/governance/delegate", {"delegate": None}),
    ("POST", "/v1/governance/execute/{proposal_id}", None),
    ("POST", "/v1/governance/proposals/{proposal_id}/cancel", None),
]
PUBLIC = [
    "/v1/governance/proposals",
    "/v1/governance/proposals?status=queued&limit=1",
    "/v1/governance/proposals/{id}",
    "/v1/governance/proposals/{id}/votes",
    "/v1/governance/voting-power/alice",
    "/v1/governance/voting-power/alice?proposal_id={id}",
    "/v1/governance/delegations/alice",
    "/v1/governance/parameters",
]


def grown(api: Market, clock: ManualClock, *names: str) -> list[Headers]:
    """Clients whose money is old enough to vote; a vote takes an hour, and so do its delay and timelock."""
    clients = [api.key("client", name) for name in names]
    for name in ("delay_s", "voting_s", "timelock_s"):
        api.write(parameters.set_value, f"governance_{name}", 3_600, "operator", "for a test")
    api.write(parameters.set_value, "governance_extension_s", 0, "operator", "for a test")
    clock.advance(8 * 86_400)
    return clients


def propose(api: Market, who: Headers, body: Any = TEXT) -> dict[str, Any]:
    answer = api.post("/v1/governance/proposals", who, json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def voted(api: Market, who: Headers, proposal: dict[str, Any], choice: str = "for") -> Any:
    return api.post(
        "/v1/governance/vote", who, json={"proposal_id": proposal["proposal_id"], "choice": choice}
    )


def test_a_proposal_over_http(api: Market, clock: ManualClock) -> None:
    alice, bob = grown(api, clock, "alice", "bob")
    made = propose(api, alice, FEE)
    path = f"/v1/governance/proposals/{made['proposal_id']}"
    assert made["status"] == "pending" and made["deposit"] == 100
    assert made["change"] == {
        "what": "fee_bps",
        "before": 250,
        "after": 300,
        "unit": "basis points",
        "possible": True,
        "obstacle": None,
    }
    assert api.get(path).json() == made
    assert api.get("/v1/account", alice).json()["held"] == 100
    expect_error(voted(api, alice, made), 409, "VOTING_NOT_OPEN")
    clock.advance(3_600)
    cast = voted(api, alice, made).json()
    assert cast["power"] == 1_000 and cast["tally"] == {"for": 1_000, "against": 0, "abstain": 0, "veto": 0}
    assert voted(api, bob, made, "abstain").json()["quorum"]["cast"] == 2_000
    votes = api.get(f"{path}/votes").json()
    assert [(one["account"], one["choice"]) for one in votes["votes"]] == [
        ("alice", "for"),
        ("bob", "abstain"),
    ]
    first = api.get(f"{path}/votes?limit=1").json()
    assert first["next_cursor"] == "alice"
    assert api.get(f"{path}/votes?limit=1&cursor=alice").json()["votes"] == votes["votes"][1:]
    clock.advance(3_600)
    execute = f"/v1/governance/execute/{made['proposal_id']}"
    refused = expect_error(api.post(execute, bob), 409, "PROPOSAL_NOT_EXECUTABLE")
    assert "not before" in refused["detail"]
    assert api.get("/v1/governance/proposals?status=queued").json()["proposals"] == [], (
        "it was refused, whole"
    )
    expect_error(voted(api, alice, made), 409, "VOTING_CLOSED")
    api.write(acts.advance, made["proposal_id"])
    assert len(api.get("/v1/governance/proposals?status=queued").json()["proposals"]) == 1
    clock.advance(3_600)
    done = api.post(execute, bob).json()
    assert done["status"] == "executed" and done["events"][-1]["by"] == "bob"
    expect_error(api.post(execute, bob), 409, "PROPOSAL_NOT_EXECUTABLE")
    fee = next(
        one for one in api.get("/v1/governance/parameters").json()["parameters"] if one["name"] == "fee_bps"
    )
    assert (fee["value"], fee["last_changed"]["by"]) == (300, f"proposal {made['proposal_id']}")


def test_who_may(api: Market, clock: ManualClock) -> None:
    """Owner, another of the role, another role, nobody."""
    alice, bob = grown(api, clock, "alice", "bob")
    mill, admin = api.key("miner", "mill"), api.key("admin")
    made = propose(api, alice)
    for method, path, body in OF_GOVERNANCE:
        url = path.replace("{proposal_id}", made["proposal_id"])
        expect_error(api.call(method, url, json=body), 401, "UNAUTHORIZED")
        for other in (mill, admin):
            expect_error(api.call(method, url, other, json=body), 403, "FORBIDDEN")
    cancel = f"/v1/governance/proposals/{made['proposal_id']}/cancel"
    expect_error(api.post(cancel, bob), 403, "FORBIDDEN")
    for path in PUBLIC:
        answer = api.get(path.replace("{id}", made["proposal_id"]), {"X-Api-Key": "wrong"})
        assert answer.status_code == 200, (path, answer.text)
    assert api.post(cancel, alice).json()["status"] == "cancelled"
    expect_error(api.post(cancel, alice), 409, "PROPOSAL_NOT_CANCELLABLE")


def test_a_wallets_session_governs_as_well(api: Market, clock: ManualClock) -> None:
    wallet = NativeWallet()
    holder = session(api, wallet)
    (alice,) = grown(api, clock, "alice")
    holder = session(api, wallet)
    made = propose(api, holder)
    assert made["proposer"] == wallet.account
    assert api.post("/v1/governance/delegate", alice, json={"delegate": wallet.address}).status_code == 200
    register = api.get(f"/v1/governance/delegations/{wallet.address}").json()
    assert [one["delegator"] for one in register["delegators"]] == ["alice"]
    power = api.get(f"/v1/governance/voting-power/{wallet.address}").json()
    assert (power["own"], power["delegated"], power["delegators"]) == (1_000, 1_000, 1)
    assert api.get("/v1/governance/voting-power/alice").json()["delegate"] == wallet.account
    before = api.get(f"/v1/governance/voting-power/alice?proposal_id={made['proposal_id']}").json()
    assert before["delegate"] is None, "it was made before"
    clock.advance(3_600)
    assert voted(api, session(api, wallet), made).json()["power"] == 1_000
    assert api.get(f"/v1/governance/voting-power/{wallet.address}?proposal_id={made['proposal_id']}").json()[
        "vote"
    ] == {
        "proposal_id": made["proposal_id"],
        "account": wallet.account,
        "by": wallet.account,
        "choice": "for",
        "power": 1_000,
        "at": "2026-01-09T01:00:00.000Z",
    }


@sqlite_only
def test_a_repeated_request_does_it_once(api: Market, clock: ManualClock) -> None:
    (alice,) = grown(api, clock, "alice")
    once = {**alice, "Idempotency-Key": "one"}
    first = api.post("/v1/governance/proposals", once, json=TEXT)
    again = api.post("/v1/governance/proposals", once, json=TEXT)
    assert first.content == again.content and again.headers["idempotency-replayed"] == "true"
    assert len(api.get("/v1/governance/proposals").json()["proposals"]) == 1
    clock.advance(3_600)
    for _ in range(2):
        answer = api.post(
            "/v1/governance/vote",
            {**alice, "Idempotency-Key": "two"},
            json={"proposal_id": first.json()["id"], "choice": "for"},
        )
        assert len(answer.json()["votes"]) == 1
    assert voted(api, alice, first.json()).json()["votes"] == [], "under another key it is so already"


@sqlite_only
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({**TEXT, "type": "coup"}, "type"),
        ({"type": "text"}, "title"),
        ({**TEXT, "title": " \t\n"}, "title"),
        ({**TEXT, "title": "x" * 201}, "title"),
        ({**TEXT, "description": "x" * 10_001}, "description"),
        ({**FEE, "value": "300"}, "value"),
        ({**FEE, "value": 300.0}, "value"),
        ({**FEE, "value": True}, "value"),
        ({**TEXT, "type": "fund_allocation", "recipient": "system:mint", "amount": 1}, "recipient"),
        ({**TEXT, "type": "fund_allocation", "recipient": "0x12", "amount": 1}, "recipient"),
        ({**TEXT, "type": "fund_allocation", "recipient": "bob", "amount": 0.000000001}, "amount"),
        ({**TEXT, "type": "fund_allocation", "recipient": "bob", "amount": -1}, "amount"),
    ],
)
def test_what_cannot_be_sent(api: Market, clock: ManualClock, body: Any, field: str) -> None:
    (alice,) = grown(api, clock, "alice")
    error = expect_error(api.post("/v1/governance/proposals", alice, json=body), 400, "INVALID_REQUEST")
    assert error["error"]["details"]["fields"][0]["field"] == field


@sqlite_only
def test_what_is_not_there(api: Market, clock: ManualClock) -> None:
    (alice,) = grown(api, clock, "alice")
    expect_error(api.get(f"/v1/governance/proposals/{NOTHING}"), 404, "PROPOSAL_NOT_FOUND")
    expect_error(api.get(f"/v1/governance/proposals/{NOTHING}/votes"), 404, "PROPOSAL_NOT_FOUND")
    expect_error(voted(api, alice, {"proposal_id": NOTHING}), 404, "PROPOSAL_NOT_FOUND")
    expect_error(api.get("/v1/governance/voting-power/nobody"), 404, "ACCOUNT_NOT_FOUND")
    expect_error(api.get("/v1/governance/voting-power/0x12"), 404, "ACCOUNT_NOT_FOUND")
    expect_error(api.get("/v1/governance/delegations/system:mint"), 404, "ACCOUNT_NOT_FOUND")
    expect_error(api.get("/v1/governance/proposals?status=sleeping"), 400, "INVALID_REQUEST")
    refused = api.post("/v1/governance/proposals", alice, json={**FEE, "parameter": "gravity"})
    assert "gravity" in expect_error(refused, 400, "INVALID_REQUEST")["detail"]
    refused = api.post("/v1/governance/proposals", alice, json={**FEE, "value": 5_001})
    assert "5000" in expect_error(refused, 400, "INVALID_REQUEST")["detail"]
    expect_error(
        api.post("/v1/governance/proposals", api.key("client", "new"), json=TEXT), 403, "POWER_TOO_SMALL"
    )
    for status in ("pending", "active", "passed", "rejected", "expired", "cancelled", "queued", "executed"):
        assert api.get(f"/v1/governance/proposals?status={status}").json()["proposals"] == []


@sqlite_only
def test_delegations_are_bounded(api: Market, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    from aitbc.coordinator.governance import delegations

    monkeypatch.setattr(delegations, "MAX_DELEGATORS", 2)
    alice, bob, carol, _dave = grown(api, clock, "alice", "bob", "carol", "dave")

    def to(who: Headers, name: str | None) -> Any:
        return api.post("/v1/governance/delegate", who, json={"delegate": name})

    expect_error(to(alice, None), 409, "DELEGATION_REFUSED")
    expect_error(to(alice, "alice"), 409, "DELEGATION_REFUSED")
    expect_error(to(alice, "nobody"), 404, "ACCOUNT_NOT_FOUND")
    assert to(alice, "dave").json()["delegate"] == to(bob, "dave").json()["delegate"] == "dave"
    expect_error(to(carol, "dave"), 409, "DELEGATION_REFUSED")
    assert to(bob, None).json() == {"delegator": "bob", "delegate": None, "since": None}
    assert to(carol, "dave").status_code == 200
    assert to(carol, "dave").json()["since"] == "2026-01-09T00:00:00.000Z", "it is so already"
    for number in range(delegations.MAX_CHANGES - 1):
        assert to(carol, "alice" if number % 2 else None).status_code == 200
    expect_error(to(carol, "bob"), 409, "DELEGATION_REFUSED")
    clock.advance(86_400)
    assert to(carol, "bob").status_code == 200
