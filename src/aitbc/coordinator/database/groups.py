"""Calls that share one PostgreSQL transaction: each is undone by itself where it fails, all commit together."""

import asyncio
import collections
import contextlib
import time
from typing import Any

import psycopg

from aitbc.coordinator.database.holding import HoldingTx
from aitbc.coordinator.database.pipe import OPEN_FROM, RETRIED, Conflict, Pipe
from aitbc.coordinator.database.sqlite import Call
from aitbc.coordinator.database.tx import Books, Tx
from aitbc.core.clock import Clock

BATCH_CALLS = 64  # the most calls that share one transaction
BATCH_S = 0.02  # it takes no more calls after this long: the first ones wait for all of it
SWALLOWED = "an error of the database was swallowed: nothing was committed"


class Waiting:
    """A call whose caller waits in an event loop. It may be answered from any thread."""

    __slots__ = ("call", "future", "loop", "since_s")

    def __init__(self, call: Call, future: "asyncio.Future[Any]", loop: asyncio.AbstractEventLoop) -> None:
        self.call = call
        self.future = future
        self.loop = loop
        self.since_s = time.monotonic()

    def answer(self, result: Any, error: Exception | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop closed meanwhile: nobody waits any more
            self.loop.call_soon_threadsafe(self.settle, result, error)

    def fail(self, error: Exception) -> None:
        self.answer(None, error)

    def settle(self, result: Any, error: Exception | None) -> None:
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class Outcome:
    """What a call came to. `tx` is None where it failed and was undone."""

    __slots__ = ("error", "result", "tx", "waiting")

    def __init__(self, waiting: Waiting) -> None:
        self.waiting = waiting
        self.result: Any = None
        self.error: Exception | None = None
        self.tx: Tx | None = None


class Group:
    """One transaction for the calls of a queue.

    What a call holds back travels with the first statement of the next call, and the last call's with the
    COMMIT. So it may turn out only then that an earlier call met a conflict; it is undone then (by its
    savepoint; the first call by beginning anew), run again without holding back, and the call that was
    under way starts afresh. At most one call is ever unsent.

    Raises where the database wants all of it to be tried again, or is gone; then nothing was committed, but
    for a connection that was lost while `committing`.
    """

    def __init__(self, pipe: Pipe, clock: Clock, begin: tuple[str, ...], closed_ms: int = 0) -> None:
        self.outcomes: list[Outcome] = []
        self.committing = False
        self._pipe = pipe
        self._clock = clock
        self._begin = begin
        self._books = Books(max(clock.now_ms(), closed_ms))

    @property
    def calls(self) -> list[Waiting]:
        return [outcome.waiting for outcome in self.outcomes]

    def run(self, queue: "collections.deque[Waiting]") -> None:
        """Runs waiting calls until the group is full, then commits."""
        self._open()
        until = time.perf_counter() + BATCH_S
        while queue and len(self.outcomes) < BATCH_CALLS and time.perf_counter() < until:
            waiting = queue.popleft()
            if waiting.future.cancelled():  # its caller has gone
                continue
            self.outcomes.append(Outcome(waiting))
            self._run(len(self.outcomes) - 1)
        self._commit()

    def answer(self) -> None:
        """Tells all callers, in one message for each event loop."""
        by_loop: dict[asyncio.AbstractEventLoop, list[Outcome]] = {}
        for outcome in self.outcomes:
            by_loop.setdefault(outcome.waiting.loop, []).append(outcome)
        for loop, outcomes in by_loop.items():
            with contextlib.suppress(RuntimeError):  # the loop closed meanwhile: nobody waits any more
                loop.call_soon_threadsafe(_settle, outcomes)

    def _open(self) -> None:
        for sql in self._begin:
            self._pipe.later(sql)
        self._pipe.later(OPEN_FROM, (self._books.closed_ms,))

    def _run(self, number: int, *, holding: bool = True) -> None:
        """Runs the call, from its savepoint to its outcome."""
        pipe, outcome = self._pipe, self.outcomes[number]
        while True:
            trips, queued = pipe.trips, pipe.queued
            if number:
                pipe.later("SAVEPOINT call")
            try:
                self._call(number, holding=holding)
                unsent = pipe.trips == trips
                if unsent and number and queued and outcome.error is None:
                    pipe.send()  # the call before it is still unsent as well
            except Conflict as conflict:
                self._undo(conflict.owner)
                if conflict.owner == number:
                    holding = False
                else:
                    self._run(conflict.owner, holding=False)
                continue
            if outcome.error is not None and isinstance(outcome.tx, HoldingTx) and outcome.tx.assumed:
                self._drop_or_undo(number, queued, unsent=unsent)  # was it so, or is the error another?
                holding = False
                continue
            break
        if outcome.error is not None and unsent:
            pipe.drop(queued)
        elif outcome.error is not None and (pipe.failed or (outcome.tx is not None and outcome.tx.wrote)):
            self._undo(number)
        elif number:
            pipe.later("RELEASE SAVEPOINT call")
        if outcome.error is not None:
            outcome.tx = None

    def _drop_or_undo(self, number: int, queued: int, *, unsent: bool) -> None:
        if unsent:
            self._pipe.drop(queued)
        else:
            self._undo(number)

    def _undo(self, number: int) -> None:
        """Makes as if the call, the last one of which something was sent, had not begun."""
        self._pipe.drop()
        if number:
            self._pipe.later("ROLLBACK TO SAVEPOINT call")
            self._pipe.later("RELEASE SAVEPOINT call")
        else:
            self._pipe.later("ROLLBACK")
            self._open()

    def _call(self, number: int, *, holding: bool) -> None:
        outcome, pipe = self.outcomes[number], self._pipe
        now_ms = self._clock.now_ms()
        books = self._books
        tx: Tx = (
            HoldingTx(pipe, "postgresql", now_ms, number, books)
            if holding
            else Tx(pipe, "postgresql", now_ms, books)
        )
        outcome.tx, outcome.result, outcome.error = tx, None, None
        fn, args, kwargs = outcome.waiting.call
        try:
            outcome.result = fn(tx, *args, **kwargs)
            if pipe.failed:
                outcome.error = RuntimeError(SWALLOWED)
            elif isinstance(tx, HoldingTx):
                tx.queue_held()
        except (psycopg.OperationalError, *RETRIED):
            raise
        except Exception as error:
            if pipe.closed:
                raise
            outcome.error = error

    def _commit(self) -> None:
        pipe = self._pipe
        if not any(outcome.tx is not None and outcome.tx.wrote for outcome in self.outcomes):
            self._pipe.leave("ROLLBACK")
            return
        while True:
            self.committing = True
            try:
                if pipe.execute("COMMIT").statusmessage != "COMMIT":
                    raise RuntimeError(SWALLOWED)
            except Conflict as conflict:
                self.committing = False
                self._undo(conflict.owner)
                self._run(conflict.owner, holding=False)
                continue
            return


def _settle(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        outcome.waiting.settle(outcome.result, outcome.error)
