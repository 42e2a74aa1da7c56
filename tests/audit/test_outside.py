"""The outsider's audit: an honest log passes, and what a coordinator could serve instead is found."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aitbc.audit.findings import Report, Unwatched, Wrong
from aitbc.audit.http import Coordinator, NotServed
from aitbc.audit.outside import Outsider, audit_url
from aitbc.audit.receipts import ReceiptCheck
from aitbc.audit.trust import Kept, Trust, read_kept
from aitbc.core.canonical import encode
from aitbc.core.log.checkpoint import Checkpoint, parse_checkpoint
from aitbc.core.log.keyset import KeySet, PublishedKey
from aitbc.core.log.leaf import (
    KINDS,
    delegation_leaf,
    parameter_leaf,
    proposal_leaf,
    receipt_leaf,
    transfer_leaf,
    vote_leaf,
)
from aitbc.core.log.merkle import leaf_hash, root_of
from aitbc.core.log.note import Note, Verifier, parse_note, sign_note
from aitbc.core.log.policy import Policy
from aitbc.core.receipt import ReceiptFields, sign, signed_bytes
from aitbc.core.signing import encode_b64
from tests.audit.rented_scene import rent
from tests.audit.scene import WITNESS, Scene, seal
from tests.coordinator.api.support import Api
from tests.support.flows import KEY, NETWORK_ID, Market

pytestmark = pytest.mark.parametrize("databases", ["sqlite"], indirect=True)

ORIGIN = "aitbc/ait-devnet"
POLICY = Policy("ait-devnet", (Verifier(ORIGIN, KEY.public_bytes),), (WITNESS,), 1, (KEY.public_bytes,))
Change = Callable[[str, bytes], bytes]


class Served:
    """A coordinator's answers, fetched once, each of which `change` may replace."""

    def __init__(self, api: Api, change: Change = lambda _path, data: data) -> None:
        self._api = api
        self.change = change
        self.cache: dict[str, bytes] = {}

    def get(self, path: str, _max_bytes: int) -> bytes:
        if path not in self.cache:
            answer = self._api.get(path)
            if answer.status_code == 404:
                raise NotServed(path)
            assert answer.status_code == 200, answer.text
            self.cache[path] = answer.content
        return self.change(path, self.cache[path])


def audited(
    served: Served, keys: KeySet | None = None, policy: Policy | None = POLICY, kept: Iterable[Kept] = ()
) -> Report:
    report = Report()
    try:
        Outsider(served, Trust(keys, policy, tuple(kept)), Unwatched(), report).run()  # type: ignore[arg-type]
    except Wrong as wrong:
        report.wrong = wrong
    return report


@pytest.fixture
def served(market: Market, database_url: str, tmp_path: Path) -> Iterator[Served]:
    Scene(market)
    rent(market)
    seal(market)  # with open holds, and a job that runs
    api = Api(database_url, tmp_path / "home", market.clock, {"block_interval_s": 3600})
    yield Served(api)
    api.stop()


def test_an_honest_log_passes(served: Served) -> None:
    report = audited(served)
    assert report.ok, report.problems
    others = {"bitcoin_credits", "proposals", "votes", "delegations"}  # in tests of their own
    kinds = [report.counts[kind.name] for kind in KINDS.values() if kind.name not in others]
    assert report.counts["leaves"] == sum(kinds) == 364
    assert all(kinds[:4])
    assert report.counts["open_holds"] == 6
    assert report.counts["cosignatures"] == 1
    # The payments that were refunded, in part, and the one that is held.
    assert any(line.startswith("the payment of 3 receipts") for line in report.not_checked)
    own = audited(served, policy=None)
    assert own.ok
    assert any("they came from the coordinator" in line for line in own.not_checked)


def flipped(at: int) -> Change:
    return lambda _path, data: (
        data[: at % len(data)] + bytes([data[at % len(data)] ^ 1]) + data[at % len(data) + 1 :]
    )


def only(prefix: str, change: Change) -> Change:
    return lambda path, data: change(path, data) if path.startswith(prefix) else data


def test_no_changed_byte_is_taken(served: Served) -> None:
    assert audited(served).ok
    paths = [path for path in served.cache if path.startswith("/log/tile/")]
    assert len(paths) == 5  # two bundles, two tiles, one above
    for path in paths:
        for at in (0, 1, 5, 100, 3000, -1):
            served.change = only(path, flipped(at))
            assert not audited(served).ok, (path, at)
    served.change = only("/log/checkpoint", flipped(40))
    assert not audited(served).ok


def test_blocks_that_do_not_fit_are_named(served: Served) -> None:
    report = audited(served)
    if "blocks" not in report.counts:
        assert "blocks: this coordinator has no explorer" in report.not_checked
        return
    assert report.counts["blocks"] == 5
    for member in ("hash", "previous_hash", "root", "timestamp", "tree_size", "receipts", "proposer"):

        def change(_path: str, data: bytes, member: str = member) -> bytes:
            blocks = json.loads(data)
            for block in blocks:
                if block["height"] == 2:
                    value = block[member]
                    block[member] = (
                        value + 1
                        if isinstance(value, int)
                        else value.replace(value[-2], "1a"[value[-2] == "1"])
                    )
            return json.dumps(blocks).encode()

        served.change = only("/v1/explorer/blocks?", change)
        wrong = audited(served).wrong
        assert wrong is not None
        assert wrong.kind == "block", member


def test_every_block_is_signed_by_a_key_that_is_known(served: Served) -> None:
    """Not only the newest. Coordinators of before list blocks without signatures: there each is asked for."""

    def change(height: int, edit: Callable[[dict[str, Any]], None]) -> Change:
        def changed(_path: str, data: bytes) -> bytes:
            blocks = json.loads(data)
            for block in blocks if isinstance(blocks, list) else [blocks]:
                if block["height"] == height:
                    edit(block)
            return json.dumps(blocks).encode()

        return changed

    for height in (1, 2, 4):
        served.change = only(
            "/v1/explorer/blocks", change(height, lambda block: block.update(signature="A" * 86 + "=="))
        )
        assert f"block {height}: its proposer's signature does not match" in str(audited(served).wrong)

    def without(_path: str, data: bytes) -> bytes:
        return json.dumps(
            [{k: v for k, v in b.items() if k != "signature"} for b in json.loads(data)]
        ).encode()

    served.change = only("/v1/explorer/blocks?", without)
    assert audited(served).ok
    one = only("/v1/explorer/blocks/1", change(1, lambda block: block.update(signature=None)))
    served.change = lambda path, data: one(path, only("/v1/explorer/blocks?", without)(path, data))
    assert "block 1: its proposer's signature does not match" in str(audited(served).wrong)


def bundle(leaves: list[bytes]) -> bytes:
    return b"".join(len(leaf).to_bytes(2, "big") + leaf for leaf in leaves)


def log_of(leaves: list[bytes]) -> Change:
    """A whole log, small enough for one bundle, that the key's owner made of these leaves."""
    hashes = [leaf_hash(leaf) for leaf in leaves]
    text = Checkpoint(ORIGIN, len(leaves), root_of(hashes)).to_text()
    checkpoint = str(Note(text, (sign_note(text, ORIGIN, KEY),))).encode()

    def change(path: str, data: bytes) -> bytes:
        if path == "/log/checkpoint":
            return checkpoint
        if path.startswith("/log/tile/entries/"):
            return bundle(leaves)
        if path.startswith("/log/tile/0/"):
            return b"".join(hashes)
        raise NotServed(path)

    return change


class Made(Served):
    """Nothing but what `change` makes."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.change = log_of(leaves)

    def get(self, path: str, _max_bytes: int) -> bytes:
        return self.change(path, b"")


JOB = "019b7c1e-5a46-7000-8000-000000000001"


def line(number: int, kind: str, debit: str, credit: str, units: int, hold: str | None = None) -> bytes:
    return transfer_leaf(f"t{number}", kind, debit, credit, units, hold, JOB, 1)


MINT, ESCROW, FEES = "system:mint", "system:escrow", "system:treasury"
HELD = [line(1, "mint", MINT, "ann", 100), line(2, "hold", "ann", ESCROW, 60)]


def change_of(number: int, before: int | None, after: int, at_ms: int = 1, name: str = "fee_bps") -> bytes:
    return parameter_leaf(number, name, before, after, at_ms, "operator", "as decided")


TENTH = change_of(1, 250, 1000)
POST = line(3, "post", "ann", "bob", 50, "t2")
LIES: dict[str, tuple[list[bytes], str]] = {
    "a balance below zero": ([line(1, "transfer", "ann", "bob", 5)], "account ann"),
    "money from an account": ([line(1, "mint", "ann", "bob", 5)], "transfer t1"),
    "more held than there is": ([*HELD, line(3, "hold", "ann", ESCROW, 50)], "account ann"),
    "a hold settled twice": ([*HELD, POST, line(4, "void", "ann", ESCROW, 60, "t2")], "transfer t4"),
    "more paid than held": ([*HELD, line(3, "post", "ann", "bob", 61, "t2")], "transfer t3"),
    "a fee beyond the hold": ([*HELD, POST, line(4, "fee", "ann", FEES, 11, "t2")], "transfer t4"),
    "a fee to somebody": ([*HELD, POST, line(4, "fee", "ann", "bob", 1, "t2")], "transfer t4"),
    "another's hold": ([*HELD, line(3, "post", "bob", "bob", 50, "t2")], "transfer t3"),
    "a part of a void": ([*HELD, line(3, "void", "ann", ESCROW, 59, "t2")], "transfer t3"),
    "an unknown kind": ([line(1, "gift", MINT, "ann", 1)], "transfer t1"),
    "an unknown leaf": ([b'{"type":"other"}'], "leaf 0"),
    "another spelling": ([HELD[0].replace(b'":', b'": ', 1)], "leaf 0"),
    "no JSON": ([b"hello"], "leaf 0"),
    "a receipt of nobody": ([b'{"body":{},"signature":{},"type":"aitbc/receipt-leaf/v1"}'], "leaf 0"),
}


def test_a_log_that_adds_up_and_lies_is_found(databases: Any) -> None:
    policy = Policy("ait-devnet", POLICY.log, (), 0, POLICY.receipt_keys)
    assert audited(Made([*HELD, POST, line(4, "fee", "ann", FEES, 10, "t2")]), policy=policy).ok
    for name, (leaves, which) in LIES.items():
        wrong = audited(Made(leaves), policy=policy).wrong
        assert str(wrong).startswith(which), (name, wrong)


def test_the_policy_decides(served: Served) -> None:
    stranger = Verifier(ORIGIN, WITNESS.public_bytes)
    policy = Policy("ait-devnet", (stranger,), (), 0, (KEY.public_bytes,))
    assert "no known key" in str(audited(served, policy=policy).wrong)
    lone = parse_note(served.get("/log/checkpoint", 0).decode())
    assert parse_checkpoint(lone.text).size == 364
    served.change = only(
        "/log/checkpoint", lambda _path, _data: str(Note(lone.text, lone.signatures[:1])).encode()
    )
    assert "0 of the policy's 1 witnesses" in str(audited(served).wrong)


def test_over_http(market: Market, start_server: Any, database_url: str) -> None:
    Scene(market, grants=5)
    seal(market)
    server = start_server({"BLOCK_INTERVAL_S": "3600"})
    report = audit_url(server.url, policy=POLICY)
    assert report.ok, report.problems
    with Coordinator(server.url) as coordinator, pytest.raises(NotServed):
        coordinator.get("/log/tile/0/999", 10)


def receipt_of(
    payment: str = "auto", number: int = 1, completed_at: int = 1_767_300_000, **changes: Any
) -> bytes:
    """The leaf of a receipt of bob's for JOB: 50 units, 5 of them the fee."""
    fields = ReceiptFields(
        chain_id="ait-devnet",
        receipt_id=f"019b7c1e-5d2e-7000-8000-{number:012x}",
        job_id=JOB,
        job_type="llm_inference",
        client="ann",
        provider="bob",
        miner_id="m",
        model="llama",
        units=5,
        unit_type="tokens",
        prompt_tokens=3,
        completion_tokens=2,
        metering="engine",
        unit_price_units=10_000,
        price_units=50,
        fee_units=5,
        started_at=completed_at,
        completed_at=completed_at,
        prompt_hash="0" * 64,
        result_hash="0" * 64,
        payment=payment,
        release_after=completed_at + 60 if payment == "manual" else None,
    )._replace(**changes)
    made = sign(fields, KEY)
    return receipt_leaf(signed_bytes(fields).decode(), made.key_id, encode_b64(made.sig))


def paid(units: int, fee: int, to: str = "bob", kind: str = "post") -> list[bytes]:
    return [line(3, kind, "ann", to, units, "t2"), line(4, "fee", "ann", FEES, fee, "t2")]


LATER = transfer_leaf("t9", "transfer", "ann", "bob", 1, None, "", (1_767_300_060 + 86_401) * 1000)
UNDERPAID: dict[str, tuple[list[bytes], str]] = {
    "less than the price": ([*paid(44, 5), receipt_of()], "units with a fee of 5 were paid"),
    "less, and the receipt first": ([receipt_of(), *paid(44, 5)], "to be paid with it"),
    "a higher fee": ([*paid(40, 10), receipt_of()], "units with a fee of 10 were paid"),
    "a lower fee": ([*paid(46, 4), receipt_of()], "to be paid with it"),
    "nothing": ([receipt_of()], "nothing was"),
    "given back": ([line(3, "void", "ann", ESCROW, 60, "t2"), receipt_of()], "to be paid with it"),
    "to somebody else": ([*paid(45, 5, "ann"), receipt_of()], "and ann was paid"),
    "by hand, more": ([*paid(50, 5), receipt_of("manual")], "its price is 50"),
    "by hand, a fee that is not its part": ([*paid(25, 5), receipt_of("manual")], "is not its part"),
    "by hand, and never": ([receipt_of("manual"), LATER], "to be released by itself"),
    "and the receipt does not say how": (
        [
            *paid(45, 5),
            receipt_of(),
            receipt_of(
                "",
                2,
                1_767_300_000 + 8 * 86_400,
                job_id=JOB.replace("1", "2"),
                price_units=0,
                unit_price_units=0,
                fee_units=0,
            ),
        ],
        "version 1",
    ),
}


def test_an_underpaid_miner_is_seen_from_outside(databases: Any) -> None:
    """The owner of the key may reseal what he likes: what a receipt calls automatic has to stand beside it."""
    policy = Policy("ait-devnet", POLICY.log, (), 0, POLICY.receipt_keys)
    for leaves in (
        [*paid(45, 5), receipt_of()],
        [receipt_of(), *paid(45, 5)],
        [*paid(45, 5), receipt_of("manual")],
        [*paid(22, 2), receipt_of("manual")],
        [line(3, "void", "ann", ESCROW, 60, "t2"), receipt_of("manual")],
        [receipt_of("manual")],
        [*paid(44, 5), receipt_of("")],
    ):
        assert audited(Made([*HELD, TENTH, *leaves]), policy=policy).ok
    for name, (leaves, said) in UNDERPAID.items():
        wrong = audited(Made([*HELD, TENTH, *leaves]), policy=policy).wrong
        assert wrong is not None, name
        assert (wrong.kind, said in wrong.what) == ("receipt", True), (name, wrong)


def free(number: int, completed_at: int, **changes: Any) -> bytes:
    """The leaf of a receipt that nothing is paid for."""
    job_id = JOB.replace("1", str(number))
    return receipt_of(
        "auto", number, completed_at, job_id=job_id, price_units=0, unit_price_units=0, fee_units=0, **changes
    )


def test_a_receipt_of_another_network_has_no_place_in_a_log(databases: Any) -> None:
    """The key may be the same (one SECRET_KEY, two databases), and the name is: the id is not."""
    policy = Policy("ait-devnet", POLICY.log, (), 0, POLICY.receipt_keys, network_id=NETWORK_ID)
    now_s = 1_767_300_000
    old, new = free(2, now_s), free(3, now_s, network_id=NETWORK_ID)
    report = audited(Made([*HELD, old, new]), policy=policy)
    assert report.ok, report.problems
    assert any("of which network of this name 1 receipts" in line for line in report.not_checked)
    for leaf, said in (
        (free(4, now_s, network_id="ab" * 32), f"it is of the network {'ab' * 32}"),
        (free(4, now_s + 8 * 86_400), "of version 2, which does not say of which network it is"),
    ):
        wrong = audited(Made([*HELD, new, leaf]), policy=policy).wrong
        assert wrong is not None and said in wrong.what


def test_the_genesis_block_says_of_which_network_receipts_must_be(databases: Any) -> None:
    for network, is_right in ((NETWORK_ID, True), ("ab" * 32, False)):
        body = json.loads(free(2, 1_767_300_000, network_id=network))
        check = ReceiptCheck(KeySet("ait-devnet", [PublishedKey(KEY.public_bytes)]), NETWORK_ID)
        sent = (
            body["body"]["receipt_id"],
            encode(body["body"]).decode(),
            KEY.key_id,
            body["signature"]["sig"],
        )
        with nullcontext() if is_right else pytest.raises(Wrong, match="it is of the network abab"):
            check.check(*sent)


def test_a_policy_that_names_another_network_is_not_for_this_one(served: Served) -> None:
    named = json.loads(served.get("/v1/keys", 1 << 20))["network_id"]
    assert audited(served, policy=replace(POLICY, network_id=named)).ok
    wrong = audited(served, policy=replace(POLICY, network_id="ab" * 32)).wrong
    assert wrong is not None and "another network" in wrong.what


def test_a_kept_checkpoint_is_held_against_what_is_served(databases: Any) -> None:
    """A log that was cut or signed anew by its own key is sound in itself: only who kept a checkpoint sees it."""
    policy = Policy("ait-devnet", POLICY.log, (), 0, POLICY.receipt_keys)
    grant, more = line(1, "mint", MINT, "ann", 100), line(2, "mint", MINT, "ann", 1)
    before = Made([grant, more])
    kept = read_kept("kept.txt", before.get("/log/checkpoint", 0).decode())
    for leaves, said in (
        ([grant, more], ""),
        ([grant, more, line(3, "mint", MINT, "ann", 2)], ""),
        ([grant], "the log was cut: it has 1 sealed leaves"),
        ([], "the log was cut: it has 0 sealed leaves"),
        ([line(1, "mint", MINT, "ann", 200), more], "the log was rewritten"),
        ([line(1, "mint", MINT, "ann", 200), more, line(3, "mint", MINT, "ann", 2)], "the log was rewritten"),
    ):
        served = Made(leaves)
        assert audited(served, policy=policy).ok, "it agrees with itself"
        report = audited(served, policy=policy, kept=[kept])
        assert report.ok == (not said)
        assert said in str(report.wrong)
        assert said or "that the log continues kept.txt" in report.checked
    stranger = Policy("ait-devnet", (Verifier(ORIGIN, WITNESS.public_bytes),), (), 0, POLICY.receipt_keys)
    assert "in kept.txt" in str(audited(before, policy=stranger, kept=[kept]).wrong)


@pytest.mark.parametrize(
    ("leaf", "fault"),
    [
        (b'{"choice":"yes","type":"aitbc/wish/v1"}', ""),
        (b'{"choice": "yes","type":"aitbc/wish/v1"}', "canonical"),
        (b'{"type":"aitbc/wish/v1","choice":"yes"}', "canonical"),
        (b'{"choice":"yes","type":"vote"}', "its type"),
        (b'{"choice":"yes","type":"aitbc/vote/v1"}', "power_units"),
        (vote_leaf("vote:p:1", "a", "a", "for", 1, 1), "there is no such proposal"),
        (vote_leaf("vote:p:1", "a", "a", "for", 1, 1).replace(b'"at_ms":1', b'"at_ms": 1'), "canonical"),
        (vote_leaf("vote:p:01", "a", "a", "for", 1, 1), "another form"),
        (delegation_leaf("delegation:1:a", "a", "b", 1), ""),
        (delegation_leaf("delegation:2:a", "a", "b", 1), "number 0"),
        (delegation_leaf("delegation:1:a", "a", "a", 1), "to itself"),
        (proposal_leaf("proposal:p:1", "opened", 1, "", "{}"), "begin"),
        (proposal_leaf("proposal:p:1", "created", 1, "a", "{}"), "cannot be read"),
        (proposal_leaf("proposal:p:2", "created", 1, "a", "{}"), "number 0"),
        (b'{"choice":"yes","type":1}', "its type"),
        (b'{"choice":"yes"}', "its type"),
    ],
)
def test_a_kind_that_is_not_known_is_counted_and_said(databases: Any, leaf: bytes, fault: str) -> None:
    policy = Policy("ait-devnet", POLICY.log, (), 0, POLICY.receipt_keys)
    report = audited(Made([*HELD, POST, line(4, "fee", "ann", FEES, 10, "t2"), leaf]), policy=policy)
    assert report.ok == (not fault), report.problems
    if fault:
        assert fault in str(report.wrong)
    elif b"wish" in leaf:
        assert report.counts["others"] == 1
        assert any("1 leaves of kinds" in said for said in report.not_checked)
