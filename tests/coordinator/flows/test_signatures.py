"""The signatures of a batch, here and in the worker: the same results, whatever happens to the worker."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from aitbc.coordinator.errors import SignatureInvalid
from aitbc.coordinator.flows.acts import completion
from aitbc.coordinator.flows.acts.completion import ResultSubmission
from aitbc.coordinator.jobs.rows import JobRow
from aitbc.coordinator.miners import standing
from aitbc.coordinator.receipts.service import ReceiptRow
from aitbc.coordinator.signing import signatures
from aitbc.coordinator.signing.signatures import SharedSignatures, Signatures, SigningWorker
from aitbc.core import canonical, receipt
from aitbc.core.signing import PrivateKey, encode_b64, public_to_text, verify
from tests.support.flows import CHAIN, KEY, NETWORK_ID, Market, result_of

OTHER = PrivateKey.from_seed(b"\x08" * 32)
MANY = 3 * signatures.CHUNK_ITEMS + 5


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[SigningWorker]:
    monkeypatch.setattr(signatures, "usable_cores", lambda: 2)
    made = SigningWorker(KEY)
    yield started(made)
    made.close()


def started(worker: SigningWorker) -> SigningWorker:
    """The worker, once it listens."""
    until = time.monotonic() + 30
    while True:
        with worker.signatures(MANY) as batch:
            if isinstance(batch, SharedSignatures):
                return worker
        assert time.monotonic() < until, "the worker does not start"
        time.sleep(0.02)


def pid_of(worker: SigningWorker) -> int:
    assert worker._process is not None
    return worker._process.pid


def fill(batch: Signatures, count: int = MANY, wrong: int | None = None) -> None:
    for number in range(count):
        message = b"message %d" % number * (number % 7)
        signature = OTHER.sign(b"another" if number == wrong else message)
        batch.verify(OTHER.public_bytes, message, signature)
        batch.sign(b"receipt %d" % number * 50)


def test_the_worker_says_and_signs_what_would_be_said_and_signed_here(worker: SigningWorker) -> None:
    here = Signatures(KEY)
    fill(here)
    with worker.signatures(MANY) as batch:
        assert isinstance(batch, SharedSignatures)
        fill(batch)
        shared = batch.finish()
    assert shared == here.finish()
    assert shared.valid
    assert verify(KEY.public_bytes, b"receipt 2" * 50, shared.signatures[2])


@pytest.mark.parametrize("wrong", [0, signatures.CHUNK_ITEMS, MANY - 1])
def test_one_bad_signature_is_seen(worker: SigningWorker, wrong: int) -> None:
    with worker.signatures(MANY) as batch:
        fill(batch, wrong=wrong)
        assert not batch.finish().valid


def test_a_signature_of_another_length_is_bad(worker: SigningWorker) -> None:
    with worker.signatures(MANY) as batch:
        batch.verify(OTHER.public_bytes, b"m", OTHER.sign(b"m")[:-1])
        assert not batch.finish().valid
    with worker.signatures(MANY) as batch:
        batch.verify(OTHER.public_bytes, b"m", OTHER.sign(b"m"))
        assert batch.finish().valid


def test_a_worker_that_is_killed_changes_nothing(worker: SigningWorker) -> None:
    here = Signatures(KEY)
    fill(here)
    for number in range(2):
        with worker.signatures(MANY) as batch:
            assert isinstance(batch, SharedSignatures) == (number == 0)
            fill(batch, MANY // 2)
            if number == 0:
                os.kill(pid_of(worker), signal.SIGKILL)
            for at in range(MANY // 2, MANY):
                message = b"message %d" % at * (at % 7)
                batch.verify(OTHER.public_bytes, message, OTHER.sign(message))
                batch.sign(b"receipt %d" % at * 50)
            assert batch.finish() == here.finish()


def test_a_worker_that_does_not_answer_is_given_up(
    worker: SigningWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signatures, "ANSWER_S", 0.2)
    here = Signatures(KEY)
    fill(here)
    os.kill(pid_of(worker), signal.SIGSTOP)
    with worker.signatures(MANY) as batch:
        fill(batch)
        assert batch.finish() == here.finish()
    assert worker._process is None


def test_a_batch_that_is_left_leaves_nothing_behind(worker: SigningWorker) -> None:
    pid = pid_of(worker)
    with pytest.raises(RuntimeError, match="left"), worker.signatures(MANY) as batch:
        fill(batch, wrong=3)
        raise RuntimeError("left")
    with worker.signatures(MANY) as batch:
        fill(batch)
        assert batch.finish().valid
    assert pid_of(worker) == pid


def test_small_batches_and_those_beside_another_are_done_here(worker: SigningWorker) -> None:
    assert type(worker.signatures(signatures.WORTH_ITEMS - 1)) is Signatures
    with worker.signatures(MANY) as first:
        assert isinstance(first, SharedSignatures)
        assert type(worker.signatures(MANY)) is Signatures


def test_with_one_core_there_is_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signatures, "usable_cores", lambda: 1)
    alone = SigningWorker(KEY)
    assert type(alone.signatures(MANY)) is Signatures
    assert alone._process is None


def test_closing_ends_the_worker(worker: SigningWorker) -> None:
    process = worker._process
    assert process is not None
    worker.close()
    assert process.returncode == 0
    assert type(worker.signatures(MANY)) is Signatures


def test_a_worker_that_hangs_does_not_hold_up_the_end(worker: SigningWorker) -> None:
    process = worker._process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    started_s = time.monotonic()
    worker.close()
    assert process.returncode == -signal.SIGKILL
    assert time.monotonic() - started_s < 4


def test_of_a_batch_only_the_result_with_the_bad_signature_is_refused(
    market: Market, worker: SigningWorker
) -> None:
    market.ctx = replace(market.ctx, worker=worker)
    count = signatures.WORTH_ITEMS + 3
    client = market.client()
    miner = market.miner(
        models={"llama": 100}, concurrency=count, public_key=public_to_text(OTHER.public_bytes)
    )
    market.db.write_sync(standing.set_approval, "owner-m1", "approved")
    jobs = [market.submit(client) for _ in range(count)]
    assert len(market.take(miner, count)) == count
    sent = [signed(job, wrong=number == 5) for number, job in enumerate(jobs)]
    done = market.db.write_sync(completion.complete_batch, market.ctx, *miner, sent)
    assert [type(one) for one in done] == [
        SignatureInvalid if number == 5 else ReceiptRow for number in range(count)
    ]
    again = market.db.write_sync(completion.complete_batch, market.ctx, *miner, sent)
    assert [one for one in again if isinstance(one, ReceiptRow)] == [
        one for one in done if isinstance(one, ReceiptRow)
    ]
    market.check()


def signed(job: JobRow, wrong: bool) -> ResultSubmission:
    """The result of a job with its miner's signature, or with one over something else."""
    sent = result_of(job.id)
    statement = receipt.result_statement(
        chain_id=CHAIN,
        job_id=job.id,
        miner_id="m1",
        prompt_hash=job.prompt_hash,
        result_hash=canonical.sha256_hex(b"hello"),
        prompt_tokens=3,
        completion_tokens=2,
        network_id=NETWORK_ID,
    )
    sig = encode_b64(OTHER.sign(b"" if wrong else statement))
    return sent._replace(signature={"alg": "Ed25519", "key_id": OTHER.key_id, "sig": sig})
