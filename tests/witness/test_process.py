"""`aitbc witness run` beside `aitbc serve`, as an operator starts them; the witness is killed meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aitbc.coordinator.chain import sealer, witnessing
from aitbc.coordinator.database import Database
from aitbc.core.log.block import origin_of
from aitbc.core.log.checkpoint import cosignature_time, parse_checkpoint
from aitbc.core.log.note import Verifier, parse_note, verify_note
from aitbc.keyfile import derive_key
from tests.coordinator.chain.logs import append
from tests.support.aitbc import AITBC, Aitbc
from tests.support.flows import CHAIN, found
from tests.support.server import ServerProcess, free_port
from tests.witness.logs import origin_hash
from tests.witness.network import copied

pytestmark = [pytest.mark.faults, pytest.mark.parametrize("databases", ["sqlite"], indirect=True)]
SECRET = "a secret of the tests"
LOG = Verifier(origin_of(CHAIN), derive_key(SECRET, f"aitbc/coordinator/{CHAIN}").public_bytes)


@contextmanager
def witness(home: Path, port: int) -> Iterator[tuple[Aitbc, str]]:
    """The process, once it listens, and what it says WITNESSES should be."""
    command = ["witness", "run", "--log", LOG.vkey, "--name", "example.com/w", "--home", home]
    process = Aitbc(
        [*command, "--listen", f"127.0.0.1:{port}"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        printed = dict(line.split(None, 1) for line in (process.stdout.readline(), process.stdout.readline()))
        wait_for(lambda: get(f"http://127.0.0.1:{port}/key") == f"{printed['witness'].strip()}\n")
        yield process, printed["setting"].strip().removeprefix("WITNESSES=")
    finally:
        process.kill()
        process.wait(10)


def get(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return str(reply.read().decode())
    except OSError:
        return ""


def wait_for(true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_blocks_become_final_again_when_the_witness_is_back(
    db: Database, tmp_path: Path, start_server: Callable[..., ServerProcess]
) -> None:
    db.write_sync(found)
    home, port = tmp_path / "witness", free_port()

    def head() -> sealer.BlockRow:
        row = db.read_sync(sealer.head)
        assert row is not None
        return row

    def grown() -> int:
        """The height of a block that is sealed after this call began."""
        before = head().height
        db.write_sync(append, 3)
        wait_for(lambda: head().height > before)
        return head().height

    def final() -> int:
        return db.read_sync(witnessing.final_height, 1) or 0

    with witness(home, port) as (_process, setting):
        start_server({"BLOCK_INTERVAL_S": "0.05", "SECRET_KEY": SECRET, "WITNESSES": setting})
        height = grown()
        wait_for(lambda: final() >= height)
    was_final = final()
    assert grown() > was_final, "without its witness the coordinator goes on"
    assert final() == was_final
    with witness(home, port) as (_process, again):
        assert again == setting, "its key is kept"
        height = grown()
        wait_for(lambda: final() >= height)
        note = parse_note(get(f"http://127.0.0.1:{port}/{origin_hash(LOG.name)}/checkpoint"))
        assert verify_note(note, [LOG]) == [LOG]
        assert cosignature_time(note, Verifier.parse(setting.partition("@")[0]))
        assert parse_checkpoint(note.text).size == head().tree_size
    assert (home / "witness.key").stat().st_mode & 0o77 == 0


def test_a_restored_backup_is_refused_by_the_kept_head_and_then_by_the_witness(
    db: Database, tmp_path: Path, start_server: Callable[..., ServerProcess]
) -> None:
    backup = copied(db, tmp_path / "backup.db")
    try:
        with witness(tmp_path / "witness", free_port()) as (_process, setting):
            server = start_server({"BLOCK_INTERVAL_S": "0.05", "SECRET_KEY": SECRET, "WITNESSES": setting})
            db.write_sync(append, 3)
            wait_for(lambda: (db.read_sync(witnessing.final_height, 1) or 0) > 0)
            assert json.loads(get(f"{server.url}/health"))["sealing_stopped"] is None
            server.terminate()

            backup.write_sync(append, 3)
            server.database_url = f"sqlite:///{tmp_path / 'backup.db'}"
            with pytest.raises(AssertionError, match="does not continue the log whose head is kept"):
                server.start()
            shown = subprocess.run(
                [AITBC, "log", "head", "--json"], env=server.environment, capture_output=True, check=False
            )
            told = json.loads(shown.stdout)
            assert (shown.returncode, told["kept_size"], told["database_size"]) == (1, 3, 0)
            accepted = subprocess.run(
                [AITBC, "log", "accept", "--yes"], env=server.environment, capture_output=True, check=False
            )
            assert accepted.returncode == 0, accepted.stderr
            # It goes on now, but for the witness, which nobody can tell to forget.
            server.start()
            wait_for(
                lambda: "example.com/w" in (json.loads(get(f"{server.url}/health"))["sealing_stopped"] or "")
            )
            assert '"event":"sealing_stopped"' in server.log.read_text().replace(" ", "")
            time.sleep(0.3)  # six rounds
            head = backup.read_sync(sealer.head)
            assert head is not None and head.height == 0
    finally:
        backup.close()
