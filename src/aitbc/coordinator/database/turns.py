"""Whose reads run: each caller has at most so many of the readers, so that nobody takes them all with slow ones."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

READING_FOR: ContextVar[str | None] = ContextVar("reading_for", default=None)
"""Whom this task reads for: an account, or the network address of one without a key. None: for ourselves."""


class Turns:
    """Turns of callers, `each` at once for one of them; his others wait, first come, first served.

    Belongs to the event loop's thread. Nothing is kept of a caller who neither reads nor waits.
    """

    def __init__(self, each: int) -> None:
        self._each = each
        self._taken: dict[str, int] = {}
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    async def take(self, who: str) -> None:
        """Waits for a turn. `keep` gives it back."""
        taken = self._taken.get(who, 0)
        if taken < self._each:
            self._taken[who] = taken + 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(who, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it came in the same moment: the next has it
                self._give(who)
            raise

    async def keep(self, who: str, begin: Callable[[Any], "asyncio.Future[Any]"], call: Any) -> Any:
        """What `begin(call)` comes to. The turn ends with the read itself, also where nobody waits for it any
        more: a thread goes on with it."""
        try:
            reading = begin(call)
        except BaseException:
            self._give(who)
            raise
        reading.add_done_callback(lambda _reading: self._give(who))
        return await asyncio.shield(reading)

    def _give(self, who: str) -> None:
        waiting = self._waiting.get(who)
        while waiting:
            turn = waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._waiting.pop(who, None)
        taken = self._taken[who] - 1
        if taken:
            self._taken[who] = taken
        else:
            del self._taken[who]
