"""What miners were found to offer a moment ago, remembered by one coordinator."""

from collections import OrderedDict
from collections.abc import Hashable

TRUSTED_MS = 5_000  # what was on offer so long ago is taken to be on offer still
REMEMBERED = 4_096


class OnOffer:
    """What was found to be on offer a moment ago, so that submissions of the same kind need not look again.

    Only good news is remembered: a warning is always of this moment.
    """

    def __init__(self) -> None:
        self._until_ms: OrderedDict[Hashable, int] = OrderedDict()

    def knows(self, what: Hashable, now_ms: int) -> bool:
        """Whether it was on offer at most TRUSTED_MS ago."""
        until_ms = self._until_ms.get(what)
        return until_ms is not None and now_ms <= until_ms <= now_ms + TRUSTED_MS

    def remember(self, what: Hashable, now_ms: int) -> None:
        self._until_ms[what] = now_ms + TRUSTED_MS
        self._until_ms.move_to_end(what)
        if len(self._until_ms) > REMEMBERED:
            self._until_ms.popitem(last=False)
