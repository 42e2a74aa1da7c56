"""What a checking command found, one thing at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aitbc.cli.output import print_json, say

_WORDS = {True: "ok     ", False: "WRONG  ", None: "-      "}


@dataclass(frozen=True)
class Finding:
    """`ok`: True, False, or None where there is nothing to judge. `advice`: what to do about it."""

    name: str
    ok: bool | None
    detail: str
    advice: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def show_findings(findings: Sequence[Finding], as_json: bool) -> bool:
    """Print them; True where none is wrong."""
    ok = all(finding.ok is not False for finding in findings)
    if as_json:
        print_json({"ok": ok, "checks": [finding.to_json() for finding in findings]})
        return ok
    width = max((len(finding.name) for finding in findings), default=0)
    for finding in findings:
        say(f"{_WORDS[finding.ok]}  {finding.name.ljust(width)}  {finding.detail}")
        if finding.advice:
            say(f"{' ' * (width + 11)}  -> {finding.advice}")
    return ok
