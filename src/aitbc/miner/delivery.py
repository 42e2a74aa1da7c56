"""Bringing answers to the coordinator until it has answered for good."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from aitbc.core.causes import Cause
from aitbc.core.money import parse_ait
from aitbc.miner.answers import CoordinatorUnreachable, Delivered, Refused
from aitbc.miner.client import CoordinatorClient
from aitbc.miner.link import KeyRefused, Link
from aitbc.miner.outbox import Entry, Outbox
from aitbc.miner.progress import MinerView, Reporter
from aitbc.miner.work import Failure

GONE_STATUSES = frozenset({404, 409, 410})
"""The job is no longer ours: nothing that we could say of it is of use."""

OUTAGE_STATUSES = frozenset({502, 503, 504})
MAX_SERVER_ERRORS = 5
"""So often an answer meets an error of the coordinator that is no outage (a 500); then it counts as refused."""

MAX_LET_GO = 64


class Delivery:
    """Empties the outbox. One `run` task for a miner; `on_change` is called when the outbox may have
    changed."""

    def __init__(
        self,
        client: CoordinatorClient,
        outbox: Outbox,
        link: Link,
        reporter: Reporter,
        view: MinerView,
    ) -> None:
        self._client = client
        self._outbox = outbox
        self._link = link
        self._reporter = reporter
        self._view = view
        self.on_change: Callable[[], None] = lambda: None
        self._server_errors: dict[str, int] = {}
        self._let_go: dict[str, str | None] = {}
        self._disk = asyncio.Lock()
        self._mail = asyncio.Event()
        self._empty = asyncio.Event()
        self._note()

    async def put(self, kind: Literal["complete", "fail"], job_id: str, body: dict[str, Any]) -> None:
        """Keep an answer on disk and deliver it as soon as can be."""
        async with self._disk:
            await self._store(Entry(kind, job_id, self._outbox.coordinator, body))

    async def renew_lease(self, job_id: str, lease_id: str | None) -> bool:
        """Whether we have the answer of this job, which the coordinator gave us again: it gets the new
        lease."""
        async with self._disk:
            entry = self._outbox.get(job_id)
            if entry is None:
                return False
            if lease_id is not None:
                await self._store(replace(entry, body={**entry.body, "lease_id": lease_id}))
            return True

    def let_go(self) -> set[str]:
        """Jobs of which no report was taken: not to be given to us again under the lease that we let end."""
        return set(self._let_go)

    def was_let_go(self, job_id: str, lease_id: str | None) -> bool:
        """Whether we have let go of this lease; a new lease of the same job is a new try."""
        if job_id not in self._let_go:
            return False
        if self._let_go[job_id] in (None, lease_id):
            return True
        del self._let_go[job_id]
        return False

    async def _store(self, entry: Entry) -> None:
        try:
            await asyncio.to_thread(self._outbox.write, entry)
        except OSError as error:
            self._reporter.event("outbox_full_disk", job_id=entry.job_id, reason=str(error))
        self._outbox.keep(entry)
        self._note()

    async def _remove(self, job_id: str) -> None:
        async with self._disk:
            try:
                await asyncio.to_thread(self._outbox.erase, job_id)
            except OSError as error:
                # The coordinator is asked about it again at the next start, and answers as it has now.
                self._reporter.event("outbox_not_erased", job_id=job_id, reason=str(error))
            self._outbox.forget(job_id)
            self._server_errors.pop(job_id, None)

    async def wait_until_empty(self) -> None:
        """Returns once there is nothing left to deliver."""
        await self._empty.wait()

    def report_found(self) -> None:
        """Says what an earlier run left in the outbox."""
        for path in self._outbox.unreadable:
            self._reporter.event("outbox_unreadable", path=str(path))
        addresses = [entry.coordinator for entry in self._outbox.elsewhere]
        for address in dict.fromkeys(addresses):
            self._reporter.event("outbox_elsewhere", count=addresses.count(address), coordinator=address)
        if len(self._outbox):
            self._reporter.event("outbox_found", count=len(self._outbox))

    async def run(self) -> None:
        """Deliver for ever. Raises KeyRefused; the answers then stay on disk."""
        backoff = self._link.new_backoff()
        while True:
            await self._mail.wait()
            troubles = await self._deliver_all(self._outbox.pending())
            self._note()
            if not troubles:
                backoff.reset()
            else:
                await self._link.failed(troubles[0], backoff)

    async def _deliver_all(self, entries: list[Entry]) -> list[Exception]:
        """Post answers; gives the errors for which it has to be tried again."""
        results = [entry for entry in entries if entry.kind == "complete"]
        outcomes = list(zip(results, await self._client.complete([e.body for e in results]), strict=True))
        for entry in entries:
            if entry.kind == "fail":
                outcomes.append((entry, await self._client.fail(entry.job_id, entry.body)))
        settled = [await self._settle(entry, outcome) for entry, outcome in outcomes]
        return [trouble for trouble in settled if trouble is not None]

    async def _settle(self, entry: Entry, outcome: Delivered) -> Exception | None:
        """Forget an answer that the coordinator has taken, or refused for good; else give the error."""
        if isinstance(outcome, CoordinatorUnreachable):
            return outcome
        if isinstance(outcome, Refused):
            if outcome.is_about_the_key:
                raise KeyRefused(outcome)
            if not self._is_refused(entry, outcome):
                return outcome
            self._link.succeeded()
            if (
                self._outbox.get(entry.job_id) is entry
            ):  # else it was renewed under way: that one is still to go
                await self._give_up(entry, outcome)
            return None
        self._link.succeeded()
        await self._remove(entry.job_id)
        self._report(entry, outcome)
        return None

    def _is_refused(self, entry: Entry, outcome: Refused) -> bool:
        """Whether the same answer need not be sent again."""
        if outcome.is_final or outcome.status < 500 or outcome.status in OUTAGE_STATUSES:
            return outcome.is_final
        met = self._server_errors.get(entry.job_id, 0) + 1
        self._server_errors[entry.job_id] = met
        return met >= MAX_SERVER_ERRORS

    async def _give_up(self, entry: Entry, refusal: Refused) -> None:
        """Say less where the coordinator did not take what we said: a result becomes a failure, a failure its
        bare cause. Then nothing: the lease ends by itself, and the attempt counts."""
        self._reporter.event(
            "result_refused", job_id=entry.job_id, kind=entry.kind, code=refusal.code, message=refusal.message
        )
        if entry.kind == "complete":
            self._view.failed += 1
        await self._remove(entry.job_id)
        less = None if refusal.status in GONE_STATUSES else _less(entry, refusal)
        if less is not None:
            await self.put("fail", entry.job_id, less)
            return
        self._let_go.pop(entry.job_id, None)
        self._let_go[entry.job_id] = entry.body.get("lease_id")
        if len(self._let_go) > MAX_LET_GO:
            del self._let_go[next(iter(self._let_go))]
        if refusal.status not in GONE_STATUSES:
            self._reporter.event("let_go", job_id=entry.job_id, code=refusal.code)

    def _report(self, entry: Entry, reply: dict[str, Any]) -> None:
        if entry.kind == "fail":
            self._reporter.event("fail_reported", job_id=entry.job_id, cause=entry.body.get("cause"))
            return
        earned_units = _earned_units(reply)
        tokens = reply.get("units") if isinstance(reply.get("units"), int) else None
        self._view.completed += 1
        self._view.tokens += tokens or 0
        self._view.earned_units += earned_units or 0
        self._reporter.event(
            "job_done",
            job_id=entry.job_id,
            receipt_id=reply.get("receipt_id"),
            tokens=tokens,
            earned_units=earned_units,
        )

    def _note(self) -> None:
        """Set the events to what the outbox holds."""
        for event, is_set in ((self._mail, len(self._outbox) > 0), (self._empty, len(self._outbox) == 0)):
            if is_set:
                event.set()
            else:
                event.clear()
        self._view.undelivered = len(self._outbox)
        self.on_change()


def _less(entry: Entry, refusal: Refused) -> dict[str, Any] | None:
    """The body for `fail` that says less than `entry` did; None where there is no less."""
    failure = Failure(Cause.ENGINE_ERROR, "")
    if entry.kind == "complete":
        failure = Failure(Cause.ENGINE_ERROR, f"the coordinator refused the result: {refusal.code}")
    body = failure.body(str(entry.body["miner_id"]), entry.job_id, entry.body.get("lease_id"))
    return None if body == entry.body else body


def _earned_units(receipt: dict[str, Any]) -> int | None:
    """Price less fee, base units; None where the receipt does not say."""
    try:
        return parse_ait(receipt["price"]) - parse_ait(receipt.get("fee") or 0)
    except (KeyError, ValueError, TypeError):
        return None
