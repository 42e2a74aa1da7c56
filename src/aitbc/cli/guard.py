"""Runs a command that must not outlive its parent: `python -m aitbc.cli.guard GRACE_S COMMAND…`.

Its stdin is a pipe that the parent holds open and never writes to. When the parent ends, however it ends, the
pipe closes, and the guard ends the command's process group: SIGTERM, then SIGKILL after GRACE_S. Started as
the leader of a process group of its own; only the standard library is imported, so that it costs little.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading


def main(arguments: list[str]) -> int:
    """Run the command to its end; the exit code is the command's (128 + the signal's number if killed)."""
    grace_s = float(arguments[0])
    # The group's signals are for the command; the guard must live to see it end.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    command = subprocess.Popen(arguments[1:], stdin=subprocess.DEVNULL)
    threading.Thread(target=_end_with_parent, args=(grace_s,), daemon=True).start()
    code = command.wait()
    return code if code >= 0 else 128 - code


def _end_with_parent(grace_s: float) -> None:
    while os.read(0, 1):
        pass
    os.killpg(os.getpgrp(), signal.SIGTERM)
    threading.Event().wait(grace_s)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
