"""The GPU market over HTTP: who may call what, what is refused with which code, and the key that a booking gives."""

from typing import Any

import pytest
from sqlalchemy import select

from aitbc.audit.database import audit
from aitbc.coordinator.flows.acts import market as clockwork
from aitbc.coordinator.schema.tables import metadata
from aitbc.core.clock import ManualClock, rfc3339
from tests.coordinator.api.support import Headers, Market, expect_error
from tests.coordinator.api.test_users import session
from tests.coordinator.users.support import EvmWallet

Json = dict[str, Any]
NOBODY: Headers = {}
GPU = {
    "miner_id": "m1",
    "model": "NVIDIA GeForce RTX 4090",
    "memory_gb": 24,
    "price_per_hour": 0.6,
    "region": "eu",
    "cuda_version": "12.4",
    "capabilities": ["llm"],
    "description": "a box",
}
OF_GPUS = [
    ("POST", "/v1/marketplace/gpu/register"),
    ("POST", "/v1/marketplace/gpu/{gpu_id}/book"),
    ("POST", "/v1/marketplace/gpu/{gpu_id}/release"),
    ("POST", "/v1/marketplace/gpu/{gpu_id}/reviews"),
    ("GET", "/v1/marketplace/orders"),
    ("GET", "/v1/marketplace/orders/{booking_id}"),
    ("POST", "/v1/marketplace/orders/{booking_id}/access"),
]
"""The operations whose callers are tried out here rather than with all others."""


class Scene:
    """An owner with a GPU, a booker, an admin and strangers around one application."""

    def __init__(self, api: Market, clock: ManualClock) -> None:
        self.api, self.clock = api, clock
        self.booker, self.owner = api.key("client", "alice"), api.key("miner", "mill")
        self.owners_client = api.key("client", "mill")
        self.admin = api.key("admin", "root")
        self.other_client, self.other_miner = api.key("client", "carol"), api.key("miner", "other")
        api.miner(self.owner)
        api.miner(self.other_miner, "m2")
        self.round()
        self.gpu_id = self.register()["gpu_id"]

    def register(self, who: Headers | None = None, status: int = 201, **fields: Any) -> Json:
        answer = self.api.post("/v1/marketplace/gpu/register", who or self.owner, json={**GPU, **fields})
        assert answer.status_code == status, answer.text
        return dict(answer.json())

    def book(self, who: Headers | None = None, **fields: Any) -> Any:
        key = fields.pop("key", None)
        body = {"duration_hours": 1, **fields}
        headers = {**(self.booker if who is None else who), **({"Idempotency-Key": key} if key else {})}
        return self.api.post(f"/v1/marketplace/gpu/{self.gpu_id}/book", headers, json=body)

    def booked(self, **fields: Any) -> Json:
        answer = self.book(**fields)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def release(self, who: Headers | None = None, **query: Any) -> Any:
        headers = self.booker if who is None else who
        return self.api.post(f"/v1/marketplace/gpu/{self.gpu_id}/release", headers, params=query)

    def orders(self, who: Headers, **query: Any) -> list[Json]:
        answer = self.api.get("/v1/marketplace/orders", who, params=query)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["orders"])

    def round(self) -> None:
        ctx = self.api.runtime.context
        self.api.write(clockwork.count, ctx)
        self.api.write(clockwork.end_due, ctx)
        self.api.write(clockwork.begin_due)
        self.api.write(clockwork.clear_jobs)

    def passes(self, seconds: float) -> None:
        """Time passes, and the owner's miner is heard of."""
        for _ in range(round(seconds / 5)):
            self.clock.advance(5)
            self.api.post("/v1/miner/heartbeat", self.owner, json={"miner_id": "m1"})
            self.round()

    def check(self) -> None:
        report = self.api.run(self.api.runtime.db.read(audit, "ait-devnet"))
        assert report.ok, report.problems


@pytest.fixture
def scene(api: Market, clock: ManualClock) -> Scene:
    return Scene(api, clock)


def test_a_booking_from_its_quote_to_its_order(scene: Scene) -> None:
    quote = scene.book(dry_run=True, duration_hours=1.5)
    assert quote.status_code == 200
    assert (quote.json()["total_price"], quote.json()["access"], quote.json()["booking_id"]) == (
        0.9,
        None,
        "",
    )
    assert scene.orders(scene.booker) == []
    made = scene.booked(duration_hours=1.5)
    assert (made["total_price"], made["end_time"]) == (0.9, quote.json()["end_time"])
    assert scene.api.get("/v1/account", scene.booker).json()["held"] == 0.9
    details = scene.api.get(f"/v1/marketplace/gpu/{scene.gpu_id}").json()
    assert (details["status"], details["available"]) == ("booked", False)
    assert details["booked"] == [{"from": made["start_time"], "until": made["end_time"]}]
    scene.passes(600)
    (running,) = scene.orders(scene.booker, status="active")
    assert (running["detail"], running["used_seconds"], running["price"]) == ("running", 595, 0.1)
    scene.clock.advance(60)
    assert scene.orders(scene.booker)[0]["detail"] == "paused"
    ended = scene.release().json()
    assert (ended["status"], ended["detail"], ended["ended_by"]) == ("completed", "released", "booker")
    assert (ended["price"], ended["refunded"], ended["fee"]) == (0.1, 0.8, 0.0025)
    assert scene.orders(scene.owner, role="owner") == [ended]
    assert scene.api.get(f"/v1/marketplace/orders/{made['booking_id']}", scene.owner).json() == ended
    scene.check()


def test_every_operation_as_everybody(scene: Scene) -> None:
    booking_id = scene.booked()["booking_id"]
    one, access = f"/v1/marketplace/orders/{booking_id}", f"/v1/marketplace/orders/{booking_id}/access"
    for method, path in OF_GPUS:
        where = path.format(gpu_id=scene.gpu_id, booking_id=booking_id)
        body = {"duration_hours": 1, **GPU} if method == "POST" else None
        expect_error(scene.api.call(method, where, NOBODY, json=body), 401, "UNAUTHORIZED")
    for who in (scene.booker, scene.admin):  # a listing is a miner's, or a wallet user's
        expect_error(scene.api.post("/v1/marketplace/gpu/register", who, json=GPU), 403, "FORBIDDEN")
    expect_error(
        scene.api.post("/v1/marketplace/gpu/register", scene.other_miner, json=GPU), 403, "FORBIDDEN"
    )
    theirs = {**GPU, "miner_id": "m2", "gpu_id": scene.gpu_id}
    expect_error(
        scene.api.post("/v1/marketplace/gpu/register", scene.other_miner, json=theirs), 404, "GPU_NOT_FOUND"
    )
    for who in (scene.owner, scene.admin):
        expect_error(scene.book(who), 403, "FORBIDDEN")
    expect_error(scene.book(scene.owners_client), 409, "OWN_GPU")
    expect_error(scene.book(scene.other_client), 409, "GPU_BOOKED")
    for who in (scene.other_client, scene.other_miner):
        expect_error(scene.release(who), 403, "FORBIDDEN")
        expect_error(scene.api.get(one, who), 404, "BOOKING_NOT_FOUND")
        assert scene.orders(who) == scene.orders(who, role="owner") == []
    for who in (scene.booker, scene.owner, scene.admin):
        assert scene.api.get(one, who).json()["booking_id"] == booking_id
    assert [order["booking_id"] for order in scene.orders(scene.admin)] == [booking_id]
    expect_error(scene.api.post(access, scene.other_client), 404, "BOOKING_NOT_FOUND")
    for who in (scene.owner, scene.admin):
        expect_error(scene.api.post(access, who), 403, "FORBIDDEN")
    assert scene.api.post(access, scene.booker).status_code == 201
    assert scene.release(scene.admin).json()["ended_by"] == "admin"
    expect_error(scene.api.post(access, scene.booker), 409, "BOOKING_ENDED")
    scene.check()


def test_what_cannot_be_released(scene: Scene) -> None:
    booking_id = scene.booked()["booking_id"]
    expect_error(scene.release(booking_id="none"), 404, "BOOKING_NOT_FOUND")
    assert scene.release(booking_id=booking_id).status_code == 200
    expect_error(scene.release(booking_id=booking_id), 409, "BOOKING_ENDED")
    expect_error(scene.release(), 409, "BOOKING_ENDED")
    expect_error(scene.release(scene.owner), 409, "GPU_NOT_BOOKED")
    expect_error(scene.release(scene.other_client), 403, "FORBIDDEN")


def test_the_key_of_a_booking_submits_jobs_and_nothing_else(scene: Scene, api: Market) -> None:
    made = scene.booked()
    held = {"X-Api-Key": made["access"]["api_key"]}
    job_id = api.job(held)
    plain = api.job(scene.booker)
    assert [job["job_id"] for job in api.get("/v1/jobs", held).json()] == [job_id]
    expect_error(api.get(f"/v1/jobs/{plain}", held), 404, "JOB_NOT_FOUND")
    for method, path, body in (
        ("GET", "/v1/account", None),
        ("GET", "/v1/statements", None),
        ("GET", "/v1/marketplace/orders", None),
        ("GET", f"/v1/jobs/{job_id}/payment", None),
        ("POST", f"/v1/marketplace/gpu/{scene.gpu_id}/book", {"duration_hours": 1}),
        ("POST", f"/v1/marketplace/gpu/{scene.gpu_id}/release", {}),
        ("POST", "/v1/payments", {"job_id": job_id}),
    ):
        expect_error(api.call(method, path, held, json=body), 403, "FORBIDDEN")
    expect_error(
        api.post("/v1/jobs", held, json={"prompt": "x", "payment": "manual"}), 400, "INVALID_REQUEST"
    )
    api.claim(scene.owner, job_id)
    receipt = api.complete(scene.owner, job_id).json()
    assert (receipt["payment"], receipt["price"]) == ("booking", 0)
    waiting = api.job(held)
    scene.release()
    scene.round()
    expect_error(api.get("/v1/jobs", held), 401, "UNAUTHORIZED")
    assert api.get(f"/v1/jobs/{waiting}", scene.booker).json()["cause"] == "BOOKING_ENDED"
    scene.check()


def test_the_key_of_a_booking_repeats_no_answer_of_its_account(scene: Scene, api: Market) -> None:
    held = {"X-Api-Key": scene.booked()["access"]["api_key"]}
    once, body = {"Idempotency-Key": "mine"}, {"prompt": "x"}
    own = api.post("/v1/jobs", {**scene.booker, **once}, json=body)
    other = api.post("/v1/jobs", {**held, **once}, json=body)
    again = api.post("/v1/jobs", {**held, **once}, json=body)
    assert own.json()["job_id"] != other.json()["job_id"] == again.json()["job_id"]
    assert "Idempotency-Replayed" not in other.headers


def test_the_key_is_shown_once(scene: Scene) -> None:
    first, again = scene.book(key="once"), scene.book(key="once")
    assert again.headers["Idempotency-Replayed"] == "true"
    made, repeated = first.json(), again.json()
    assert (repeated["booking_id"], repeated["access"]["api_key"]) == (made["booking_id"], None)
    kept = scene.api.run(scene.api.runtime.db.read(_everything_kept))
    assert made["access"]["api_key"] not in kept
    fresh = scene.api.post(f"/v1/marketplace/orders/{made['booking_id']}/access", scene.booker).json()
    expect_error(scene.api.get("/v1/jobs", {"X-Api-Key": made["access"]["api_key"]}), 401, "UNAUTHORIZED")
    assert scene.api.get("/v1/jobs", {"X-Api-Key": fresh["api_key"]}).status_code == 200


def _everything_kept(tx: Any) -> str:
    return "".join(str(row) for table in metadata.tables.values() for row in tx.query(select(table)))


BAD_HOURS = (0, -1, 0.1, 721, 1e9, "1", None, True, 0.000000001, 1.123456789, [], 1e308)
BAD_STARTS = ("yesterday", 5, "2000-01-01T00:00:00Z", "9999-01-01T00:00:00Z")
BAD_BOOKINGS: list[Json] = [
    *({"duration_hours": value} for value in BAD_HOURS),
    *({"duration_hours": 1, "start_time": value} for value in BAD_STARTS),
    *({"duration_hours": 1, "max_price": value} for value in (-1, 0.000000001, "1")),
]


def test_bad_bookings(scene: Scene) -> None:
    for fields in [
        *BAD_BOOKINGS,
        {"duration_hours": 1, "max_price": -1},
        {"duration_hours": 1, "max_price": 0.000000001},
    ]:
        body = expect_error(scene.book(**fields), 400, "INVALID_REQUEST")
        assert body["error"]["details"]["fields"][0]["field"] in fields, fields
    now = scene.clock.now_ms()
    expect_error(scene.book(start_time=rfc3339(now - 61_000)), 400, "INVALID_REQUEST")
    expect_error(scene.book(max_price=0.59), 409, "RENT_ABOVE_CAP")
    poor = scene.api.key("client", "poor", grant_units=1)
    expect_error(scene.book(poor), 402, "INSUFFICIENT_FUNDS")
    limited = scene.api.key("client", "alice", limit_units=1, limit_period="day")
    expect_error(scene.book(limited), 402, "KEY_LIMIT_EXCEEDED")
    nowhere = scene.api.post("/v1/marketplace/gpu/none/book", scene.booker, json={"duration_hours": 1})
    expect_error(nowhere, 404, "GPU_NOT_FOUND")
    assert scene.orders(scene.booker) == []
    scene.check()


BAD_GPUS: list[Json] = [
    *({"price_per_hour": value} for value in (0, -1, "1", None, 0.000000001, 1e15, 67_108_865, True)),
    *({"memory_gb": value} for value in (0, -1, "24", 1e9, None)),
    *({"count": value} for value in (0, -1, 1.5, 1025)),
    *({"model": value} for value in ("", "--", "x" * 129, 5)),
    {"region": "x" * 65},
    {"cuda_version": "x" * 33},
    {"description": "x" * 2001},
    {"capabilities": ["x"] * 33},
    {"capabilities": ["x" * 65]},
    {"miner_id": "no such/name"},
]


@pytest.mark.parametrize("fields", BAD_GPUS, ids=str)
def test_bad_listings(scene: Scene, fields: Json) -> None:
    body = scene.register(status=400, **fields)
    assert body["error"]["details"]["fields"][0]["field"].split(".")[0] in fields


def test_listings(scene: Scene) -> None:
    again = scene.register(price_per_hour=0.7)
    assert (again["gpu_id"], again["price_per_hour"], again["status"]) == (scene.gpu_id, 0.7, "available")
    assert scene.register(miner_id=None)["status"] == "offline"
    scene.register(miner_id="nobody", status=404)
    for n in range(5):
        scene.api.miner(scene.owner, f"rig-{n}")
        scene.register(
            miner_id=f"rig-{n}", model="H100 SXM5", memory_gb=80, price_per_hour=1 + n / 10, region="us"
        )
    found = scene.api.get(
        "/v1/marketplace/gpu/list", params={"model": "nvidia h100", "sort": "-price"}
    ).json()
    assert [gpu["price_per_hour"] for gpu in found["gpus"]] == [1.4, 1.3, 1.2, 1.1, 1]
    queries: dict[str, tuple[Json, int]] = {
        "all": ({}, 7),
        "available": ({"available": True}, 6),
        "not": ({"available": False}, 1),
        "price": ({"price": 1.1}, 4),
        "between": ({"min_price": 0.7, "max_price": 1}, 2),
        "region": ({"region": "us"}, 5),
        "memory": ({"memory": 80}, 5),
        "rating": ({"rating": 3.6}, 0),
        "reliability": ({"reliability": 0.9}, 7),
        "owner": ({"owner": "mill"}, 7),
        "model": ({"model": "rtx 4090"}, 2),
    }
    for name, (query, count) in queries.items():
        page = scene.api.get("/v1/marketplace/gpu/list", params=query).json()
        assert len(page["gpus"]) == count, name
    for sort in (
        "price",
        "-price",
        "memory",
        "-memory",
        "rating",
        "-rating",
        "reliability",
        "-reliability",
        "newest",
    ):
        seen, cursor = [], None
        while True:
            params = {"sort": sort, "limit": 2, **({"cursor": cursor} if cursor else {})}
            page = scene.api.get("/v1/marketplace/gpu/list", params=params).json()
            seen += [gpu["gpu_id"] for gpu in page["gpus"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert len(seen) == len(set(seen)) == 7, sort
    for query in (
        {"sort": "colour"},
        {"limit": 0},
        {"limit": 101},
        {"cursor": "x"},
        {"price": "-1"},
        {"rating": 6},
    ):
        expect_error(scene.api.get("/v1/marketplace/gpu/list", params=query), 400, "INVALID_REQUEST")
    expect_error(scene.api.get("/v1/marketplace/gpu/none"), 404, "GPU_NOT_FOUND")


def test_orders_page_by_page(scene: Scene) -> None:
    for _ in range(5):
        scene.booked()
        scene.release()
    scene.booked()
    pages, cursor = [], None
    while True:
        params = {"limit": 4, **({"cursor": cursor} if cursor else {})}
        page = scene.api.get("/v1/marketplace/orders", scene.booker, params=params).json()
        pages.append([order["status"] for order in page["orders"]])
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert pages == [["active", "cancelled", "cancelled", "cancelled"], ["cancelled", "cancelled"]]
    assert len(scene.orders(scene.booker, status="cancelled")) == 5
    assert len(scene.orders(scene.booker, gpu_id="none")) == 0


def test_a_wallet_users_session_books_and_lists(scene: Scene) -> None:
    user = session(scene.api, EvmWallet(7))
    assert scene.book(user).status_code == 201
    listed = scene.register(user, miner_id=None)
    assert listed["status"] == "offline"
