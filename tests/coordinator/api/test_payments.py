"""Payments: who may steer them, every wrong move's code, and that money moves once."""

from concurrent.futures import wait
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter

from aitbc.audit.database import audit
from aitbc.coordinator.api.schemas import payments as schemas
from aitbc.coordinator.process.loops import expiry, releasing, sealing
from aitbc.core.clock import ManualClock, parse_rfc3339
from aitbc.core.log import leaf, merkle
from aitbc.core.log.checkpoint import parse_checkpoint
from aitbc.core.log.tlog_proof import parse_proof
from aitbc.core.money import parse_ait
from tests.coordinator.api.support import Headers, Market, expect_error

Json = dict[str, Any]
DAY_S = 86_400
NOBODY: Headers = {}
OF_PAYMENTS = [
    ("POST", "/v1/payments"),
    ("GET", "/v1/payments/{payment_id}"),
    ("POST", "/v1/payments/{payment_id}/release"),
    ("POST", "/v1/payments/{payment_id}/refund"),
    ("GET", "/v1/payments/{payment_id}/receipt"),
]
"""The operations whose callers are tried out here rather than with all others."""


class Scene:
    """A payer, a payee, an admin and strangers around one application."""

    def __init__(self, api: Market) -> None:
        self.api = api
        self.payer, self.payee = api.key("client", "alice"), api.key("miner", "mill")
        self.admin = api.key("admin", "root")
        self.strangers = [api.key("client", "carol"), api.key("miner", "other")]
        api.miner(self.payee, prices={"llama3.2": 0.5})

    def job(self, **fields: Any) -> str:
        return self.api.job(self.payer, **{"payment": "manual", "constraints": {"max_price": 1}, **fields})

    def payment(self, job_id: str, who: Headers | None = None) -> Json:
        return shown(self.api.get(f"/v1/jobs/{job_id}/payment", who or self.payer))

    def escrow(self, job_id: str, who: Headers | None = None, **headers: str) -> httpx.Response:
        return self.api.post("/v1/payments", {**(who or self.payer), **headers}, json={"job_id": job_id})

    def escrowed(self, **fields: Any) -> tuple[str, str]:
        job_id = self.job(**fields)
        return job_id, str(shown(self.escrow(job_id), 201)["payment_id"])

    def completed(self, **fields: Any) -> tuple[str, str]:
        job_id, payment_id = self.escrowed(**fields)
        self.answer(job_id)
        return job_id, payment_id

    def answer(self, job_id: str) -> None:
        self.api.claim(self.payee, job_id)
        assert self.api.complete(self.payee, job_id).status_code == 200

    def release(self, payment_id: str, who: Headers | None = None) -> httpx.Response:
        return self.api.post(f"/v1/payments/{payment_id}/release", self.payer if who is None else who)

    def refund(self, payment_id: str, who: Headers | None = None, **body: Any) -> httpx.Response:
        who = self.payee if who is None else who
        return self.api.post(f"/v1/payments/{payment_id}/refund", who, json=body)

    def cancel(self, job_id: str) -> httpx.Response:
        return self.api.post(f"/v1/jobs/{job_id}/cancel", self.payer)

    def money(self, who: Headers | None = None) -> tuple[int, int]:
        """(balance, held) in base units."""
        account = self.api.get("/v1/account", who or self.payer).json()
        return parse_ait(account["balance"]), parse_ait(account["held"])

    def check(self) -> None:
        report = self.api.run(self.api.runtime.db.read(audit, "ait-devnet"))
        assert report.ok, report.problems


@pytest.fixture
def scene(api: Market) -> Scene:
    return Scene(api)


def shown(answer: httpx.Response, status: int = 200) -> Json:
    """A payment, held to its documented form."""
    assert answer.status_code == status, answer.text
    TypeAdapter(schemas.Payment).validate_json(answer.content)
    return dict(answer.json())


def units(payment: Json, *names: str) -> list[int]:
    return [parse_ait(payment[name]) for name in names]


GRANT = 1000 * 10**8


def test_a_manual_payment_of_a_cancelled_run_shows_what_the_run_cost(
    scene: Scene, clock: ManualClock
) -> None:
    job_id, payment_id = scene.escrowed()
    scene.api.claim(scene.payee, job_id)
    held = scene.money()[1]
    scene.api.wait(clock, 10)
    assert scene.cancel(job_id).status_code == 200
    for who in (scene.payer, scene.payee, scene.admin):
        payment = scene.payment(job_id, who)
        assert (payment["status"], payment["mode"], payment["payee"]) == ("released", "manual", "mill")
        amount, price, fee, refunded = units(payment, "amount", "price", "fee", "refunded")
        assert (amount, refunded, fee) == (held, 0, price // 40)
        assert 0 < price < held
    assert scene.money() == (GRANT - price, 0)
    assert scene.money(scene.payee) == (GRANT + price - fee, 0)
    assert scene.api.get(f"/v1/jobs/{job_id}", scene.payer).json()["price"] == payment["price"]
    for move in (scene.release, scene.refund):
        assert move(payment_id).json()["error_code"] == "PAYMENT_ALREADY_RELEASED"
    scene.check()


def test_a_manual_job_waits_for_its_escrow_and_is_released(scene: Scene) -> None:
    api, job_id = scene.api, scene.job()
    pending = scene.payment(job_id)
    assert (pending["status"], pending["mode"], pending["payer"], pending["payee"]) == (
        "pending",
        "manual",
        "alice",
        None,
    )
    assert pending["amount"] > 0
    assert pending["price"] is None
    claim = {"miner_id": "m1"}
    expect_error(api.post(f"/v1/jobs/{job_id}/claim", scene.payee, json=claim), 409, "JOB_NOT_AVAILABLE")
    assert api.get("/v1/miner/jobs", scene.payee).json() == {"jobs": []}
    change = api.get(f"/v1/jobs/{job_id}/explain", scene.payer).json()["nearest_change"]
    assert change["change"] == "payment"
    assert scene.money() == (GRANT, 0)
    payment_id = pending["payment_id"]
    expect_error(scene.release(payment_id), 409, "PAYMENT_NOT_ESCROWED")
    expect_error(scene.refund(payment_id, scene.admin), 409, "PAYMENT_NOT_ESCROWED")
    expect_error(scene.refund(payment_id, scene.payer), 409, "JOB_STILL_OPEN")

    waiting = api.begin(api.client.get("/v1/miner/jobs", headers=scene.payee, params={"wait": 20}))
    key = {"Idempotency-Key": "escrow-1"}
    first, again = scene.escrow(job_id, **key), scene.escrow(job_id, **key)
    assert shown(first, 201)["status"] == "escrowed"
    assert again.content == first.content
    assert scene.money() == (GRANT, parse_ait(pending["amount"]))
    assert [job["job_id"] for job in waiting.result(10).json()["jobs"]] == [job_id]
    expect_error(scene.escrow(job_id), 409, "PAYMENT_NOT_PENDING")
    expect_error(scene.release(payment_id), 409, "JOB_NOT_COMPLETED")
    expect_error(scene.refund(payment_id), 409, "JOB_NOT_COMPLETED")
    scene.check()

    assert api.complete(scene.payee, job_id).status_code == 200
    done = scene.payment(job_id, scene.payee)
    assert (done["status"], done["payee"]) == ("escrowed", "mill")
    held, price, fee = units(done, "amount", "price", "fee")
    assert 0 < fee < price < held
    assert scene.money() == (GRANT, held)
    assert done["release_after"] == "2026-01-04T00:00:00.000Z"
    scene.check()
    released = shown(scene.release(payment_id))
    assert released["status"] == "released"
    assert scene.money() == (GRANT - price, 0)
    assert scene.money(scene.payee) == (GRANT + price - fee, 0)
    expect_error(scene.release(payment_id), 409, "PAYMENT_ALREADY_RELEASED")
    expect_error(scene.refund(payment_id), 409, "PAYMENT_ALREADY_RELEASED")
    expect_error(scene.refund(payment_id, scene.admin, amount=0.1), 409, "PAYMENT_ALREADY_RELEASED")
    expect_error(scene.escrow(job_id), 409, "PAYMENT_NOT_PENDING")
    scene.check()


def test_nobody_but_the_right_party(scene: Scene) -> None:
    api = scene.api
    job_id, payment_id = scene.completed()
    paths = [f"/v1/jobs/{job_id}/payment", f"/v1/payments/{payment_id}", f"/v1/payments/{payment_id}/receipt"]
    wrong = {"X-Api-Key": "wrong"}
    for path in paths:
        expect_error(api.get(path, wrong), 401, "UNAUTHORIZED")
        for who in (scene.payer, scene.payee, scene.admin):
            assert api.get(path, who).status_code == 200
        expect_error(api.get(path, NOBODY), 401, "UNAUTHORIZED")
        for who in scene.strangers:
            code = "JOB_NOT_FOUND" if "/jobs/" in path else "PAYMENT_NOT_FOUND"
            expect_error(api.get(path, who), 404, code)
    before = scene.payment(job_id)
    expect_error(scene.release(payment_id, scene.payee), 403, "FORBIDDEN")
    expect_error(scene.refund(payment_id, scene.payer), 409, "JOB_ANSWERED")
    for act in (scene.release, scene.refund):
        expect_error(act(payment_id, NOBODY), 401, "UNAUTHORIZED")
        expect_error(act(payment_id, wrong), 401, "UNAUTHORIZED")
        for who in scene.strangers:
            expect_error(act(payment_id, who), 404, "PAYMENT_NOT_FOUND")
        expect_error(act("0193f5a0-0000-7000-8000-000000000000", scene.admin), 404, "PAYMENT_NOT_FOUND")
        expect_error(act(job_id, scene.payer), 404, "PAYMENT_NOT_FOUND")
    fresh = scene.job()
    expect_error(api.post("/v1/payments", json={"job_id": fresh}), 401, "UNAUTHORIZED")
    expect_error(api.get(f"/v1/payments/{fresh}", scene.payer), 404, "PAYMENT_NOT_FOUND")
    expect_error(scene.escrow(fresh, scene.strangers[0]), 404, "JOB_NOT_FOUND")
    for who in (scene.payee, scene.strangers[1], scene.admin):
        expect_error(scene.escrow(fresh, who), 403, "FORBIDDEN")
    assert scene.payment(job_id) == before
    assert shown(scene.release(payment_id, scene.admin))["status"] == "released"
    scene.check()


def test_refunds_whole_and_in_part(scene: Scene) -> None:
    api = scene.api
    job_id, payment_id = scene.completed()
    price, fee = units(scene.payment(job_id), "price", "fee")
    wrong: list[Any] = [0, -0.1, 0.000000001, (price + 1) / 10**8, True, "0.1", 10**12]
    for amount in wrong:
        expect_error(scene.refund(payment_id, amount=amount), 400, "INVALID_REQUEST")
    for text in ('{"amount": NaN}', '{"amount": Infinity}', '{"amount": 1e999}', "{", ""):
        answer = api.post(f"/v1/payments/{payment_id}/refund", scene.payee, content=text)
        expect_error(answer, 400, "INVALID_REQUEST")
    assert scene.payment(job_id)["status"] == "escrowed"
    part = shown(scene.refund(payment_id, amount=(price // 4) / 10**8))
    assert part["status"] == "partially_refunded"
    refunded, fee_paid = units(part, "refunded", "fee")
    assert refunded == price // 4
    assert fee_paid == fee * (price - refunded) // price
    assert scene.money() == (GRANT - (price - refunded), 0)
    assert scene.money(scene.payee) == (GRANT + price - refunded - fee_paid, 0)
    expect_error(scene.refund(payment_id), 409, "PAYMENT_ALREADY_RELEASED")
    expect_error(scene.release(payment_id), 409, "PAYMENT_ALREADY_RELEASED")

    before = scene.money(), scene.money(scene.payee)
    job_id, payment_id = scene.completed()
    whole = shown(scene.refund(payment_id))
    assert (whole["status"], whole["refunded"]) == ("refunded", whole["price"])
    assert (scene.money(), scene.money(scene.payee)) == before
    expect_error(scene.refund(payment_id), 409, "PAYMENT_ALREADY_REFUNDED")
    expect_error(scene.release(payment_id), 409, "PAYMENT_ALREADY_REFUNDED")
    exact = scene.completed()
    price = units(scene.payment(exact[0]), "price")[0]
    assert shown(scene.refund(exact[1], scene.admin, amount=price / 10**8))["status"] == "refunded"
    assert (scene.money(), scene.money(scene.payee)) == before
    scene.check()


def test_a_job_that_ends_without_an_answer_is_refunded(scene: Scene, clock: ManualClock) -> None:
    api = scene.api
    never, (waiting, _), (failed, _), (old_unpaid, old_paid) = (
        scene.job(),
        scene.escrowed(),
        scene.escrowed(),
        (scene.job(ttl_s=60), scene.escrowed(ttl_s=60)[0]),
    )
    assert scene.cancel(never).status_code == scene.cancel(waiting).status_code == 200
    api.claim(scene.payee, failed)
    body = {"miner_id": "m1", "cause": "BAD_REQUEST"}
    assert api.post(f"/v1/jobs/{failed}/fail", scene.payee, json=body).json()["status"] == "pending"
    clock.advance(61)  # longer than another miner's opinion is waited for
    api.run(expiry.Expiry(api.runtime).run_once())
    for job_id, was_held in (
        (never, False),
        (waiting, True),
        (failed, True),
        (old_unpaid, False),
        (old_paid, True),
    ):
        payment = scene.payment(job_id)
        assert payment["status"] == "refunded", job_id
        assert (payment["refunded"] > 0) == (payment["transfer_id"] is not None) == was_held
        assert shown(scene.refund(payment["payment_id"], scene.payer)) == payment
        expect_error(scene.release(payment["payment_id"]), 409, "PAYMENT_ALREADY_REFUNDED")
        expect_error(scene.escrow(job_id), 409, "PAYMENT_NOT_PENDING")
        assert api.get(f"/v1/payments/{payment['payment_id']}/receipt", scene.payer).status_code == 200
    assert scene.money() == (GRANT, 0)
    scene.check()


def test_the_acceptance_window_releases(scene: Scene, clock: ManualClock) -> None:
    job_id, _ = scene.completed()
    refunded = scene.completed()
    clock.advance(1)
    later, _ = scene.completed()
    assert shown(scene.refund(refunded[1]))["status"] == "refunded"
    clock.advance(3 * DAY_S - 2)
    assert not scene.api.run(releasing.run_once(scene.api.runtime))
    assert scene.payment(job_id)["status"] == "escrowed"
    clock.advance(1)
    scene.api.run(releasing.run_once(scene.api.runtime))
    assert [scene.payment(job)["status"] for job in (job_id, refunded[0], later)] == [
        "released",
        "refunded",
        "escrowed",
    ]
    paid = scene.money()
    scene.api.run(releasing.run_once(scene.api.runtime))
    assert scene.money() == paid
    scene.check()


def test_escrow_needs_money_and_stays_within_the_keys_limit(scene: Scene) -> None:
    api = scene.api
    poor = api.key("client", "poor", grant_units=0)
    job_id = api.job(poor, payment="manual")
    expect_error(scene.escrow(job_id, poor), 402, "INSUFFICIENT_FUNDS")
    assert scene.payment(job_id, poor)["status"] == "pending"
    huge = {"prompt": "x" * 900_000, "payment": "manual", "constraints": {"max_price": 67_108_864}}
    expect_error(api.post("/v1/jobs", scene.payer, json=huge), 402, "INSUFFICIENT_FUNDS")

    amount = units(scene.payment(scene.job()), "amount")[0]
    limited = api.key("client", "alice", limit_units=2 * amount - 1, limit_period="day")
    one, two = scene.job(), scene.job()
    payment_id = shown(scene.escrow(one, limited), 201)["payment_id"]
    expect_error(scene.escrow(two, limited), 402, "KEY_LIMIT_EXCEEDED")
    assert scene.money() == (GRANT, amount)
    scene.answer(one)
    price = units(scene.payment(one), "price")[0]
    scene.release(payment_id)
    key = api.get("/v1/account", limited).json()["key"]
    assert parse_ait(key["spent"]) == price
    scene.check()


def test_ordinary_and_free_jobs_have_payments_that_cannot_be_moved(scene: Scene) -> None:
    api = scene.api
    job_id = scene.job(payment="auto")
    first = scene.payment(job_id)
    assert (first["mode"], first["status"]) == ("auto", "escrowed")
    payment_id = first["payment_id"]
    expect_error(scene.escrow(job_id), 409, "PAYMENT_NOT_PENDING")
    expect_error(scene.release(payment_id), 409, "JOB_NOT_COMPLETED")
    expect_error(scene.refund(payment_id, scene.payer), 409, "JOB_STILL_OPEN")
    scene.answer(job_id)
    paid = shown(api.get(f"/v1/payments/{payment_id}", scene.payee))
    assert (paid["status"], paid["payee"]) == ("released", "mill")
    assert 0 < paid["fee"] < paid["price"] < paid["amount"]
    expect_error(scene.release(payment_id), 409, "PAYMENT_ALREADY_RELEASED")
    expect_error(scene.refund(payment_id), 409, "PAYMENT_ALREADY_RELEASED")
    dropped = scene.job(payment="auto")
    scene.cancel(dropped)
    gone = scene.payment(dropped)
    assert (gone["status"], gone["refunded"]) == ("refunded", gone["amount"])
    assert shown(scene.refund(gone["payment_id"], scene.payer)) == gone

    api.miner(scene.payee, prices={"llama3.2": 0})
    free = scene.job(payment="auto", constraints={"max_price": 0})
    scene.answer(free)
    nothing = scene.payment(free)
    assert (nothing["payment_id"], nothing["status"], nothing["amount"]) == (free, "released", 0)
    receipt = api.get(f"/v1/payments/{free}/receipt", scene.payer).json()
    assert (receipt["transfers"], receipt["transaction_hash"], receipt["proof"]) == ([], None, None)
    manual, payment_id = scene.completed(constraints={"max_price": 0})
    assert scene.payment(manual)["price"] == 0
    expect_error(scene.refund(payment_id, amount=0), 400, "INVALID_REQUEST")
    assert shown(scene.release(payment_id))["status"] == "released"
    scene.check()


def test_a_payment_receipt_proves_its_transfer(scene: Scene) -> None:
    job_id, payment_id = scene.completed()
    scene.release(payment_id)
    auto = scene.job(payment="auto")
    scene.answer(auto)
    for payment in (scene.payment(job_id), scene.payment(auto)):
        path = f"/v1/payments/{payment['payment_id']}/receipt"
        for sealed in (payment["mode"] == "auto", True):
            receipt = TypeAdapter(schemas.PaymentReceipt).validate_json(
                scene.api.get(path, scene.payer).content
            )
            assert [line["kind"] for line in receipt["transfers"]] == ["hold", "post", "fee"]
            post = receipt["transfers"][1]
            assert (post["id"], post["ref"], post["hold_id"]) == (
                payment["transfer_id"],
                payment["job_id"],
                payment["payment_id"],
            )
            assert receipt["transaction_hash"] == post["hash"]
            assert (receipt["proof"] is not None) == (receipt["block"] is not None) == sealed
            scene.api.run(sealing.seal_once(scene.api.runtime))
        data = leaf.transfer_leaf(
            post["id"],
            post["kind"],
            post["from"],
            post["to"],
            round(post["amount"] * 10**8),
            post["hold_id"],
            post["ref"],
            parse_rfc3339(post["created_at"]),
        )
        assert merkle.leaf_hash(data).hex() == post["hash"]
        proof = parse_proof(receipt["proof"] or "")
        tree = parse_checkpoint(proof.checkpoint.text)
        assert proof.index == post["leaf_index"]
        assert merkle.verify_inclusion(
            proof.index, tree.size, merkle.leaf_hash(data), proof.hashes, tree.root
        )


def test_races_move_the_money_once(scene: Scene, clock: ManualClock) -> None:
    """Release, refund and the window on one completed job; escrow and cancel on one waiting job."""
    api = scene.api
    job_id, payment_id = scene.completed()
    clock.advance(4 * DAY_S)
    calls = []
    for n in range(20):
        who, what = ((scene.payer, "release"), (scene.payee, "refund"))[n % 2]
        path = f"/v1/payments/{payment_id}/{what}"
        body = {"json": {}} if what == "refund" else {}
        calls.append(api.begin(api.client.post(path, headers=who, **body)))
        if n == 10:
            calls.append(api.begin(releasing.run_once(api.runtime)))
    wait(calls, 30)
    answers = [call.result() for call in calls if not isinstance(call.result(), bool)]
    assert sum(answer.status_code == 200 for answer in answers) <= 1
    assert {answer.status_code for answer in answers} <= {200, 409}
    payment = scene.payment(job_id)
    price, fee = units(payment, "price", "fee")
    paid = price if payment["status"] == "released" else 0
    assert payment["status"] in ("released", "refunded")
    assert scene.money() == (GRANT - paid, 0)
    assert scene.money(scene.payee) == (GRANT + (paid - fee if paid else 0), 0)

    job_id = scene.job()
    payment_id = scene.payment(job_id)["payment_id"]
    body = {"json": {"job_id": job_id}}
    calls = [
        api.begin(
            api.client.post("/v1/payments", headers=scene.payer, **body)
            if n % 2
            else api.client.post(f"/v1/jobs/{job_id}/cancel", headers=scene.payer)
        )
        for n in range(20)
    ]
    statuses = [call.result(30).status_code for call in calls]
    assert sorted(statuses[::2]) == [200] + [409] * 9
    assert statuses[1::2].count(201) <= 1
    assert scene.payment(job_id)["status"] == "refunded"
    assert scene.money()[1] == 0
    scene.check()
