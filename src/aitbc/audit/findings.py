"""What an audit found: how much it looked at, and the first thing that is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol


class Wrong(Exception):
    """The first thing that does not hold: what kind of thing, which one, and what about it."""

    def __init__(self, kind: str, which: str | int, what: str) -> None:
        super().__init__(f"{kind} {which}: {what}")
        self.kind = kind
        self.id = str(which)
        self.what = what

    def to_json(self) -> dict[str, str]:
        return {"kind": self.kind, "id": self.id, "what": self.what}


class Progress(Protocol):
    """Who watches an audit."""

    def stage(self, name: str, total: int) -> None:
        """A stage begins; it goes through `total` things (0: unknown)."""

    def step(self, count: int) -> None:
        """So many more of them are done."""


class Unwatched:
    """Nobody does."""

    def stage(self, name: str, total: int) -> None:
        pass

    def step(self, count: int) -> None:
        pass


@dataclass
class Report:
    """What was looked at, by kind; what could not be checked; and the first thing wrong, if any."""

    counts: dict[str, int] = field(default_factory=dict)
    checked: list[str] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)
    wrong: Wrong | None = None
    at: tuple[str, str | int] = ("database", "?")
    """What is being looked at: the finding where it cannot even be read."""

    @property
    def ok(self) -> bool:
        return self.wrong is None

    @property
    def problems(self) -> list[str]:
        """The finding as a line; empty where everything holds."""
        return [] if self.wrong is None else [str(self.wrong)]

    def count(self, name: str, number: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + number

    def to_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "counts": self.counts,
            "checked": self.checked,
            "not_checked": self.not_checked,
            "wrong": None if self.wrong is None else self.wrong.to_json(),
        }
