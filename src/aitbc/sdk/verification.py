"""A receipt held against the job that it is of, as its client knows it."""

from __future__ import annotations

from dataclasses import replace

from aitbc.core import jobspec
from aitbc.core.money import parse_ait
from aitbc.core.receipt import Check, ReceiptFields, Verification
from aitbc.sdk.fields import plain
from aitbc.sdk.job_models import Job


def of_job(found: Verification, job: Job) -> Verification:
    """The verification with two more checks: `job` (id, model, price, miner) and `prompt`, `answer` (their hashes)."""
    fields = found.fields
    if fields is None:
        return found
    return replace(
        found, checks=(*found.checks, _job(fields, job), _prompt(fields, job), _answer(fields, job))
    )


def _job(fields: ReceiptFields, job: Job) -> Check:
    for name, same in (
        ("job_id", fields.job_id == job.job_id),
        ("receipt_id", fields.receipt_id == job.receipt_id),
        ("model", fields.model == job.model),
        ("miner_id", fields.miner_id == job.miner_id),
        ("price", job.price is not None and fields.price_units == parse_ait(job.price)),
    ):
        if not same:
            return Check("job", False, f"the receipt's {name} is not the job's")
    return Check("job", True, "the receipt is of this job: its model, miner and price")


def _prompt(fields: ReceiptFields, job: Job) -> Check:
    if not job.parameters:
        return Check(
            "prompt", None, "what was asked is not in the job (any more); its hash was not recomputed"
        )
    try:
        request = jobspec.request_from_parameters(job.job_type, plain(job.parameters))
    except ValueError as error:
        return Check("prompt", None, f"what was asked cannot be read: {error}")
    if jobspec.prompt_hash(request) != fields.prompt_hash:
        return Check("prompt", False, "what was asked does not hash to prompt_hash")
    return Check("prompt", True, "what was asked hashes to prompt_hash")


def _answer(fields: ReceiptFields, job: Job) -> Check:
    if job.output is None:
        return Check("answer", None, "the answer is not in the job (any more); its hash was not recomputed")
    try:
        answer = jobspec.job_type_named(job.job_type).read_result(plain(job.output))
        hashed = jobspec.result_hash(job.job_type, answer)
    except ValueError as error:
        return Check("answer", False, str(error))
    if hashed != fields.result_hash:
        return Check("answer", False, "the job's answer does not hash to result_hash")
    return Check("answer", True, "the job's answer hashes to result_hash")
