"""A wallet's own keys, for clients and for miners; a policy written from a coordinator's keys."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest

from aitbc.core.log.note import Verifier
from aitbc.core.receipt import Policy
from aitbc.wallet import keystore
from tests.cli.harness import User
from tests.sdk.network import MODEL, Network


@pytest.fixture
def owner(user: User, network: Network, monkeypatch: pytest.MonkeyPatch) -> User:
    """Somebody with a wallet and no API key."""
    monkeypatch.setattr(keystore, "COST", (1, 8192))
    monkeypatch.setenv("AITBC_WALLET_PASSPHRASE", "correct horse battery")
    monkeypatch.delenv("AITBC_WALLET", raising=False)
    user.at(network.url, None)
    assert user("wallet", "new").code == 0
    return user


def test_a_wallet_makes_a_miner_key_and_ends_it(owner: User, network: Network) -> None:
    made = owner("wallet", "key", "new", "--role", "miner", "--label", "rig-1")
    assert made.code == 0, made.err
    key = made.out.strip()
    assert re.fullmatch(r"aitbc_miner_\w{12}_\S+", key)
    address = owner("wallet", "address").out.strip()
    with httpx.Client(base_url=network.url, headers={"X-Api-Key": key}) as http:
        asked = http.get("/v1/miner/jobs", params={"miner_id": "nobody"})
        assert asked.json()["error_code"] == "MINER_NOT_FOUND", "it may ask for work"
        assert http.get("/v1/account").json()["account"] == address
        (listed,) = owner("wallet", "key", "list", "--json").json
        assert (listed["role"], listed["label"], listed["key_id"]) == ("miner", "rig-1", key.split("_")[2])
        assert key not in owner("wallet", "key", "list").out
        assert owner("wallet", "key", "revoke", listed["key_id"]).out == f"{listed['key_id']} revoked\n"
        assert http.get("/v1/account").status_code == 401
    assert "revoked" in owner("wallet", "key", "list").out
    refused = owner("wallet", "key", "revoke", "nosuchkey234")
    assert refused.code == 4 and "aitbc wallet key list" in refused.err


def test_a_client_key_may_have_a_limit(owner: User, network: Network) -> None:
    made = owner("wallet", "key", "new", "--limit", "0.5", "--limit-period", "day", "--json").json
    with httpx.Client(base_url=network.url, headers={"X-Api-Key": made["key"]}) as http:
        assert http.get("/v1/account").json()["key"]["limit"] == 0.5
    assert owner("wallet", "key", "new", "--limit", "1").code == 2
    assert owner("wallet", "key", "new", "--role", "admin").code == 2


def test_a_policy_is_written_from_the_coordinators_keys(alice: User) -> None:
    job = alice("submit", "hello", "-m", MODEL, "-w", "--json").json
    assert alice("receipt", "keys", "--save", "keys.json").code == 0
    told = alice("policy", "new", "--save", "policy.json")
    assert told.code == 0
    assert "--witness" in told.err, "it says what is missing"
    written = json.loads(Path("policy.json").read_text())
    assert alice("policy", "new", "--keys", "keys.json").json == written
    policy = Policy.from_json(written)
    assert policy.origin == json.loads(Path("keys.json").read_text())["origin"]
    assert (policy.quorum, policy.require_proof, len(policy.log), len(policy.receipt_keys)) == (0, True, 1, 1)
    receipt = job["receipt_id"]
    for _ in range(100):  # until a block has sealed it
        assert alice("receipt", "show", receipt, "--save", "receipt.json").code == 0
        early = alice("receipt", "verify", "receipt.json", "--policy", "policy.json")
        if early.code == 0:
            break
        assert "NO PROOF YET" in early.out
        assert "not genuine" not in early.out
    assert "in the network's log" in early.out


def test_a_receipt_older_than_its_witnesses_is_no_forgery(alice: User) -> None:
    """The policy asks for a witness that has not cosigned this checkpoint."""
    witness = Verifier("witness.example/w1", b"\x05" * 32, 4).vkey
    assert alice("policy", "new", "--witness", witness, "--save", "policy.json").code == 0
    job = alice("submit", "hello", "-m", MODEL, "-w", "--json").json
    alice("receipt", "show", job["receipt_id"], "--save", "receipt.json")
    verified = alice("receipt", "verify", "receipt.json", "--policy", "policy.json")
    assert verified.code == 1
    assert "NO PROOF YET" in verified.out
    assert (
        alice("receipt", "verify", "receipt.json", "--policy", "policy.json", "--json").json["lacking"]
        is True
    )
    changed = json.loads(Path("receipt.json").read_text()) | {"model": "another"}
    Path("receipt.json").write_text(json.dumps(changed))
    forged = alice("receipt", "verify", "receipt.json", "--policy", "policy.json")
    assert "NOT PROVEN: the receipt is not genuine" in forged.out


@pytest.mark.parametrize("words", [["--witness", "no key"], ["--quorum", "2"], ["--keys", "/no/such/file"]])
def test_what_makes_no_policy_is_one_line(alice: User, words: list[str]) -> None:
    outcome = alice("policy", "new", *words)
    assert outcome.code in (1, 2)
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
