"""One miner id, several machines: who may register, who is told, and who is given what runs already."""

import base64
from typing import Any

import pytest

from aitbc.core.clock import ManualClock
from aitbc.core.signing import PrivateKey
from tests.coordinator.api.support import Headers, Market, expect_error

KEYS = [base64.b64encode(PrivateKey.from_seed(bytes([n]) * 32).public_bytes).decode() for n in (1, 2)]


@pytest.fixture
def owner(api: Market) -> Headers:
    return api.key("miner", "owner")


def register(api: Market, headers: Headers, **fields: Any) -> Any:
    return api.post(
        "/v1/miner/register", headers, json={"miner_id": "rig", "models": [{"name": "m"}], **fields}
    )


def session(api: Market, headers: Headers, **fields: Any) -> str:
    answer = register(api, headers, **fields)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["session_id"])


def take(api: Market, headers: Headers, **query: Any) -> list[str]:
    answer = api.get("/v1/miner/jobs", headers, params={"miner_id": "rig", **query})
    assert answer.status_code == 200, answer.text
    return [job["job_id"] for job in answer.json()["jobs"]]


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ({"public_key": KEYS[1]}, "KEY_DIFFERS"),
        ({"public_key": KEYS[1], "installation_id": "a"}, "KEY_DIFFERS"),
        ({}, "KEY_DIFFERS"),
        ({"public_key": KEYS[0], "installation_id": "b"}, "MACHINE_DIFFERS"),
    ],
)
def test_a_second_machine_is_refused_and_gets_nothing_of_the_first(
    api: Market, owner: Headers, second: dict[str, str], reason: str
) -> None:
    first = session(api, owner, public_key=KEYS[0], installation_id="a")
    job_id = api.job(api.key("client"), model="m")
    assert take(api, owner, session_id=first) == [job_id]
    body = expect_error(register(api, owner, **second), 409, "MINER_ID_IN_USE")
    details = body["error"]["details"]
    assert details["reason"] == reason and 0 < details["lapses_in_s"] <= 90
    assert take(api, owner) == [], "a miner that signs is known by its session"
    assert take(api, owner, session_id=first) == [job_id], "asked again it gets what it holds"


def test_it_may_register_once_the_first_has_left_or_lapsed(api: Market, owner: Headers) -> None:
    first = session(api, owner, public_key=KEYS[0], installation_id="a")
    left = api.post("/v1/miner/deregister", owner, json={"miner_id": "rig", "session_id": first})
    assert left.status_code == 200
    second = session(api, owner, public_key=KEYS[1], installation_id="b")
    assert second != first
    gone = api.post("/v1/miner/deregister", owner, json={"miner_id": "rig", "session_id": first})
    expect_error(gone, 409, "MINER_SESSION_REPLACED")
    expect_error(register(api, owner, public_key=KEYS[0], session_id=first), 409, "MINER_SESSION_REPLACED")


def test_a_takeover_is_told_to_the_first_whose_jobs_are_tried_again(
    api: Market, owner: Headers, clock: ManualClock
) -> None:
    first = session(api, owner, public_key=KEYS[0], installation_id="a")
    job_id = api.job(api.key("client"), model="m")
    assert take(api, owner, session_id=first) == [job_id]
    second = session(api, owner, public_key=KEYS[0], installation_id="b", takeover=True)
    polled = api.get("/v1/miner/jobs", owner, params={"miner_id": "rig", "session_id": first})
    expect_error(polled, 409, "MINER_SESSION_REPLACED")
    beat = {"miner_id": "rig", "session_id": first, "jobs": [job_id]}
    expect_error(api.post("/v1/miner/heartbeat", owner, json=beat), 409, "MINER_SESSION_REPLACED")
    assert take(api, owner, session_id=second) == [], "the next try waits"
    api.wait(clock, 5)
    assert take(api, owner, session_id=second) == [job_id], "it was put back, and is another lease"
    late = {"miner_id": "rig", "result": "x", "session_id": first}
    expect_error(api.post(f"/v1/jobs/{job_id}/complete", owner, json=late), 409, "LEASE_LOST")


def test_a_restart_on_the_same_machine_goes_on(api: Market, owner: Headers) -> None:
    first = session(api, owner, public_key=KEYS[0], installation_id="a")
    job_id = api.job(api.key("client"), model="m")
    assert take(api, owner, session_id=first) == [job_id]
    again = session(api, owner, public_key=KEYS[0], installation_id="a")
    assert take(api, owner, session_id=again) == [job_id]


def test_a_copied_key_without_an_installation_is_noticed(api: Market, owner: Headers) -> None:
    """A program that does not say where it runs: the older session is told, and keeps its leases to itself."""
    first = session(api, owner, public_key=KEYS[0])
    job_id = api.job(api.key("client"), model="m")
    assert take(api, owner, session_id=first) == [job_id]
    second = session(api, owner, public_key=KEYS[0])
    assert take(api, owner, session_id=second) == []
    beat = {"miner_id": "rig", "session_id": second}
    assert api.post("/v1/miner/heartbeat", owner, json=beat).json()["leases"] == []
    beat = {"miner_id": "rig", "session_id": first}
    expect_error(api.post("/v1/miner/heartbeat", owner, json=beat), 409, "MINER_SESSION_REPLACED")


def test_a_user_without_key_and_session_registers_and_asks_as_ever(api: Market, owner: Headers) -> None:
    for price in (1, 2):
        answer = register(api, owner, models=[{"name": "m", "price_per_1k": price}])
        assert answer.status_code == 200 and answer.json()["models"][0]["price_per_1k"] == price
    job_id = api.job(api.key("client"), model="m", constraints={"max_price": 5})
    assert take(api, owner) == take(api, owner) == [job_id]
    assert register(api, owner).status_code == 200
    assert take(api, owner) == [job_id]


def test_a_miner_s_models_may_change_within_its_session(api: Market, owner: Headers) -> None:
    first = session(api, owner, public_key=KEYS[0], installation_id="a")
    renamed = session(api, owner, public_key=KEYS[0], installation_id="b", session_id=first)
    assert renamed == first


def test_the_lease_says_how_long_the_run_may_take(api: Market, owner: Headers) -> None:
    session(api, owner)
    made = api.post(
        "/v1/jobs", api.key("client"), json={"prompt": "x", "model": "m", "max_run_s": 90, "ttl_s": 5}
    )
    assert made.json()["max_run_s"] == 90 and made.json()["run_ends_at"] is None
    leased = api.get("/v1/miner/jobs", owner, params={"miner_id": "rig"}).json()["jobs"][0]
    assert leased["max_run_s"] == 90 and 80 < leased["run_left_s"] <= 90
    role = {"job_type": "llm_inference", "parameters": {"prompt": "x"}, "max_run_s": 86_401}
    expect_error(api.post("/v1/client/jobs", api.key("client"), json=role), 400, "INVALID_REQUEST")
