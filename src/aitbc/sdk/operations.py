"""The operations of the two clients, each once: a flow (see `transport`). No I/O happens here.

Those of payments and receipts are in `payments` and `receipt_operations`; a feature with more than a few has its own.

Where a name of a job, receipt or miner goes into a path it is percent-encoded, so that no text can reach
another path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Unpack

from aitbc.sdk.answers import id_path, read_items, read_one, read_page
from aitbc.sdk.errors import (
    AitbcClientError,
    Conflict,
    CoordinatorUnreachable,
    JobFailed,
    ServerError,
    WaitTimeout,
)
from aitbc.sdk.job_models import BatchItem, Explanation, Job, JobEvent
from aitbc.sdk.models import Balance, Health, Miner, Page, Quote
from aitbc.sdk.requests import JobBody, JobOptions, chat_job, embedding_job, prompt_job
from aitbc.sdk.statement_models import Statement
from aitbc.sdk.transport import RETRY_STATUSES, Answer, Call, Flow, Now, Sleep, send

OnProgress = Callable[[Job], None]
OnOutage = Callable[[AitbcClientError | None], None]

LONG_POLL_S = 30.0
"""How long one wait for a result asks the coordinator to hold its answer."""

WATCH_POLLS_S = (1.0, 1.0, 2.0, 2.0, 3.0, 5.0)
"""The same while somebody watches a pending job, whose start is news too; the last repeats."""

OUTAGE_S = 60.0
"""A wait goes on through so long a time without any answer, as in a coordinator's restart."""


def submit(prompt: str, *, idempotency_key: str | None = None, **options: Unpack[JobOptions]) -> Flow[Job]:
    """Submit a prompt; the job as admitted, with `price_held` reserved. Raises `PaymentRequired`.

    `idempotency_key`: submit under this key again, even from another process, and the first job is returned.
    """
    return submit_job(prompt_job(prompt, **options), idempotency_key=idempotency_key)


def submit_chat(
    messages: Sequence[Mapping[str, str]],
    *,
    idempotency_key: str | None = None,
    **options: Unpack[JobOptions],
) -> Flow[Job]:
    """Submit a conversation; else as `submit`."""
    return submit_job(chat_job(messages, **options), idempotency_key=idempotency_key)


def embed(
    inputs: str | Sequence[str], *, idempotency_key: str | None = None, **options: Unpack[JobOptions]
) -> Flow[Job]:
    """Submit texts to be embedded; else as `submit`. The vectors are the finished job's `embeddings`."""
    return submit_job(embedding_job(inputs, **options), idempotency_key=idempotency_key)


def submit_job(job: JobBody, *, idempotency_key: str | None = None) -> Flow[Job]:
    """Submit a body made by `prompt_job`, `chat_job` or `embedding_job`."""
    path = "/v1/client/jobs" if "job_type" in job else "/v1/jobs"
    return send(
        Call("POST", path, read_one(Job.from_json), body=job, creates=True, idempotency_key=idempotency_key)
    )


def run(
    job: str | JobBody,
    *,
    timeout_s: float | None = None,
    on_progress: OnProgress | None = None,
    idempotency_key: str | None = None,
    **options: Unpack[JobOptions],
) -> Flow[Job]:
    """Submit a prompt (or a job body) and wait for its result. Raises `JobFailed`, `WaitTimeout`."""
    submitted = yield from submit_job(_body(job, options), idempotency_key=idempotency_key)
    if on_progress:
        on_progress(submitted)
    return (yield from wait(submitted, timeout_s=timeout_s, on_progress=on_progress))


def batch(jobs: Sequence[str | JobBody], *, idempotency_key: str | None = None) -> Flow[list[BatchItem]]:
    """Submit up to 1000 prompts or job bodies at once; each is admitted or refused by itself, in order."""
    body = {"jobs": [_body(job, {}) for job in jobs]}
    return send(
        Call(
            "POST",
            "/v1/jobs/batch",
            read_items(BatchItem.from_json, "items"),
            body=body,
            creates=True,
            idempotency_key=idempotency_key,
        )
    )


def job(job_id: str) -> Flow[Job]:
    """A job's present state."""
    return send(Call("GET", id_path("/v1/jobs/{}", job_id), read_one(Job.from_json)))


def jobs(
    *, status: str | None = None, limit: int = 20, offset: int = 0, cursor: str | None = None
) -> Flow[Page[Job]]:
    """The account's jobs, newest first; at most 100 at a time. `total` counts all that match; `cursor`:
    `next_cursor` of the page before."""
    query = {"status": status, "limit": limit, "offset": offset, "cursor": cursor}
    return send(Call("GET", "/v1/jobs", read_page(Job.from_json), query=query))


def cancel(job_id: str) -> Flow[Job]:
    """Cancel a job. What a run has cost so far is paid (`price`), the rest is returned. Raises `Conflict` where
    it has ended another way."""
    path = id_path("/v1/jobs/{}/cancel", job_id)
    try:
        return (yield from send(Call("POST", path, read_one(Job.from_json))))
    except Conflict:
        # An earlier try of this very call, or of somebody else's, may have cancelled it: then all is as
        # wished.
        ended = yield from job(job_id)
        if ended.status == "cancelled":
            return ended
        raise


def result(job_id: str, *, wait_s: float = 0.0) -> Flow[Job]:
    """A job, once it ends or after `wait_s` seconds (the coordinator allows 60), whichever is first."""
    query = {"wait": wait_s or None}
    return send(
        Call(
            "GET", id_path("/v1/jobs/{}/result", job_id), read_one(Job.from_json), query=query, wait_s=wait_s
        )
    )


def wait(
    job: str | Job,
    *,
    timeout_s: float | None = None,
    on_progress: OnProgress | None = None,
    on_outage: OnOutage | None = None,
    check: bool = True,
) -> Flow[Job]:
    """Wait until a job has ended. `on_progress` hears of each change of status, miner or place in the queue,
    `on_outage` of each try that the coordinator did not answer, and with None once it answers again.

    Goes on through an outage of up to a minute. Raises `WaitTimeout` after `timeout_s`, and, unless `check`
    is false, `JobFailed` where the job did not complete.
    """
    job_id, seen = (job, None) if isinstance(job, str) else (job.job_id, job)
    waited, away = seen, False
    start_s: float = yield Now()
    heard_s, polls = start_s, 0
    while seen is None or not seen.done:
        now_s: float = yield Now()
        left_s = LONG_POLL_S if timeout_s is None else start_s + timeout_s - now_s
        if left_s <= 0 and seen is not None and timeout_s is not None:
            raise WaitTimeout(seen, timeout_s)
        hold_s = max(0.0, min(left_s, _hold_s(seen, polls, on_progress is not None)))
        try:
            state = yield from result(job_id, wait_s=round(hold_s, 3))
        except (CoordinatorUnreachable, ServerError) as error:
            now_s = yield Now()
            if now_s - heard_s > OUTAGE_S or (timeout_s is not None and now_s - start_s >= timeout_s):
                raise
            if isinstance(error, ServerError) and error.status not in RETRY_STATUSES:
                raise
            away = True
            if on_outage:
                on_outage(error)
            yield Sleep(1.0)
            continue
        if away and on_outage:
            on_outage(None)
        away = False
        polls += 1
        heard_s = yield Now()
        if on_progress and (seen is None or _news(state) != _news(seen)):
            on_progress(state)
        if not state.done:
            waited = state
        seen = state
        if not seen.done and heard_s - now_s < hold_s / 2:
            # The coordinator did not hold the answer back (it is stopping, or allows less): do not spin.
            yield Sleep(min(0.5, hold_s))
    if check and seen.status != "completed":
        raise JobFailed(seen, waited)
    return seen


def _hold_s(seen: Job | None, polls: int, watched: bool) -> float:
    if not watched:
        return LONG_POLL_S
    if seen is None:
        return 0.0
    return WATCH_POLLS_S[min(polls, len(WATCH_POLLS_S) - 1)]


def _news(state: Job) -> tuple[object, ...]:
    return state.status, state.miner_id, state.queue_position, state.attempts, state.warnings


def events(job_id: str) -> Flow[list[JobEvent]]:
    """What happened to a job, oldest first."""
    return send(Call("GET", id_path("/v1/jobs/{}/events", job_id), read_items(JobEvent.from_json)))


def explain(job_id: str) -> Flow[Explanation]:
    """Why a job waits, runs or ended as it did, and the nearest change that would let a waiting one run."""
    return send(Call("GET", id_path("/v1/jobs/{}/explain", job_id), read_one(Explanation.from_json)))


def quote(job: str | JobBody, **options: Unpack[JobOptions]) -> Flow[Quote]:
    """What a prompt (or a job body) would cost now, and how long it would wait. Nothing is reserved."""
    return send(Call("POST", "/v1/jobs/quote", read_one(Quote.from_json), body=_body(job, options)))


def miners() -> Flow[list[Miner]]:
    """The network's miners."""
    return send(Call("GET", "/v1/miners", read_items(Miner.from_json)))


def miner(miner_id: str) -> Flow[Miner]:
    """One miner, with its reputation. Raises `NotFound`."""
    return send(Call("GET", id_path("/v1/miners/{}", miner_id), read_one(Miner.from_json)))


def balance() -> Flow[Balance]:
    """The key's account: its money in AIT, and the key's own limit."""
    return send(Call("GET", "/v1/account", read_one(Balance.from_json)))


def statement(
    start: date | str | None = None,
    end: date | str | None = None,
    *,
    limit: int = 1000,
    cursor: str | None = None,
) -> Flow[Statement]:
    """What moved the account's balance from `start` to before `end`, oldest first, and the totals.

    Times are aware datetimes, dates, or text of either; left out: from the beginning, until now. At most
    1000 movements at a time; `cursor`: `next_cursor` of the page before.
    """
    query = {"from": _when(start), "to": _when(end), "limit": limit, "cursor": cursor}
    return send(Call("GET", "/v1/statements", read_one(Statement.from_json), query=query))


def health() -> Flow[Health]:
    """Whether the coordinator is well, and which it is. Needs no key."""
    return send(Call("GET", "/health", _health))


def _when(moment: date | str | None) -> str | None:
    if isinstance(moment, datetime) and moment.tzinfo is None:
        raise ValueError("a time needs its zone")
    return moment.isoformat() if isinstance(moment, date) else moment


def _body(job: str | JobBody, options: JobOptions) -> JobBody:
    if isinstance(job, str):
        return prompt_job(job, **options)
    if options:
        raise TypeError("options go into the job body where one is passed")
    return job


def _health(answer: Answer) -> Health:
    return Health.from_json(answer.data, answer.headers.get("date"))
