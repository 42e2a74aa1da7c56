"""What the miner shows: a live table on a terminal, plain lines elsewhere, JSON lines for programs.

Events carry ids, models, counts and amounts; never a prompt or a result.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from aitbc.core.clock import rfc3339
from aitbc.core.money import ait_number, format_ait

RECENT_EVENTS = 8


@dataclass(slots=True)
class JobView:
    """A running job as the display sees it. `pieces` counts what was generated so far; `waits_for` is why
    the engine has not taken it yet."""

    job_id: str
    model: str
    started_s: float
    pieces: int = 0
    waits_for: str = ""


@dataclass(slots=True)
class MinerView:
    """What the display draws from; the agent keeps it up to date."""

    miner_id: str = ""
    coordinator: str = ""
    status: str = "starting"
    models: list[str] = field(default_factory=list)
    gpus: list[str] = field(default_factory=list)
    running: dict[str, JobView] = field(default_factory=dict)
    undelivered: int = 0
    completed: int = 0
    failed: int = 0
    tokens: int = 0
    earned_units: int = 0
    coordinator_trouble: str = ""
    no_work: str = ""


class Reporter(Protocol):
    """Where the agent's events go."""

    def event(self, name: str, **facts: Any) -> None:
        """Something happened. Facts are JSON-ready; names ending in `_units` are base units of AIT."""
        ...

    def refresh(self, view: MinerView) -> None:
        """The picture changed."""
        ...

    def close(self) -> None:
        """The miner is ending: leave the terminal as it was."""
        ...


class JsonReporter:
    """One JSON object a line: `{"time", "event", ...}`. Amounts are in AIT."""

    def __init__(self, out: IO[str] | None = None) -> None:
        self._out = out or sys.stdout

    def event(self, name: str, **facts: Any) -> None:
        line: dict[str, Any] = {"time": rfc3339(time.time_ns() // 1_000_000), "event": name}
        for key, value in facts.items():
            if key.endswith("_units"):
                line[key.removesuffix("_units")] = None if value is None else ait_number(value)
            else:
                line[key] = value
        print(json.dumps(line), file=self._out, flush=True)

    def refresh(self, view: MinerView) -> None:
        """Nothing: a program follows the events."""

    def close(self) -> None:
        """Nothing to restore."""


class PlainReporter:
    """One readable line for each event, for logs and pipes."""

    def __init__(self, out: IO[str] | None = None) -> None:
        self._out = out or sys.stdout

    def event(self, name: str, **facts: Any) -> None:
        clock = time.strftime("%H:%M:%S")
        print(f"{clock} {sentence(name, facts)}", file=self._out, flush=True)

    def refresh(self, view: MinerView) -> None:
        """Nothing: lines are not redrawn."""

    def close(self) -> None:
        """Nothing to restore."""


class LiveReporter:
    """A picture of the running jobs that redraws itself, with the last events under it."""

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._recent: deque[Text] = deque(maxlen=RECENT_EVENTS)
        self._view = MinerView()
        self._live = Live(
            get_renderable=self._draw, console=console or Console(), refresh_per_second=4, transient=False
        )
        self._live.start()

    def event(self, name: str, **facts: Any) -> None:
        style = "red" if name.endswith(("failed", "refused", "lost", "down")) else ""
        self._recent.append(Text(f"{time.strftime('%H:%M:%S')} {sentence(name, facts)}", style=style))

    def refresh(self, view: MinerView) -> None:
        self._view = view

    def close(self) -> None:
        self._live.stop()

    def _draw(self) -> RenderableType:
        view = self._view
        head = Text.assemble(
            (view.miner_id or "miner", "bold"),
            " at ",
            view.coordinator,
            "  ",
            (view.status, _colour(view.status)),
        )
        totals = Text(
            f"{view.completed} done, {view.failed} failed, {view.tokens} tokens, "
            f"{format_ait(view.earned_units)} AIT earned"
            + (f", {view.undelivered} waiting to be delivered" if view.undelivered else "")
        )
        offers = Text(f"offers {_shorten(view.models)}" + (f" on {_shorten(view.gpus)}" if view.gpus else ""))
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=bool(view.running))
        for title in ("job", "model", "pieces", "seconds"):
            table.add_column(title)
        for job in list(view.running.values()):
            seconds = f"{self._clock() - job.started_s:.1f}"
            pieces = "waits for the engine" if job.waits_for else str(job.pieces)
            table.add_row(job.job_id, job.model, pieces, seconds)
        troubles = [
            Text(_printable(text), style="red")
            for text in (
                view.coordinator_trouble and f"the coordinator does not serve us: {view.coordinator_trouble}",
                view.no_work and f"no work comes: {view.no_work}",
            )
            if text
        ]
        return Group(head, *troubles, offers, totals, table, *self._recent)


def sentence(name: str, facts: dict[str, Any]) -> str:
    """An event as one line for people."""
    template = SENTENCES[name]
    shown = {
        key: format_ait(value) if key.endswith("_units") and isinstance(value, int) else value
        for key, value in facts.items()
    }
    for key, value in shown.items():
        if isinstance(value, list):
            shown[key] = _shorten([str(item) for item in value])
    # Engines and coordinators put their words into these lines; a terminal must not take orders from them.
    return _printable(template.format_map(shown))


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)


SENTENCES = {
    "engine_ready": "engine {engine} is ready: {models}",
    "gpus": "GPUs: {gpus}",
    "registered": "registered as {miner_id} at {coordinator}; offering {models}",
    "models_changed": "the engine's models changed; now offering {models}",
    "engine_down": "the engine is down, taking no jobs until it is back: {reason}",
    "engine_loading": "the engine is not ready, taking no jobs until it is: {reason}",
    "engine_unusable": "cannot start: {reason}",
    "model_missing": "the engine has no model {model}; it has {found}",
    "model_skipped": "model {model} is not offered: {reason}",
    "engine_back": "the engine is back",
    "coordinator_down": "the coordinator does not serve us ({reason}); trying again in {retry_s} s",
    "coordinator_back": "the coordinator is back",
    "no_work": "the coordinator gives this miner no work ({code}): {message}",
    "work_again": "the coordinator gives this miner work again",
    "job_started": "job {job_id}: started ({model})",
    "job_answered": "job {job_id}: answered in {seconds} s ({tokens} tokens)",
    "job_done": "job {job_id}: done, receipt {receipt_id}, earned {earned_units} AIT",
    "job_failed": "job {job_id}: failed, {cause}: {message}",
    "job_lost": "job {job_id}: given up, the coordinator took it back ({reason})",
    "result_refused": "job {job_id}: the coordinator refused what we sent, {code}: {message}",
    "fail_reported": "job {job_id}: the failure is reported ({cause})",
    "outbox_found": "{count} answers of an earlier run wait to be delivered",
    "outbox_elsewhere": "{count} answers wait for {coordinator}: deliver them with --coordinator",
    "outbox_unreadable": "{path} cannot be read and is left alone",
    "outbox_full_disk": "job {job_id}: the answer is only in memory, the disk refused it ({reason})",
    "outbox_not_erased": "job {job_id}: its delivered answer is still on disk ({reason})",
    "let_go": "job {job_id}: no report of it is taken ({code}); let go, its lease ends by itself",
    "price_above_cap": "{models}: {price_units} AIT per 1000 tokens is above what clients pay unless they "
    "say otherwise ({cap_units} AIT); only jobs that allow more will come",
    "draining": "taking no new jobs, finishing {running} that run: {jobs} (once more gives them up)",
    "interrupted": "ended at once, giving up {jobs}: they are tried elsewhere when their leases end (within "
    "{lease_s} s) and earn nothing here; {undelivered} finished answers wait on disk for the next start",
    "stopped": "stopped: {completed} jobs done, {failed} failed, {earned_units} AIT earned",
    "id_in_use": "waiting for this id to be free, {code}: {message}",
    "undelivered": "{count} answers could not be delivered; the next start delivers them",
    "refused": "the coordinator refuses this miner, {code}: {message}",
}


def reporter_for(as_json: bool, out: IO[str] | None = None) -> Reporter:
    """The reporter that fits: JSON where asked for, the live picture on a terminal, plain lines elsewhere."""
    stream = out or sys.stdout
    if as_json:
        return JsonReporter(stream)
    console = Console(file=stream)
    return LiveReporter(console) if console.is_terminal else PlainReporter(stream)


def _shorten(names: list[str], limit: int = 6) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(names[:limit]) or "nothing") + more


def _colour(status: str) -> str:
    return {"active": "green", "draining": "yellow", "engine loading": "yellow"}.get(status, "red")
