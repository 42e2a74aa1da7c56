"""How many receipts one core verifies in a second, offline, from the bytes of the file."""

from __future__ import annotations

import time

import orjson

from aitbc.core.canonical import sha256_hex
from aitbc.core.ids import new_id
from aitbc.core.log.keyset import KeySet, PublishedKey
from aitbc.core.receipt import (
    MinerSignature,
    ReceiptFields,
    Signature,
    result_statement,
    signed_bytes,
    to_json,
    verify_bytes,
)
from aitbc.core.signing import PrivateKey
from benchmarks.client.actors import PROMPT, RESULT_HASH, RESULT_TEXT, USAGE
from benchmarks.figures import Figure, Plan, median_figure
from benchmarks.processes import CHAIN_ID, MeasurementFailed

DISTINCT = 500
NETWORK_ID = "5a" * 32


def measure(plan: Plan) -> list[Figure]:
    """Owners' receipts: with the result, the miner's signature and the coordinator's; both are checked."""
    key = PrivateKey.generate()
    keys = KeySet(CHAIN_ID, [PublishedKey(key.public_bytes)], network_id=NETWORK_ID)
    files = [receipt_file(key) for _ in range(DISTINCT)]
    if not all(verify_bytes(file, keys).ok for file in files):
        raise MeasurementFailed("a good receipt was not verified")
    rates = []
    for _ in range(plan.rounds):
        # Processor time: the work is one thread's, and what other processes take of the core is not its.
        started = time.process_time()
        for number in range(plan.verifications):
            if not verify_bytes(files[number % DISTINCT], keys).ok:
                raise MeasurementFailed("a good receipt was not verified")
        rates.append(plan.verifications / (time.process_time() - started))
    return [median_figure("verify", "offline", "receipts/s", rates)]


def receipt_file(key: PrivateKey) -> bytes:
    """One receipt as its owner keeps it, by a miner of its own."""
    miner = PrivateKey.generate()
    job_id, now_s = new_id(), int(time.time())
    prompt_hash = sha256_hex(f"{PROMPT} {job_id}".encode())
    statement = result_statement(
        chain_id=CHAIN_ID,
        job_id=job_id,
        miner_id="bench-miner",
        prompt_hash=prompt_hash,
        result_hash=RESULT_HASH,
        network_id=NETWORK_ID,
        **USAGE,
    )
    prompt_tokens, completion_tokens = USAGE["prompt_tokens"], USAGE["completion_tokens"]
    fields = ReceiptFields(
        chain_id=CHAIN_ID,
        receipt_id=new_id(),
        job_id=job_id,
        job_type="llm_inference",
        client="bench-client",
        provider="bench-miner",
        miner_id="bench-miner",
        model="llama3.2",
        units=prompt_tokens + completion_tokens,
        unit_type="tokens",
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        metering="engine",
        unit_price_units=1_000_000,
        price_units=59_000,
        fee_units=1475,
        started_at=now_s,
        completed_at=now_s + 1,
        prompt_hash=prompt_hash,
        result_hash=RESULT_HASH,
        miner_signature=MinerSignature(miner.public_bytes, miner.sign(statement)),
        claimed_tokens=(prompt_tokens, completion_tokens),
        payment="auto",
        network_id=NETWORK_ID,
    )
    signature = Signature(key.key_id, key.sign(signed_bytes(fields)))
    return orjson.dumps(to_json(fields, signature, {"text": RESULT_TEXT}))
