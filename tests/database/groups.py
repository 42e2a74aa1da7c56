"""Calls that share one transaction, whatever else the machine does."""

import asyncio
from collections.abc import Callable
from typing import Any

from aitbc.database import Database, Tx


async def shared(db: Database, *calls: Callable[[Tx], Any]) -> list[Any]:
    """The calls in one transaction (they are queued while it connects or begins); errors in place of results."""
    return await asyncio.gather(*(db.write(call) for call in calls), return_exceptions=True)
