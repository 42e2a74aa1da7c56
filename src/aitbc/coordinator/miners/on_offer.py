"""What miners were found to offer a moment ago, remembered by one coordinator."""

from collections import OrderedDict
from collections.abc import Hashable
from contextlib import suppress
from typing import Any

TRUSTED_MS = 5_000  # what was on offer so long ago is taken to be on offer still
NOTED_MS = 1_000
REMEMBERED = 4_096


class OnOffer:
    """What was found to be on offer a moment ago, so that submissions of the same kind need not look again.

    Only good news is remembered so long. A warning is noted for those who look at waiting jobs again and again,
    for NOTED_MS and until a miner registers here; a submission's is always of its moment.
    """

    def __init__(self) -> None:
        self._until_ms: OrderedDict[Hashable, int] = OrderedDict()
        self._noted: OrderedDict[Hashable, tuple[int, Any]] = OrderedDict()

    def knows(self, what: Hashable, now_ms: int) -> bool:
        """Whether it was on offer at most TRUSTED_MS ago."""
        until_ms = self._until_ms.get(what)
        return until_ms is not None and now_ms <= until_ms <= now_ms + TRUSTED_MS

    def remember(self, what: Hashable, now_ms: int) -> None:
        self._until_ms[what] = now_ms + TRUSTED_MS
        self._until_ms.move_to_end(what)
        if len(self._until_ms) > REMEMBERED:
            self._until_ms.popitem(last=False)

    def noted(self, what: Hashable, now_ms: int) -> Any:
        """What was noted at most NOTED_MS ago; None where nothing was."""
        until_ms, warned = self._noted.get(what, (0, None))
        return warned if now_ms <= until_ms <= now_ms + NOTED_MS else None

    def note(self, what: Hashable, warned: Any, now_ms: int) -> None:
        self._noted.pop(what, None)
        self._noted[what] = now_ms + NOTED_MS, warned
        if len(self._noted) > REMEMBERED:
            with suppress(KeyError):  # readers have threads of their own
                self._noted.popitem(last=False)

    def miner_came(self) -> None:
        """Whatever was wanting may be here now."""
        self._noted.clear()
