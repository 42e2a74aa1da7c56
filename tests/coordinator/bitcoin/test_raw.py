"""Raw blocks and transactions, against another implementation's reading and against every byte that is wrong."""

from __future__ import annotations

import base64
import json
import urllib.request
from io import BytesIO

import pytest
from embit.transaction import Transaction as Peer

from aitbc.coordinator.bitcoin.addresses import named_place
from aitbc.coordinator.bitcoin.raw import Malformed, Output, outputs_to, read_block, read_transaction
from tests.support.bitcoin import BitcoinNode

GENESIS = bytes.fromhex(
    "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a"
    "51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c0101000000010000000000000000000000000000000000000000000000000000000000"
    "000000ffffffff4d04ffff001d0104455468652054696d65732030332f4a616e2f32303039204368616e63656c6c6f72206f6e206272696e6b"
    "206f66207365636f6e64206261696c6f757420666f722062616e6b73ffffffff0100f2052a01000000434104678afdb0fe5548271967f1a671"
    "30b7105cd6a828e03909a67962e0ea1f61deb649f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5fac00000000"
)
"""Bitcoin's first block."""
FIRST_SCRIPT = GENESIS[-72:-4]
"""Of its one output: length, public key, OP_CHECKSIG; without the length 67 bytes."""
ADDRESS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
SCRIPT = named_place(ADDRESS)[0].script


def raw_block(bitcoin: BitcoinNode, hashed: str) -> bytes:
    credentials = base64.b64encode(f"test:{bitcoin.password}".encode()).decode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{bitcoin.rpc_port}/",
        json.dumps({"id": 1, "method": "getblock", "params": [hashed, False]}).encode(),
        {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as reply:
        return bytes.fromhex(json.load(reply)["result"])


@pytest.fixture
def block(bitcoin: BitcoinNode) -> tuple[str, bytes]:
    """A real block of four transactions with witnesses, two of which pay SCRIPT; and its hash."""
    bitcoin.pay(ADDRESS, 1)
    bitcoin.pay_all([("2N3oefVeg6stiTb5Kh3ozCSkaqmx91FDbsm", 7), (ADDRESS, 20_999_999)])
    bitcoin.pay("mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn", 9)
    hashed = bitcoin.mine().hash
    return hashed, raw_block(bitcoin, hashed)


def test_bitcoins_first_block() -> None:
    script = FIRST_SCRIPT[1:]
    found = read_block(GENESIS, {script})
    assert found.hash == "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"
    assert found.previous == "0" * 64
    coinbase = "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b"
    assert found.found == [Output(coinbase, 0, script, 5_000_000_000, True)]


def test_a_block_as_another_implementation_reads_it(block: tuple[str, bytes]) -> None:
    hashed, raw = block
    stream = BytesIO(raw[81:])
    peers = [Peer.read_from(stream) for _ in range(raw[80])]
    scripts = {output.script_pubkey.data for peer in peers for output in peer.vout}
    expected = [
        Output(peer.txid().hex(), vout, output.script_pubkey.data, output.value, peer is peers[0])
        for peer in peers
        for vout, output in enumerate(peer.vout)
    ]
    found = read_block(raw, scripts)
    assert (found.hash, found.previous) == (hashed, raw[4:36][::-1].hex())
    assert found.found == expected
    assert len(peers) >= 4
    ours = read_block(raw, {SCRIPT}).found
    assert sorted(output.sat for output in ours) == [1, 20_999_999]
    for peer in peers:
        one = read_transaction(peer.serialize())
        assert one.id[::-1] == peer.txid()
        assert [output.sat for output in outputs_to(one, scripts)] == [output.value for output in peer.vout]


def test_no_block_that_lacks_an_end_or_has_more_is_read(block: tuple[str, bytes]) -> None:
    _, raw = block
    for length in range(len(raw)):
        with pytest.raises(Malformed):
            read_block(raw[:length], {SCRIPT})
    with pytest.raises(Malformed):
        read_block(raw + b"\0", {SCRIPT})


def test_no_changed_byte_changes_what_a_block_pays(block: tuple[str, bytes]) -> None:
    """It is refused, or the block's hash is another one, or the byte is of a witness, which ids don't cover."""
    hashed, raw = block
    right = read_block(raw, {SCRIPT})
    refused = 0
    for at in range(len(raw)):
        for bit in (1, 0x80):
            changed = bytearray(raw)
            changed[at] ^= bit
            try:
                found = read_block(bytes(changed), {SCRIPT})
            except Malformed:
                refused += 1
                continue
            assert found.hash != hashed if at < 80 else found == right
    assert refused > len(raw)


def test_a_transaction_given_twice_is_refused() -> None:
    """The root of the tree would be the same (CVE-2012-2459)."""
    twice = GENESIS[:80] + b"\2" + GENESIS[81:] * 2
    with pytest.raises(Malformed, match="twice"):
        read_block(twice, set())


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "00",
        "01000000",
        "0100000000",  # no inputs
        "010000000001",  # a witness's mark and nothing
        "01000000000200000000",  # an unknown mark
        "0100000001" + "00" * 36 + "00ffffffff" + "00" + "00000000",  # no outputs
        "01000000ffffffffffffffffff",  # 2^64 - 1 inputs
        "0100000001" + "00" * 36 + "feffffffff" + "00" * 40,  # a script of 4 GiB
        "0100000001" + "00" * 36 + "00ffffffff" + "ffffffffffffffffff" + "00" * 40,  # 2^64 - 1 outputs
    ],
)
def test_what_is_no_transaction(raw: str) -> None:
    with pytest.raises(Malformed):
        read_transaction(bytes.fromhex(raw))
