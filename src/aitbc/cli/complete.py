"""What the shell offers for an argument: fixed words, and names that the coordinator knows.

Completion must be quick and silent: it asks with a short limit of time, and offers nothing where that fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from aitbc.core.jobspec import JOB_TYPES

if TYPE_CHECKING:
    from aitbc.sdk import Client

WAIT_S = 1.5  # how long the coordinator may take while somebody waits at the prompt
MOST = 50

Words = Callable[[str], list[str]]


def _fixed(*words: str) -> Words:
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


ROLES = _fixed("client", "miner", "admin")
USER_ROLES = _fixed("client", "miner")
ENGINES = _fixed("auto", "ollama", "openai", "llamacpp")
STATUSES = _fixed("pending", "running", "completed", "failed", "cancelled")
PERIODS = _fixed("day", "month")
PAYMENTS = _fixed("auto", "manual")
JOB_TYPE_NAMES = _fixed(*JOB_TYPES)


def models(incomplete: str) -> list[str]:
    """Models that miners offer now."""
    return _asked(
        incomplete, lambda client: (model.name for miner in client.miners() for model in miner.models)
    )


def miner_ids(incomplete: str) -> list[str]:
    """The network's miners."""
    return _asked(incomplete, lambda client: (miner.miner_id for miner in client.miners()))


def job_ids(incomplete: str) -> list[str]:
    """The newest jobs of the profile's account."""
    return _asked(incomplete, lambda client: (job.job_id for job in client.jobs(limit=MOST)))


def receipt_ids(incomplete: str) -> list[str]:
    """The network's newest receipts."""
    return _asked(incomplete, lambda client: (one.receipt_id for one in client.receipts(limit=MOST)))


def _asked(incomplete: str, ask: Callable[[Client], Iterable[str | None]]) -> list[str]:
    from aitbc.cli.failures import CommandError
    from aitbc.cli.profile import resolve
    from aitbc.sdk import AitbcClientError, Client

    try:
        target = resolve(None, None)
        with Client(target.url, target.key or "", timeout_s=WAIT_S, tries=1) as client:
            names = [str(name) for name in ask(client)]
    except (AitbcClientError, CommandError, ValueError):
        return []
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)][:MOST]
