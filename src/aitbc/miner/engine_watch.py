"""Whether the engine takes jobs and which models it has, as all of the miner's loops see it together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aitbc.core.causes import Cause
from aitbc.miner.advertise import offered
from aitbc.miner.backoff import Backoff, wait
from aitbc.miner.engines.base import Engine, EngineError, EngineNotReady, ModelInfo
from aitbc.miner.engines.diagnose import why_no_model, why_unusable
from aitbc.miner.progress import Reporter

log = logging.getLogger(__name__)


class EngineWatch:
    """Up, loading or down; each change is reported once, and told by `on_change`. `on_models` is awaited with
    the models when they are others than before.

    `not_ready` says why a job that waits for the engine waits, "" where none does: it knows better than a
    listing, which many servers answer while they load.
    """

    def __init__(
        self,
        engine: Engine,
        reporter: Reporter,
        *,
        refresh_s: float,
        new_backoff: Callable[[], Backoff],
        not_ready: Callable[[], str],
    ) -> None:
        self.is_up = True
        self.is_loading = False
        self.models: list[ModelInfo] = []
        self.on_change: Callable[[], None] = lambda: None
        self.on_models: Callable[[list[ModelInfo]], Awaitable[None]] | None = None
        self._engine = engine
        self._reporter = reporter
        self._refresh_s = refresh_s
        self._new_backoff = new_backoff
        self._not_ready = not_ready
        self._now = asyncio.Event()
        self._left_out: set[str] = set()

    @property
    def status(self) -> str:
        """For the display; "" where there is nothing to say."""
        if self.is_up:
            return ""
        return "engine loading" if self.is_loading else "engine down"

    async def start(self) -> None:
        """Start the engine and wait until it has loaded. Raises EngineError that says what is there instead."""
        await self._engine.start()
        backoff = self._new_backoff()
        while True:
            try:
                self.models = await self._ask()
                break
            except EngineNotReady as error:
                self.set(False, error.message, is_loading=True)
                await asyncio.sleep(backoff.next_s())
            except EngineError as error:
                raise EngineError(error.cause, await why_unusable(self._engine, error)) from error
        self.set(True)
        if not self.models:
            raise EngineError(Cause.MODEL_NOT_FOUND, why_no_model(self._engine))
        names = [model.name for model in self.models]
        self._reporter.event("engine_ready", engine=self._engine.name, models=names)
        self._report_left_out()

    async def run(self) -> None:
        """Look now and then, and at once after `look`; an engine that is not up is looked at more often."""
        backoff = self._new_backoff()
        while True:
            await wait(self._now, self._refresh_s if self.is_up else backoff.next_s())
            self._now.clear()
            try:
                models = await self._ask()
            except EngineError as error:
                self.set(False, error.message, is_loading=isinstance(error, EngineNotReady))
                continue
            if self._not_ready():
                continue
            backoff.reset()
            self.set(True)
            self._report_left_out()
            if models != self.models:
                self.models = models
                if self.on_models is not None:
                    await self.on_models(models)

    def look(self) -> None:
        """Look at the engine now."""
        self._now.set()

    def jobs_changed(self) -> None:
        """A job that waits for the engine, or that it has begun, tells whether it is ready."""
        if why := self._not_ready():
            self.set(False, why, is_loading=True)
        elif self.is_loading:
            self.look()

    def set(self, is_up: bool, reason: str = "", *, is_loading: bool = False) -> None:
        """Takes over what was found out."""
        is_loading = is_loading and not is_up
        if (is_up, is_loading) == (self.is_up, self.is_loading):
            return
        self.is_up, self.is_loading = is_up, is_loading
        if is_up:
            self._reporter.event("engine_back")
        elif is_loading:
            self._reporter.event("engine_loading", reason=reason)
        else:
            self._reporter.event("engine_down", reason=reason)
        if not is_up:
            self.look()
        self.on_change()

    async def _ask(self) -> list[ModelInfo]:
        try:
            return offered(await self._engine.models())
        except EngineError:
            raise
        except Exception as error:
            log.exception("unexpected error while the engine's models were listed")
            raise EngineError(
                Cause.ENGINE_UNAVAILABLE, f"its models cannot be listed (unexpected {type(error).__name__})"
            ) from error

    def _report_left_out(self) -> None:
        """Says once of each model why it is not offered."""
        selection, skipped = self._engine.selection, self._engine.skipped
        for name in sorted(set(selection.missing) - self._left_out):
            self._reporter.event("model_missing", model=name, found=selection.found)
        for name in sorted(set(skipped) - self._left_out):
            self._reporter.event("model_skipped", model=name, reason=skipped[name])
        self._left_out = {*selection.missing, *skipped}
