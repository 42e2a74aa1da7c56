"""One job, from its assignment to the body that is posted for it: the answer signed, or the failure with its
cause."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from aitbc.core.jobspec import InvalidResult, JobType, UnknownJobType, job_type_named
from aitbc.core.jobspec import result_hash as hash_result
from aitbc.core.metering import Usage, claimed_tokens
from aitbc.core.receipt import result_statement
from aitbc.core.signing import ALGORITHM, PrivateKey, encode_b64
from aitbc.miner.client import Assignment
from aitbc.miner.engines.base import Cause, Engine, EngineError, EngineResult, Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs results: this miner's key, its id, and the chain that the results are for."""

    key: PrivateKey
    miner_id: str
    chain_id: str


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

    def body(self, miner_id: str, job_id: str) -> dict[str, Any]:
        """The body for `fail`."""
        body: dict[str, Any] = {
            "miner_id": miner_id,
            "job_id": job_id,
            "cause": str(self.cause),
            "message": self.message,
        }
        return body if self.retryable is None else {**body, "retryable": self.retryable}


async def work(
    engine: Engine, assignment: Assignment, signer: Signer, limit_s: float, progress: Progress
) -> Answer | Failure:
    """Run one job within `limit_s`. Raises nothing but CancelledError (which stops the engine where it can
    be)."""
    try:
        kind = job_type_named(assignment.job_type)
        async with asyncio.timeout(limit_s):
            outcome = await engine.run(assignment.request, progress)
        # Vectors by the hundred take long to check and hash; the heartbeat must not wait for that.
        return await asyncio.to_thread(_checked, kind, assignment, signer, outcome)
    except TimeoutError:
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
