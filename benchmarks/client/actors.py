"""The two sides of a job as the load client plays them: what each sends, byte for byte."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from aitbc.core.canonical import sha256_hex
from aitbc.core.receipt import result_statement
from aitbc.core.signing import PrivateKey, encode_b64, public_to_text
from benchmarks.client.http import END, Connection, request_head, with_body

RESULT_TEXT = (
    "A receipt names the job, the model, the tokens that were used and what they cost. The miner signs the "
    "hash of its answer, the coordinator signs the whole, and anyone can check both without asking either."
)
RESULT_HASH = sha256_hex(RESULT_TEXT.encode())
PROMPT = "What does a receipt prove, and to whom?"
USAGE = {"prompt_tokens": 11, "completion_tokens": 48}


class Client:
    """Submits jobs of one model."""

    def __init__(self, key: str, model: str) -> None:
        self.model = model
        self._one = request_head("POST", "/v1/jobs", key)
        self._many = request_head("POST", "/v1/jobs/batch", key)

    def job(self, tag: str = "") -> dict[str, Any]:
        prompt = f"{PROMPT} {tag}" if tag else PROMPT
        return {"prompt": prompt, "model": self.model, "params": {"max_tokens": 64}}

    def submit(self, tag: str = "") -> bytes:
        return with_body(self._one, orjson.dumps(self.job(tag)))

    def submit_batch(self, count: int) -> bytes:
        return with_body(self._many, orjson.dumps({"jobs": [self.job()] * count}))


class Miner:
    """One registered miner with its signing key: asks for work and signs what it answers."""

    def __init__(self, key: str, miner_id: str, chain_id: str) -> None:
        self.miner_id = miner_id
        self.chain_id, self.network_id = chain_id, ""
        self.signing_key = PrivateKey.generate()
        self._api_key = key
        self._result = request_head("POST", "/v1/miner/result", key)
        self._results = request_head("POST", "/v1/miner/results", key)

    async def register(self, connection: Connection, model: str, concurrency: int) -> None:
        body = {
            "miner_id": self.miner_id,
            "models": [{"name": model, "engine": "bench", "price_per_1k": 0.01}],
            "gpus": [{"name": "bench", "memory_gb": 24}],
            "concurrency": concurrency,
            "public_key": public_to_text(self.signing_key.public_bytes),
        }
        head = request_head("POST", "/v1/miner/register", self._api_key)
        registered = await connection.json(with_body(head, orjson.dumps(body)))
        self.network_id = str(registered["network_id"])

    def take(self, count: int, wait_s: float = 0) -> bytes:
        """Asks for up to `count` jobs, waiting for the first."""
        wait = f"&wait={wait_s:g}" if wait_s else ""
        target = f"/v1/miner/jobs?miner_id={self.miner_id}&max={count}{wait}"
        return request_head("GET", target, self._api_key) + END

    def answer(self, assignment: dict[str, Any]) -> dict[str, Any]:
        """The signed result of an assignment."""
        statement = result_statement(
            chain_id=self.chain_id,
            job_id=assignment["job_id"],
            miner_id=self.miner_id,
            prompt_hash=assignment["prompt_hash"],
            result_hash=RESULT_HASH,
            network_id=self.network_id,
            **USAGE,
        )
        return {
            "job_id": assignment["job_id"],
            "result": {"text": RESULT_TEXT, "finish_reason": "stop"},
            "usage": USAGE,
            "lease_id": assignment["lease_id"],
            "signature": {
                "alg": "Ed25519",
                "key_id": self.signing_key.key_id,
                "sig": encode_b64(self.signing_key.sign(statement)),
            },
        }

    def result(self, assignment: dict[str, Any]) -> bytes:
        body = self.answer(assignment)
        body["miner_id"] = self.miner_id
        return with_body(self._result, orjson.dumps(body))

    def results(self, assignments: list[dict[str, Any]]) -> bytes:
        body = {"miner_id": self.miner_id, "results": [self.answer(one) for one in assignments]}
        return with_body(self._results, orjson.dumps(body))


async def registered(
    connections: list[Connection],
    keys: list[str],
    chain_id: str,
    names: list[str],
    model: str,
    concurrency: int,
) -> list[Miner]:
    """Registers a miner of each name, of the keys' accounts in turn, over all connections at once."""
    miners = [Miner(keys[number % len(keys)], name, chain_id) for number, name in enumerate(names)]

    async def register(start: int) -> None:
        for miner in miners[start :: len(connections)]:
            await miner.register(connections[start], model, concurrency)

    await asyncio.gather(*(register(start) for start in range(len(connections))))
    return miners
