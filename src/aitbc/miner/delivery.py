"""Bringing answers to the coordinator until it has answered for good."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

from aitbc.core.money import parse_ait
from aitbc.miner.client import CoordinatorClient, CoordinatorUnreachable, Refused
from aitbc.miner.engines.base import Cause
from aitbc.miner.link import KeyRefused, Link
from aitbc.miner.outbox import Entry, Outbox
from aitbc.miner.progress import MinerView, Reporter
from aitbc.miner.work import Failure

MAX_AT_ONCE = 8
BAD_RESULT_STATUSES = frozenset({400, 413, 422})
"""The coordinator will never take this result: the job is then failed, so that it need not wait for its lease
to end."""


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
        self._mail = asyncio.Event()
        self._empty = asyncio.Event()
        self._note()

    async def put(self, kind: Literal["complete", "fail"], job_id: str, body: dict[str, Any]) -> None:
        """Keep an answer on disk and deliver it as soon as can be."""
        entry = Entry(kind, job_id, self._outbox.coordinator, body)
        try:
            await asyncio.to_thread(self._outbox.add, entry)
        except OSError as error:
            self._reporter.event("outbox_full_disk", job_id=entry.job_id, reason=str(error))
        self._note()

    async def renew_lease(self, job_id: str, lease_id: str | None) -> bool:
        """Whether we have the answer of this job, which the coordinator gave us again: it gets the new
        lease."""
        if job_id not in self._outbox:
            return False
        try:
            await asyncio.to_thread(self._outbox.renew_lease, job_id, lease_id)
        except OSError as error:
            self._reporter.event("outbox_full_disk", job_id=job_id, reason=str(error))
        self._note()
        return True

    async def wait_until_empty(self) -> None:
        """Returns once there is nothing left to deliver."""
        await self._empty.wait()

    async def run(self) -> None:
        """Deliver for ever. Raises KeyRefused; the answers then stay on disk."""
        backoff = self._link.new_backoff()
        while True:
            await self._mail.wait()
            batch = self._outbox.pending()[:MAX_AT_ONCE]
            troubles = await asyncio.gather(*(self._deliver(entry) for entry in batch))
            self._note()
            trouble = next((each for each in troubles if each is not None), None)
            if trouble is None:
                backoff.reset()
            else:
                await self._link.failed(trouble, backoff)

    async def _deliver(self, entry: Entry) -> Exception | None:
        """Post one answer; gives the error where it has to be tried again."""
        send = self._client.complete if entry.kind == "complete" else self._client.fail
        try:
            reply = await send(entry.job_id, entry.body)
        except CoordinatorUnreachable as error:
            return error
        except Refused as refusal:
            if refusal.is_about_the_key:
                raise KeyRefused(refusal) from refusal
            if not refusal.is_final:
                return refusal
            self._link.succeeded()
            await self._give_up(entry, refusal)
            return None
        self._link.succeeded()
        await asyncio.to_thread(self._outbox.remove, entry.job_id)
        self._report(entry, reply)
        return None

    async def _give_up(self, entry: Entry, refusal: Refused) -> None:
        self._reporter.event(
            "result_refused", job_id=entry.job_id, kind=entry.kind, code=refusal.code, message=refusal.message
        )
        if entry.kind == "complete":
            self._view.failed += 1
        await asyncio.to_thread(self._outbox.remove, entry.job_id)
        if entry.kind == "complete" and refusal.status in BAD_RESULT_STATUSES:
            failure = Failure(Cause.ENGINE_ERROR, f"the coordinator refused the result: {refusal.code}")
            body = failure.body(str(entry.body["miner_id"]), entry.job_id)
            await self.put("fail", entry.job_id, body)

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


def _earned_units(receipt: dict[str, Any]) -> int | None:
    """Price less fee, base units; None where the receipt does not say."""
    try:
        return parse_ait(receipt["price"]) - parse_ait(receipt.get("fee") or 0)
    except (KeyError, ValueError, TypeError):
        return None
