"""Calls that share one transaction, whatever else the machine does."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from aitbc.database import Database, Tx


async def shared(db: Database, *calls: Callable[[Tx], Any]) -> list[Any]:
    """The calls in one transaction (they are queued while another one runs); errors in place of results."""
    started, go_on = threading.Event(), threading.Event()

    def first(tx: Tx) -> None:
        started.set()
        assert go_on.wait(10)

    ahead = asyncio.create_task(db.write(first))
    await asyncio.to_thread(started.wait, 10)
    tasks = [asyncio.create_task(db.write(call)) for call in calls]
    await asyncio.sleep(0.4)  # longer than a group takes calls, so that these have one of their own
    go_on.set()
    await ahead
    return await asyncio.gather(*tasks, return_exceptions=True)
