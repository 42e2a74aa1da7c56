"""Results: whose are taken, what they are billed, and what the receipt says of it."""

import json
from dataclasses import replace
from typing import Any

import pytest

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.errors import (
    AitbcError,
    Forbidden,
    InvalidRequest,
    JobNotFound,
    JobNotRunning,
    LeaseLost,
    MinerNotFound,
    SignatureInvalid,
    SignatureRequired,
    StatementOldVersion,
)
from aitbc.coordinator.flows.acts import completion, job_lifecycle, payment
from aitbc.coordinator.flows.acts.completion import ResultSubmission
from aitbc.coordinator.jobs.spec import make_spec
from aitbc.coordinator.ledger.models import TREASURY
from aitbc.coordinator.receipts.service import ReceiptRow
from aitbc.core import canonical, jobspec
from aitbc.core import receipt as documents
from aitbc.core.signing import PrivateKey, encode_b64, public_to_text
from tests.support.flows import CHAIN, KEY, NETWORK_ID, Market, Provider, found, result_of, set_parameter

MINER_KEY = PrivateKey.from_seed(b"\x09" * 32)


def started(market: Market, price: int = 100, **spec: Any) -> tuple[Principal, Provider, str]:
    client, miner = market.client(), market.miner(models={"llama": price})
    job = market.submit(client, **spec)
    assert len(market.take(miner)) == 1
    return client, miner, job.id


def body(row: ReceiptRow) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(row.body)
    return found


def complete(market: Market, miner: Provider, sent: ResultSubmission) -> ReceiptRow:
    return market.db.write_sync(completion.complete, market.ctx, *miner, sent)


# --- what is billed -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "usage", "counted", "source"),
    [
        ("hello", (3, 2), (3, 2), "engine"),
        ("hello", (0, 0), (0, 0), "engine"),
        ("hello", (10**9, 10**9), (15, 6), "engine"),  # the prompt's bytes; the result's bytes and an end
        ("a much longer answer", (15, 30), (15, 10), "engine"),  # max_tokens
        ("", (15, 5), (15, 1), "engine"),
        ("hello", None, (4, 2), "estimate"),
        ("häßlich €", None, (4, 4), "estimate"),
        ("", None, (4, 0), "estimate"),
    ],
)
def test_tokens_are_the_engines_within_what_can_be_seen(
    market: Market, text: str, usage: tuple[int, int] | None, counted: tuple[int, int], source: str
) -> None:
    _client, miner, job_id = started(market, price=100_000, cap=100_000)
    said = body(market.complete(miner, job_id, text, usage))
    assert (said["prompt_tokens"], said["completion_tokens"], said["metering"]) == (*counted, source)
    assert said["units"] == sum(counted)
    assert int(said["price_units"]) == sum(counted) * 100
    market.check()


def test_money_goes_to_the_miner_and_the_treasury_and_the_rest_back(market: Market) -> None:
    client, miner, job_id = started(market, price=123_457, cap=200_000)
    held = market.balance(client.account_id).held_units
    assert held == 25 * 200
    row = market.complete(miner, job_id, usage=(7, 4))
    assert row.price_units == -(-11 * 123_457 // 1000) == 1359
    assert int(body(row)["fee_units"]) == 135
    assert market.balance(miner.principal.account_id).balance_units == 1359 - 135
    assert market.balance(TREASURY).balance_units == 135
    client_has = market.balance(client.account_id)
    assert (client_has.balance_units, client_has.held_units) == (1_000_000_000 - 1359, 0)
    market.check()


@pytest.mark.parametrize("bps", [0, 1, 5000])
def test_the_fee_is_the_networks_parameter(market: Market, bps: int) -> None:
    market.db.write_sync(set_parameter, "fee_bps", bps)
    _client, miner, job_id = started(market, price=100_000, cap=100_000)
    row = market.complete(miner, job_id, usage=(10, 0))
    assert int(body(row)["fee_units"]) == 1000 * bps // 10_000
    market.check()


@pytest.mark.parametrize("manual", [False, True])
def test_the_fee_is_the_one_in_force_at_the_claim(market: Market, manual: bool) -> None:
    """A change while a job runs is for the next one; a job that is tried again gets the fee of that try."""
    client, miner = market.client(), market.miner(models={"llama": 100_000}, concurrency=3)
    for fails, bps in ((False, 1000), (True, 500)):
        job = market.submit(client, cap=100_000, payment="manual" if manual else "auto")
        if manual:
            escrow = market.db.write_sync(payment.open_escrow, client, job.id)
        assert market.job(job.id).fee_bps is None
        market.db.write_sync(set_parameter, "fee_bps", 1000)
        market.take(miner)
        assert market.job(job.id).fee_bps == 1000
        market.clock.advance(1)
        market.db.write_sync(set_parameter, "fee_bps", 500)
        if fails:
            market.fail(miner, job.id)
            assert market.job(job.id).fee_bps is None
            market.pass_time(2)
            market.take(miner)
            market.db.write_sync(set_parameter, "fee_bps", 0)
        before = market.balance(TREASURY).balance_units
        row = market.complete(miner, job.id, usage=(10, 0))
        if manual:
            market.db.write_sync(payment.release, client, escrow.id)
        assert int(body(row)["fee_units"]) == market.balance(TREASURY).balance_units - before == bps // 10
        market.check()


def test_a_price_of_zero_is_a_price(market: Market) -> None:
    client, miner, job_id = started(market, price=0, cap=0)
    assert market.job(job_id).hold_id == ""
    row = market.complete(miner, job_id)
    assert (row.price_units, body(row)["fee_units"]) == (0, "0")
    assert market.balance(client.account_id).balance_units == 1_000_000_000
    market.check()


def test_a_free_miner_under_a_cap_is_paid_nothing(market: Market) -> None:
    client, miner, job_id = started(market, price=0, cap=1000)
    assert market.balance(client.account_id).held_units == 25
    assert market.complete(miner, job_id).price_units == 0
    assert market.balance(client.account_id).held_units == 0
    market.check()


def test_the_price_is_that_of_the_claim(market: Market) -> None:
    """Whatever the miner asks later, and whatever it waits."""
    _client, miner, job_id = started(market, price=100_000, cap=900_000)
    market.miner("m1", models={"llama": 900_000})
    market.clock.advance(30)
    assert market.complete(miner, job_id, usage=(1, 0)).price_units == 100
    market.check()


# --- whose result it is -------------------------------------------------------------------------------------


def test_only_the_holder_completes(market: Market) -> None:
    client, miner, job_id = started(market)
    other = market.miner("m2")
    before = market.job(job_id), market.balance(client.account_id)
    with pytest.raises(LeaseLost):
        market.complete(other, job_id)
    with pytest.raises(Forbidden):
        market.complete(Provider(other.principal, miner.miner_id), job_id)
    with pytest.raises(MinerNotFound):
        market.complete(Provider(other.principal, "unheard-of"), job_id)
    with pytest.raises(LeaseLost):
        complete(market, miner, result_of(job_id)._replace(lease_id="another"))
    with pytest.raises(JobNotFound):
        market.complete(miner, "unheard-of")
    with pytest.raises(LeaseLost):
        market.fail(other, job_id)
    assert (market.job(job_id), market.balance(client.account_id)) == before
    lease = before[0].lease_id
    assert complete(market, miner, result_of(job_id)._replace(lease_id=lease)).job_id == job_id


def test_the_same_result_again_is_the_same_receipt(market: Market) -> None:
    _client, miner, job_id = started(market)
    first = market.complete(miner, job_id, "hello")
    market.clock.advance(100)
    assert market.complete(miner, job_id, "hello", usage=(9, 9)) == first
    with pytest.raises(JobNotRunning):
        market.complete(miner, job_id, "hello!")
    with pytest.raises(JobNotRunning):
        market.complete(market.miner("m2"), job_id, "hello")
    assert len(market.receipts()) == 1
    market.check()


def test_a_late_result_of_an_earlier_lease_changes_nothing(market: Market) -> None:
    client, miner, job_id = started(market)
    old_lease = market.job(job_id).lease_id
    market.fail(miner, job_id)
    with pytest.raises(JobNotRunning):
        market.complete(miner, job_id)
    market.pass_time(2)
    assert market.take(miner)
    with pytest.raises(LeaseLost):
        complete(market, miner, result_of(job_id)._replace(lease_id=old_lease))
    market.cancel(client, job_id)
    with pytest.raises(JobNotRunning):
        market.complete(miner, job_id)
    assert not market.receipts()
    market.check()


def test_a_key_with_one_miner_need_not_name_it(market: Market) -> None:
    _client, miner, job_id = started(market)
    row = market.db.write_sync(completion.complete, market.ctx, miner.principal, None, result_of(job_id))
    assert row.miner_id == miner.miner_id


@pytest.mark.parametrize("result", [None, 5, {}, {"text": 5}, {"text": "x", "finish_reason": "bored"}, ["x"]])
def test_what_is_no_result_is_refused(market: Market, result: Any) -> None:
    _client, miner, job_id = started(market)
    with pytest.raises(InvalidRequest):
        complete(market, miner, ResultSubmission(job_id, result))
    with pytest.raises(InvalidRequest):
        complete(market, miner, ResultSubmission(job_id, "fine", usage={"prompt_tokens": -1}))
    assert market.job(job_id).status == "running"


@pytest.mark.parametrize(
    "text", ["\x00 in it", "\u2028 \U0001f600 \x1f", '"quoted" \\ {"text": 1}', "x" * 100_000]
)
def test_any_text_is_an_answer(market: Market, text: str) -> None:
    """Also what a database's text type would not take as it is."""
    from aitbc.coordinator.jobs import texts as job_texts

    _client, miner, job_id = started(market, prompt=f"say {text[:100]}", max_tokens=2000)
    row = market.complete(miner, job_id, text)
    assert body(row)["result_hash"] == canonical.sha256_hex(text.encode())
    stored = market.db.read_sync(job_texts.result_text, job_id)
    assert stored is not None
    assert json.loads(stored)["text"] == text
    market.check()


def test_a_failures_message_is_kept_to_a_length(market: Market) -> None:
    _client, miner, job_id = started(market)
    row = market.db.write_sync(
        job_lifecycle.fail,
        market.ctx,
        miner.principal,
        miner_id=miner.miner_id,
        job_id=job_id,
        cause="ENGINE_ERROR",
        message="out of memory \u20ac " + "x" * 5000,
        retryable=False,
    )
    assert row.status == "pending", "another opinion is waited for"
    assert row.message.startswith("out of memory \u20ac xxx")
    assert len(row.message) == job_lifecycle.MESSAGE_CHARS
    market.pass_time(10)
    ended = market.job(job_id)
    assert (ended.status, ended.message) == ("failed", row.message)


# --- signatures ---------------------------------------------------------------------------------------------


def signed(job_id: str, miner_id: str, prompt_hash: str, **changes: Any) -> ResultSubmission:
    statement = documents.result_statement(
        chain_id=CHAIN,
        job_id=job_id,
        miner_id=miner_id,
        prompt_hash=prompt_hash,
        result_hash=canonical.sha256_hex(b"hello"),
        prompt_tokens=3,
        completion_tokens=2,
        network_id=changes.pop("network_id", NETWORK_ID),
    )
    key = changes.pop("key", MINER_KEY)
    signature = {"alg": "Ed25519", "key_id": key.key_id, "sig": encode_b64(key.sign(statement))}
    sent = result_of(job_id)._replace(signature=signature)
    return sent._replace(**changes)


def test_a_miner_with_a_key_signs_its_results(market: Market) -> None:
    client = market.client()
    miner = market.miner(public_key=public_to_text(MINER_KEY.public_bytes))
    job = market.submit(client)
    market.take(miner)
    good = signed(job.id, miner.miner_id, job.prompt_hash)
    assert good.signature is not None
    with pytest.raises(SignatureRequired):
        complete(market, miner, good._replace(signature=None))
    wrong: list[ResultSubmission] = [
        good._replace(result="another answer"),
        good._replace(usage={"prompt_tokens": 4, "completion_tokens": 2}),
        good._replace(usage=None),
        signed(job.id, "m2", job.prompt_hash),
        signed(job.id, miner.miner_id, "0" * 64),
        signed(job.id, miner.miner_id, job.prompt_hash, key=KEY),
        signed(job.id, miner.miner_id, job.prompt_hash, network_id="cd" * 32),
        good._replace(signature={**good.signature, "alg": "none"}),
        good._replace(signature={**good.signature, "sig": "AAAA"}),
        good._replace(signature={**good.signature, "sig": 5}),
        good._replace(signature={}),
    ]
    for sent in wrong:
        with pytest.raises(SignatureInvalid):
            complete(market, miner, sent)
    assert market.job(job.id).status == "running"
    row = complete(market, miner, good)
    said = body(row)
    assert said["miner_signature"]["key_id"] == MINER_KEY.key_id
    assert said["claimed_tokens"] == [3, 2]
    assert (said["version"], said["network_id"]) == ("aitbc/receipt/v3", NETWORK_ID)
    market.db.write_sync(found)
    market.check()


def test_a_miner_that_signs_for_any_network_is_told_to_upgrade(market: Market) -> None:
    client = market.client()
    miner = market.miner(concurrency=2, public_key=public_to_text(MINER_KEY.public_bytes))
    jobs = [market.submit(client) for _ in range(2)]
    market.take(miner, 2)
    old, new = (
        [signed(job.id, miner.miner_id, job.prompt_hash, network_id=network) for job in jobs]
        for network in ("", NETWORK_ID)
    )
    for sent in old:
        with pytest.raises(
            StatementOldVersion, match="upgrade the miner's program, which then signs aitbc/result/v2"
        ):
            complete(market, miner, sent)
    refused, taken = market.db.write_sync(completion.complete_batch, market.ctx, *miner, [old[0], new[1]])
    assert isinstance(refused, StatementOldVersion) and isinstance(taken, ReceiptRow)
    assert isinstance(complete(market, miner, new[0]), ReceiptRow)


def test_nothing_is_signed_before_the_network_is_known(market: Market) -> None:
    client, miner = market.client(), market.miner()
    job = market.submit(client)
    market.take(miner)
    market.ctx = replace(market.ctx, network_id="")
    with pytest.raises(RuntimeError, match="before the coordinator knows its network"):
        market.complete(miner, job.id)
    assert market.job(job.id).status == "running"


# --- batches ------------------------------------------------------------------------------------------------


def test_each_result_of_a_batch_stands_for_itself(market: Market) -> None:
    client, miner = market.client(), market.miner(concurrency=9)
    ids = [market.submit(client).id for _ in range(4)]
    market.take(miner, 4)
    market.cancel(client, ids[1])
    sent: list[ResultSubmission | AitbcError] = [
        result_of(ids[0]),
        result_of(ids[1]),
        InvalidRequest("as it came"),
        ResultSubmission(ids[2], {"no": "text"}),
        result_of("unheard-of"),
        result_of(ids[3]),
        result_of(ids[0]),
    ]
    done = market.db.write_sync(completion.complete_batch, market.ctx, *miner, sent)
    kinds = [item.code if isinstance(item, AitbcError) else "ok" for item in done]
    assert kinds == [
        "ok",
        "JOB_NOT_RUNNING",
        "INVALID_REQUEST",
        "INVALID_REQUEST",
        "JOB_NOT_FOUND",
        "ok",
        "ok",
    ]
    assert done[6] == done[0]
    assert len(market.receipts()) == 2
    assert market.job(ids[2]).status == "running"
    market.check()


def test_each_job_of_a_batch_stands_for_itself(market: Market) -> None:
    from tests.support.flows import spec_of

    client = market.client(units=60)
    specs = [spec_of(), InvalidRequest("as it came"), spec_of(cap=10**6), spec_of(), spec_of()]
    done = market.db.write_sync(job_lifecycle.submit_batch, market.ctx, client, specs)
    kinds = [item.code if isinstance(item, AitbcError) else "ok" for item in done]
    assert kinds == ["ok", "INVALID_REQUEST", "INSUFFICIENT_FUNDS", "ok", "INSUFFICIENT_FUNDS"]
    assert market.balance("alice").held_units == 50
    market.check()


@pytest.mark.parametrize("in_batch", [True, False])
def test_the_queue_of_an_account_has_a_bound(market: Market, in_batch: bool) -> None:
    from tests.support.flows import spec_of

    limited = Market(market.db, market.clock, max_pending_jobs=3)
    client = market.client()
    if in_batch:
        done = market.db.write_sync(job_lifecycle.submit_batch, limited.ctx, client, [spec_of()] * 5)
    else:
        done = []
        for _ in range(5):
            try:
                done.append(limited.submit(client))
            except AitbcError as error:
                done.append(error)
    kinds = [item.code if isinstance(item, AitbcError) else "ok" for item in done]
    assert kinds == ["ok"] * 3 + ["QUEUE_FULL"] * 2
    limited.take(market.miner())
    assert limited.submit(client).status == "pending", "a job that runs does not wait"


# --- embeddings ---------------------------------------------------------------------------------------------


def test_an_embedding_is_billed_for_its_input(market: Market) -> None:
    client = market.client()
    miner = market.miner(models={"embed": 100_000}, job_types=("embedding",))
    request = jobspec.build_request("embedding", model="embed", body={"input": ["one", "two"]})
    spec = make_spec(request, max_price_units=100_000)
    job = market.db.write_sync(job_lifecycle.submit, market.ctx, client, spec)
    assert [one.id for one in market.take(miner)] == [job.id]
    with pytest.raises(InvalidRequest):
        complete(market, miner, ResultSubmission(job.id, {"embeddings": [[0.5]]}))
    usage = {"prompt_tokens": 6, "completion_tokens": 50}
    row = complete(market, miner, ResultSubmission(job.id, {"embeddings": [[0.5, 1], [2, -3e-7]]}, usage))
    assert (row.units, row.price_units) == (6, 600)
    market.check()
