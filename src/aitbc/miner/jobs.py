"""The jobs that this miner has in its engine, from the assignment to the entry in the outbox."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from aitbc.core.causes import Cause
from aitbc.core.signing import PrivateKey
from aitbc.miner.answers import Assignment, BadAssignment
from aitbc.miner.delivery import Delivery
from aitbc.miner.engines.base import Engine, ModelInfo
from aitbc.miner.progress import JobView, MinerView, Reporter
from aitbc.miner.work import Answer, Failure, Signer, work


@dataclass(slots=True)
class _Running:
    """A job in the engine. `reason`: why its task was cancelled, "lost" to the coordinator or "shutdown"."""

    assignment: Assignment
    view: JobView
    on_change: Callable[[], None]
    task: asyncio.Task[None] | None = None
    reason: str = ""

    def progress(self, pieces: int) -> None:
        self.view.pieces = pieces
        if self.view.waits_for:
            self.view.waits_for = ""
            self.on_change()

    def waiting(self, reason: str) -> None:
        self.view.waits_for = reason
        self.on_change()


class JobRunner:
    """Runs assignments side by side. `chain_id`, `network_id` and `models` are set once coordinator and engine have
    said them."""

    def __init__(
        self,
        engine: Engine,
        key: PrivateKey,
        miner_id: str,
        limit_s: float,
        delivery: Delivery,
        reporter: Reporter,
        view: MinerView,
    ) -> None:
        self.chain_id = self.network_id = ""
        self.models: list[ModelInfo] = []
        self.on_change: Callable[[], None] = lambda: None
        self.on_failure: Callable[[Failure], None] = lambda failure: None
        self._engine = engine
        self._key = key
        self._miner_id = miner_id
        self._limit_s = limit_s
        self._delivery = delivery
        self._reporter = reporter
        self._view = view
        self._running: dict[str, _Running] = {}

    def __len__(self) -> int:
        return len(self._running)

    def ids(self) -> set[str]:
        """The jobs that are running."""
        return set(self._running)

    def engine_not_ready(self) -> str:
        """Why the engine takes no job yet, as the jobs that wait for it know; "" where none waits."""
        return next((each.view.waits_for for each in self._running.values() if each.view.waits_for), "")

    def tasks(self) -> list[asyncio.Task[None]]:
        """Their tasks."""
        return [running.task for running in self._running.values() if running.task is not None]

    async def accept(self, job: Assignment | BadAssignment) -> None:
        """Start a job. One that is running or answered already only gets the new lease."""
        if isinstance(job, BadAssignment):
            failure = Failure(Cause.BAD_REQUEST, f"the assignment is not usable: {job.reason}")
            if not self._delivery.was_let_go(job.job_id, None):
                await self._fail(job.job_id, None, failure)
            return
        known = self._running.get(job.job_id)
        if known is not None:
            known.assignment = replace(known.assignment, lease_id=job.lease_id)
        elif self._delivery.was_let_go(job.job_id, job.lease_id):
            return
        elif not await self._delivery.renew_lease(job.job_id, job.lease_id):
            view = JobView(job.job_id, job.model, time.monotonic())
            running = _Running(job, view, lambda: self.on_change())
            self._running[job.job_id] = running
            self._view.running[job.job_id] = running.view
            running.task = asyncio.create_task(self._run(running), name=f"job {job.job_id}")
            self._reporter.event("job_started", job_id=job.job_id, model=job.model, attempt=job.attempt)
            self.on_change()

    def abandon(self, job_id: str) -> None:
        """The coordinator says that we no longer hold this job. One already answered is left to its
        delivery."""
        running = self._running.get(job_id)
        if running is not None:
            _cancel(running, "lost")

    async def drain(self, grace_s: float) -> None:
        """Let the running jobs finish; those that have not within `grace_s` fail as SHUTTING_DOWN."""
        if self._running:
            await asyncio.wait(self.tasks(), timeout=grace_s)
        for running in list(self._running.values()):
            _cancel(running, "shutdown")
        await asyncio.gather(*self.tasks(), return_exceptions=True)

    async def _run(self, running: _Running) -> None:
        job_id = running.assignment.job_id
        try:
            outcome = await self._outcome_of(running)
            if isinstance(outcome, Failure):
                self.on_failure(outcome)
                await self._fail(job_id, running.assignment.lease_id, outcome)
            elif outcome is not None:
                await self._answer(running, outcome)
        finally:
            self._running.pop(job_id, None)
            self._view.running.pop(job_id, None)
            self.on_change()

    async def _outcome_of(self, running: _Running) -> Answer | Failure | None:
        """What came of a job; None where the coordinator has taken it back."""

        refusal = self._refusal(running.assignment)
        if refusal is not None:
            return refusal
        signer = Signer(self._key, self._miner_id, self.chain_id, self.network_id)
        try:
            left_s = running.assignment.run_left_s
            limit_s = self._limit_s if left_s is None else min(self._limit_s, left_s)
            return await work(self._engine, running.assignment, signer, limit_s, running)
        except asyncio.CancelledError:
            if running.reason == "lost":
                job_id = running.assignment.job_id
                self._reporter.event("job_lost", job_id=job_id, reason="cancelled, or its lease was lost")
                return None
            if running.reason == "shutdown":
                return Failure(Cause.SHUTTING_DOWN, "the miner is shutting down")
            raise

    def _refusal(self, assignment: Assignment) -> Failure | None:
        """A registration offers every model for every job type of the miner; an engine may know better."""
        for model in self.models:
            if assignment.model in (model.name, model.name.removesuffix(":latest")):
                if assignment.job_type in model.job_types:
                    return None
                message = f"{assignment.model} does not do {assignment.job_type} here"
                return Failure(Cause.MODEL_NOT_FOUND, message, retryable=True)
        return None

    async def _answer(self, running: _Running, answer: Answer) -> None:
        assignment = running.assignment
        seconds = round(time.monotonic() - running.view.started_s, 2)
        self._reporter.event("job_answered", job_id=assignment.job_id, seconds=seconds, tokens=answer.tokens)
        body = answer.body
        if assignment.lease_id is not None:
            body = {**body, "lease_id": assignment.lease_id}
        await self._delivery.put("complete", assignment.job_id, body)

    async def _fail(self, job_id: str, lease_id: str | None, failure: Failure) -> None:
        self._view.failed += 1
        self._reporter.event("job_failed", job_id=job_id, cause=str(failure.cause), message=failure.message)
        await self._delivery.put("fail", job_id, failure.body(self._miner_id, job_id, lease_id))


def _cancel(running: _Running, reason: str) -> None:
    """Stop a job's generation, for a reason that its own task then acts on; the first reason stands."""
    if running.task is not None and not running.reason:
        running.reason = reason
        running.task.cancel()
