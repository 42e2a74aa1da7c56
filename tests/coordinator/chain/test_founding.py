"""Founding a network: no two are the same, whatever they are called; nothing later changes what it is."""

import asyncio
import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from aitbc.coordinator.chain import founding, network, sealer
from aitbc.coordinator.config import Settings
from aitbc.coordinator.database import Database
from aitbc.coordinator.errors import WrongNetwork
from aitbc.coordinator.process.runtime import Runtime
from aitbc.core.canonical import loads_strict
from aitbc.core.log.block import NO_HASH, genesis
from aitbc.core.network import Founding, FoundingInvalid
from aitbc.core.signing import PrivateKey
from tests.support.databases import Databases
from tests.support.flows import CHAIN, KEY


def test_two_networks_of_one_name_and_key_are_two(databases: Databases, tmp_path: Path) -> None:
    made = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        with closing(Database.open(databases.migrated(tmp_path / folder))) as db:
            made.append(db.write_sync(founding.ensure, CHAIN, KEY))
            block = db.read_sync(sealer.block_zero)
            assert block is not None
            assert block.hash == made[-1].network_id
    assert made[0].network_id != made[1].network_id
    assert made[0].origin != made[1].origin, "so that one witness can serve both"
    assert all(row.origin.startswith(f"aitbc/{CHAIN}/") for row in made)


def test_its_id_commits_to_all_of_its_founding(db: Database) -> None:
    row = db.write_sync(founding.ensure, CHAIN, KEY, "https://AI.example:8443/api/log/")
    assert row.origin == "ai.example:8443/api/log"
    document = loads_strict(row.founding.encode())
    read = Founding.from_json(document)
    assert (read.chain_id, read.origin, read.network_id) == (CHAIN, row.origin, row.network_id)
    assert read.encode().decode() == row.founding
    for member, other in (("chain_id", "x"), ("salt", "0" * 64)):
        assert Founding.from_json({**document, member: other}).network_id != row.network_id
    for wrong in (
        None,
        {**document, "more": 1},
        {**document, "version": "aitbc/network/v2"},
        {**document, "salt": "A" * 64},
        {**document, "origin": "b.example/log"},
        {**document, "log_key": "x"},
        {**document, "chain_id": 1},
    ):
        with pytest.raises(FoundingInvalid):
            Founding.from_json(json.loads(json.dumps(wrong)))


def test_a_later_start_changes_nothing(db: Database) -> None:
    first = db.write_sync(founding.ensure, CHAIN, KEY, "https://a.example/log")
    other = PrivateKey.from_seed(b"\x01" * 32)
    assert db.write_sync(founding.ensure, CHAIN, other, "https://b.example/log") == first
    with pytest.raises(WrongNetwork, match=f"the network {CHAIN}, and CHAIN_ID is other"):
        db.write_sync(founding.ensure, "other", KEY)
    for change in ("UPDATE network SET origin = 'x'", "DELETE FROM network"):
        with pytest.raises((psycopg.Error, sqlite3.Error), match="append-only"):
            db.write_sync(lambda tx, sql=change: tx.change(text(sql)))
    assert db.read_sync(network.of) == first


def test_an_old_database_of_another_name_is_refused(db: Database) -> None:
    db.write_sync(sealer.write_genesis, genesis("other"))
    with pytest.raises(WrongNetwork):
        db.write_sync(founding.ensure, CHAIN, KEY)
    assert db.read_sync(network.read) is None
    assert db.write_sync(founding.ensure, "other", KEY).origin == "aitbc/other"
    assert genesis("other").previous_hash == NO_HASH


def test_coordinators_that_start_at_once_found_one(database_url: str) -> None:
    def start(_number: int) -> str:
        with closing(Database.open(database_url)) as db:
            return db.write_sync(founding.ensure, CHAIN, KEY).network_id

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(start, range(4)))) == 1


def test_who_comes_second_has_the_network_that_is_there(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it saw none when it looked: what it made up itself is kept nowhere."""
    first = db.write_sync(founding.ensure, CHAIN, KEY)
    block = db.read_sync(sealer.block_zero)
    assert db.write_sync(network.keep, first._replace(network_id="another")) is False
    monkeypatch.setattr(network, "read", lambda tx: None)
    monkeypatch.setattr(network, "of", lambda tx: tx.one(network.SELECT))
    monkeypatch.setattr(sealer, "block_zero", lambda tx: None)
    assert db.write_sync(founding.ensure, CHAIN, KEY) == first
    monkeypatch.undo()
    assert (db.read_sync(network.of), db.read_sync(sealer.block_zero)) == (first, block)


@pytest.mark.parametrize(
    ("public_url", "log_url"),
    [
        ("", ""),
        ("http://localhost:8000", ""),
        ("http://127.0.0.1:9000", ""),
        ("http://10.1.2.3", ""),
        ("http://[::1]:8000", ""),
        ("http://gpu-box:8000", ""),
        ("http://gpu.local", ""),
        ("https://ai.example", "https://ai.example/log"),
        ("https://ai.example/api/", "https://ai.example/api/log"),
        ("http://8.8.8.8:8000", "http://8.8.8.8:8000/log"),
    ],
)
def test_only_a_public_address_names_a_log(public_url: str, log_url: str) -> None:
    assert Settings(public_url=public_url, database_url="sqlite:///x.db").log_url == log_url


def test_another_public_url_makes_no_other_log_and_is_said(database_url: str, tmp_path: Path) -> None:
    async def start(public_url: str) -> str:
        settings = Settings(database_url=database_url, home=tmp_path, public_url=public_url)
        runtime = Runtime.open(settings)
        await runtime.start()
        await runtime.stop()
        return runtime.network.origin

    with capture_logs() as logs:
        assert asyncio.run(start("https://a.example")) == "a.example/log"
        assert asyncio.run(start("")) == "a.example/log"
    assert not [log for log in logs if log["event"] == "log_origin_kept"]
    with capture_logs() as logs:
        assert asyncio.run(start("https://b.example")) == "a.example/log"
    (said,) = [log for log in logs if log["event"] == "log_origin_kept"]
    assert (said["origin"], said["public_url"]) == ("a.example/log", "https://b.example")
