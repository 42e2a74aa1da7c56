"""What a miner counts of itself for `aitbc miner status`."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from aitbc.miner import tally as tally_module
from aitbc.miner.tally import FILE_NAME, MAX_KEYS, Tally, TallyReporter, load_tally
from tests.miner.harness import Events, run, until


def test_counts_survive_a_restart_and_time_without_work_has_its_reasons(tmp_path: Path) -> None:
    now = [1000.0]
    for _ in range(2):
        reporter = TallyReporter(Events(), tmp_path, "http://c", clock=lambda: now[0])
        reporter.event("job_done", tokens=7, earned_units=5)
        reporter.event("job_done", tokens=None, earned_units=None)
        reporter.event("job_failed", cause="TIMEOUT", message="secret words of an engine")
        reporter.event("job_lost", job_id="j", reason="r")
        reporter.event("result_refused", code="RESULT_TOO_LARGE", kind="complete")
        reporter.event("interrupted", jobs=["a", "b"], undelivered=0, lease_s=60)
        reporter.event("engine_loading", reason="x")
        now[0] += 10
        reporter.event("engine_down", reason="x")
        reporter.event("coordinator_down", reason="x", retry_s=1)
        now[0] += 5
        reporter.event("engine_back")
        reporter.event("coordinator_back")
        reporter.event("no_work", code="PAUSED", message="x")
        now[0] += 3
        reporter.close()
    tally = load_tally(tmp_path)
    assert tally is not None
    assert (tally.completed, tally.tokens, tally.earned_units) == (4, 14, 10)
    assert (tally.failed, tally.lost, tally.interrupted) == ({"TIMEOUT": 2}, 2, 4)
    assert tally.refused == {"RESULT_TOO_LARGE": 2}
    assert tally.idle_s == {"engine loading": 20, "engine down": 10, "coordinator down": 10, "PAUSED": 6}
    path = tmp_path / FILE_NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "secret" not in path.read_text()


def test_the_last_events_before_a_quiet_time_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally_module, "WRITE_EVERY_S", 0.1)

    async def scenario() -> None:
        reporter = TallyReporter(Events(), tmp_path, "http://c")
        for _ in range(3):
            reporter.event("job_done", tokens=7, earned_units=5)
        await until(lambda: (seen := load_tally(tmp_path)) is not None and seen.completed == 3)
        reporter.event("job_lost", job_id="j", reason="r")
        await until(lambda: (seen := load_tally(tmp_path)) is not None and seen.lost == 1)
        reporter.close()

    run(scenario())


@pytest.mark.parametrize("content", ["", "{", "[]", "7", '{"version": 2}', '{"version": 1, "failed": 3}'])
def test_a_tally_that_cannot_be_read_begins_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content)
    assert load_tally(tmp_path) is None
    TallyReporter(Events(), tmp_path, "http://c").close()
    assert load_tally(tmp_path) is not None


def test_a_tally_stays_small(tmp_path: Path) -> None:
    reporter = TallyReporter(Events(), tmp_path, "http://c")
    for number in range(1000):
        reporter.event("result_refused", code=f"CODE_{number}")
    assert len(reporter.tally.refused) == MAX_KEYS
    reporter.close()
    assert json.loads((tmp_path / FILE_NAME).read_text())["version"] == 1


def test_a_disk_that_refuses_the_tally_stops_nothing(tmp_path: Path) -> None:
    events = Events()
    reporter = TallyReporter(events, tmp_path / "nowhere", "http://c")
    reporter.event("job_lost", job_id="j", reason="r")
    reporter.close()
    assert events.is_closed and events.named("job_lost")
    assert Tally().completed == 0
