"""The miner: takes jobs, runs them, signs and delivers the answers, until it is told to stop.

Four loops run side by side and share one picture of the world: *poll* asks for jobs while there is room,
*heartbeat* keeps the leases of what is held, *delivery* empties the outbox, *refresh* watches the engine.
Each waits out an outage of the coordinator by itself. The order of things for one job is: leased, run,
signed, on disk, delivered, forgotten.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

from aitbc.core.causes import Cause
from aitbc.keyfile import load_or_create_key
from aitbc.miner.advertise import above_cap
from aitbc.miner.answers import CoordinatorUnreachable, Refused, Registration, Taken
from aitbc.miner.backoff import Backoff, wait
from aitbc.miner.client import CoordinatorClient, quietly
from aitbc.miner.delivery import Delivery
from aitbc.miner.engine_watch import EngineWatch
from aitbc.miner.engines.base import Engine, EngineError, ModelInfo
from aitbc.miner.enrolment import Enrolment
from aitbc.miner.gpu import Gpu, detect_gpus, read_load
from aitbc.miner.jobs import JobRunner
from aitbc.miner.link import KeyRefused, Link
from aitbc.miner.lock import MinerLock
from aitbc.miner.outbox import Outbox
from aitbc.miner.progress import MinerView, Reporter
from aitbc.miner.settings import MinerSettings
from aitbc.miner.tally import TallyReporter
from aitbc.miner.work import Failure

QUICK_ANSWER_S = 0.5
"""A long poll that comes back empty sooner than this did not wait: do not ask again at once."""

ORDINARY_REASONS = frozenset({"BUSY", "DRAINING"})
"""Reasons for no work that a miner knows itself."""

MAX_REASON_WAIT_S = 15.0
UNKNOWN_MINER_CODES = frozenset({"MINER_NOT_FOUND", "MINER_INACTIVE"})
REPLACED = "MINER_SESSION_REPLACED"
IN_USE_STATUS = "id in use"
DEREGISTER_TIMEOUT_S = 5.0
SAY_DRAINING_TIMEOUT_S = 2.0

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_FORCED = 130


class MinerAgent:
    """One miner on one engine. `run` does everything; `stop` (once: drain, twice: quit) may be called at any
    time."""

    def __init__(
        self,
        settings: MinerSettings,
        engine: Engine,
        reporter: Reporter,
        *,
        gpus: list[Gpu] | None = None,
    ) -> None:
        """`gpus` None: ask NVML. Raises KeyFileError, AlreadyRunning, OSError where the home cannot be
        used."""
        self._settings = settings
        self._engine = engine
        home = settings.home / "miner"
        self.key = load_or_create_key(home / "key.json")
        self.miner_id = settings.miner_id or f"miner-{self.key.key_id}"
        folder = home / self.miner_id
        self._lock = MinerLock(folder)
        self._client = CoordinatorClient(settings.coordinator, settings.key)
        reporter = self._reporter = TallyReporter(reporter, folder, self._client.url)
        self._outbox = Outbox(folder / "outbox", self._client.url)
        self._gpus = detect_gpus() if gpus is None else gpus
        self._view = MinerView(
            miner_id=self.miner_id,
            coordinator=self._client.host,
            gpus=[f"{gpu.name} ({gpu.memory_gb:g} GB)" for gpu in self._gpus],
        )
        self._link = Link(
            reporter, lambda: Backoff(settings.backoff_min_s, settings.backoff_max_s), self._view
        )
        self._delivery = Delivery(self._client, self._outbox, self._link, reporter, self._view)
        self._jobs = JobRunner(
            engine, self.key, self.miner_id, settings.job_timeout_s, self._delivery, reporter, self._view
        )
        self._delivery.on_change = self._changed
        self._jobs.on_change = self._jobs_changed
        self._jobs.on_failure = self._job_failed
        self._models: list[ModelInfo] = []
        self._watch = EngineWatch(
            engine,
            reporter,
            refresh_s=settings.refresh_s,
            new_backoff=self._link.new_backoff,
            not_ready=self._jobs.engine_not_ready,
        )
        self._watch.on_change, self._watch.on_models = self._engine_changed, self._offer
        self._enrolment = Enrolment(
            settings,
            self._client,
            self._link,
            miner_id=self.miner_id,
            public_bytes=self.key.public_bytes,
            gpus=self._gpus,
            on_registered=self._registered,
            on_in_use=self._in_use,
        )
        self._is_draining = False
        self._no_work = ""
        self._may_poll = asyncio.Event()
        self._heartbeat_now = asyncio.Event()
        self._stop_asked = asyncio.Event()
        self._quit_asked = asyncio.Event()

    def stop(self) -> None:
        """Asked once: finish what runs and leave. Asked again: leave at once, saying what that interrupts."""
        if self._stop_asked.is_set() and not self._quit_asked.is_set():
            self._quit_asked.set()
            self._reporter.event(
                "interrupted",
                jobs=sorted(self._jobs.ids()),
                undelivered=len(self._outbox),
                lease_s=round(self._enrolment.current.lease_s),
            )
        self._stop_asked.set()

    def close_reporter(self) -> None:
        """For an end without `run`'s: leave the terminal as it was."""
        self._reporter.close()

    async def run(self) -> int:
        """Until stopped; gives the process's exit status: 0 drained, 1 could not go on, 130 told twice to
        stop."""
        life = asyncio.create_task(self._live())
        quit_asked = asyncio.create_task(self._quit_asked.wait())
        await asyncio.wait([life, quit_asked], return_when=asyncio.FIRST_COMPLETED)
        quit_asked.cancel()
        try:
            if not life.done():
                life.cancel()
                return EXIT_FORCED
            return life.result()
        finally:
            self._lock.release()

    async def _live(self) -> int:
        loops: dict[str, asyncio.Task[None]] = {}
        try:
            started = asyncio.create_task(self._start())
            if not await self._unless_stopped([started]):
                started.cancel()
                await asyncio.gather(started, return_exceptions=True)
                return EXIT_OK
            started.result()
            loops = {
                name: asyncio.create_task(loop, name=name)
                for name, loop in {
                    "poll": self._poll_loop(),
                    "heartbeat": self._heartbeat_loop(),
                    "delivery": self._delivery.run(),
                    "refresh": self._watch.run(),
                }.items()
            }
            failed = await self._unless_stopped(list(loops.values()))
            await self._drain(loops)
            for task in failed:
                task.result()  # raises what ended the loop: they do not end otherwise
            return EXIT_OK
        except KeyRefused as error:
            self._reporter.event("refused", code=error.refusal.code, message=error.refusal.message)
            return EXIT_FAILED
        except Refused as refusal:
            self._reporter.event("refused", code=refusal.code, message=refusal.message)
            return EXIT_FAILED
        except EngineError as error:
            self._reporter.event("engine_unusable", reason=error.message)
            return EXIT_FAILED
        finally:
            await self._end([*loops.values(), *self._jobs.tasks()])

    async def _unless_stopped(self, tasks: list[asyncio.Task[None]]) -> list[asyncio.Task[None]]:
        """Wait for any of `tasks` or for the order to stop; gives those that are done, none where it was the
        order."""
        stop = asyncio.create_task(self._stop_asked.wait())
        await asyncio.wait([*tasks, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        return [task for task in tasks if task.done()]

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._report_end()
        await self._client.close()
        await self._engine.close()
        self._reporter.close()

    def _report_end(self) -> None:
        if len(self._outbox):
            self._reporter.event("undelivered", count=len(self._outbox))
        self._set_status("stopped")
        self._reporter.event(
            "stopped",
            completed=self._view.completed,
            failed=self._view.failed,
            earned_units=self._view.earned_units,
        )

    # -- starting

    async def _start(self) -> None:
        if self._gpus:
            self._reporter.event("gpus", gpus=self._view.gpus)
        await self._watch.start()
        self._set_models(self._watch.models)
        self._delivery.report_found()
        await self._enrolment.register_patiently()
        self._reporter.event(
            "registered",
            miner_id=self.miner_id,
            coordinator=self._client.host,
            models=self._model_names(),
            concurrency=self._settings.concurrency,
            key_id=self.key.key_id,
        )
        self._report_prices()
        self._set_status(self._status())

    def _report_prices(self) -> None:
        """Says which models ask more than clients pay by default: such a miner waits and wonders."""
        cap_units = self._enrolment.current.default_max_price_units
        for price_units, models in above_cap(self._settings, self._models, cap_units).items():
            self._reporter.event(
                "price_above_cap", models=models, price_units=price_units, cap_units=cap_units
            )

    def _registered(self, registration: Registration) -> None:
        self._jobs.chain_id, self._jobs.network_id = registration.chain_id, registration.network_id
        self._heartbeat_now.set()

    def _in_use(self, refusal: Refused) -> None:
        if self._view.status != IN_USE_STATUS:
            self._reporter.event("id_in_use", code=refusal.code, message=refusal.message)
            self._set_status(IN_USE_STATUS)

    # -- the loops

    async def _poll_loop(self) -> None:
        backoff = self._link.new_backoff()
        while True:
            await self._may_poll.wait()
            began_s = time.monotonic()
            known = self._held() | self._delivery.let_go()
            try:
                taken = await self._client.take(
                    self.miner_id, max(1, self._free_slots()), self._settings.poll_wait_s, known
                )
            except (CoordinatorUnreachable, Refused) as error:
                await self._after_failure(error, backoff)
                continue
            self._link.succeeded()
            backoff.reset()
            for job in taken.jobs:
                await self._jobs.accept(job)
            self._note_reason(taken)
            nothing_new = all(job.job_id in known for job in taken.jobs)
            if nothing_new and time.monotonic() - began_s < min(QUICK_ANSWER_S, self._settings.poll_wait_s):
                least_s = min(taken.retry_after_s, MAX_REASON_WAIT_S)
                await asyncio.sleep(max(least_s, random.uniform(0.5, 1.0)))

    def _note_reason(self, taken: Taken) -> None:
        """Says once why the coordinator gives this miner no work, and when that has ended."""
        reason = "" if taken.jobs or taken.reason in ORDINARY_REASONS else taken.reason
        if reason == self._no_work:
            return
        self._no_work, self._view.no_work = reason, taken.message if reason else ""
        if reason:
            self._reporter.event("no_work", code=reason, message=taken.message)
        else:
            self._reporter.event("work_again")
        self._changed()

    async def _heartbeat_loop(self) -> None:
        backoff = self._link.new_backoff()
        while True:
            interval_s = self._enrolment.current.heartbeat_interval_s
            await wait(self._heartbeat_now, interval_s * random.uniform(0.9, 1.0))
            self._heartbeat_now.clear()
            try:
                gone = await self._client.heartbeat(
                    self.miner_id, self._status(), await self._load(), self._held(), self._progress()
                )
            except (CoordinatorUnreachable, Refused) as error:
                await self._after_failure(error, backoff)
                self._heartbeat_now.set()
                continue
            self._link.succeeded()
            backoff.reset()
            for job_id in gone:
                self._jobs.abandon(job_id)

    async def _offer(self, models: list[ModelInfo]) -> None:
        """The engine's models are others now. With none left we only drain: no models would mean any
        model."""
        self._set_models(models)
        self._reporter.event("models_changed", models=self._model_names())
        self._set_status(self._status())
        self._heartbeat_now.set()
        if models:
            try:
                await self._enrolment.register_patiently()
            except Refused as refusal:
                self._reporter.event("refused", code=refusal.code, message=refusal.message)

    async def _after_failure(self, error: CoordinatorUnreachable | Refused, backoff: Backoff) -> None:
        """Wait an outage out, or make ourselves known to a coordinator that has forgotten us.

        Raises Refused once another machine has taken this miner's place: going on would only run its jobs twice.
        """
        if isinstance(error, Refused) and error.code == REPLACED and not self._is_draining:
            raise error
        if isinstance(error, Refused) and error.code in UNKNOWN_MINER_CODES and not self._is_draining:
            await self._enrolment.register_patiently()
            await asyncio.sleep(backoff.next_s())  # it may forget us again: do not run in a circle
            return
        await self._link.failed(error, backoff)

    def _job_failed(self, failure: Failure) -> None:
        """What a failed job says about the engine."""
        if failure.cause is Cause.ENGINE_UNAVAILABLE:
            self._watch.set(False, failure.message)
        elif failure.cause is Cause.MODEL_NOT_FOUND:
            self._watch.look()

    def _jobs_changed(self) -> None:
        self._watch.jobs_changed()
        self._changed()

    # -- stopping

    async def _drain(self, loops: dict[str, asyncio.Task[None]]) -> None:
        self._is_draining = True
        self._set_status("draining")
        self._reporter.event("draining", running=len(self._jobs), jobs=sorted(self._jobs.ids()))
        self._changed()
        loops["refresh"].cancel()
        # First the coordinator hears of it: then no lease can be lost in the poll that is broken off.
        await self._say_draining()
        loops["poll"].cancel()
        await self._jobs.drain(self._settings.drain_grace_s)
        self._link.nudge()
        try:
            async with asyncio.timeout(self._settings.flush_grace_s):
                await self._delivery.wait_until_empty()
        except TimeoutError:
            return  # what is left is on disk; without deregistering, a quick restart still holds the leases
        await quietly(self._client.deregister(self.miner_id), DEREGISTER_TIMEOUT_S)

    async def _say_draining(self) -> None:
        load = await self._load()
        await quietly(
            self._client.heartbeat(self.miner_id, "draining", load, self._held(), self._progress()),
            SAY_DRAINING_TIMEOUT_S,
        )

    # -- the shared picture

    def _held(self) -> set[str]:
        return self._jobs.ids() | self._outbox.ids()

    def _progress(self) -> dict[str, int]:
        """Pieces of text, which are tokens as near as we can tell before the engine has counted them."""
        return {job.job_id: job.pieces for job in self._view.running.values()}

    def _free_slots(self) -> int:
        """The coordinator counts a job against our concurrency until its answer has arrived; so do we."""
        return self._settings.concurrency - len(self._held())

    def _status(self) -> str:
        """What the coordinator is told: without an engine there is no point in offering us jobs."""
        ready = self._watch.is_up and self._models
        return "active" if ready and not self._is_draining else "draining"

    def _engine_changed(self) -> None:
        self._set_status(self._watch.status or self._status())
        self._heartbeat_now.set()

    def _set_status(self, status: str) -> None:
        self._view.status = status
        self._changed()

    def _changed(self) -> None:
        """Something that decides whether to take jobs has changed, or that the display shows."""
        if self._free_slots() > 0 and self._status() == "active":
            self._may_poll.set()
        else:
            self._may_poll.clear()
        self._reporter.refresh(self._view)

    def _set_models(self, models: list[ModelInfo]) -> None:
        self._models = self._jobs.models = self._enrolment.models = models

    def _model_names(self) -> list[str]:
        names = [model.name for model in self._models]
        self._view.models = names
        return names

    async def _load(self) -> dict[str, Any]:
        load: dict[str, Any] = {"running": len(self._jobs)}
        if self._gpus:
            gpu = await asyncio.to_thread(read_load)
            if gpu is not None:
                load |= {"gpu_utilisation": gpu.gpu_utilisation, "memory_used_gb": gpu.memory_used_gb}
        return load
