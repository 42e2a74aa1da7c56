from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc.core.log.checkpoint import MAX_SIZE, Checkpoint, cosign, cosignature_time, parse_checkpoint
from aitbc.core.log.note import (
    COSIGNATURE_V1,
    Note,
    NoteInvalid,
    NoteSignature,
    Verifier,
    parse_note,
    sign_note,
)
from aitbc.core.signing import PrivateKey, decode_b64, encode_b64

# The example of the C2SP texts, with its cosignature.
EXAMPLE = (
    "example.com/behind-the-sofa\n"
    "20852163\n"
    "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    "\n"
    "\u2014 example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9n"
    "To+zyWE+xeMcTOAYQ8=\n"
    "\u2014 witness.example.com/w1 "
    "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf"
    "5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)
ROOT = encode_b64(bytes(range(32)))
TEXT = f"aitbc/ait-devnet\n7\n{ROOT}\n"
LOG_KEY = PrivateKey.from_seed(bytes(32))
WITNESS_KEY = PrivateKey.from_seed(b"\x01" * 32)
WITNESS = Verifier("witness.example/w1", WITNESS_KEY.public_bytes, COSIGNATURE_V1)
AT_S = 1_767_323_050


def signed(*lines: NoteSignature) -> Note:
    return Note(TEXT, (sign_note(TEXT, "aitbc/ait-devnet", LOG_KEY), *lines))


def test_the_example_is_read() -> None:
    note = parse_note(EXAMPLE)
    checkpoint = parse_checkpoint(note.text)
    root = decode_b64("CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=")
    assert checkpoint == Checkpoint("example.com/behind-the-sofa", 20852163, root)
    assert checkpoint.to_text() == note.text
    cosignature = note.signatures[1]
    assert struct.unpack(">Q", cosignature.signature[:8]) == (1679315147,)
    assert len(cosignature.signature) == 72


def test_extension_lines_are_kept() -> None:
    text = TEXT + "extension\nanother one\n"
    checkpoint = parse_checkpoint(text)
    assert checkpoint.extensions == ("extension", "another one")
    assert checkpoint.to_text() == text


@pytest.mark.parametrize("size", [0, 1, 10**18, MAX_SIZE])
def test_sizes_both_ways(size: int) -> None:
    checkpoint = Checkpoint("log", size, bytes(32))
    assert parse_checkpoint(checkpoint.to_text()) == checkpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "\n\n\n",
        TEXT[:-1],
        TEXT + "\n",
        TEXT + "extension",
        TEXT + "\nextension\n",
        f"\n7\n{ROOT}\n",
        f"log\n\n{ROOT}\n",
        f"log\n07\n{ROOT}\n",
        f"log\n00\n{ROOT}\n",
        f"log\n+7\n{ROOT}\n",
        f"log\n-7\n{ROOT}\n",
        f"log\n 7\n{ROOT}\n",
        f"log\n7_0\n{ROOT}\n",
        f"log\n7.0\n{ROOT}\n",
        f"log\n\u0667\n{ROOT}\n",
        f"log\n{MAX_SIZE + 1}\n{ROOT}\n",
        f"log\n{'9' * 5000}\n{ROOT}\n",
        f"log\n7\n{ROOT[:-1]}\n",
        f"log\n7\n{ROOT} \n",
        "log\n7\nAAAA\n",
        "log\n7\né\n",
        "log\n7\n",
    ],
)
def test_what_is_no_checkpoint(text: str) -> None:
    with pytest.raises(NoteInvalid):
        parse_checkpoint(text)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=40) | st.lists(st.sampled_from(["log", "7", "0", ROOT, "", "x"])).map("\n".join))
def test_reading_a_checkpoint_fails_in_one_way(text: str) -> None:
    try:
        checkpoint = parse_checkpoint(text)
    except NoteInvalid:
        return
    assert checkpoint.to_text() == text


def test_a_cosignature_is_over_the_time_and_the_text() -> None:
    line = cosign(TEXT, WITNESS.name, WITNESS_KEY, AT_S)
    message = f"cosignature/v1\ntime {AT_S}\n{TEXT}".encode()
    assert line.signature == struct.pack(">Q", AT_S) + WITNESS_KEY.sign(message)
    note = parse_note(str(signed(line)))
    assert cosignature_time(note, WITNESS) == AT_S


def test_whose_cosignature_is_missing_has_no_time() -> None:
    line = cosign(TEXT, WITNESS.name, WITNESS_KEY, AT_S)
    assert cosignature_time(signed(), WITNESS) is None
    renamed = Verifier("other", WITNESS_KEY.public_bytes, COSIGNATURE_V1)
    rekeyed = Verifier(WITNESS.name, LOG_KEY.public_bytes, COSIGNATURE_V1)
    assert cosignature_time(signed(line), renamed) is None
    assert cosignature_time(signed(line), rekeyed) is None
    # A plain note signature by the same key under the same name is no cosignature.
    assert cosignature_time(signed(sign_note(TEXT, WITNESS.name, WITNESS_KEY)), WITNESS) is None


def test_the_newest_of_several_counts_if_all_are_good() -> None:
    lines = [cosign(TEXT, WITNESS.name, WITNESS_KEY, AT_S + late) for late in (0, 60, 30)]
    assert cosignature_time(signed(*lines), WITNESS) == AT_S + 60
    wrong = NoteSignature(WITNESS.name, WITNESS.key_id, lines[0].signature[:-1] + b"\x00")
    with pytest.raises(NoteInvalid):
        cosignature_time(signed(*lines, wrong), WITNESS)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: struct.pack(">Q", AT_S + 1) + data[8:],
        lambda data: bytes(8) + data[8:],
        lambda data: b"\xff" + data[1:],
        lambda data: data[:-1],
        lambda data: data + b"\x00",
        lambda data: data[:8],
        lambda data: b"\x00",
        lambda data: data[:8] + WITNESS_KEY.sign(TEXT.encode()),
    ],
)
def test_a_wrong_cosignature_is_said(change: object) -> None:
    assert callable(change)
    good = cosign(TEXT, WITNESS.name, WITNESS_KEY, AT_S)
    with pytest.raises(NoteInvalid):
        cosignature_time(signed(NoteSignature(good.name, good.key_id, change(good.signature))), WITNESS)


def test_a_cosignature_without_a_time_is_wrong_though_signed() -> None:
    unsigned_time = bytes(8) + WITNESS_KEY.sign(f"cosignature/v1\ntime 0\n{TEXT}".encode())
    with pytest.raises(NoteInvalid):
        cosignature_time(signed(NoteSignature(WITNESS.name, WITNESS.key_id, unsigned_time)), WITNESS)
    for at_s in (0, -1, 2**63):
        with pytest.raises(ValueError):
            cosign(TEXT, WITNESS.name, WITNESS_KEY, at_s)
    with pytest.raises(ValueError):
        cosign(TEXT, "a b", WITNESS_KEY, AT_S)


def test_only_cosignature_keys_are_asked_for_cosignatures() -> None:
    with pytest.raises(ValueError):
        cosignature_time(signed(), Verifier(WITNESS.name, WITNESS_KEY.public_bytes))
