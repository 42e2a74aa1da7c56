"""`aitbc audit` and `aitbc receipt verify --policy`, as their users call them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aitbc.coordinator.api.native.render import json_bytes, receipt_json
from aitbc.coordinator.chain import sealer
from aitbc.coordinator.flows.views import log_entries
from aitbc.core.log.note import COSIGNATURE_V1, Verifier
from aitbc.core.log.policy import Policy
from aitbc.core.signing import PrivateKey
from tests.audit.scene import WITNESS, Scene
from tests.audit.test_outside import POLICY
from tests.cli.harness import User
from tests.support.flows import Market

pytestmark = pytest.mark.parametrize("databases", ["sqlite"], indirect=True)


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> User:
    return User(tmp_path / "home", monkeypatch)


def saved(tmp_path: Path, market: Market, receipt_id: str) -> str:
    """The file that a client keeps, as GET /v1/receipts/{id} answers."""
    row, proof = market.db.read_sync(log_entries.proven_receipt, receipt_id)
    file = tmp_path / f"{receipt_id}.json"
    file.write_bytes(json_bytes(receipt_json(row, proof=proof)))
    return str(file)


def policy_file(tmp_path: Path, policy: Policy) -> str:
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(policy.to_json()))
    return str(file)


def test_one_file_and_a_policy_prove_a_receipt(user: User, market: Market, tmp_path: Path) -> None:
    scene = Scene(market, grants=3)
    sealed, waiting = (
        saved(tmp_path, market, market.job(job.id).receipt_id) for job in (scene.done, scene.waiting)
    )
    policy = policy_file(tmp_path, POLICY)
    proven = user("receipt", "verify", sealed, "--policy", policy)
    assert proven.code == 0, proven.out
    for name in ("signature", "miner_signature", "price", "inclusion", "checkpoint", "witnesses"):
        assert f"ok       {name}" in proven.out
    assert "genuine, and in the network's log" in proven.out
    assert "requires one" in user("receipt", "verify", waiting, "--policy", policy).out
    text = Path(sealed).read_text()
    for at in range(0, len(text), 41):
        changed = text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :]
        assert user("receipt", "verify", "-", "--policy", policy, stdin=changed).code == 1, at

    stranger = PrivateKey.from_seed(b"\x09" * 32).public_bytes
    for strict in (
        replace(POLICY, witnesses=(Verifier(WITNESS.name, stranger, COSIGNATURE_V1),)),
        replace(POLICY, log=(Verifier(POLICY.log[0].name, stranger),)),
        replace(POLICY, receipt_keys=(stranger,)),
    ):
        failed = user("receipt", "verify", sealed, "--policy", policy_file(tmp_path, strict))
        assert (failed.code, "WRONG" in failed.out) == (1, True)
    (tmp_path / "policy.json").write_text("{}")
    refused = user("receipt", "verify", sealed, "--policy", policy)
    assert (refused.code, "is not a policy" in refused.err) == (1, True)


def test_the_audit_of_a_database(user: User, market: Market, database_url: str, tmp_path: Path) -> None:
    Scene(market, grants=3)
    words = ["audit", "--database-url", database_url]
    head = market.db.read_sync(sealer.head)
    assert head is not None
    (tmp_path / "kept").write_text(head.checkpoint)
    pins = ["--policy", policy_file(tmp_path, POLICY), "--since", str(tmp_path / "kept")]
    report: Any = user(*words, "--json", *pins).json
    assert (report["ok"], report["wrong"], report["not_checked"]) == (True, None, [])
    assert report["counts"]["cosignatures"] == 3
    market.db.write_sync(
        lambda tx: tx._cursor.execute("UPDATE jobs SET price_units = 1 WHERE price_units > 0")
    )
    wrong = user(*words)
    assert wrong.code == 1
    assert "WRONG    job " in wrong.out
    found = user(*words, "--json").json["wrong"]
    assert (found["kind"], "price" in found["what"]) == ("job", True)
    assert user("audit", "--url", "http://127.0.0.1:9", *words[1:]).code == 2
    for option in ("--keys", "--policy", "--since"):
        missing = user(*words, option, str(tmp_path / "nothing"))
        assert (missing.code, "cannot be read" in missing.err) == (1, True)
    (tmp_path / "kept").write_text("no checkpoint")
    assert "is not a checkpoint" in user(*words, "--since", str(tmp_path / "kept")).err
    nobody = user("audit", "--url", "http://127.0.0.1:9", "--policy", policy_file(tmp_path, POLICY))
    assert (nobody.code, len(nobody.err.splitlines())) == (3, 1)
