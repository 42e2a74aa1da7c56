"""Both clients against a real coordinator process."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest

from aitbc import sdk
from aitbc.core.receipt import KeySet
from aitbc.sdk import AsyncClient, Client
from tests.sdk.network import MODEL, Network


class AsyncCaller:
    """The asyncio client behind blocking calls, on a loop of its own."""

    def __init__(self, client: AsyncClient, loop: asyncio.AbstractEventLoop) -> None:
        self._client, self._loop = client, loop

    def __getattr__(self, operation: str) -> Any:
        return lambda *args, **kwargs: self._loop.run_until_complete(
            getattr(self._client, operation)(*args, **kwargs)
        )


@pytest.fixture(params=["sync", "async"])
def dora(request: pytest.FixtureRequest, network: Network) -> Iterator[Any]:
    if request.param == "sync":
        with Client(network.url, network.dora.key) as client:
            yield client
        return
    loop = asyncio.new_event_loop()

    async def open_client() -> AsyncClient:
        return AsyncClient(network.url, network.dora.key)

    client = loop.run_until_complete(open_client())
    yield AsyncCaller(client, loop)
    loop.run_until_complete(client.aclose())
    loop.close()


def test_the_main_job(dora: Any) -> None:
    before = dora.balance()
    seen: list[str] = []
    job = dora.run("hello", model=MODEL, max_tokens=16, on_progress=lambda job: seen.append(job.status))
    assert job.text == "You said: hello"
    assert (job.account, job.miner_id, job.status) == ("dora", "scripted-miner", "completed")
    assert seen[0] == "pending"
    assert seen[-1] == "completed"
    assert job.price == Decimal("0.0001")  # 10 tokens at 0.01 AIT per 1000
    after = dora.balance()
    assert before.balance - after.balance == job.price
    assert after.held == 0
    receipt = dora.receipt(job.receipt_id)
    assert (receipt.client, receipt.provider, receipt.units, receipt.price) == (
        "dora",
        "carol",
        10,
        job.price,
    )
    assert dora.verify_receipt(receipt).ok
    assert [own.document["result"] for own in dora.job_receipts(job.job_id)] == [{"text": "You said: hello"}]


def test_a_receipt_verifies_by_id_by_document_and_with_pinned_keys(dora: Any) -> None:
    job = dora.run("hello", model=MODEL)
    keys = dora.keys()
    assert isinstance(keys, KeySet)
    assert dora.verify_receipt(job.receipt_id).ok
    document = dict(dora.receipt(job.receipt_id).document)
    assert dora.verify_receipt(document, keys=keys).ok
    document["units"] += 1
    assert not dora.verify_receipt(document, keys=keys).ok


def test_chat_embedding_and_batch(dora: Any) -> None:
    chat = dora.submit_chat([{"role": "user", "content": "hi"}], model=MODEL)
    vectors = dora.embed(["a", "bcd"], model=MODEL)
    items = dora.batch(
        [
            sdk.prompt_job("one", model=MODEL),
            sdk.embedding_job("two", model=MODEL),
            {"prompt": "", "model": MODEL},
        ]
    )
    assert dora.wait(chat).text == "You said: hi"
    assert dora.wait(vectors).embeddings == [[0.25, -0.5, 1.0], [0.25, -0.5, 3.0]]
    assert [item.ok for item in items] == [True, True, False]
    assert items[2].error.code == "INVALID_REQUEST"
    assert dora.wait(items[1].job_id).embeddings == [[0.25, -0.5, 3.0]]
    assert dora.verify_receipt(dora.job_receipts(vectors.job_id)[0]).ok


def test_a_statement_adds_up(dora: Any) -> None:
    job = dora.run("hello", model=MODEL, max_tokens=16)
    whole = dora.statement()
    assert whole.closing_balance == dora.balance().balance
    assert sum(row.amount for row in whole) == whole.closing_balance - whole.opening_balance
    assert whole.rows[-1].job_id == job.job_id
    page = dora.statement(whole.start, whole.end, limit=1)
    assert (page.account, page.rows, page.total_in) == ("dora", whole.rows[:1], whole.total_in)
    page = dora.statement(whole.start, whole.end, limit=1, cursor=page.next_cursor)
    assert (page.rows, page.total_in) == (whole.rows[1:2], None)
    assert dora.statement(date(2100, 1, 1), "2100-01-02").rows == ()
    with pytest.raises(ValueError):
        dora.statement(datetime(2026, 1, 1))


def test_governance(dora: Any, network: Network) -> None:
    network.govern()
    held = dora.balance().held
    made = dora.propose("A fee", type="parameter_change", parameter="fee_bps", value=300)
    assert (made.status, made.proposer, made.parameter, made.value) == ("pending", "dora", "fee_bps", 300)
    assert made.votes == dict.fromkeys(("for", "against", "abstain", "veto"), Decimal(0))
    assert made.raw["change"]["before"] == 250 and dora.balance().held == held + 1
    assert dora.proposal(made.proposal_id) == made == dora.proposals(status="pending", limit=1)[0]
    with pytest.raises(sdk.Conflict):
        dora.vote(made.proposal_id, "for")
    with pytest.raises(sdk.Conflict):
        dora.execute_proposal(made.proposal_id)
    assert dora.cancel_proposal(made.proposal_id).status == "cancelled" and dora.balance().held == held
    gift = dora.propose("A gift", type="fund_allocation", recipient="alice", amount="2.5")
    assert (gift.amount, gift.recipient) == (Decimal("2.5"), "alice")
    second = dora.proposals(limit=1)
    assert second.items == (gift,) and dora.proposals(limit=1, cursor=second.next_cursor)[0] != gift
    power = dora.voting_power("dora", proposal_id=gift.proposal_id)
    assert power.own == dora.balance().balance and power.delegate is None
    assert dora.cancel_proposal(gift.proposal_id).status == "cancelled"
    assert dora.delegate("alice").delegate == "alice"
    assert [one.delegator for one in dora.delegations("alice").delegators] == ["dora"]
    assert dora.delegate(None).delegate is None and dora.delegations("dora").delegate is None
    parameters = {one.name: one for one in dora.network_parameters()}
    assert parameters["governance_age_s"].changed_by == "operator"
    assert (parameters["fee_bps"].value, parameters["fee_bps"].maximum) == (250, 5000)
    with pytest.raises(sdk.InvalidRequest):
        dora.propose("Nothing", type="parameter_change", parameter="gravity", value=1)


def test_a_payment_by_hand(dora: Any, network: Network) -> None:
    job = dora.submit("hello", model=MODEL, max_tokens=16, payment="manual")
    assert dora.payment(job.job_id).status == "pending"
    opened = dora.open_payment(job.job_id)
    assert (opened.status, opened.mode, opened.payer) == ("escrowed", "manual", "dora")
    dora.wait(job)
    released = dora.release_payment(opened.payment_id)
    assert (released.status, released.price, released.refunded) == ("released", Decimal("0.0001"), 0)
    assert dora.release_payment(opened.payment_id) == released
    with pytest.raises(sdk.Conflict):
        dora.open_payment(job.job_id)
    with pytest.raises(sdk.Conflict):
        dora.refund_payment(opened.payment_id)
    other = dora.submit("hello", model=MODEL, max_tokens=16, payment="manual")
    payment_id = dora.open_payment(other.job_id).payment_id
    dora.wait(other)
    with Client(network.url, network.carol.key) as miner:
        part = miner.refund_payment(payment_id, Decimal("0.00004"))
        assert (part.status, part.refunded) == ("partially_refunded", Decimal("0.00004"))
        assert miner.refund_payment(payment_id, "0.00004") == part
        with pytest.raises(sdk.Conflict):
            miner.refund_payment(payment_id, "0.00005")
    with pytest.raises(sdk.Conflict):
        dora.release_payment(payment_id)


def test_a_job_that_waits_is_explained_and_cancelled(dora: Any) -> None:
    job = dora.submit("hello", model="nobody-has-this", max_price="0.25")
    assert dora.balance().held == job.price_held > 0
    why = dora.explain(job.job_id)
    assert (why.status, why.eligible_miners, why.registered_miners) == ("pending", 0, 1)
    assert sum(why.reasons.values()) == 1
    assert why.nearest_change
    with pytest.raises(sdk.WaitTimeout) as late:
        dora.wait(job, timeout_s=0.3)
    assert late.value.job.status == "pending"
    assert late.value.details["warnings"] == ["MODEL_NOT_SERVED"]
    assert sorted(late.value.details["models"]) == ["llama3.2", "nomic-embed-text", MODEL]
    assert MODEL in late.value.message
    assert [warning.code for warning in job.warnings] == ["MODEL_NOT_SERVED"]
    assert MODEL in job.warnings[0].models
    assert dora.cancel(job.job_id).status == "cancelled"
    assert dora.cancel(job.job_id).status == "cancelled"
    assert dora.balance().held == 0
    assert [event.type for event in dora.events(job.job_id)] == ["created", "cancelled"]
    with pytest.raises(sdk.JobFailed):
        dora.wait(job.job_id)


def test_an_expiry_says_what_was_on_offer(dora: Any) -> None:
    with pytest.raises(sdk.JobFailed) as expired:
        dora.run("hello", model="nobody-has-this", ttl_s=1)
    assert expired.value.code == "EXPIRED"
    assert MODEL in expired.value.details["models"]
    assert MODEL in expired.value.message


def test_a_batch_warns_by_item(dora: Any) -> None:
    fine, vain = dora.batch([sdk.prompt_job("a", model=MODEL), sdk.prompt_job("b", model="nobody-has-this")])
    assert fine.warnings == ()
    assert [warning.code for warning in vain.warnings] == ["MODEL_NOT_SERVED"]
    dora.cancel(vain.job_id)


def test_a_failure_has_its_cause(dora: Any) -> None:
    with pytest.raises(sdk.JobFailed) as failed:
        dora.run("fail", model=MODEL)
    assert failed.value.code == "CONTEXT_LENGTH_EXCEEDED"
    assert failed.value.job.price is None


def test_the_same_idempotency_key_is_the_same_job(dora: Any) -> None:
    key = f"once-{type(dora).__name__}"
    first = dora.submit("hello", model=MODEL, idempotency_key=key)
    assert dora.submit("hello", model=MODEL, idempotency_key=key).job_id == first.job_id
    with pytest.raises(sdk.Conflict) as conflict:
        dora.submit("other", model=MODEL, idempotency_key=key)
    assert conflict.value.code == "IDEMPOTENCY_CONFLICT"


def test_lists_quote_and_miners(dora: Any) -> None:
    dora.run("hello", model=MODEL)
    page = dora.jobs(status="completed", limit=1)
    assert len(page) == 1
    assert page.total is not None
    assert page.total >= 1
    receipts = dora.receipts(client="dora", limit=1)
    assert len(receipts) == 1
    quote = dora.quote("hello", model=MODEL, max_tokens=10)
    assert quote.eligible_miners == 1
    assert quote.price_per_1k is not None
    assert quote.price_per_1k.median == Decimal("0.01")
    assert quote.worst_case_price > 0
    (miner,) = dora.miners()
    assert (miner.miner_id, miner.models[0].price_per_1k, miner.region) == (
        "scripted-miner",
        Decimal("0.01"),
        "eu",
    )
    health = dora.health()
    assert health.status == "ok"
    assert health.time is not None


def test_what_is_not_allowed(dora: Any, network: Network) -> None:
    job = dora.submit("hello", model=MODEL)
    with Client(network.url, network.bob.key) as bob, pytest.raises(sdk.NotFound):
        bob.job(job.job_id)
    with (
        Client(network.url, "aitbc_client_abcdefghijkl_wrong") as nobody,
        pytest.raises(sdk.AuthenticationError) as unknown,
    ):
        nobody.balance()
    assert unknown.value.reason == "unknown"
    with Client(network.url, network.carol.key) as miner, pytest.raises(sdk.PermissionDenied):
        miner.submit("hello")
    with pytest.raises(sdk.PaymentRequired) as broke:
        dora.submit("hello", model=MODEL, max_tokens=32768, max_price=100_000)
    assert broke.value.code == "INSUFFICIENT_FUNDS"
    needed, available = broke.value.needed, broke.value.available
    assert needed is not None and available is not None and needed > available
    assert (broke.value.balance, broke.value.limit) == (available + (broke.value.held or 0), None)
    assert f"needs {needed} AIT" in broke.value.message
    with pytest.raises(sdk.InvalidRequest) as invalid:
        dora.submit("hello", temperature=9)
    assert invalid.value.details
    assert invalid.value.request_id


def test_what_the_server_answers_is_all_understood(dora: Any) -> None:
    """No field that the server sends is lost on the way: each model keeps it in `raw`."""
    job = dora.run("hello", model=MODEL)
    named = {name for name in vars(job) if not name.startswith("_")}
    renamed = {"id": "job_id", "client_id": "account", "params": "parameters", "updated_at": "raw"}
    for field in job.raw:
        assert renamed.get(field, field) in named, field
    assert inspect.isfunction(Client.run)


def check_named(found: Any, name: str) -> Any:
    return next(check for check in found.checks if check.name == name)


def test_a_jobs_receipt_is_held_against_the_job(dora: Any) -> None:
    """Not only whether it is genuine: whether it is of this job, this question and this answer."""
    keys = dora.keys()
    job, other = dora.run("hello", model=MODEL), dora.run("good bye", model=MODEL)
    found = dora.verify_receipt(job, keys=keys)
    assert found.ok
    for name in ("document", "result", "signature", "job", "prompt", "answer"):
        assert check_named(found, name).ok, name
    assert all(check.detail for check in found.unchecked), "it says what it could not check"
    wrong = {
        "job": replace(job, job_id=other.job_id, receipt_id=other.receipt_id, model="another"),
        "prompt": replace(job, parameters={**job.parameters, "prompt": "what?"}),
        "answer": replace(job, output={**job.output, "text": "You said: nothing"}),
    }
    for name, changed in wrong.items():
        held = dora.verify_receipt(changed, keys=keys)
        assert not held.ok, name
        assert check_named(held, name).ok is False, name
    erased = dora.verify_receipt(replace(job, parameters={}, output=None), keys=keys)
    assert erased.ok
    assert {check.name for check in erased.unchecked} >= {"prompt", "answer"}
    waiting = dora.submit("hello", model="nobody-has-this")
    with pytest.raises(ValueError, match="no receipt"):
        dora.verify_receipt(waiting, keys=keys)
    dora.cancel(waiting.job_id)


def test_a_receipt_without_its_proof_yet_lacks_it_and_is_not_wrong(dora: Any) -> None:
    from aitbc.core.log.block import origin_of
    from aitbc.core.log.note import Verifier
    from aitbc.core.receipt import Policy

    keys = dora.keys()
    policy = Policy(
        chain_id=keys.chain_id,
        log=tuple(Verifier(origin_of(keys.chain_id), key.public_bytes) for key in keys.log_keys),
        receipt_keys=tuple(key.public_bytes for key in keys if key.use == "receipts"),
    )
    job = dora.run("hello", model=MODEL)
    (receipt,) = dora.job_receipts(job.job_id)
    early = dora.verify_receipt({**receipt.document, "proof": None}, policy=policy)
    assert not early.ok
    assert [check.missing for check in early.failures] == [True]
    forged = dora.verify_receipt({**receipt.document, "proof": None, "model": "another"}, policy=policy)
    assert not all(check.missing for check in forged.failures)
