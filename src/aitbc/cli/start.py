"""The `aitbc` program's first lines: Ctrl-C while it is being loaded or is ending prints no traceback.

Only the standard library's smallest parts are imported before the handler stands.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130


def main() -> None:
    """Run the program. While a command runs, Ctrl-C is Python's own KeyboardInterrupt; before and after it
    the process just ends."""
    quietly()
    from aitbc.cli.main import app

    app(prog_name="aitbc")


def quietly() -> None:
    """From here on Ctrl-C ends the process at once, with one line."""
    signal.signal(signal.SIGINT, _end)


def _end(_number: int, _frame: FrameType | None) -> None:
    try:
        sys.stdout.flush()
        os.write(2, b"aitbc: interrupted\n")
    except OSError:
        pass
    os._exit(INTERRUPTED)
