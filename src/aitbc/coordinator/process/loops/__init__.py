"""The loops that run beside the API, a module for each: what it does a round, and `LOOP`, which declares it.

A new one is a new module here and nothing else: `background` runs whatever this folder declares, and the table of
loops in docs/operating.md is made from the declarations. Loops do not import each other.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from aitbc.coordinator.config import Settings
from aitbc.coordinator.process.runtime import Runtime

S = TypeVar("S")


@dataclass(frozen=True, kw_only=True)
class Loop(Generic[S]):
    """One loop. `S` is what its rounds share: the runtime, or what `open` makes of it when the coordinator starts.

    `run_once` does one round of bounded size and says whether another is due at once. A round may fail: it is
    logged and counted, and the next one comes all the same. It may be cancelled wherever it waits, once the
    coordinator ends. `close` gives back what `open` took.
    """

    name: str
    does: str
    """For operators, in a few words."""
    every_s: Callable[[Settings], float]
    """Between two rounds, where none is due at once."""
    run_once: Callable[[S], Awaitable[bool]]
    open: Callable[[Runtime], S] | None = None
    close: Callable[[S], Awaitable[None]] | None = None
    needs_steady_clock: bool = False
    """Whether its rounds wait while the wall clock is in doubt: what they do cannot be undone."""
    while_log_refused: bool = True
    """Whether it goes on where the database is found not to continue the signed log (`Runtime.refuse_log`)."""
