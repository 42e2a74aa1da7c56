"""Long polls: wait for something, but not past the caller's patience."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from aitbc.api.errors import ClientGone
from aitbc.api.requests import ApiRequest
from aitbc.metrics import WAITING_POLLS

T = TypeVar("T")

WATCH_AFTER_S = 0.02
"""A wait that is over sooner is not worth a look at whether the caller is still there."""


def wait_s(request: ApiRequest, asked_s: float) -> float:
    """How long a poll may wait: what was asked for, at most MAX_WAIT_S; 0 while the server shuts down."""
    if request.runtime.shutdown.is_set():
        return 0.0
    return min(asked_s, request.runtime.settings.max_wait_s)


async def wait_for(request: ApiRequest, waiting: Coroutine[Any, Any, T]) -> T:
    """The result of `waiting`, which keeps its own deadline and ends by itself on shutdown.

    Raises ClientGone, with `waiting` cancelled, where the caller disconnects first.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None, "requests are served by tasks"
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
    WAITING_POLLS.inc()
    try:
        return await waiting
    except asyncio.CancelledError:
        if gone and task.uncancel() == 0:
            raise ClientGone from None
        raise
    finally:
        WAITING_POLLS.dec()
        later.cancel()
        if watcher is not None:
            watcher.cancel()
        request.waited_s += time.perf_counter() - started
