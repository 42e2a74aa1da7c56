"""A result arrives: the job ends, the hold is settled and the receipt is signed, all in one transaction."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import (
    AitbcError,
    InvalidRequest,
    JobNotFound,
    JobNotRunning,
    LeaseLost,
    ResultTooLarge,
    SignatureInvalid,
    SignatureRequired,
    StatementOldVersion,
)
from aitbc.coordinator.flows.shared import escrow, retries
from aitbc.coordinator.flows.shared.context import FlowContext
from aitbc.coordinator.jobs import service as jobs
from aitbc.coordinator.jobs import texts as job_texts
from aitbc.coordinator.jobs.rows import JobRow
from aitbc.coordinator.miners import service as miners
from aitbc.coordinator.miners import standing
from aitbc.coordinator.miners.rows import MinerRow
from aitbc.coordinator.receipts import service as receipts
from aitbc.coordinator.receipts.service import ReceiptRow
from aitbc.core import canonical, jobspec, metering
from aitbc.core import receipt as documents
from aitbc.core.ids import new_id
from aitbc.core.money import price_units
from aitbc.core.signing import ALGORITHM, decode_b64, public_from_text, verify


class ResultSubmission(NamedTuple):
    """What a miner sends. `usage` {prompt_tokens, completion_tokens}; `signature` {alg, key_id, sig}."""

    job_id: str
    result: Any
    usage: Any = None
    lease_id: str | None = None
    signature: dict[str, Any] | None = None
    session: str | None = None


class _Answer(NamedTuple):
    """A result that may be accepted, and what it is billed; `statement` is what the miner has signed."""

    result: dict[str, Any]
    result_hash: str
    metered: metering.Metered
    claimed: tuple[int, int] | None
    signature: documents.MinerSignature | None
    statement: bytes


def complete(
    tx: Tx, ctx: FlowContext, principal: Principal, miner_id: str | None, sent: ResultSubmission
) -> ReceiptRow:
    """Accepts the lease holder's result, once; the same result sent again gets the first receipt.

    Raises MinerNotFound, Forbidden, JobNotFound, LeaseLost, JobNotRunning, InvalidRequest,
    SignatureRequired, SignatureInvalid, StatementOldVersion; each of them changes nothing.
    """
    jobs.ahead(tx, locked=sent.job_id)
    return _complete(tx, ctx, miners.owned(tx, principal.account_id, miner_id), sent)


def complete_batch(
    tx: Tx,
    ctx: FlowContext,
    principal: Principal,
    miner_id: str | None,
    sent: Sequence[ResultSubmission | AitbcError],
) -> list[ReceiptRow | AitbcError]:
    """`complete` for each result by itself; errors stand in the place of what failed."""
    miner = miners.owned(tx, principal.account_id, miner_id)
    return tx.each(
        sent,
        lambda item: _complete(tx, ctx, miner, item),
        lambda items: _complete_together(tx, ctx, miner, items),
    )


def _complete(tx: Tx, ctx: FlowContext, miner: MinerRow, sent: ResultSubmission) -> ReceiptRow:
    job = jobs.lock(tx, sent.job_id)
    if job is not None and job.status == "completed" and job.miner_id == miner.id:
        return _first_receipt(tx, job, sent)
    job = _admit(miner, job, sent)
    answer = _check(tx, ctx, miner, job, sent)
    if answer.signature is not None:
        _check_signed(job, answer.signature, answer.statement)
    fields = _settle(tx, ctx, miner, job, answer)
    body = documents.signed_bytes(fields)
    return receipts.issue(tx, fields, body, documents.sign_bytes(body, ctx.signing_key))


def _check_signed(job: JobRow, made: documents.MinerSignature, statement: bytes) -> None:
    """Raises SignatureInvalid; StatementOldVersion where it is over what earlier miners signed, to say what to do."""
    if verify(made.public_key, statement, made.sig):
        return
    if verify(made.public_key, documents.old_statement(statement), made.sig):
        raise StatementOldVersion(version=documents.RESULT_VERSION, job_id=job.id)
    raise SignatureInvalid(job_id=job.id)


def _complete_together(
    tx: Tx, ctx: FlowContext, miner: MinerRow, sent: Sequence[ResultSubmission | AitbcError]
) -> list[ReceiptRow | AitbcError] | None:
    """`_complete` for all, with their jobs read at once and their signatures shared with another core.

    None where they have to be looked at one by one: a job is named twice, or a signature is not good.
    """
    named = [item.job_id for item in sent if not isinstance(item, AitbcError)]
    if len(set(named)) != len(named):
        return None
    found = jobs.lock_all(tx, named)
    done: list[ReceiptRow | AitbcError | None] = []
    accepted: list[tuple[int, JobRow, _Answer]] = []
    with ctx.signatures(len(named)) as signatures:
        for place, item in enumerate(sent):
            if isinstance(item, AitbcError):
                done.append(item)
                continue
            job = found.get(item.job_id)
            try:
                if job is not None and job.status == "completed" and job.miner_id == miner.id:
                    done.append(_first_receipt(tx, job, item))
                    continue
                job = _admit(miner, job, item)
                answer = _check(tx, ctx, miner, job, item)
            except AitbcError as error:
                done.append(error)
                continue
            if answer.signature is not None:
                signatures.verify(answer.signature.public_key, answer.statement, answer.signature.sig)
            accepted.append((place, job, answer))
            done.append(None)
        drafts: list[tuple[int, documents.ReceiptFields, bytes]] = []
        for place, job, answer in accepted:
            fields = _settle(tx, ctx, miner, job, answer)
            body = documents.signed_bytes(fields)
            signatures.sign(body)
            drafts.append((place, fields, body))
        if not tx.flush():  # everything but the receipts, while the other core signs these
            return None
        signed = signatures.finish()
    if not signed.valid:
        return None
    key_id = ctx.signing_key.key_id
    for (place, fields, body), sig in zip(drafts, signed.signatures, strict=True):
        done[place] = receipts.issue(tx, fields, body, documents.Signature(key_id, sig))
    return [one for one in done if one is not None]


def _admit(miner: MinerRow, job: JobRow | None, sent: ResultSubmission) -> JobRow:
    """The job, where its lease is this miner's."""
    if job is None:
        raise JobNotFound(job_id=sent.job_id)
    if job.status != "running":
        raise JobNotRunning(job_id=job.id, status=job.status)
    if job.miner_id != miner.id or sent.lease_id not in (None, job.lease_id):
        raise LeaseLost(job_id=job.id)
    if not jobs.is_of_session(job, sent.session):
        raise LeaseLost(job_id=job.id)
    return job


def _settle(
    tx: Tx, ctx: FlowContext, miner: MinerRow, job: JobRow, answer: _Answer
) -> documents.ReceiptFields:
    """Ends the job and moves its money; what its receipt states."""
    if not ctx.network_id:
        raise RuntimeError("nothing is signed before the coordinator knows its network")
    price = price_units(answer.metered.units, job.unit_price_units)
    receipt_id = new_id(tx.now_ms)
    if not jobs.complete(tx, job, price, receipt_id, orjson.dumps(answer.result).decode()):
        raise LeaseLost(job_id=job.id)
    run_ms = tx.now_ms - (job.started_at_ms or tx.now_ms)
    retries.contradicted(tx, job)
    own = job.client_id == miner.account_id
    standing.delivered(tx, miner, run_ms, answer.metered.units, for_itself=own)
    fee = escrow.pay(tx, ctx, job, miner.account_id, price)
    return documents.ReceiptFields(
        chain_id=ctx.chain_id,
        receipt_id=receipt_id,
        job_id=job.id,
        job_type=job.job_type,
        client=job.client_id,
        provider=miner.account_id,
        miner_id=miner.id,
        model=job.model,
        units=answer.metered.units,
        unit_type=jobspec.UNIT_TOKENS,
        prompt_tokens=answer.metered.prompt_tokens,
        completion_tokens=answer.metered.completion_tokens,
        metering=answer.metered.source,
        unit_price_units=job.unit_price_units,
        price_units=price,
        fee_units=fee,
        started_at=(job.started_at_ms or tx.now_ms) // 1000,
        completed_at=tx.now_ms // 1000,
        prompt_hash=job.prompt_hash,
        result_hash=answer.result_hash,
        miner_signature=answer.signature,
        claimed_tokens=answer.claimed,
        payment=_payment(job),
        release_after=escrow.release_after_s(tx, ctx, job) or None,
        network_id=ctx.network_id,
    )


def _payment(job: JobRow) -> str:
    """How the job is paid, as its receipt says it."""
    if job.reservation:
        return "booking"
    return "manual" if job.manual_payment else "auto"


def _check(tx: Tx, ctx: FlowContext, miner: MinerRow, job: JobRow, sent: ResultSubmission) -> _Answer:
    """Validates and meters a result; where the miner has a key, its signature must be there (not yet checked)."""
    kind = jobspec.job_type_named(job.job_type)
    try:
        request = json.loads(job_texts.request_text(tx, job.id) or "{}") if kind.result_needs_request else {}
        result = kind.check_result(request, sent.result)
    except ValueError as error:
        raise InvalidRequest(str(error), field="result") from None
    try:
        usage = metering.read_usage(sent.usage)
    except ValueError as error:
        raise InvalidRequest(str(error), field="usage") from None
    result_bytes = kind.result_bytes(result)
    most = kind.most_result_bytes(request, job.completion_bound)
    if len(result_bytes) > most:
        raise ResultTooLarge(job_id=job.id, max_bytes=most, bytes=len(result_bytes))
    metered = metering.meter_within(job.prompt_bound, job.completion_bound, len(result_bytes), usage)
    result_hash = canonical.sha256_hex(result_bytes)
    if not miner.public_key:
        return _Answer(result, result_hash, metered, None, None, b"")
    if sent.signature is None:
        raise SignatureRequired(job_id=job.id)
    claimed = metering.claimed_tokens(usage)
    statement = documents.result_statement(
        chain_id=ctx.chain_id,
        job_id=job.id,
        miner_id=miner.id,
        prompt_hash=job.prompt_hash,
        result_hash=result_hash,
        prompt_tokens=claimed[0],
        completion_tokens=claimed[1],
        network_id=ctx.network_id,
    )
    public_key = public_from_text(miner.public_key)
    try:
        signature = decode_b64(sent.signature["sig"])
    except (AttributeError, KeyError, TypeError, ValueError):
        raise SignatureInvalid(job_id=job.id) from None
    if sent.signature.get("alg") != ALGORITHM:
        raise SignatureInvalid(job_id=job.id)
    made = documents.MinerSignature(public_key=public_key, sig=signature)
    return _Answer(result, result_hash, metered, claimed, made, statement)


def _first_receipt(tx: Tx, job: JobRow, sent: ResultSubmission) -> ReceiptRow:
    """The receipt given before, where this is the same result; JobNotRunning where it is another."""
    tx.flush()  # the job may have been completed by an earlier result of the same batch
    row = receipts.of_job(tx, job.id)
    if row is None:
        raise JobNotFound(job_id=job.id)
    kind = jobspec.job_type_named(job.job_type)
    try:
        request = json.loads(job_texts.request_text(tx, job.id) or "{}") if kind.result_needs_request else {}
        result = kind.check_result(request, sent.result)
    except ValueError as error:
        raise InvalidRequest(str(error), field="result") from None
    if canonical.sha256_hex(kind.result_bytes(result)) != json.loads(row.body)["result_hash"]:
        raise JobNotRunning("The job was completed with another result.", job_id=job.id)
    return row
