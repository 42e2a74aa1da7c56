"""What a miner has done, kept beside its key for `aitbc miner status`: counts, causes and reasons, no content.

`<home>/miner/<miner id>/tally.json`, written at most every few seconds and at the end. It is a convenience for
the miner's owner: what is paid is in the coordinator's books, and a lost file costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from aitbc.miner.progress import MinerView, Reporter

log = logging.getLogger(__name__)

VERSION = 1
WRITE_EVERY_S = 5.0
MAX_KEYS = 64
FILE_NAME = "tally.json"

_STOPPED_BY = {
    "engine_down": "engine down",
    "engine_loading": "engine loading",
    "coordinator_down": "coordinator down",
    "no_work": "",
}
"""Events after which no work comes, and why; "": the event's own code."""

_GOES_ON = {"engine_back": "engine", "coordinator_back": "coordinator", "work_again": "no_work"}


@dataclass(slots=True)
class Tally:
    """Counts since `since_ms`. `failed` by cause, `refused` by the coordinator's code, `idle_s`: seconds
    without new work, by reason; `stopped` is the reason that holds now."""

    since_ms: int = 0
    updated_ms: int = 0
    coordinator: str = ""
    completed: int = 0
    tokens: int = 0
    earned_units: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    interrupted: int = 0
    idle_s: dict[str, float] = field(default_factory=dict)
    stopped: str = ""


def load_tally(folder: Path) -> Tally | None:
    """The tally of the miner whose folder this is; None where there is none that can be read."""
    try:
        data = json.loads((folder / FILE_NAME).read_bytes())
        if data.pop("version") != VERSION:
            return None
        known = {each.name: each.type for each in fields(Tally)}
        tally = Tally(**{name: value for name, value in data.items() if name in known})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    for each in fields(Tally):
        if type(getattr(tally, each.name)) is not type(getattr(Tally(), each.name)):
            return None
    return tally


class TallyReporter:
    """A reporter that counts what passes through it to another."""

    def __init__(
        self, reporter: Reporter, folder: Path, coordinator: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._reporter = reporter
        self._folder = folder
        self._clock = clock
        now_ms = int(clock() * 1000)
        self.tally = load_tally(folder) or Tally(since_ms=now_ms)
        self.tally.coordinator, self.tally.stopped = coordinator, ""
        self._stops: dict[str, tuple[str, float]] = {}  # what stopped it -> (why, since when)
        self._written_s = 0.0
        self._later: asyncio.TimerHandle | None = None

    def event(self, name: str, **facts: Any) -> None:
        self._reporter.event(name, **facts)
        self._count(name, facts)
        if self._clock() - self._written_s >= WRITE_EVERY_S:
            self._write()
        else:
            self._write_later()

    def refresh(self, view: MinerView) -> None:
        self._reporter.refresh(view)

    def close(self) -> None:
        for source in list(self._stops):
            self._go_on(source)
        self._write()
        self._reporter.close()

    def _count(self, name: str, facts: dict[str, Any]) -> None:
        tally = self.tally
        match name:
            case "job_done":
                tally.completed += 1
                tally.tokens += facts.get("tokens") or 0
                tally.earned_units += facts.get("earned_units") or 0
            case "job_failed":
                _add(tally.failed, str(facts["cause"]), 1)
            case "job_lost":
                tally.lost += 1
            case "result_refused":
                _add(tally.refused, str(facts["code"]), 1)
            case "interrupted":
                tally.interrupted += len(facts["jobs"])
            case _ if name in _STOPPED_BY:
                source = "no_work" if name == "no_work" else name.partition("_")[0]
                self._go_on(source)
                self._stops[source] = (_STOPPED_BY[name] or str(facts["code"]), self._clock())
                tally.stopped = self._stops[source][0]
            case _ if name in _GOES_ON:
                self._go_on(_GOES_ON[name])

    def _go_on(self, source: str) -> None:
        if source in self._stops:
            why, since_s = self._stops.pop(source)
            _add(self.tally.idle_s, why, max(0.0, self._clock() - since_s))
        self.tally.stopped = next((why for why, _ in self._stops.values()), "")

    def _write_later(self) -> None:
        """What came too soon after the last writing is written too, also where nothing more comes."""
        if self._later is None:
            with contextlib.suppress(RuntimeError):  # no loop: closing writes it
                self._later = asyncio.get_running_loop().call_later(WRITE_EVERY_S, self._write)

    def _write(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        self._written_s = self._clock()
        self.tally.updated_ms = int(self._written_s * 1000)
        path = self._folder / FILE_NAME
        temporary = path.with_suffix(".new")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump({"version": VERSION, **asdict(self.tally)}, file)
            temporary.replace(path)
        except OSError as error:
            log.debug("the tally cannot be written: %s", error)  # the miner works without it


def _add(counts: dict[str, Any], key: str, amount: float) -> None:
    if key in counts or len(counts) < MAX_KEYS:
        counts[key] = counts.get(key, 0) + amount
