"""Which machine and folder a miner runs in: what tells its restart from a copy of it."""

from __future__ import annotations

import hashlib
import socket
import uuid
from functools import lru_cache
from pathlib import Path

MACHINE_ID = Path("/etc/machine-id")
LOCAL_BIT = 1 << 40  # uuid.getnode makes a number up, another one each time, where it finds no network card


@lru_cache(maxsize=8)
def installation_id(home: Path) -> str:
    """32 hex digits, the same at each start on this machine with this home.

    A disk that was copied has the machine's id, the key and the folder with it, so the host's name and its
    network card count too. All of it goes out as a hash only.
    """
    node = uuid.getnode()
    try:
        machine = MACHINE_ID.read_text().strip()
    except OSError:
        machine = ""
    parts = (machine, socket.gethostname(), "" if node & LOCAL_BIT else f"{node:012x}", str(home.resolve()))
    return hashlib.sha256("\0".join(("aitbc/installation", *parts)).encode()).hexdigest()[:32]
