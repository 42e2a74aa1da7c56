"""Voting power, from `benchmarks.governance`."""

from pathlib import Path

from benchmarks import governance
from benchmarks.figures import Figure, Plan, median_figure


def measure(plan: Plan, folder: Path) -> list[Figure]:
    """The slowest kind of account, of a million."""
    folder.mkdir(parents=True, exist_ok=True)
    found = governance.measure(
        folder, plan.voting_accounts, plan.voting_accounts // 10, plan.explorer_requests
    )
    powers: dict[str, dict[str, float]] = found["powers"]  # type: ignore[assignment]
    worst = max(power["p99"] for power in powers.values())
    return [median_figure("power_p99", "sqlite", "ms", [worst], powers=powers)]
