"""One job, from its assignment to the body that is posted for it: the answer signed, or the failure with its
cause."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from aitbc.core.causes import Cause
from aitbc.core.jobspec import InvalidResult, JobType, UnknownJobType, job_type_named
from aitbc.core.jobspec import result_hash as hash_result
from aitbc.core.metering import Usage, claimed_tokens
from aitbc.core.receipt import result_statement
from aitbc.core.signing import ALGORITHM, PrivateKey, encode_b64
from aitbc.miner.answers import Assignment
from aitbc.miner.backoff import Backoff
from aitbc.miner.engines.base import (
    Engine,
    EngineError,
    EngineNotReady,
    EngineResult,
    clean_text,
    without_paths,
)

log = logging.getLogger(__name__)

READY_FIRST_S = 0.5
READY_CAP_S = 5.0
"""A job that waits for its engine asks again after the first time, then less often, up to the second."""

BUSY_WAIT_S = 60.0
"""How long a job waits for an engine that says it is busy, before it goes to another miner."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs results: this miner's key, its id, and the chain and network that the results are for."""

    key: PrivateKey
    miner_id: str
    chain_id: str
    network_id: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished job: the body for `complete`. `tokens` as the engine counted, None where it did not."""

    body: dict[str, Any]
    tokens: int | None


@dataclass(frozen=True, slots=True)
class Failure:
    """A job that failed here. `retryable` None leaves that to the coordinator."""

    cause: Cause
    message: str
    retryable: bool | None = None

    def body(self, miner_id: str, job_id: str, lease_id: str | None = None) -> dict[str, Any]:
        """The body for `fail`."""
        body: dict[str, Any] = {
            "miner_id": miner_id,
            "job_id": job_id,
            "cause": str(self.cause),
            "message": clean_text(without_paths(self.message)),
        }
        if self.retryable is not None:
            body["retryable"] = self.retryable
        if lease_id is not None:
            body["lease_id"] = lease_id
        return body


class Watch(Protocol):
    """Who follows a job's way through the engine."""

    def progress(self, pieces: int) -> None:
        """So many pieces (about tokens) are generated: the engine is at work."""
        ...

    def waiting(self, reason: str) -> None:
        """The engine takes no job yet; this one waits for it, its lease kept alive."""
        ...


async def work(
    engine: Engine, assignment: Assignment, signer: Signer, limit_s: float, watch: Watch
) -> Answer | Failure:
    """Run one job within `limit_s`, an engine's loading included. Raises nothing but CancelledError (which
    stops the engine where it can be)."""
    if limit_s <= 0:
        return Failure(Cause.TIMEOUT, "the time that the job may run was over before it began")
    attempt = _Patient(watch)
    try:
        kind = job_type_named(assignment.job_type)
        async with asyncio.timeout(limit_s):
            outcome = await attempt.run(engine, assignment.request)
        # Vectors by the hundred take long to check and hash; the heartbeat must not wait for that.
        return await asyncio.to_thread(_checked, kind, assignment, signer, outcome)
    except TimeoutError:
        if attempt.not_ready:
            message = f"the engine was not ready within {limit_s:g} s: {attempt.not_ready}"
            return Failure(Cause.ENGINE_UNAVAILABLE, message)
        return Failure(Cause.TIMEOUT, f"the engine did not finish within {limit_s:g} s")
    except EngineError as error:
        return Failure(error.cause, error.message, error.retryable)
    except UnknownJobType as error:
        return Failure(Cause.BAD_REQUEST, str(error), retryable=True)  # a newer miner may know it
    except InvalidResult as error:
        return Failure(Cause.ENGINE_ERROR, f"the engine's answer is no result: {error}")
    except Exception as error:
        log.exception("job %s: unexpected error in the engine's adapter", assignment.job_id)
        return Failure(Cause.ENGINE_ERROR, f"unexpected {type(error).__name__} in the miner")


class _Patient:
    """Runs a request once the engine takes it. `not_ready`: why it does not yet, "" where it does.

    A loading engine is waited for, as long as the job may take; one that is busy for others only shortly,
    since another miner may have room. Nothing is tried again once the answer has begun.
    """

    def __init__(self, watch: Watch) -> None:
        self.not_ready = ""
        self._watch = watch
        self._has_begun = False

    async def run(self, engine: Engine, request: Mapping[str, Any]) -> EngineResult:
        backoff = Backoff(READY_FIRST_S, READY_CAP_S)
        began_s = time.monotonic()
        while True:
            try:
                return await engine.run(request, self._progress)
            except EngineNotReady as error:
                waited_s = time.monotonic() - began_s
                if self._has_begun or not (error.is_loading or waited_s < BUSY_WAIT_S):
                    raise
                self.not_ready = error.message
                self._watch.waiting(error.message)
            await asyncio.sleep(backoff.next_s())

    def _progress(self, pieces: int) -> None:
        self._has_begun, self.not_ready = True, ""
        self._watch.progress(pieces)


def _checked(kind: JobType, assignment: Assignment, signer: Signer, outcome: EngineResult) -> Answer:
    """The signed body of a result. Raises InvalidResult."""
    result = kind.check_result(dict(assignment.request), outcome.result)
    usage = _usage(outcome)
    prompt_tokens, completion_tokens = claimed_tokens(usage)
    statement = result_statement(
        chain_id=signer.chain_id,
        job_id=assignment.job_id,
        miner_id=signer.miner_id,
        prompt_hash=assignment.prompt_hash,
        result_hash=hash_result(assignment.job_type, result),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        network_id=signer.network_id,
    )
    body: dict[str, Any] = {
        "miner_id": signer.miner_id,
        "job_id": assignment.job_id,
        "result": result,
        "signature": {
            "alg": ALGORITHM,
            "key_id": signer.key.key_id,
            "sig": encode_b64(signer.key.sign(statement)),
        },
    }
    if usage is not None:
        body["usage"] = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
    if assignment.lease_id is not None:
        body["lease_id"] = assignment.lease_id
    return Answer(body, None if usage is None else sum(usage))


def _usage(outcome: EngineResult) -> Usage | None:
    """Both counts or none: half a count would bill half a job, where the coordinator's estimate bills all of
    it."""
    if outcome.prompt_tokens is None or outcome.completion_tokens is None:
        return None
    return Usage(outcome.prompt_tokens, outcome.completion_tokens)
