"""Reviews and prices over HTTP: who may call what, what is refused with which code, and what everybody sees."""

from typing import Any

import pytest

from aitbc.core.clock import ManualClock
from tests.coordinator.api.support import Headers, Market, expect_error
from tests.coordinator.api.test_gpus import Scene
from tests.coordinator.api.test_users import session
from tests.coordinator.users.support import EvmWallet


@pytest.fixture
def scene(api: Market, clock: ManualClock) -> Scene:
    return Scene(api, clock)


def path(scene: Scene) -> str:
    return f"/v1/marketplace/gpu/{scene.gpu_id}/reviews"


def say(scene: Scene, who: Headers, rating: Any = 5, key: str = "", **fields: Any) -> Any:
    headers = {**who, **({"Idempotency-Key": key} if key else {})}
    return scene.api.post(path(scene), headers, json={"rating": rating, **fields})


def used(scene: Scene, who: Headers) -> str:
    made = scene.booked(who=who)
    scene.passes(60)
    assert scene.release(who).json()["status"] == "completed"
    return str(made["booking_id"])


def test_reviews_as_everybody(scene: Scene) -> None:
    booking_id = used(scene, scene.booker)
    expect_error(say(scene, {}), 401, "UNAUTHORIZED")
    expect_error(say(scene, scene.other_client), 403, "REVIEW_NEEDS_BOOKING")
    expect_error(say(scene, scene.other_client, booking_id=booking_id), 404, "BOOKING_NOT_FOUND")
    expect_error(say(scene, scene.owners_client), 403, "REVIEW_NEEDS_BOOKING")
    for who in (scene.owner, scene.other_miner, scene.admin):
        expect_error(say(scene, who), 403, "FORBIDDEN")
    made = say(scene, scene.booker, 4, text="quick \x1b[31m")
    assert made.status_code == 201
    shown = made.json()
    assert (shown["booking_id"], shown["author"], shown["rating"]) == (booking_id, "alice", 4)
    assert shown["text"] == "quick \N{REPLACEMENT CHARACTER}[31m"
    for who in ({}, scene.booker, scene.owner, scene.other_client, scene.admin):
        page = scene.api.get(path(scene), who).json()
        assert page["rating"] == {"average": 3.583, "count": 1}
        assert (page["reviews"], page["next_cursor"]) == ([shown], None)
    details = scene.api.get(f"/v1/marketplace/gpu/{scene.gpu_id}").json()
    assert details["rating"] == {"average": 3.583, "count": 1}
    scene.check()


def test_a_review_is_posted_anew_for_a_week(scene: Scene) -> None:
    booking_id = used(scene, scene.booker)
    first = say(scene, scene.booker, 2, key="one").json()
    again = say(scene, scene.booker, 2, key="one")
    assert (again.json(), again.headers["Idempotency-Replayed"]) == (first, "true")
    changed = say(scene, scene.booker, 5, booking_id=booking_id).json()
    assert (changed["review_id"], changed["rating"]) == (first["review_id"], 5)
    scene.clock.advance(7 * 86_400)
    body = expect_error(say(scene, scene.booker, 1), 409, "REVIEW_FINAL")
    assert body["error"]["details"]["until"] == first["editable_until"]
    assert scene.api.get(path(scene)).json()["rating"]["count"] == 1
    scene.check()


def test_what_may_not_be_reviewed(scene: Scene) -> None:
    made = scene.booked()
    booking_id = made["booking_id"]
    held = {"X-Api-Key": made["access"]["api_key"]}
    expect_error(say(scene, held), 403, "FORBIDDEN")
    expect_error(say(scene, scene.booker, booking_id=booking_id), 409, "BOOKING_NOT_SETTLED")
    scene.release()
    expect_error(say(scene, scene.booker, booking_id=booking_id), 409, "BOOKING_UNUSED")
    for rating in (0, 6, -1, 4.5, "5", None, True, 1e300, []):
        expect_error(say(scene, scene.booker, rating), 400, "INVALID_REQUEST")
    for text in ("x" * 2001, 5, None):
        expect_error(say(scene, scene.booker, text=text), 400, "INVALID_REQUEST")
    nowhere = "/v1/marketplace/gpu/none/reviews"
    expect_error(scene.api.post(nowhere, scene.booker, json={"rating": 5}), 404, "GPU_NOT_FOUND")
    expect_error(scene.api.get(nowhere), 404, "GPU_NOT_FOUND")
    assert scene.api.get(path(scene)).json()["reviews"] == []


def test_reviews_page_by_page(scene: Scene) -> None:
    said = []
    for rating in (1, 2, 3, 4, 5):
        booking_id = used(scene, scene.booker)
        said.append(say(scene, scene.booker, rating, booking_id=booking_id).json()["review_id"])
    seen, cursor = [], None
    while True:
        params = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = scene.api.get(path(scene), params=params).json()
        seen += [review["review_id"] for review in page["reviews"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == said[::-1]
    for query in ({"limit": 0}, {"limit": 101}, {"cursor": "x" * 129}):
        expect_error(scene.api.get(path(scene), params=query), 400, "INVALID_REQUEST")


def test_a_wallet_users_session_reviews(scene: Scene) -> None:
    user = session(scene.api, EvmWallet(7))
    used(scene, user)
    assert say(scene, user, 3).status_code == 201


def test_prices_of_a_model(scene: Scene) -> None:
    scene.api.miner(scene.owner, "rig-2")
    scene.register(miner_id="rig-2", price_per_hour=1)
    scene.register(scene.owner, miner_id=None, price_per_hour=100)
    used(scene, scene.booker)
    scene.booked()
    for who in ({}, scene.booker, scene.owner, scene.admin):
        found = scene.api.get("/v1/marketplace/pricing/rtx%204090", who)
        assert found.status_code == 200
    prices = found.json()
    names = ("min_price", "max_price", "median_price", "average_price", "available", "total")
    assert [prices[name] for name in names] == [0.6, 1, 0.8, 0.8, 1, 3]
    assert prices["utilisation"] == 0.5  # one of two, for the minute since they were listed
    assert prices["suggested_price"] == 0.8
    for model in ("%00", "x" * 300):
        expect_error(scene.api.get(f"/v1/marketplace/pricing/{model}"), 400, "INVALID_REQUEST")
    for model in ("H100", "--"):
        expect_error(scene.api.get(f"/v1/marketplace/pricing/{model}"), 404, "GPU_MODEL_NOT_FOUND")


def test_a_miners_reputation_as_everybody(scene: Scene) -> None:
    job_id = scene.api.job(scene.booker)
    scene.api.claim(scene.owner, job_id)
    assert scene.api.complete(scene.owner, job_id).status_code == 200
    used(scene, scene.booker)
    callers = ({}, scene.booker, scene.owner, scene.other_miner, scene.admin)
    answers = [scene.api.get("/v1/miners/m1", who) for who in callers]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    shown = answers[0].json()
    found = shown["reputation"]
    assert (shown["miner_id"], found["completed"], found["failed"], found["failures"]) == ("m1", 1, 0, {})
    assert (found["samples"], found["hours_promised"], found["hours_kept"]) == (1, 0.017, 0.015)
    parts = found["parts"].values()
    assert abs(sum(part["weight"] * part["value"] for part in parts) - found["score"]) < 0.0002
    assert abs(sum(part["weight"] for part in parts) - 1) < 1e-9
    assert found["parts"]["answers"]["value"] == 0.9111
    assert "mill" not in answers[0].text
    expect_error(scene.api.get("/v1/miners/none"), 404, "MINER_NOT_FOUND")
