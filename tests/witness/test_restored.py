"""A coordinator that is started on an old copy of its database: its witnesses know a later log than it does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from aitbc.coordinator.chain import sealer
from aitbc.coordinator.database import Database
from aitbc.coordinator.process.loops.sealing import Sealing
from aitbc.coordinator.process.runtime import Runtime
from aitbc.core.log.block import origin_of
from aitbc.core.log.checkpoint import Checkpoint
from aitbc.core.log.note import Note, sign_note
from tests.coordinator.chain.logs import append, check
from tests.support.flows import CHAIN, KEY
from tests.witness.network import (
    Handler,
    Net,
    copied,
    cosigner_of,
    grow,
    honest,
    key_of,
    run,
    runtime_of,
    signed_by,
    sqlite_only,
)


def start(db: Database, net: Net, leaves: int = 3) -> tuple[Runtime, list[Any]]:
    """A coordinator is started over `db` while leaves wait; a round of sealing, and what is logged."""
    db.write_sync(append, leaves)
    runtime = runtime_of(db, net)
    with capture_logs() as logs:
        asyncio.run(Sealing(runtime, httpx.AsyncClient(transport=net)).run_once())
    return runtime, logs


def height(db: Database) -> int:
    head = db.read_sync(sealer.head)
    assert head is not None
    return head.height


@sqlite_only
def test_a_restored_backup_is_not_sealed(db: Database, tmp_path: Path) -> None:
    net = Net({"w1": honest("w1", tmp_path)})
    grow(db, 5)
    run(db, cosigner_of(db, net))
    backup = copied(db, tmp_path / "backup.db")
    try:
        grow(db, 300)
        run(db, cosigner_of(db, net))
        runtime, logs = start(backup, net)
        assert [(log["event"], log["log_level"]) for log in logs] == [("sealing_stopped", "error")]
        for said in ("w1", "305 leaves", "has sealed 5", "backup"):
            assert said in runtime.sealing_stopped
        assert height(backup) == 1
        assert check(backup).waiting == 3, "nothing is lost: it waits"

        runtime, logs = start(db, net)
        assert (runtime.sealing_stopped, logs, height(db)) == ("", [], 3)
        check(db)
    finally:
        backup.close()


@sqlite_only
@pytest.mark.parametrize("own_leaves", [100, 400])
def test_a_second_history_is_not_gone_on_with(db: Database, tmp_path: Path, own_leaves: int) -> None:
    """The old copy was sealed upon already: to a smaller tree than the witness knows, or to a larger one."""
    net = Net({"w1": honest("w1", tmp_path)})
    grow(db, 5)
    fork = copied(db, tmp_path / "fork.db")
    try:
        grow(db, 300)
        run(db, cosigner_of(db, net))
        sealed = grow(fork, own_leaves)
        runtime, _logs = start(fork, net)
        assert ("older than the log" if own_leaves == 100 else "two histories") in runtime.sealing_stopped
        assert height(fork) == sealed.height
    finally:
        fork.close()


@sqlite_only
def test_one_that_was_away_at_the_start_stops_it_later(db: Database, tmp_path: Path) -> None:
    net = Net({"w1": honest("w1", tmp_path)})
    backup = copied(db, tmp_path / "backup.db")
    try:
        grow(db, 5)
        run(db, cosigner_of(db, net))

        async def down(request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("connection refused", request=request)

        here, net.handlers["w1"] = net.handlers["w1"], down
        _runtime, logs = start(backup, net)
        assert [log["event"] for log in logs] == ["witness_not_examined"]
        assert height(backup) == 1, "a witness that is down keeps nobody from sealing"
        net.handlers["w1"] = here
        cosigner = cosigner_of(backup, net)
        with capture_logs() as logs:
            run(backup, cosigner)
        assert [log["event"] for log in logs] == ["witness_ahead", "sealing_stopped"]
        assert cosigner.runtime.sealing_stopped
    finally:
        backup.close()


def shows(text: str, status: int = 200) -> Handler:
    async def handler(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, text=text)

    return handler


def signed(size: int, key: str = "", chain: str = CHAIN) -> str:
    """A checkpoint of a log of `chain`, by its own key or by another."""
    text = Checkpoint(origin_of(chain), size, b"\x01" * 32).to_text()
    return str(Note(text, (sign_note(text, origin_of(chain), key_of(key) if key else KEY),)))


@sqlite_only
@pytest.mark.parametrize(
    "says",
    [
        shows(signed(1000, key="somebody")),
        shows(signed(1000, chain="another-net")),
        shows(signed(1000).replace("1000", "1001")),
        shows("page not found"),
        shows("", 500),
        shows("x" * 100_000),
    ],
    ids=["key", "chain", "flipped", "page", "broken", "huge"],
)
def test_only_what_our_own_log_signed_stops_it(db: Database, says: Handler) -> None:
    """Or any witness could end the log by a word."""
    runtime, logs = start(db, Net({"liar": says}))
    assert [log["event"] for log in logs] == ["witness_not_examined"]
    assert (runtime.sealing_stopped, height(db)) == ("", 1)


@sqlite_only
def test_our_own_signature_does_stop_it(db: Database) -> None:
    runtime, _logs = start(db, Net({"w1": shows(signed(1000))}))
    assert "1000 leaves" in runtime.sealing_stopped
    assert height(db) == 0


def test_another_coordinator_may_seal_while_the_witness_answers(db: Database, tmp_path: Path) -> None:
    """The witness then knows a larger tree than we had when we asked: no reason to stop."""
    net = Net({"w1": honest("w1", tmp_path)})
    grow(db, 5)
    run(db, cosigner_of(db, net))
    answer = net.handlers["w1"]

    async def meanwhile(request: httpx.Request) -> httpx.Response:
        net.handlers["w1"] = answer
        await db.write(append, 3)
        made = await db.read(sealer.draft, CHAIN, KEY)
        assert made is not None
        assert await db.write(sealer.seal, made)
        await cosigner_of(db, net).run_once()
        return await answer(request)

    net.handlers["w1"] = meanwhile
    runtime, logs = start(db, net)
    assert (runtime.sealing_stopped, logs) == ("", [])
    assert signed_by(db) == {"w1"}


@sqlite_only
def test_a_round_that_failed_is_an_examination_to_repeat(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = Net({"w1": honest("w1", tmp_path)})
    grow(db, 5)
    run(db, cosigner_of(db, net))
    sealing = Sealing(runtime_of(db, net))
    asked: list[Runtime] = []

    async def failing(runtime: Runtime, _client: object) -> None:
        asked.append(runtime)
        if len(asked) == 1:
            raise RuntimeError

    monkeypatch.setattr("aitbc.coordinator.process.loops.sealing.examine", failing)

    async def rounds() -> None:
        with pytest.raises(RuntimeError):
            await sealing.run_once()
        await sealing.run_once()
        await sealing.run_once()

    asyncio.run(rounds())
    assert len(asked) == 2
