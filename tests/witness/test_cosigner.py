"""The coordinator and its witnesses: those that answer, and those that are down, slow, lying, behind or ahead."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from aitbc.coordinator.api.native.render import json_bytes, receipt_json
from aitbc.coordinator.chain import founding, proofs, sealer, witnessing
from aitbc.coordinator.config import Settings
from aitbc.coordinator.database import Database
from aitbc.coordinator.process import cosigning
from aitbc.core.clock import ManualClock
from aitbc.core.log.checkpoint import cosign, cosignature_time, parse_checkpoint
from aitbc.core.log.merkle import verify_consistency
from aitbc.core.log.note import Verifier, parse_note
from aitbc.core.log.policy import Policy
from aitbc.core.log.tlog_proof import parse_proof
from aitbc.core.log.witness_protocol import parse_request
from aitbc.core.receipt import verify_bytes
from aitbc.witness.server import create_app
from aitbc.witness.service import Witness
from aitbc.witness.state import WitnessState
from tests.coordinator.chain.logs import append, check, rows
from tests.support.databases import Databases
from tests.support.flows import CHAIN, KEY, Market, in_loop
from tests.witness.network import (
    LOG,
    Handler,
    Net,
    copied,
    cosigner_of,
    counted,
    grow,
    honest,
    key_of,
    run,
    signed_by,
    sqlite_only,
    verifier_of,
)


def test_blocks_become_final_at_the_quorum(db: Database, tmp_path: Path) -> None:
    net = Net({name: honest(name, tmp_path) for name in ("w1", "w2", "w3")})
    first = cosigner_of(db, net, "w1")
    run(db, first)
    assert net.asked == [], "genesis is everybody's: nobody has to vouch for it"
    heights = [grow(db, 5).height]
    run(db, first, first)
    assert net.asked == ["w1"], "who has signed is not asked again"
    final = {quorum: db.read_sync(witnessing.final_height, quorum) for quorum in (0, 1, 2)}
    assert final == {0: None, 1: heights[0], 2: None}

    heights += [grow(db, 300).height, grow(db, 2).height]
    run(db, cosigner_of(db, net, "w1", "w2"))
    assert db.read_sync(witnessing.final_height, 2) == heights[2]
    assert db.read_sync(witnessing.count, heights[1]) == 0, "it is final by the block after it"

    run(db, cosigner_of(db, net))  # a witness added later
    assert signed_by(db) == {"w1", "w2", "w3"}
    assert db.read_sync(witnessing.final_height, 3) == heights[2]

    note = parse_note(db.read_sync(proofs.latest_checkpoint))
    assert [signature.name for signature in note.signatures] == [LOG.name, "w1", "w2", "w3"]
    assert all(cosignature_time(note, verifier_of(name)) for name in ("w1", "w2", "w3"))
    grow(db, 1)
    (leaf,) = db.read_sync(rows, "SELECT ref_id FROM leaves WHERE leaf_index = 2")
    # A leaf of block 1 is proved by the block that most witnesses vouch for.
    proof = parse_proof(db.read_sync(proofs.proof_of, leaf.ref_id, 1))
    assert proof.head.size == 307 and len(proof.checkpoint.signatures) == 4
    check(db)


def test_no_transaction_is_open_while_a_witness_is_asked(db: Database, tmp_path: Path) -> None:
    """It answers only after somebody else's write, and a seal, went through."""
    net = Net({"w1": honest("w1", tmp_path)})
    cosigner, answer = cosigner_of(db, net), net.handlers["w1"]
    asked = grow(db, 4)

    async def writes_first(request: httpx.Request) -> httpx.Response:
        await asyncio.wait_for(db.write(append, 3), 5)
        made = await db.read(sealer.draft, CHAIN, KEY)
        assert made is not None
        assert await asyncio.wait_for(db.write(sealer.seal, made), 5)
        return await answer(request)

    net.handlers["w1"] = writes_first
    in_loop(db, cosigner.run_once())
    other = Database.open(
        str(db.backend.url) if db.dialect == "postgresql" else f"sqlite:///{db.backend.path}"
    )
    try:
        assert other.read_sync(witnessing.witnesses_of, asked.height) == {"w1"}
        assert check(other).waiting == 0
    finally:
        other.close()


@sqlite_only
def test_one_that_is_down_or_slow_costs_only_its_own_cosignature(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cosigning, "TIMEOUT_S", 0.2)

    async def down(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused", request=request)

    async def slow(_request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(30)
        raise AssertionError

    async def drips(_request: httpx.Request) -> httpx.Response:
        async def body() -> AsyncIterator[bytes]:
            while True:  # each piece comes long before a read times out
                yield b"x"
                await asyncio.sleep(0.01)

        return httpx.Response(200, content=body())

    net = Net({"down": down, "slow": slow, "drips": drips, "good": honest("good", tmp_path)})
    cosigner = cosigner_of(db, net)
    for _block in range(2):
        grow(db, 3)
        began = time.monotonic()
        with capture_logs() as logs:
            run(db, cosigner)
        assert time.monotonic() - began < 3
        assert signed_by(db) == {"good"}
        assert sorted(log["witness"] for log in logs) == ["down", "drips", "slow"]
        assert {log["event"] for log in logs} == {"witness_failed"}
        assert all(log["error"] for log in logs)


def answers(status: int, text: str | bytes, **headers: str) -> Handler:
    async def handler(_request: httpx.Request) -> httpx.Response:
        data = text.encode() if isinstance(text, str) else text
        return httpx.Response(status, stream=httpx.ByteStream(data), headers=headers)

    return handler


def signs(change: Callable[[str, str], str]) -> Handler:
    """Answers `change(the checkpoint's text, the name that it is asked by)`."""

    async def handler(request: httpx.Request) -> httpx.Response:
        text = parse_note(parse_request(request.content.decode()).checkpoint).text
        return httpx.Response(200, text=change(text, request.url.host))

    return handler


def flipped(text: str, name: str) -> str:
    line = cosign(text, name, key_of(name), 1_800_000_000).line
    return line[:-10] + ("A" if line[-10] != "A" else "B") + line[-9:]


async def huge(_request: httpx.Request) -> httpx.Response:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"x" * 1024
        raise AssertionError("it was read on and on")

    return httpx.Response(200, content=body())


def restless() -> Handler:
    sizes = iter([1, 2, 3] * 100)

    async def handler(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(409, text=f"{next(sizes)}\n")

    return handler


LIARS: dict[str, Handler] = {
    "nothing": answers(200, ""),
    "page": answers(200, "<html>hello</html>"),
    "junk": answers(200, bytes(range(256))),
    "zipped": answers(200, b"\x1f\x8b\x08junk", **{"Content-Encoding": "gzip"}),
    "charset": answers(200, b"x", **{"Content-Type": "text/plain; charset=rot13"}),
    "flipped": signs(flipped),
    "other-key": signs(lambda text, name: cosign(text, name, key_of("x"), 1_800_000_000).line),
    "other-name": signs(lambda text, _name: cosign(text, "x", key_of("x"), 1_800_000_000).line),
    "other-text": signs(lambda text, name: cosign(text + "more\n", name, key_of(name), 1).line),
    "no-newlines": signs(lambda _text, name: f"\u2014 {name}"),
    "huge": huge,
    "moved": answers(302, "", Location="http://steady/add-checkpoint"),
    "broken": answers(500, "oops"),
    "denies": answers(404, "who?"),
    "no-size": answers(409, ""),
    "odd-size": answers(409, "-5\n"),
    "long-size": answers(409, "9" * 40),
    "arabic-size": answers(409, "\u0663\n"),
    "restless": restless(),
}


@sqlite_only
def test_liars_are_not_believed(db: Database, tmp_path: Path) -> None:
    net = Net({**LIARS, "steady": honest("steady", tmp_path)})
    cosigner = cosigner_of(db, net)
    for block in (1, 2):
        grow(db, 5)
        with capture_logs() as logs:
            run(db, cosigner)
        assert signed_by(db) == {"steady"}
        assert {log["witness"] for log in logs} == set(LIARS)
        for name in LIARS:
            assert counted(name) == {"failed": block}
    assert counted("steady") == {"cosigned": 2}
    # A line of another key beside its own is passed over.
    both = signs(
        lambda text, name: cosign(text, "x", key_of("x"), 1).line + cosign(text, name, key_of(name), 9).line
    )
    run(db, cosigner_of(db, Net({"both": both})))
    assert signed_by(db) == {"steady", "both"}


@sqlite_only
def test_one_that_is_behind_or_lost_its_memory_is_brought_up(db: Database, tmp_path: Path) -> None:
    net = Net({"w1": honest("w1", tmp_path)})
    cosigner = cosigner_of(db, net)
    grow(db, 5)
    run(db, cosigner)
    grow(db, 600)
    grow(db, 1)
    run(db, cosigner_of(db, net))  # a coordinator that was started again knows nothing of its witnesses
    assert signed_by(db) == {"w1"}
    grow(db, 1)
    (tmp_path / "new").mkdir()
    net.handlers["w1"] = honest("w1", tmp_path / "new")
    run(db, cosigner)
    assert signed_by(db) == {"w1"}
    assert counted("w1").get("refused", 0) == 0


@sqlite_only
def test_one_that_is_ahead_is_told_of_and_asked_again(db: Database) -> None:
    """As after a restore from a backup; or it only says so, which must not silence us for good."""
    net = Net({"ahead": answers(409, "1000\n")})
    cosigner = cosigner_of(db, net)
    for block in (1, 2):
        grow(db, 5)
        with capture_logs() as logs:
            run(db, cosigner)
        assert [log["event"] for log in logs] == ["witness_ahead", "witness_not_examined"]
        assert cosigner.runtime.sealing_stopped == "", "it shows no checkpoint that we ever signed"
        assert counted("ahead") == {"ahead": block}
    net.handlers["ahead"] = signs(lambda text, name: cosign(text, name, key_of(name), 7).line)
    run(db, cosigner)
    assert signed_by(db) == {"ahead"}


@sqlite_only
def test_history_that_is_rewritten_is_refused(db: Database, tmp_path: Path) -> None:
    """The database is forked and resealed; the witness sees one of the two, then the other."""
    net = Net({"w9": honest("w9", tmp_path)})
    grow(db, 5)
    run(db, cosigner_of(db, net))
    fork = copied(db, tmp_path / "fork.db")
    try:
        real = grow(db, 300)
        run(db, cosigner_of(db, net))
        assert signed_by(db) == {"w9"}

        liar = cosigner_of(fork, net)
        for refusals, more in enumerate((300, 1, 7), start=1):  # of the same size first, then larger
            forged = grow(fork, more)
            with capture_logs() as logs:
                run(fork, liar)
            alarm, *more_logs = logs
            assert [log["event"] for log in more_logs] == ["sealing_stopped"] * (refusals == 1)
            assert "two histories" in liar.runtime.sealing_stopped
            assert (alarm["event"], alarm["log_level"]) == ("witness_refuses_history", "error")
            assert (alarm["witness"], alarm["height"]) == ("w9", forged.height)
            assert counted("w9") == {"cosigned": 2, "refused": refusals}
            assert signed_by(fork) == set()
            check(fork)  # by itself each of the two chains is sound

        # Whoever holds both checkpoints has the proof of the fork: no proof joins them.
        old, new = (parse_checkpoint(parse_note(block.checkpoint).text) for block in (real, forged))
        hashes = fork.read_sync(proofs.consistency, old.size, new.size)
        assert not verify_consistency(old.size, new.size, hashes, old.root, new.root)
        assert fork.read_sync(witnessing.final_height, 1) == 1
        note = parse_note(fork.read_sync(proofs.latest_checkpoint))
        assert cosignature_time(note, verifier_of("w9")) is None

        grow(db, 1)  # the honest one is still welcome
        run(db, cosigner_of(db, net))
        assert signed_by(db) == {"w9"}
    finally:
        fork.close()


def test_settings_name_each_witness_once() -> None:
    vkey = verifier_of("w1").vkey
    with pytest.raises(ValueError, match="named twice"):
        Settings(witnesses=f"{vkey}@http://a,{vkey}@http://b")
    with pytest.raises(ValueError, match="not a witness's key"):
        Settings(witnesses=f"{LOG.vkey}@http://a")
    with pytest.raises(ValueError, match="VKEY@URL"):
        Settings(witnesses=vkey)


@sqlite_only
def test_a_rewritten_receipt_is_caught_by_the_verifier(
    db: Database, clock: ManualClock, tmp_path: Path
) -> None:
    """One job is given two receipts, each in its own history; a policy's quorum tells them apart, offline."""
    market = Market(db, clock)
    miner, job = market.miner(), market.submit(market.client())
    assert [taken.id for taken in market.take(miner)] == [job.id]
    fork = copied(db, tmp_path / "fork.db")
    net = Net({"w8": honest("w8", tmp_path)})
    try:
        shown = []
        for database, text in ((db, "the true answer"), (fork, "another one")):
            row = Market(database, clock).complete(miner, job.id, text)
            grow(database, 1)
            run(database, cosigner_of(database, net))
            proof = database.read_sync(proofs.proof_of, row.id, 1)
            shown.append(json_bytes(receipt_json(row, proof=proof)))
    finally:
        fork.close()
    lax = Policy(CHAIN, (LOG,), (verifier_of("w8"),), 0, (KEY.public_bytes,))
    strict = dataclasses.replace(lax, quorum=1)
    assert [verify_bytes(document, policy=lax).ok for document in shown] == [True, True], "each is well made"
    true, forged = (verify_bytes(document, policy=strict) for document in shown)
    assert true.ok
    assert not forged.ok
    assert [check.name for check in forged.checks if check.ok is False] == ["witnesses"]


def test_one_witness_serves_every_log_of_one_name_and_key(databases: Databases, tmp_path: Path) -> None:
    """Coordinators that were all started without settings, here even with one SECRET_KEY."""
    dbs, logs = [], []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        dbs.append(Database.open(databases.migrated(tmp_path / name)))
        logs.append(Verifier(dbs[-1].write_sync(founding.ensure, CHAIN, KEY).origin, KEY.public_bytes))
    try:
        witness = Witness("w1", key_of("w1"), logs, WitnessState(tmp_path / "w1.db"))
        net = Net({"w1": httpx.ASGITransport(app=create_app(witness)).handle_async_request})
        for db, leaves in zip(dbs, (5, 3), strict=True):
            grow(db, leaves)
            run(db, cosigner_of(db, net))
            assert signed_by(db) == {"w1"}
    finally:
        for db in dbs:
            db.close()
