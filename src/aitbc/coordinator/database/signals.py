"""Wake-ups inside one process: what committed transactions tell those who wait.

A signal is only ever a hint to look in the database. Signals may be lost (another process, a crash) and may
be spurious, so every waiter also looks now and then without being woken.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Hashable
from typing import Any

import structlog

log = structlog.get_logger(__name__)


class Signals:
    """Waiters by key. `notify` wakes everyone that waits for the key; listeners see every signal.

    All methods but `post` belong to the event loop's thread; `post` may be called from any thread.
    """

    def __init__(self) -> None:
        self._waiters: defaultdict[Hashable, set[asyncio.Future[None]]] = defaultdict(set)
        self._listeners: list[Callable[[Any], None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._closed = False

    def listen(self, listener: Callable[[Any], None]) -> None:
        """Calls `listener(signal)` for every signal, after its commit."""
        self._listeners.append(listener)

    def post(self, signals: list[Any]) -> None:
        """Delivers signals from any thread; dropped where no event loop runs (CLI, tests)."""
        loop = self._loop
        if loop is None or not signals:
            return
        with contextlib.suppress(RuntimeError):  # the loop closed meanwhile: nobody waits any more
            loop.call_soon_threadsafe(self.deliver, signals)

    def deliver(self, signals: list[Any]) -> None:
        for signal in signals:
            for listener in self._listeners:
                try:
                    listener(signal)
                except Exception:  # the writer, whose callers wait, must not fail with a listener
                    log.exception("listener_failed", listener=str(listener))
            if signal in self._waiters:
                self.notify(signal)

    def notify(self, key: Hashable) -> None:
        for waiter in self._waiters.pop(key, ()):
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, key: Hashable, timeout_s: float) -> bool:
        """True when the key was signalled within `timeout_s`; False at the timeout or on closing."""
        waiter = self.expect(key)
        try:
            return await self.wait_for(waiter, timeout_s)
        finally:
            self.forget(key, waiter)

    async def wait_for(self, waiter: "asyncio.Future[None]", timeout_s: float) -> bool:
        """Waits for a future of `expect`; True when it was signalled in time."""
        done, _pending = await asyncio.wait({waiter}, timeout=timeout_s)
        return bool(done) and not self._closed

    def expect(self, key: Hashable) -> "asyncio.Future[None]":
        """A future that the next signal of `key` resolves. Take it before you look, so that nothing falls between."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._closed:
            waiter.set_result(None)
        else:
            self._waiters[key].add(waiter)
        return waiter

    def forget(self, key: Hashable, waiter: "asyncio.Future[None]") -> None:
        waiters = self._waiters.get(key)
        if waiters is not None:
            waiters.discard(waiter)
            if not waiters:
                del self._waiters[key]

    def close(self) -> None:
        """Wakes everyone, for good: long polls answer at once on shutdown."""
        self._closed = True
        for key in list(self._waiters):
            self.notify(key)
