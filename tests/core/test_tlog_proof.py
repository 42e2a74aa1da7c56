from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc.core.log.checkpoint import parse_checkpoint
from aitbc.core.log.note import Note, sign_note
from aitbc.core.log.tlog_proof import MAX_HASHES, ProofInvalid, format_proof, parse_proof
from aitbc.core.signing import PrivateKey, decode_b64, encode_b64

KEY = PrivateKey.from_seed(bytes(32))
BODY = f"example.com/fancylog\n109482\n{encode_b64(bytes(32))}\n"
NOTE = Note(BODY, (sign_note(BODY, "example.com/fancylog", KEY),))
HASHES = [bytes([number]) * 32 for number in range(17)]
# The example of the C2SP text; its signatures are cut short there and stand here whole.
EXAMPLE_HEAD = """c2sp.org/tlog-proof@v1
extra YWdlLXYxLjIuMS1kYXJ3aW4tYXJtNjQudGFyLmd6kYXJ3aW4tYXJ
index 73894
gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=
B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=
EKNzoDWG8LGC0Yp9o+sv3qllpMP9uHQ9B20KNL+Q1zs=
RoopEkOdqkYqMB4MJXrbt/hMjOxsVn0IrWjpz1ZMMes=
AHCioX9nLjsrse6YhjRRmk1WUEirVOLLRoOQ6vfO5vk=
"""
PROOF = format_proof(73894, HASHES, str(NOTE))
EMPTY = format_proof(0, [], str(NOTE))


def test_the_examples_of_a_proof() -> None:
    text = EXAMPLE_HEAD + "\n" + str(NOTE)
    proof = parse_proof(text)
    assert proof.index == 73894
    assert proof.extra == decode_b64("YWdlLXYxLjIuMS1kYXJ3aW4tYXJtNjQudGFyLmd6kYXJ3aW4tYXJ")
    assert [encode_b64(hashed) for hashed in proof.hashes] == EXAMPLE_HEAD.splitlines()[3:]
    assert proof.checkpoint == NOTE
    assert proof.head == parse_checkpoint(BODY)
    assert format_proof(proof.index, proof.hashes, str(proof.checkpoint), proof.extra) == text


@pytest.mark.parametrize("extra", [None, b"", b"\x00\xff"])
@pytest.mark.parametrize("index", [0, 1, 2**63 - 1])
def test_proofs_both_ways(index: int, extra: bytes | None) -> None:
    for hashes in ([], HASHES, [bytes(32)] * MAX_HASHES):
        proof = parse_proof(format_proof(index, hashes, str(NOTE), extra))
        assert (proof.index, list(proof.hashes), proof.checkpoint, proof.extra) == (
            index,
            hashes,
            NOTE,
            extra,
        )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "c2sp.org/tlog-proof@v1",
        "c2sp.org/tlog-proof@v1\n\n",
        "c2sp.org/tlog-proof@v1\n\n" + str(NOTE),
        PROOF.replace("@v1", "@v2"),
        PROOF.replace("@v1\n", "@v1 \n"),
        PROOF.replace("\n", "\r\n"),
        PROOF.replace("index 73894", "index 073894"),
        PROOF.replace("index 73894", "index -1"),
        PROOF.replace("index 73894", "index +1"),
        PROOF.replace("index 73894", "index 1_0"),
        PROOF.replace("index 73894", "index \u0661"),
        PROOF.replace("index 73894", "index  1"),
        PROOF.replace("index 73894", "index 1 "),
        PROOF.replace("index 73894", "index "),
        PROOF.replace("index 73894", "index"),
        PROOF.replace("index 73894", "Index 1"),
        PROOF.replace("index 73894", "73894"),
        PROOF.replace("index 73894", f"index {2**63}"),
        PROOF.replace("index 73894", "index " + "9" * 5000),
        PROOF.replace("index 73894", "index 1\nextra AAAA"),
        PROOF.replace("index 73894", "extra AAAA\nextra AAAA\nindex 1"),
        PROOF.replace("index 73894", "extra AAA\nindex 1"),
        PROOF.replace("index 73894\n", ""),
        PROOF.replace(encode_b64(HASHES[3]), encode_b64(HASHES[3][:31])),
        PROOF.replace(encode_b64(HASHES[3]), encode_b64(HASHES[3])[:-1]),
        PROOF.replace(encode_b64(HASHES[3]), ""),
        PROOF.replace(encode_b64(HASHES[3]), encode_b64(HASHES[3]) + " "),
        PROOF.replace("\n\nexample", "\nexample"),
        PROOF.replace("\n\nexample", "\n\n\nexample"),
        PROOF.replace("\u2014 ", ""),
        PROOF.replace("109482", "0109482"),
        format_proof(0, [bytes(32)] * (MAX_HASHES + 1), str(NOTE)),
        format_proof(0, [], BODY),
        PROOF[: len(PROOF) // 2],
        PROOF[:-1],
        PROOF + "\n",
        PROOF + PROOF,
        PROOF.replace("fancylog", "fancy\ud800log"),
    ],
)
def test_what_is_no_proof(text: str) -> None:
    with pytest.raises(ProofInvalid):
        parse_proof(text)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_reading_fails_in_one_way(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from([PROOF, EMPTY, EXAMPLE_HEAD + "\n" + str(NOTE)]))
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 4)))
    odd = st.sampled_from("\n\u2014 +=A/0\x00\ud800\u2028\u0660é")
    text = whole[:start] + data.draw(st.text(odd | st.characters(), max_size=4)) + whole[end:]
    try:
        proof = parse_proof(text)
    except ProofInvalid:
        return
    assert format_proof(proof.index, proof.hashes, str(proof.checkpoint), proof.extra) == text
