"""The client's commands against a real coordinator."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import stat
import time
from pathlib import Path

import pytest

from tests.cli.harness import User
from tests.sdk.network import MODEL, Network


def test_submit_and_wait_prints_the_answer_alone_on_stdout(alice: User) -> None:
    done = alice("submit", "hello", "--model", MODEL, "--wait")
    assert done.code == 0
    assert done.out == "You said: hello\n"
    assert "queued" in done.err
    assert "done by scripted-miner" in done.err
    assert "0.0001 AIT; receipt " in done.err


def test_submit_prints_the_job_and_job_show_the_rest(alice: User) -> None:
    submitted = alice("submit", "hello", "-m", MODEL, "--max-tokens", "16", "--seed", "7", "--stop", "x")
    job_id = submitted.out.strip()
    assert submitted.code == 0
    assert "AIT reserved" in submitted.err
    assert alice("job", "show", job_id).code == 0
    waited = alice("submit", "hello", "-m", MODEL, "-w", "--json").json
    assert waited["status"] == "completed"
    shown = alice("job", "show", waited["job_id"])
    for text in ("done by scripted-miner", "--- prompt\nhello\n", "--- answer\nYou said: hello\n", "0.0001"):
        assert text in shown.out
    assert alice("job", "show", waited["job_id"], "--json").json["price"] == 0.0001
    events = alice("job", "events", waited["job_id"])
    assert [line.split()[2] for line in events.out.splitlines()[1:]] == ["created", "claimed", "completed"]
    assert alice("job", "explain", waited["job_id"]).code == 0
    listed = alice("jobs", "--limit", "2")
    assert waited["job_id"] in listed.out
    assert [job["job_id"] for job in alice("jobs", "--limit", "1", "--json").json] == [waited["job_id"]]


@pytest.mark.parametrize("words", [[], ["-"]])
def test_the_prompt_comes_from_stdin(alice: User, words: list[str]) -> None:
    done = alice("submit", *words, "--model", MODEL, "-w", stdin="two\nlines ü\n")
    assert done.out == "You said: two\nlines ü\n"


def test_a_system_message_makes_a_chat_and_embed_embeds(alice: User) -> None:
    assert alice("submit", "hi", "-m", MODEL, "--system", "Be brief.", "-w").out == "You said: hi\n"
    assert alice("submit", "four", "-m", MODEL, "--embed", "-w").out == "0.25 -0.5 4\n"
    embedded = alice("submit", "four", "-m", MODEL, "--embed", "-w", "--json").json
    assert embedded["output"] == {"embeddings": [[0.25, -0.5, 4.0]]}
    assert "1 vector(s) of size 3" in alice("job", "show", embedded["job_id"]).out


def test_answers_cannot_steer_the_terminal(alice: User) -> None:
    nasty = "\x1b]0;owned\x07\x1b[31mred\x1b[0m [bold]raw[/bold] \x9b2Jc1 \u202eback\x08\x7f"
    done = alice("submit", nasty, "-m", MODEL, "-w")
    assert done.out == "You said: red [bold]raw[/bold] c1 back\n"
    exact = alice("submit", nasty, "-m", MODEL, "-w", "--json")
    assert exact.json["result"] == f"You said: {nasty}"
    assert not set(exact.out) & set("\x1b\x07\x9b\x08\x7f\u202e")


def test_a_failed_job_is_one_line_and_exit_code_1(alice: User) -> None:
    failed = alice("submit", "fail", "-m", MODEL, "-w")
    assert failed.code == 1
    assert failed.out == ""
    last = failed.err.splitlines()[-1]
    assert last.startswith("aitbc: CONTEXT_LENGTH_EXCEEDED: too long for me. Why: aitbc job explain ")


def test_a_waiting_job_is_explained_and_cancelled(alice: User) -> None:
    submitted = alice("submit", "hello", "-m", "nobody-has-this")
    job_id = submitted.out.strip()
    assert f"on offer: llama3.2, nomic-embed-text, {MODEL}" in submitted.err, "known at once, so said at once"
    late = alice("submit", "hello", "-m", "nobody-has-this", "-w", "--timeout", "0.2")
    assert late.code == 1
    assert "queued" in late.err.splitlines()[0]
    assert "on offer: llama3.2" in late.err.splitlines()[0], "in the live line"
    assert "WAIT_TIMEOUT" in late.err
    assert "on offer: llama3.2" in late.err.splitlines()[-1], "and where it gives up"
    assert "aitbc job cancel" in late.err
    explained = alice("job", "explain", job_id).out
    assert "0 of 1" in explained
    assert "what would help" in explained
    assert alice("job", "explain", job_id, "--json").json["eligible_miners"] == 0
    assert alice("job", "cancel", job_id).out == f"{job_id} cancelled\n"
    assert alice("job", "show", job_id, "--json").json["status"] == "cancelled"
    done = alice("submit", "hello", "-m", MODEL, "-w", "--json").json["job_id"]
    refused = alice("job", "cancel", done)
    assert (refused.code, "JOB_NOT_CANCELLABLE" in refused.err) == (4, True)


def test_quote_balance_and_miners(alice: User) -> None:
    quoted = alice("submit", "hello", "-m", MODEL, "--quote")
    assert "0.01 to 0.01" in quoted.out
    assert alice("submit", "hello", "-m", MODEL, "--quote", "--json").json["eligible_miners"] == 1
    money = alice("balance", "--json").json
    assert money["account"] == "alice"
    assert money["balance"] == pytest.approx(money["held"] + money["available"])
    assert "alice" in alice("balance").out
    miners = alice("miners").out
    assert "scripted-miner" in miners
    assert "scripted (0.01)" in miners
    assert alice("miners", "--json").json[0]["miner_id"] == "scripted-miner"


def test_a_saved_receipt_is_verified_offline_and_any_changed_byte_is_noticed(
    alice: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt_id = alice("submit", "hello ü", "-m", MODEL, "-w", "--json").json["receipt_id"]
    file, keys = tmp_path / "receipt.json", tmp_path / "keys.json"
    assert alice("receipt", "show", receipt_id, "--result", "--save", str(file)).code == 0
    assert alice("receipt", "keys", "--save", str(keys)).code == 0
    monkeypatch.setenv("AITBC_URL", "http://127.0.0.1:9")  # from here on nobody is asked
    proven = alice("receipt", "verify", str(file), "--keys", str(keys))
    assert proven.code == 0
    assert "proven: the receipt is genuine" in proven.out
    assert "ok       result" in proven.out
    assert "unknown  miner_signature" in proven.out
    data = file.read_bytes()
    assert alice("receipt", "verify", "-", "--keys", str(keys), stdin=data).code == 0
    for at in range(0, len(data), 37):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        assert alice("receipt", "verify", "-", "--keys", str(keys), stdin=changed).code == 1, at
    unknown = alice("receipt", "verify", str(file))
    assert unknown.code == 1
    assert "who signed it is unknown" in unknown.out
    assert "aitbc receipt keys" in unknown.err
    alice.home.mkdir()
    (alice.home / "receipt-keys.json").write_bytes(keys.read_bytes())
    assert alice("receipt", "verify", str(file), "--json").json["ok"] is True


def test_a_receipt_of_another_coordinator_is_not_proven(alice: User, tmp_path: Path) -> None:
    receipt_id = alice("submit", "hello", "-m", MODEL, "-w", "--json").json["receipt_id"]
    shown = alice("receipt", "show", receipt_id, "--json")
    keys = json.loads(alice("receipt", "keys", "--json").out)
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"chain_id": keys["chain_id"], "keys": []}))
    failed = alice("receipt", "verify", "-", "--keys", str(other), stdin=shown.out)
    assert failed.code == 1
    assert "WRONG" in failed.out
    other.write_text("{}")
    assert "aitbc receipt keys" in alice("receipt", "verify", "-", "--keys", str(other), stdin=shown.out).err
    for words in (
        ["receipt", "show", receipt_id],
        ["receipt", "list", "--client", "alice"],
        ["receipt", "keys"],
    ):
        assert alice(*words).code == 0
    assert alice("receipt", "list", "--limit", "1", "--json").json[0]["id"] == receipt_id


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["job", "show", "nope"], 4, "JOB_NOT_FOUND"),
        (["submit", "x", "--temperature", "9"], 4, "temperature"),
        (
            ["submit", "x", "-m", MODEL, "--max-tokens", "32768", "--max-price", "1000000"],
            4,
            "INSUFFICIENT_FUNDS",
        ),
        (
            ["submit", "x", "-m", MODEL, "--max-tokens", "32768", "--max-price", "1000000"],
            4,
            "AIT available",
        ),
        (["submit", "x", "--max-price", "a lot"], 2, "USAGE: --max-price: "),
        (["receipt", "keys", "--save", "."], 1, "FILE: . cannot be written: "),
        (["receipt", "keys", "--save", "/"], 1, "FILE: / cannot be written: "),
        (["receipt", "keys", "--save", "/no/such/file"], 1, "cannot be written"),
        (["submit", ""], 2, "the prompt is empty"),
        (["submit", "x", "--no-such"], 2, "--no-such"),
        (["sbmit", "x"], 2, "submit"),
        (["receipt", "show", "nope"], 4, "RECEIPT_NOT_FOUND"),
        (["receipt", "verify", "/no/such/file"], 1, "cannot be read"),
        (["balance", "--url", "ftp://x"], 2, "not an http(s) address"),
        (["balance", "--key", "aitbc_client_abcdefghijkl_no"], 4, "aitbc login"),
        (["balance", "--url", "http://127.0.0.1:9"], 3, "aitbc demo"),
    ],
)
def test_errors_are_one_line_with_what_to_do(alice: User, words: list[str], code: int, text: str) -> None:
    outcome = alice(*words)
    assert (outcome.code, outcome.out) == (code, "")
    assert len(outcome.err.splitlines()) == 1
    assert outcome.err.startswith("aitbc: ")
    assert text in outcome.err


@pytest.mark.parametrize(
    "words",
    [
        ["submit", "x", "--max-tokens", "-1"],
        ["submit", "x", "--priority", "99"],
        ["statement", "--from", "yesterday"],
        ["jobs", "--status", "nope"],
    ],
)
def test_what_is_wrong_is_said_once(alice: User, words: list[str]) -> None:
    outcome = alice(*words)
    assert (outcome.code, outcome.out) == (4, "")
    field = words[-2].removeprefix("--").replace("-", "_")
    assert outcome.err.count(f"{field}: ") == 1, outcome.err


def test_a_document_is_written_to_what_is_no_file_and_through_links(alice: User, tmp_path: Path) -> None:
    device = tmp_path / "pipe"
    os.mkfifo(device)
    reader = os.open(device, os.O_RDONLY | os.O_NONBLOCK)
    assert alice("receipt", "keys", "--save", str(device)).code == 0
    assert json.loads(os.read(reader, 1 << 16))["keys"]
    os.close(reader)
    assert device.is_fifo(), "what is no file is never replaced"
    link, target = tmp_path / "link.json", tmp_path / "target.json"
    link.symlink_to(target)
    assert alice("receipt", "keys", "--save", str(link)).code == 0
    assert link.is_symlink() and json.loads(target.read_text())["keys"]
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    assert "cannot be written" in alice("receipt", "keys", "--save", str(circle)).err
    assert sorted(each.name for each in tmp_path.glob(".*")) == []


def test_errors_as_json(alice: User) -> None:
    outcome = alice("job", "show", "nope", "--json")
    assert outcome.code == 4
    error = json.loads(outcome.err)["error"]
    assert error["code"] == "JOB_NOT_FOUND"
    assert error["details"]["request_id"]
    dear = alice("submit", "x", "-m", MODEL, "--max-tokens", "32768", "--max-price", "1000000", "--json")
    amounts = json.loads(dear.err)["error"]["details"]
    for name in ("needed", "available", "balance", "held"):
        assert isinstance(amounts[name], int | float), amounts
    for words in (["balance", "--key", "aitbc_client_abcdefghijkl_no"], ["balance", "--key", "nonsense"]):
        said = alice(*words).err.removeprefix("aitbc: UNAUTHORIZED: ")
        sentences = [part.strip() for part in re.split(r"[.?]", said) if part.strip()]
        assert len(set(sentences)) == len(sentences) >= 2


def test_login_saves_a_private_profile(user: User, network: Network) -> None:
    refused = user("login", "--url", network.url, "--key", "aitbc_client_abcdefghijkl_no")
    assert refused.code == 4
    assert not user.home.exists()
    done = user("login", "--url", network.url, stdin=network.alice.key + "\n")
    assert done.code == 0
    assert "as alice" in done.out
    profile = user.home / "profile.json"
    assert stat.S_IMODE(profile.stat().st_mode) == 0o600
    assert stat.S_IMODE(user.home.stat().st_mode) == 0o700
    assert user("balance", "--json").json["account"] == "alice"
    # The saved key belongs to the saved coordinator: it is not sent to another.
    assert user("balance", "--url", network.url.replace("127.0.0.1", "localhost")).code == 4
    assert user("balance", "--key", network.bob.key, "--json").json["account"] == "bob"
    profile.chmod(0o644)
    assert "chmod 600" in user("balance").err
    profile.chmod(0o600)
    profile.write_text("{")
    assert "aitbc login" in user("balance").err


def test_a_statement_as_table_json_and_csv(alice: User) -> None:
    job_id = alice("submit", "hello", "-m", MODEL, "-w", "--json").json["job_id"]
    whole = alice("statement", "--json").json
    assert "next_cursor" not in whole
    balance = alice("balance", "--json").json["balance"]
    assert whole["closing_balance"] == balance
    assert whole["rows"][0]["kind"] == "mint"
    assert whole["rows"][-2]["job_id"] == whole["rows"][-1]["job_id"] == job_id
    span = ("--from", whole["rows"][1]["time"], "--to", whole["to"])
    shown = alice("statement", *span)
    assert shown.code == 0
    assert job_id in shown.out
    assert f"closing, AIT  {balance}\n" in shown.out
    printed = alice("statement", "--csv", *span)
    lines = list(csv.DictReader(io.StringIO(printed.out, newline="")))
    assert [line["transfer_id"] for line in lines] == [row["transfer_id"] for row in whole["rows"][1:]]
    assert alice("statement", "--from", "2100-01-01", "--to", "2100-01-02").err == "no movements\n"
    assert alice("statement", "--csv", "--json").code == 2
    assert alice("statement", "--from", "soon").code == 4


def test_a_payment_by_hand(alice: User) -> None:
    submitted = alice("submit", "hello", "-m", MODEL, "--payment", "manual")
    job_id = submitted.out.strip()
    assert f"aitbc payment open {job_id}" in submitted.err
    assert "pending (manual)" in alice("payment", "show", job_id).out
    assert alice("payment", "release", job_id).code == 4
    assert alice("payment", "open", job_id, "--json").json["status"] == "escrowed"
    while alice("job", "show", job_id, "--json").json["status"] != "completed":
        time.sleep(0.05)
    assert "escrowed (manual)" in alice("payment", "show", job_id).out
    assert alice("payment", "refund", job_id, "--amount", "much").code == 2
    assert alice("payment", "refund", job_id).code == 4
    assert "released (manual)" in alice("payment", "release", job_id).out


def test_governance(alice: User, network: Network) -> None:
    network.govern()
    made = alice("governance", "propose", "A fee", "--parameter", "fee_bps", "--value", "300", "--json").json
    proposal_id = made["proposal_id"]
    shown = alice("governance", "show", proposal_id)
    assert "fee_bps: 250 -> 300 basis points" in shown.out and shown.code == 0
    assert proposal_id in alice("governance", "list", "--status", "pending").out
    assert alice("governance", "list", "--json").json[0]["proposal_id"] == proposal_id
    early = alice("governance", "vote", proposal_id, "for")
    assert early.code == 4 and "VOTING_NOT_OPEN" in early.err
    assert alice("governance", "vote", proposal_id, "maybe").code == 2
    assert alice("governance", "execute", proposal_id).code == 4
    assert "cancelled" in alice("governance", "cancel", proposal_id).out
    assert alice("governance", "propose", "A gift", "--to", "bob").code == 2
    assert alice("governance", "propose", "A gift", "--to", "bob", "--amount", "much").code == 2
    gift = alice("governance", "propose", "A gift", "--to", "bob", "--amount", "2.5", "--json").json
    assert gift["type"] == "fund_allocation"
    assert alice("governance", "cancel", gift["id"]).code == 0
    assert "power, AIT" in alice("governance", "power", "alice", "--proposal", proposal_id).out
    assert alice("governance", "delegate", "bob").out == "alice -> bob\n"
    assert "alice" in alice("governance", "delegations", "bob").out
    assert alice("governance", "delegate").code == 2
    assert alice("governance", "delegate", "--nobody").out == "alice -> nobody\n"
    assert "governance_quorum_bps" in alice("governance", "parameters").out
    assert alice("governance", "parameters", "--json").json[0]["name"] == "fee_bps"
