"""Writes docs/formats/receipt-vectors.json: `python -m tests.core.receipt_vectors` in the root folder.

Everything follows from the fixed seeds and values below, so that the file is the same on every run.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from aitbc.core import canonical, jobspec, metering, money, receipt, signing
from aitbc.core.log.checkpoint import cosign
from aitbc.core.log.keyset import USE_LOG
from aitbc.core.log.note import Verifier, sign_note
from aitbc.core.network import Founding
from tests.core.proofs import (
    CHAIN_ID,
    COORDINATOR,
    COSIGNED_AT_S,
    POLICY,
    WITNESS_KEYS,
    WITNESSES,
    checkpoint_of,
    leaf_of,
    prove,
    proven,
    tree_with,
)

VECTORS_FILE = Path(__file__).parents[2] / "docs" / "formats" / "receipt-vectors.json"
MINER = signing.PrivateKey.from_seed(bytes(range(32, 64)))
VALID_FROM_MS = 1_767_225_600_000
KEYS = receipt.KeySet(CHAIN_ID, [receipt.PublishedKey(COORDINATOR.public_bytes, VALID_FROM_MS)])
LOG_KEYS = receipt.KeySet(
    CHAIN_ID,
    [
        receipt.PublishedKey(COORDINATOR.public_bytes, VALID_FROM_MS),
        receipt.PublishedKey(COORDINATOR.public_bytes, VALID_FROM_MS, use=USE_LOG),
    ],
)
STARTED_AT = 1_767_323_045


def network_id_of(salt: str) -> str:
    """The id of a network of CHAIN_ID that was founded with this salt; its log is that of LOG_KEYS."""
    origin = LOG_KEYS.origin
    return Founding(CHAIN_ID, origin, Verifier(origin, COORDINATOR.public_bytes).vkey, salt).network_id


NETWORK_ID, OTHER_NETWORK_ID = network_id_of("5a" * 32), network_id_of("a5" * 32)
NETWORK_KEYS = receipt.KeySet(CHAIN_ID, LOG_KEYS, LOG_KEYS.origin, NETWORK_ID)
NETWORK_POLICY = dataclasses.replace(POLICY, network_id=NETWORK_ID)


def compact(document: Any) -> bytes:
    """A document in the compact layout, written the same by every version of every library."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def make(
    request: dict[str, Any],
    answer: object,
    *,
    usage: metering.Usage | None = None,
    unit_price: str = "0.01",
    fee_bps: int = 500,
    miner: signing.PrivateKey | None = MINER,
    number: int = 1,
) -> tuple[receipt.ReceiptFields, dict[str, Any]]:
    """Fields and canonical result of one finished job."""
    kind = jobspec.job_type_named(request["type"])
    result = kind.check_result(request, answer)
    metered = metering.meter_within(
        kind.prompt_bound(request), kind.completion_bound(request), len(kind.result_bytes(result)), usage
    )
    unit_price_units = money.parse_ait(unit_price)
    price_units = money.price_units(metered.units, unit_price_units)
    fields = receipt.ReceiptFields(
        chain_id=CHAIN_ID,
        receipt_id=f"019b7c1e-5d2e-7000-8000-{number:012x}",
        job_id=f"019b7c1e-5a46-7000-8000-{number:012x}",
        job_type=kind.name,
        client="alice",
        provider="bob",
        miner_id="bob-1",
        model=request["model"],
        units=metered.units,
        unit_type=kind.unit_type,
        prompt_tokens=metered.prompt_tokens,
        completion_tokens=metered.completion_tokens,
        metering=metered.source,
        unit_price_units=unit_price_units,
        price_units=price_units,
        fee_units=money.fee_units(price_units, fee_bps),
        started_at=STARTED_AT,
        completed_at=STARTED_AT + 2,
        prompt_hash=jobspec.prompt_hash(request),
        result_hash=jobspec.result_hash(kind.name, result),
    )
    if miner is not None:
        fields = signed_by_miner(fields._replace(claimed_tokens=metering.claimed_tokens(usage)), miner)
    return fields, result


def signed_by_miner(
    fields: receipt.ReceiptFields, miner: signing.PrivateKey = MINER, **stated: Any
) -> receipt.ReceiptFields:
    """The same with the miner's signature over these fields, or over ones that differ in what is `stated`."""
    statement = receipt.statement_of(fields._replace(**stated))
    return fields._replace(miner_signature=receipt.MinerSignature(miner.public_bytes, miner.sign(statement)))


def document_of(fields: receipt.ReceiptFields, result: dict[str, Any] | None = None) -> dict[str, Any]:
    """The signed document of these fields."""
    return receipt.to_json(fields, receipt.sign(fields, COORDINATOR), result)


def prompt_job() -> tuple[receipt.ReceiptFields, dict[str, Any], dict[str, Any]]:
    """A prompt answered and signed: fields, result, request."""
    request = jobspec.build_request(
        "llm_inference", model="aitbc-starter", body={"prompt": "What is a receipt? \u2713"}
    )
    answer = {"text": 'A "receipt" is a signed\nstatement. \u2713', "finish_reason": "stop"}
    return *make(request, answer, usage=metering.Usage(9, 12)), request


def chat_job() -> tuple[receipt.ReceiptFields, dict[str, Any], dict[str, Any]]:
    """A chat whose engine claims more than can be billed, at a tiny price."""
    request = jobspec.build_request(
        "llm_inference",
        body={"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]},
        params={"max_tokens": 4, "temperature": 1.0, "seed": 7, "stop": ["\n"]},
    )
    fields, result = make(request, "Hello", usage=metering.Usage(21, 900), unit_price="0.00000123", number=2)
    return fields, result, request


def embedding_job() -> tuple[receipt.ReceiptFields, dict[str, Any], dict[str, Any]]:
    """Embeddings by a miner that neither counts tokens nor signs."""
    request = jobspec.build_request("embedding", model="nomic-embed-text", body={"input": ["one", "two"]})
    vectors = [[0.25, -1, 1e-7, 0.0001], [3e-5, 1.5, 0, 123456.789]]
    fields, result = make(request, {"embeddings": vectors}, unit_price="2", miner=None, number=3)
    return fields, result, request


def free_job() -> tuple[receipt.ReceiptFields, dict[str, Any], dict[str, Any]]:
    """A job of a volunteer network: signed, not counted by the engine, and free."""
    request = jobspec.build_request("llm_inference", body={"prompt": "ping"})
    return *make(request, "", unit_price="0", number=4), request


def auto_job() -> tuple[receipt.ReceiptFields, dict[str, Any], dict[str, Any]]:
    """The prompt in version 2, paid at once."""
    fields, result, request = prompt_job()
    return fields._replace(payment="auto"), result, request


def manual_job() -> tuple[receipt.ReceiptFields, dict[str, Any], dict[str, Any]]:
    """The prompt in version 2, paid by hand, or by itself three days later."""
    fields, result, request = prompt_job()
    return (
        fields._replace(payment="manual", release_after=fields.completed_at + 3 * 86_400),
        result,
        request,
    )


def named_job(
    job: Any = auto_job, network_id: str = NETWORK_ID
) -> tuple[receipt.ReceiptFields, dict[str, Any], dict[str, Any]]:
    """A job of version 2 in version 3: receipt and statement name the network."""
    fields, result, request = job()
    return signed_by_miner(fields._replace(network_id=network_id)), result, request


def named_manual_job() -> tuple[receipt.ReceiptFields, dict[str, Any], dict[str, Any]]:
    """The prompt in version 3, paid by hand."""
    return named_job(manual_job)


def named_unsigned_job() -> tuple[receipt.ReceiptFields, dict[str, Any], dict[str, Any]]:
    """Embeddings in version 3, by a miner that does not sign: the coordinator names the network all the same."""
    fields, result, request = embedding_job()
    return fields._replace(payment="auto", network_id=NETWORK_ID), result, request


JOBS = {
    "named": named_job,
    "named_manual": named_manual_job,
    "named_unsigned": named_unsigned_job,
    "auto": auto_job,
    "manual": manual_job,
    "prompt": prompt_job,
    "chat_clipped": chat_job,
    "embedding_unsigned": embedding_job,
    "free": free_job,
}


def _valid(name: str) -> dict[str, Any]:
    fields, result, request = JOBS[name]()
    signature = receipt.sign(fields, COORDINATOR)
    miner = fields.miner_signature
    return {
        "name": name,
        "request": canonical.encode(request).decode(),
        "prompt_hash": fields.prompt_hash,
        "result": jobspec.result_text(fields.job_type, result),
        "result_hash": fields.result_hash,
        "result_statement": None if miner is None else receipt.statement_of(fields).decode(),
        "miner_sig": None if miner is None else signing.encode_b64(miner.sig),
        "signed": receipt.signed_bytes(fields).decode(),
        "sig": signing.encode_b64(signature.sig),
        "document": compact(receipt.to_json(fields, signature)).decode(),
        "document_with_result": compact(receipt.to_json(fields, signature, result)).decode(),
    }


def _invalid() -> list[dict[str, str]]:
    fields, result, _ = prompt_job()
    good = document_of(fields, result)
    text = compact(good).decode()
    overcharged = fields._replace(price_units=fields.price_units + 1)
    greedy = fields._replace(fee_units=fields.price_units + 1)
    more = fields._replace(units=fields.units + 1)
    foreign = fields._replace(chain_id="ait-othernet", miner_signature=None, claimed_tokens=None)
    unsigned = fields._replace(miner_signature=None)
    stranger = receipt.to_json(fields, receipt.sign(fields, MINER), result)
    named = named_job()[0]
    network = document_of(named, result)
    auto, manual = (document_of(job()[0], result) for job in (auto_job, manual_job))
    cases = [
        ("price is not units times unit price", document_of(overcharged)),
        ("fee above price", document_of(greedy)),
        ("units are not prompt plus completion tokens", document_of(more)),
        ("keys of another chain", document_of(foreign)),
        ("claimed tokens without a miner signature", document_of(unsigned)),
        ("signed by a key that is not published", stranger),
        ("another result", {**good, "result": {"text": "Another answer."}}),
        ("result with a field that no hash covers", {**good, "result": {**good["result"], "note": "x"}}),
        ("unknown field", {**good, "note": "x"}),
        ("missing field", {name: value for name, value in good.items() if name != "proof"}),
        ("unknown proof", {**good, "proof": "c2sp.org/tlog-proof@v1"}),
        ("id is not receipt_id", {**good, "id": good["job_id"]}),
        ("hash in upper case", {**good, "prompt_hash": good["prompt_hash"].upper()}),
        ("version 1 that says how it is paid", {**good, "payment": "auto", "release_after": None}),
        ("version 2 that does not", {**good, "version": "aitbc/receipt/v2"}),
        ("an automatic payment with a time", {**auto, "release_after": manual["release_after"]}),
        ("a manual payment without one", {**manual, "release_after": None}),
        ("a manual payment called automatic", {**manual, "payment": "auto", "release_after": None}),
        ("a payment of a third kind", {**auto, "payment": "later"}),
        ("version 3 that names no network", {n: v for n, v in network.items() if n != "network_id"}),
        ("version 2 that names one", {**network, "version": "aitbc/receipt/v2"}),
        ("a network id in upper case", {**network, "network_id": NETWORK_ID.upper()}),
        ("a network id of null", {**network, "network_id": None}),
        ("another network of the name", document_of(named_job(network_id=OTHER_NETWORK_ID)[0], result)),
        (
            "a statement that the miner made on another network",
            document_of(signed_by_miner(named, network_id=OTHER_NETWORK_ID), result),
        ),
        (
            "a statement of version 1 in version 3",
            document_of(signed_by_miner(named, network_id=""), result),
        ),
        (
            "a statement of version 2 in a receipt of version 2",
            document_of(signed_by_miner(auto_job()[0], network_id=NETWORK_ID), result),
        ),
        ("a version to come", {**network, "version": "aitbc/receipt/v4"}),
    ]
    texts = [
        ("a price with a superfluous zero", text.replace('"price":0.00021', '"price":0.000210')),
        ("a count with a fraction", text.replace('"units":21', '"units":21.0')),
        ("a repeated field", text.replace('"client":"alice"', '"client":"mallory","client":"alice"')),
        ("white space of its own", text.replace('"units":21', '"units": 21')),
        ("an escape of its own", text.replace('"alice"', '"\\u0061lice"')),
        ("base64 in another spelling", _respelled_signature(good)),
    ]
    texts += [(why, compact(document).decode()) for why, document in cases]
    return [{"why": why, "document": changed} for why, changed in texts]


INDEX, SIZE = 21, 29


def _proven(name: str, index: int, size: int) -> dict[str, Any]:
    fields, result, _ = JOBS[name]()
    return {
        "name": name,
        "leaf": leaf_of(fields, receipt.sign(fields, COORDINATOR)).decode(),
        "index": index,
        "tree_size": size,
        "document": compact(proven(fields, result, index=index, size=size)).decode(),
    }


def _unproven() -> list[dict[str, str]]:
    """Proofs that fail the policy, each in one of its checks."""
    fields, result, _ = prompt_job()
    good = proven(fields, result, index=INDEX, size=SIZE)
    proof: str = good["proof"]
    tree = tree_with(leaf_of(fields, receipt.sign(fields, COORDINATOR)), INDEX, SIZE)
    text = checkpoint_of(tree).text
    older = checkpoint_of(tree_with(tree.leaves[INDEX], INDEX, SIZE - 1), witnesses=(0, 1))
    stranger = cosign(text, "witness.example/w9", MINER, COSIGNED_AT_S)
    cosigned = cosign(text, WITNESSES[1].name, WITNESS_KEYS[1], COSIGNED_AT_S)
    wrong = dataclasses.replace(cosigned, signature=cosigned.signature[:8] + bytes(64))
    plain = sign_note(text, WITNESSES[1].name, WITNESS_KEYS[1])

    def cosigned_by(*witnesses: int, more: Any = ()) -> str:
        return prove(tree, INDEX, checkpoint_of(tree, witnesses=witnesses, more=more))

    cases = [
        ("proof", "no proof", None),
        ("proof", "an extra line", proof.replace("index 21", "extra AAAA\nindex 21")),
        ("proof", "an index with a leading zero", proof.replace("index 21", "index 021")),
        ("proof", "cut short", proof[:-1]),
        ("inclusion", "another index", proof.replace("index 21", "index 20")),
        ("inclusion", "another leaf's proof", prove(tree, INDEX - 1, checkpoint_of(tree, witnesses=(0, 1)))),
        (
            "checkpoint",
            "another log's checkpoint",
            prove(tree, INDEX, checkpoint_of(tree, witnesses=(0, 1), origin="aitbc/ait-othernet")),
        ),
        (
            "checkpoint",
            "a checkpoint signed by another key",
            prove(tree, INDEX, checkpoint_of(tree, witnesses=(0, 1), key=MINER)),
        ),
        ("witnesses", "one witness where two are needed", cosigned_by(0)),
        ("witnesses", "one witness twice", cosigned_by(0, 0)),
        ("witnesses", "a second witness that is not the policy's", cosigned_by(0, more=(stranger,))),
        ("witnesses", "a second witness's plain signature", cosigned_by(0, more=(plain,))),
        ("witnesses", "a wrong cosignature beside two good ones", cosigned_by(0, 2, more=(wrong,))),
        ("witnesses", "cosignatures of an older checkpoint", cosigned_by(more=older.signatures[1:])),
    ]
    return [
        {"why": why, "check": check, "document": compact({**good, "proof": changed}).decode()}
        for check, why, changed in cases
    ]


def _respelled_signature(document: dict[str, Any]) -> str:
    # The last character before the padding holds four bits that mean nothing; readers in use ignore them.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    sig = document["signature"]["sig"]
    last = alphabet[alphabet.index(sig[-3]) | 1]
    changed = {**document, "signature": {**document["signature"], "sig": sig[:-3] + last + "=="}}
    return compact(changed).decode()


def build() -> dict[str, Any]:
    """The whole vector file."""
    return {
        "about": "Test vectors of docs/formats/receipt.md. Texts are UTF-8; seeds and hashes are hex.",
        "coordinator_seed": COORDINATOR.seed.hex(),
        "miner_seed": MINER.seed.hex(),
        "witness_seeds": [key.seed.hex() for key in WITNESS_KEYS],
        "keys": NETWORK_KEYS.to_json(),
        "policy": POLICY.to_json(),
        "policy_of_network": NETWORK_POLICY.to_json(),
        "valid": [_valid(name) for name in JOBS],
        "invalid": _invalid(),
        "proven": [
            _proven("named", INDEX, SIZE),
            _proven("named_unsigned", INDEX, SIZE),
            _proven("prompt", INDEX, SIZE),
            _proven("manual", INDEX, SIZE),
            _proven("embedding_unsigned", 0, 1),
            _proven("free", 299, 300),
        ],
        "unproven": _unproven(),
    }


if __name__ == "__main__":
    VECTORS_FILE.write_text(json.dumps(build(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
