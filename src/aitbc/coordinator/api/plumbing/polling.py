"""Long polls: wait for something, but not past the caller's patience or the server's life."""

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

from aitbc.coordinator.api.plumbing.errors import ClientGone
from aitbc.coordinator.api.plumbing.requests import ApiRequest
from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.errors import AitbcError, CredentialEnded, ShuttingDown, StorageUnavailable
from aitbc.coordinator.flows.shared import rights
from aitbc.coordinator.metrics import WAITING_POLLS
from aitbc.coordinator.process.runtime import Runtime

log = structlog.get_logger(__name__)

T = TypeVar("T")

WATCH_AFTER_S = 0.02
"""A wait that is over sooner is not worth a look at whether the caller is still there."""

RECHECK_S = 1.0
"""How often it is asked whether the keys and sessions of open polls are still good, beside being told so."""

GRACE_S = 0.5
"""On shutdown polls end by themselves, with an answer; what has not after this long is ended here."""


class Polls:
    """The long polls that are open now, and who asked. One ends with its caller's key or session."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._open: dict[asyncio.Task[Any], Principal] = {}
        self._cut_short: dict[asyncio.Task[Any], AitbcError] = {}
        self._keepers: list[asyncio.Future[None]] = []
        self._look_now = asyncio.Event()
        runtime.db.signals.listen(self._hear)

    def enter(self, task: asyncio.Task[Any], principal: Principal) -> None:
        if not self._keepers:
            self._keepers = [
                asyncio.ensure_future(self._end_on_shutdown()),
                asyncio.ensure_future(self._end_with_rights()),
            ]
        self._open[task] = principal
        WAITING_POLLS.inc()

    def leave(self, task: asyncio.Task[Any]) -> None:
        self._open.pop(task, None)
        self._cut_short.pop(task, None)
        WAITING_POLLS.dec()

    def why_cut_short(self, task: asyncio.Task[Any]) -> AitbcError | None:
        """What this poll answers that was cancelled here; None where it was not."""
        return self._cut_short.get(task)

    def _hear(self, signal: Any) -> None:
        if signal[0] == "key" and self._open:
            self._look_now.set()

    def _cut(self, task: asyncio.Task[Any], error: AitbcError) -> None:
        if task not in self._cut_short:
            self._cut_short[task] = error
            task.cancel()

    async def _end_on_shutdown(self) -> None:
        await self._runtime.shutdown.wait()
        await asyncio.sleep(GRACE_S)
        for task in self._open:
            self._cut(task, ShuttingDown())

    async def _end_with_rights(self) -> None:
        """At once where this process, or on PostgreSQL another one, says that a key ended; else within RECHECK_S."""
        while not self._runtime.shutdown.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look_now.wait(), RECHECK_S)
            self._look_now.clear()
            who = {one for one in self._open.values() if one.secret_hash or one.role == "user"}
            if not who:
                continue
            try:
                ended = await self._runtime.db.glance(rights.ended, who)
            except StorageUnavailable:  # what waits is answered by its own looks
                continue
            except Exception:  # it outlives a bad look: without it polls would go on for ever
                log.exception("polls_not_checked")
                continue
            for task, principal in list(self._open.items()):
                if principal in ended:
                    self._cut(task, CredentialEnded())


def wait_s(request: ApiRequest, asked_s: float) -> float:
    """How long a poll may wait: what was asked for, at most MAX_WAIT_S; 0 while the server shuts down."""
    if request.runtime.shutdown.is_set():
        return 0.0
    return min(asked_s, request.runtime.settings.max_wait_s)


async def wait_for(request: ApiRequest, principal: Principal, waiting: Coroutine[Any, Any, T]) -> T:
    """The result of `waiting`, which keeps its own deadline.

    Raises ClientGone, with `waiting` cancelled, where the caller disconnects first, Unauthorized
    where its key or session ends, and ShuttingDown where it does not end soon enough on shutdown.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None, "requests are served by tasks"
    polls: Polls = request.scope["aitbc.polls"]
    watcher: asyncio.Task[None] | None = None
    gone = False

    async def cancel_when_gone() -> None:
        nonlocal gone
        await request.disconnected()
        gone = True
        task.cancel()

    def watch() -> None:
        nonlocal watcher
        watcher = loop.create_task(cancel_when_gone())

    started = time.perf_counter()
    later = loop.call_later(WATCH_AFTER_S, watch)
    polls.enter(task, principal)
    try:
        result = await waiting
    except asyncio.CancelledError:
        cut = polls.why_cut_short(task)
        if (gone or cut is not None) and task.uncancel() == 0:
            raise (cut if cut is not None and not gone else ClientGone()) from None
        raise
    finally:
        polls.leave(task)
        later.cancel()
        if watcher is not None:
            watcher.cancel()
        request.waited_s += time.perf_counter() - started
    return result
