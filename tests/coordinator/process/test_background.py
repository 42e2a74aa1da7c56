"""The registry of loops, and what runs them: hooks, bad rounds, a clock in doubt, a log that is refused, the end."""

import asyncio
import pkgutil
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from aitbc.coordinator.errors import StorageUnavailable
from aitbc.coordinator.process import background, loops
from aitbc.coordinator.process.background import LOOPS, Running
from aitbc.coordinator.process.loops import Loop
from aitbc.coordinator.process.runtime import Runtime
from aitbc.core.log.note import COSIGNATURE_V1, Verifier
from aitbc.core.signing import PrivateKey
from tests.support.flows import Market, runtime_over
from tests.support.server import ServerProcess

sqlite_only = pytest.mark.parametrize("databases", ["sqlite"], indirect=True)


@pytest.fixture
def runtime(market: Market) -> Runtime:
    return runtime_over(market)


def declare(run_once: Callable[[Any], Any], **more: Any) -> Loop[Any]:
    return Loop(name="of-a-test", does="", every_s=lambda _settings: 0.001, run_once=run_once, **more)


def counted(outcome: str) -> float:
    labels = {"loop": "of-a-test", "outcome": outcome}
    return REGISTRY.get_sample_value("aitbc_loop_rounds_total", labels) or 0.0


def test_every_module_of_the_folder_is_a_loop_with_a_name_of_its_own() -> None:
    modules = list(pkgutil.iter_modules(loops.__path__))
    assert len(LOOPS) == len(modules) == len({loop.name for loop in LOOPS})


@sqlite_only
def test_a_loop_outlives_bad_rounds_and_they_are_counted(runtime: Runtime) -> None:
    rounds: list[int] = []
    before = {outcome: counted(outcome) for outcome in ("done", "failed")}

    async def run_once(_runtime: Runtime) -> bool:
        rounds.append(1)
        if len(rounds) == 1:
            raise StorageUnavailable()
        if len(rounds) == 2:
            raise KeyError("a bug")
        if len(rounds) == 3:
            await asyncio.sleep(0.02)
            return True
        runtime.shutdown.set()
        return False

    with capture_logs() as logs:
        asyncio.run(asyncio.wait_for(Running(declare(run_once), runtime).run(), 5))
    assert len(rounds) == 4
    assert [(entry["event"], entry["log_level"], entry["loop"]) for entry in logs] == [
        ("background_round_failed", "warning", "of-a-test"),
        ("background_round_failed", "error", "of-a-test"),
    ]
    assert {outcome: counted(outcome) - n for outcome, n in before.items()} == {"done": 2, "failed": 2}
    assert REGISTRY.get_sample_value("aitbc_loop_round_seconds", {"loop": "of-a-test"}) is not None


@sqlite_only
def test_what_a_loop_opened_its_rounds_share_and_it_closes(runtime: Runtime) -> None:
    seen: list[Any] = []

    def open_(of: Runtime) -> list[Any]:
        assert of is runtime
        seen.append("opened")
        return seen

    async def run_once(state: list[Any]) -> bool:
        state.append("round")
        if state.count("round") == 2:
            runtime.shutdown.set()
        return False

    async def close(state: list[Any]) -> None:
        state.append("closed")
        raise OSError("as a socket may")

    with capture_logs() as logs:
        asyncio.run(Running(declare(run_once, open=open_, close=close), runtime).run())
    assert seen == ["opened", "round", "round", "closed"]
    assert [entry["event"] for entry in logs] == ["loop_not_closed"], "which keeps nothing else from closing"


@sqlite_only
def test_what_cannot_be_undone_waits_for_the_clock(market: Market, runtime: Runtime) -> None:
    rounds: list[int] = []

    async def run_once(_runtime: Runtime) -> bool:
        rounds.append(1)
        return True

    careful = Running(declare(run_once, needs_steady_clock=True), runtime)
    other = Running(declare(run_once), runtime)
    runtime.steady.is_steady()
    market.clock.jump(86_400)
    assert (asyncio.run(careful.run_once()), len(rounds)) == (False, 0)
    assert (asyncio.run(other.run_once()), len(rounds)) == (True, 1)
    market.clock.jump(-86_400)
    assert (asyncio.run(careful.run_once()), len(rounds)) == (True, 2)


@sqlite_only
def test_a_refused_log_stops_what_says_so(runtime: Runtime) -> None:
    rounds: list[int] = []

    async def run_once(_runtime: Runtime) -> bool:
        rounds.append(1)
        return True

    signs = Running(declare(run_once, while_log_refused=False), runtime)
    other = Running(declare(run_once), runtime)
    assert asyncio.run(signs.run_once())
    runtime.refuse_log("it is older than the log")
    assert not asyncio.run(signs.run_once())
    assert asyncio.run(other.run_once())
    assert len(rounds) == 2
    assert {loop.name for loop in LOOPS if not loop.while_log_refused} >= {"seal", "cosign"}


@sqlite_only
def test_a_round_that_would_overstay_is_cut_short_and_its_loop_closed(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []

    async def hangs(_runtime: Runtime) -> bool:
        await asyncio.sleep(60)
        return False

    async def quick(_runtime: Runtime) -> bool:
        await asyncio.sleep(0.05)
        return False

    async def main() -> float:
        tasks = background.start(runtime)
        await asyncio.sleep(0.02)
        runtime.shutdown.set()
        began = time.monotonic()
        await background.stop(tasks)
        return time.monotonic() - began

    def closing(name: str) -> Callable[[Any], Any]:
        async def close(_state: Any) -> None:
            await asyncio.sleep(0.01)
            closed.append(name)

        return close

    monkeypatch.setattr(background, "END_S", 0.3)
    monkeypatch.setattr(
        background,
        "LOOPS",
        (declare(hangs, close=closing("hangs")), declare(quick, close=closing("quick"))),
    )
    with capture_logs() as logs:
        took_s = asyncio.run(main())
    assert 0.3 <= took_s < 1.3
    assert closed == ["quick", "hangs"]
    assert [entry["event"] for entry in logs] == ["background_round_cut_short"]


@sqlite_only
def test_a_witness_that_never_answers_does_not_hold_up_the_end(
    start_server: Callable[..., ServerProcess],
) -> None:
    """It accepts and is silent: a round would wait for it as long as the whole end may take."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        key = PrivateKey.from_seed(b"w" * 32)
        vkey = Verifier("w1", key.public_bytes, COSIGNATURE_V1).vkey
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        server = start_server({"WITNESSES": f"{vkey}@{url}", "BLOCK_INTERVAL_S": "0.2"})
        silent.settimeout(10)
        asked, _address = silent.accept()
        with asked:
            assert asked.recv(1)
            process = server.process
            assert process is not None
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(5) == 0, server.tail()
            assert time.monotonic() - began < 4
    assert "ended_at_once" not in server.log.read_text()
