"""Whether the engine takes jobs, as all of the miner's loops see it together."""

from __future__ import annotations

from aitbc.miner.progress import Reporter


class EngineState:
    """Up, loading or down. Each change is reported once."""

    def __init__(self, reporter: Reporter) -> None:
        self.is_up = True
        self.is_loading = False
        self._reporter = reporter

    @property
    def status(self) -> str:
        """For the display; "" where there is nothing to say."""
        if self.is_up:
            return ""
        return "engine loading" if self.is_loading else "engine down"

    def set(self, is_up: bool, reason: str = "", *, is_loading: bool = False) -> bool:
        """Takes over what was found; gives whether that is news."""
        is_loading = is_loading and not is_up
        if (is_up, is_loading) == (self.is_up, self.is_loading):
            return False
        self.is_up, self.is_loading = is_up, is_loading
        if is_up:
            self._reporter.event("engine_back")
        elif is_loading:
            self._reporter.event("engine_loading", reason=reason)
        else:
            self._reporter.event("engine_down", reason=reason)
        return True
