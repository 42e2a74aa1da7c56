"""The miner's smaller parts: GPUs, waiting, what is printed, the command line's options."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
from rich.console import Console
from typer.testing import CliRunner

from aitbc.cli.main import app
from aitbc.miner.backoff import Backoff
from aitbc.miner.gpu import Gpu, GpuLoad, detect_gpus, read_load
from aitbc.miner.progress import (
    SENTENCES,
    JobView,
    JsonReporter,
    LiveReporter,
    MinerView,
    PlainReporter,
    reporter_for,
    sentence,
)
from aitbc.miner.settings import MinerSettings

SOURCE = Path(__file__).parents[2] / "src" / "aitbc" / "miner"


def fake_nvml(monkeypatch: pytest.MonkeyPatch, **answers: Any) -> None:
    """NVML of a machine with two GPUs."""
    functions: dict[str, Any] = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda handle: ["NVIDIA A", b"NVIDIA B"][handle],
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=24564 * 2**20, used=2**30),
        "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=[50, 25][handle]),
    }
    for name, function in (functions | answers).items():
        monkeypatch.setattr(pynvml, name, function)


def raising() -> None:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)


def test_gpus_are_what_nvml_says(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvml(monkeypatch)
    assert detect_gpus() == [Gpu("NVIDIA A", 24.0), Gpu("NVIDIA B", 24.0)]
    assert read_load() == GpuLoad(37.5, 2.0)


def test_without_a_driver_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvml(monkeypatch, nvmlInit=raising)
    assert detect_gpus() == []
    assert read_load() is None
    fake_nvml(monkeypatch, nvmlDeviceGetCount=raising)
    assert detect_gpus() == []
    assert read_load() is None


def test_waits_grow_to_a_limit_and_start_again() -> None:
    backoff = Backoff(1.0, 8.0)
    waits = [backoff.next_s() for _ in range(40)]
    for wait_s, ceiling in zip(waits, [1, 2, 4, 8, 8], strict=False):
        assert ceiling / 2 <= wait_s <= ceiling
    assert len(set(waits)) > 30
    assert backoff.next_s(at_least_s=60) == 60
    backoff.reset()
    assert backoff.next_s() <= 1


FACTS = {"job_id": "j", "receipt_id": "r", "tokens": 7, "earned_units": 49_000_000}


def test_json_lines_carry_amounts_in_ait() -> None:
    out = io.StringIO()
    JsonReporter(out).event("job_done", **FACTS)
    line = json.loads(out.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {"event": "job_done", "job_id": "j", "receipt_id": "r", "tokens": 7, "earned": 0.49}


def test_plain_lines_are_for_people_and_steer_no_terminal() -> None:
    out = io.StringIO()
    reporter = PlainReporter(out)
    reporter.event("job_done", **FACTS)
    reporter.event("job_failed", job_id="j", cause="ENGINE_ERROR", message="\x1b]0;owned\x07\x1b[2J\nnext")
    first, second = out.getvalue().splitlines()
    assert first.endswith("job j: done, receipt r, earned 0.49 AIT")
    assert "\x1b" not in second


def test_the_live_picture_shows_what_runs() -> None:
    out = io.StringIO()
    reporter = LiveReporter(Console(file=out, force_terminal=True, width=100), clock=lambda: 12.5)
    view = MinerView("m1", "host:8000", "active", ["tiny"], ["NVIDIA A (24 GB)"], completed=3, undelivered=1)
    view.running["job-1"] = JobView("job-1", "tiny", 10.0, pieces=42)
    view.running["job-2"] = JobView("job-2", "tiny", 10.0, waits_for="Loading model")
    view.coordinator_trouble, view.no_work = "connection refused; trying again", "It pauses."
    reporter.refresh(view)
    reporter.event("job_started", job_id="job-1", model="tiny", attempt=1)
    reporter.close()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    for text in (
        "m1 at host:8000",
        "active",
        "3 done",
        "1 waiting",
        "job-1",
        "42",
        "2.5",
        "NVIDIA A",
        "started",
        "waits for the engine",
        "the coordinator does not serve us: connection refused; trying again",
        "no work comes: It pauses.",
    ):
        assert text in shown


def test_the_reporter_fits_the_output() -> None:
    assert isinstance(reporter_for(True, io.StringIO()), JsonReporter)
    assert isinstance(reporter_for(False, io.StringIO()), PlainReporter)


def test_every_event_has_its_sentence() -> None:
    reported = set()
    for path in SOURCE.glob("*.py"):
        reported |= set(re.findall(r'\.event\(\s*"([a-z_]+)"', path.read_text()))
    assert reported == set(SENTENCES)
    assert sentence("coordinator_back", {}) == "the coordinator is back"


def settings(**changes: Any) -> MinerSettings:
    values: dict[str, Any] = {"coordinator": "http://h", "key": "k", "home": Path("/tmp/h")}
    return MinerSettings(**values | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"coordinator": "h:8000"},
        {"key": ""},
        {"miner_id": "a b"},
        {"miner_id": "../x"},
        {"concurrency": 0},
        {"concurrency": 257},
        {"job_timeout_s": 0},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        settings(**changes)


def test_a_model_without_a_price_of_its_own_has_that_of_all() -> None:
    priced = settings(price_units=5, prices_units={"llama3.2": 9})
    assert [priced.price_for(name) for name in ("llama3.2", "llama3.2:latest", "other")] == [9, 9, 5]
    assert settings().price_for("x") is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--price", "cheap"], "--price cheap"),
        (["--price", "-1"], "--price -1"),
        (["--price", "tiny=0.000000001"], "decimals"),
        (["--concurrency", "0"], "concurrency"),
        (["--id", "a/b"], "id has"),
        (["--coordinator", "nowhere"], "http://"),
        (["--job-type", "painting"], "painting"),
        (["--engine", "abacus"], "abacus"),
        (["--engine", "openai"], "--url"),
        (["--engine", "llamacpp"], "--model FILE"),
        (["--engine", "llamacpp", "--model", "/nowhere.gguf"], "/nowhere.gguf"),
        (["--key", ""], "needs a key"),
    ],
)
def test_the_command_says_what_is_wrong(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AITBC_HOME", str(tmp_path))
    monkeypatch.delenv("AITBC_API_KEY", raising=False)
    given = ["miner", "run", "--coordinator", "http://127.0.0.1:9", *arguments]
    if "--key" not in arguments:
        given += ["--key", "k"]
    result = CliRunner().invoke(app, given)
    assert result.exit_code != 0
    assert said in result.output + str(result.exception)
    assert "Traceback" not in result.output


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "miner"
    folder.mkdir()
    (folder / "key.json").write_text("{}")
    (folder / "key.json").chmod(0o644)
    given = ["miner", "run", "--coordinator", "http://127.0.0.1:9", "--key", "k", "--home", str(tmp_path)]
    result = CliRunner().invoke(app, [*given, "--engine", "openai", "--url", "http://127.0.0.1:9"])
    assert result.exit_code == 1
    assert "chmod 600" in result.output


def test_the_document_names_every_event_and_option() -> None:
    document = (SOURCE.parents[2] / "docs" / "miner.md").read_text()
    assert [name for name in SENTENCES if f"`{name}`" not in document] == []
    options = "".join(
        CliRunner().invoke(app, ["miner", command, "--help"], env={"COLUMNS": "200"}).output
        for command in ("run", "status")
    )
    for option in set(re.findall(r"--[a-z][a-z-]+", document)) - {"--role"}:
        assert option in options, option
