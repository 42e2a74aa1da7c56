"""`aitbc_jobs_ended_total` counts every job once, whatever ended it; and no metric is shown that nothing moves,
nor a signal sent that nobody hears."""

import re
from pathlib import Path

import pytest

import aitbc
from aitbc.coordinator import metrics
from aitbc.coordinator.metrics import JOBS_ENDED
from tests.coordinator.flows.test_free_jobs import ENDS, end
from tests.support.flows import Market


def counted() -> dict[str, float]:
    (family,) = JOBS_ENDED.collect()
    return {sample.labels["status"]: sample.value for sample in family.samples}


@pytest.mark.parametrize("how", ENDS)
def test_each_end_is_counted_once_by_its_status(market: Market, how: str) -> None:
    before = counted()
    end(market, market.client(), how)
    status = {"answered for nothing": "completed", "expired": "failed", "failed": "failed"}.get(
        how, "cancelled"
    )
    after = counted()
    more = {name: after[name] - before.get(name, 0) for name in after}
    assert {name: count for name, count in more.items() if count} == {status: 1}


def test_every_metric_is_moved_by_the_program() -> None:
    folder = Path(aitbc.__file__).parent
    program = "".join(path.read_text() for path in folder.rglob("*.py") if path != folder / "metrics.py")
    names = re.findall(
        r"^([A-Z_]+) = (?:Counter|Gauge|Histogram)\(", Path(metrics.__file__).read_text(), re.M
    )
    assert names and not [name for name in names if not re.search(rf"\b{name}\b(?!\.collect)", program)], (
        "declared and documented, and always zero"
    )


def test_every_kind_of_signal_is_heard() -> None:
    """On PostgreSQL each goes to all other coordinators."""
    program = "".join(path.read_text() for path in Path(aitbc.__file__).parent.rglob("*.py"))
    assert re.search(r"signal\(queued_signal\(", program)
    sent = set(re.findall(r"\.signal\(\(\"(\w+)\"", program)) | {"queued"}
    heard = set(re.findall(r"signal\[0\] == \"(\w+)\"", program)) | set(
        re.findall(r"key = \(\"(\w+)\"", program)
    )
    assert sent == heard == {"queued", "job", "key", "miner"}
