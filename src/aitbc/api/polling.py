"""Long polls: wait for something, but not past the caller's patience or the server's life."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from aitbc.api.errors import ClientGone
from aitbc.api.requests import ApiRequest
from aitbc.errors import ShuttingDown
from aitbc.metrics import WAITING_POLLS
from aitbc.runtime import Runtime

T = TypeVar("T")

WATCH_AFTER_S = 0.02
"""A wait that is over sooner is not worth a look at whether the caller is still there."""

GRACE_S = 0.5
"""On shutdown polls end by themselves, with an answer; what has not after this long is ended here."""


class Polls:
    """The long polls that are open now."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._open: set[asyncio.Task[Any]] = set()
        self._cut_short: set[asyncio.Task[Any]] = set()
        self._ender: asyncio.Task[None] | None = None

    def enter(self, task: asyncio.Task[Any]) -> None:
        if self._ender is None:
            self._ender = asyncio.ensure_future(self._end_on_shutdown())
        self._open.add(task)
        WAITING_POLLS.inc()

    def leave(self, task: asyncio.Task[Any]) -> None:
        self._open.discard(task)
        self._cut_short.discard(task)
        WAITING_POLLS.dec()

    def was_cut_short(self, task: asyncio.Task[Any]) -> bool:
        """Whether the shutdown cancelled this poll."""
        return task in self._cut_short

    async def _end_on_shutdown(self) -> None:
        await self._runtime.shutdown.wait()
        await asyncio.sleep(GRACE_S)
        for task in self._open:
            self._cut_short.add(task)
            task.cancel()


def wait_s(request: ApiRequest, asked_s: float) -> float:
    """How long a poll may wait: what was asked for, at most MAX_WAIT_S; 0 while the server shuts down."""
    if request.runtime.shutdown.is_set():
        return 0.0
    return min(asked_s, request.runtime.settings.max_wait_s)


async def wait_for(request: ApiRequest, waiting: Coroutine[Any, Any, T]) -> T:
    """The result of `waiting`, which keeps its own deadline.

    Raises ClientGone, with `waiting` cancelled, where the caller disconnects first, and ShuttingDown where
    it does not end soon enough on shutdown.
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
    polls.enter(task)
    try:
        result = await waiting
    except asyncio.CancelledError:
        ours = gone or polls.was_cut_short(task)
        if ours and task.uncancel() == 0:
            raise (ClientGone() if gone else ShuttingDown()) from None
        raise
    finally:
        polls.leave(task)
        later.cancel()
        if watcher is not None:
            watcher.cancel()
        request.waited_s += time.perf_counter() - started
    return result
