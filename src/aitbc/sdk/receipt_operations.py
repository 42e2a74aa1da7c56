"""Operations of receipts: listed, fetched, and verified with the coordinator's keys or one's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aitbc.sdk.answers import id_path, read_items, read_object, read_one, read_page
from aitbc.sdk.errors import UnexpectedAnswer
from aitbc.sdk.fields import plain
from aitbc.sdk.job_models import Job
from aitbc.sdk.models import Page, Receipt
from aitbc.sdk.transport import Answer, Call, Flow, send

if TYPE_CHECKING:
    from aitbc.core.receipt import KeySet, Policy, Verification


def receipts(
    *,
    client: str | None = None,
    provider: str | None = None,
    model: str | None = None,
    job_id: str | None = None,
    miner_id: str | None = None,
    limit: int = 20,
    cursor: str | None = None,
) -> Flow[Page[Receipt]]:
    """Public receipts, newest first, at most 100 at a time; `cursor`: `next_cursor` of the page before."""
    query = {
        "client": client,
        "provider": provider,
        "model": model,
        "job_id": job_id,
        "miner_id": miner_id,
        "limit": limit,
        "cursor": cursor,
    }
    return send(Call("GET", "/v1/receipts", read_page(Receipt.from_json), query=query))


def receipt(receipt_id: str) -> Flow[Receipt]:
    """One public receipt: hashes of prompt and result, never their text."""
    return send(Call("GET", id_path("/v1/receipts/{}", receipt_id), read_one(Receipt.from_json)))


def job_receipts(job_id: str) -> Flow[list[Receipt]]:
    """The receipt of one's own job (none before it is completed), with the result that its hash covers."""
    return send(Call("GET", id_path("/v1/client/jobs/{}/receipts", job_id), read_items(Receipt.from_json)))


def keys() -> Flow[KeySet]:
    """The coordinator's public keys: save them once, and verify receipts offline ever after."""
    return send(Call("GET", "/v1/keys", _key_set))


def verify_receipt(
    receipt: str | Receipt | Job | Mapping[str, Any],
    *,
    keys: KeySet | None = None,
    policy: Policy | None = None,
) -> Flow[Verification]:
    """Check a receipt, the one of this id, or that of a job of one's own: `.ok`, and `.checks` one by one.

    Of a job also whether the receipt is of that job, question and answer. `.unchecked` says what could not be
    looked at. Without `keys` or a `policy` the coordinator is asked for its keys, which proves only that it
    stands by its own receipt; whoever does not trust it passes what was saved earlier or came another way.
    """
    # Here, since the signature library costs start-up time that few calls need.
    from aitbc.core.receipt import verify
    from aitbc.sdk.verification import of_job

    document: Any
    if isinstance(receipt, Job):
        document = yield from _document_of(receipt)
    elif isinstance(receipt, str):
        document = (yield from _receipt_by_id(receipt)).document
    else:
        document = receipt.document if isinstance(receipt, Receipt) else receipt
    if keys is None and (policy is None or not policy.receipt_keys):
        keys = yield from _fetch_keys()
    found = verify(plain(document), keys, policy)
    return of_job(found, receipt) if isinstance(receipt, Job) else found


def _document_of(job: Job) -> Flow[Mapping[str, Any]]:
    """The receipt of one's own job with its result. Raises ValueError for a job that has none."""
    if job.receipt_id is None:
        raise ValueError(f"job {job.job_id} has no receipt: it is {job.status}")
    own = yield from job_receipts(job.job_id)
    for one in own:
        if one.receipt_id == job.receipt_id:
            return one.document
    raise UnexpectedAnswer(f"the coordinator does not list receipt {job.receipt_id} with its job")


_receipt_by_id = receipt
_fetch_keys = keys


def _key_set(answer: Answer) -> KeySet:
    from aitbc.core.receipt import KeySet

    try:
        return KeySet.from_json(read_object(answer.data))
    except ValueError as error:
        raise UnexpectedAnswer(f"the coordinator's keys cannot be read: {error}") from error
