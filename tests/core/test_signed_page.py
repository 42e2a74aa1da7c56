"""docs/formats/signed.md lists everything that is signed: whoever signs something new has to say what binds it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src" / "aitbc"


def places() -> set[str]:
    """Modules that make a signature or a code with a secret key."""
    return {
        path.relative_to(SOURCES).as_posix()
        for path in SOURCES.rglob("*.py")
        if re.search(r"\.sign\(|hmac\.new\(|hmac\.digest\(", path.read_text(encoding="utf-8"))
    }


def test_every_place_that_signs_is_on_the_page() -> None:
    page = (ROOT / "docs" / "formats" / "signed.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and "`" in line]
    listed = {name for row in rows for name in re.findall(r"`([a-z_]+(?:/[a-z_]+)*\.py)`", row)}
    assert listed == places() - {"core/signing.py"}
    assert all((SOURCES / name).is_file() for name in listed)
