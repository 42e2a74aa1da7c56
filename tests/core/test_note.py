from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc.core.log.note import (
    COSIGNATURE_V1,
    ED25519,
    MAX_NOTE_CHARS,
    MAX_SIGNATURES,
    Note,
    NoteInvalid,
    NoteSignature,
    Verifier,
    name_is_valid,
    parse_note,
    parse_signature_line,
    sign_note,
    verify_note,
)
from aitbc.core.signing import PrivateKey, encode_b64, vkey

# The examples of the C2SP text.
EXAMPLE_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE = (
    "This is an example message.\n"
    "\n"
    "\u2014 example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu7"
    "2IneyaQM=\n"
)
POEM = (
    "Ognuno sta solo sul cuor della terra\n"
    "trafitto da un raggio di sole:\n"
    "\n"
    "ed è subito sera.\n"
    "\n"
    "\u2014 quasimodo.example/salvatore "
    "NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99"
    "ihAQwaqP3ZekRwNtIc=\n"
)
KEY = PrivateKey.from_seed(bytes(32))
OTHER = PrivateKey.from_seed(b"\x01" * 32)
NAME = "aitbc/ait-devnet"
TEXT = "aitbc/ait-devnet\n1\nAAAA\n"
LOG = Verifier(NAME, KEY.public_bytes)


def test_the_example_verifies() -> None:
    verifier = Verifier.parse(EXAMPLE_KEY)
    assert verifier.name == "example.com/foo"
    assert verifier.key_id.hex() == "530d903a"
    assert verifier.vkey == EXAMPLE_KEY
    note = parse_note(EXAMPLE)
    assert note.text == "This is an example message.\n"
    assert verify_note(note, [verifier]) == [verifier]
    assert str(note) == EXAMPLE
    with pytest.raises(NoteInvalid):
        verify_note(parse_note(EXAMPLE.replace("message", "massage")), [verifier])


def test_a_text_may_hold_empty_lines() -> None:
    note = parse_note(POEM)
    assert note.text.endswith("\n\ned è subito sera.\n")
    assert [signature.name for signature in note.signatures] == ["quasimodo.example/salvatore"]
    assert str(note) == POEM
    text = "a\n\n\n"
    assert parse_note(str(Note(text, (sign_note(text, NAME, KEY),)))).text == text


def test_signing_and_reading_back() -> None:
    note = Note(TEXT, (sign_note(TEXT, NAME, KEY), sign_note(TEXT, "other", OTHER)))
    assert parse_note(str(note)) == note
    assert parse_signature_line(note.signatures[0].line[:-1]) == note.signatures[0]
    assert verify_note(note, [LOG]) == [LOG]
    both = [Verifier("other", OTHER.public_bytes), LOG]
    assert verify_note(note, both) == both
    assert LOG.vkey == vkey(NAME, KEY.public_bytes)


def test_who_did_not_sign_is_left_out() -> None:
    note = Note(TEXT, (sign_note(TEXT, NAME, KEY),))
    assert verify_note(note, []) == []
    # Another name, another key, another type: another key id, so that the line is not theirs.
    assert verify_note(note, [Verifier("other", KEY.public_bytes), Verifier(NAME, OTHER.public_bytes)]) == []


def test_a_known_keys_wrong_signature_spoils_the_note() -> None:
    good = sign_note(TEXT, NAME, KEY)
    for sig in (bytes(64), good.signature[:63], good.signature + b"\x00", b"\x00"):
        wrong = NoteSignature(NAME, good.key_id, sig)
        for lines in ((wrong,), (good, wrong), (wrong, good)):
            with pytest.raises(NoteInvalid):
                verify_note(Note(TEXT, lines), [LOG])
    stranger = NoteSignature(NAME, b"\x00\x00\x00\x00", bytes(64))
    assert verify_note(Note(TEXT, (stranger, good)), [LOG]) == [LOG]


def test_a_cosignature_key_is_no_note_key() -> None:
    witness = Verifier(NAME, KEY.public_bytes, COSIGNATURE_V1)
    assert witness.key_id != LOG.key_id
    with pytest.raises(ValueError):
        verify_note(Note(TEXT, (sign_note(TEXT, NAME, KEY),)), [witness])


@pytest.mark.parametrize("kind", [ED25519, COSIGNATURE_V1])
def test_verifier_keys_both_ways(kind: int) -> None:
    verifier = Verifier("witness.example/w1", KEY.public_bytes, kind)
    assert Verifier.parse(verifier.vkey) == verifier


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a+b",
        "++",
        EXAMPLE_KEY + "\n",
        EXAMPLE_KEY[:-1],
        EXAMPLE_KEY.replace("530d903a", "530D903A"),
        EXAMPLE_KEY.replace("530d903a", "530d903b"),
        EXAMPLE_KEY.replace("foo", "fo o"),
        EXAMPLE_KEY.replace("foo", "bar"),
        EXAMPLE_KEY.replace("+Aeky", "+Ceky"),
        EXAMPLE_KEY.removeprefix("example.com/foo"),
        "x+00000000+é",
        "\ud800+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
    ],
)
def test_what_is_no_verifier_key(text: str) -> None:
    with pytest.raises(ValueError):
        Verifier.parse(text)


def test_names() -> None:
    for name in ("a", "example.com/foo", "é", "\u200b", "\x7f", "a-b_c.d/e:1"):
        assert name_is_valid(name), ascii(name)
    for name in (
        "",
        "a b",
        "a+b",
        " a",
        "a ",
        "a\u00a0b",
        "a\u2028",
        "\u3000",
        "a\nb",
        "a\tb",
        "\x00",
        "\ud800",
    ):
        assert not name_is_valid(name), ascii(name)


SIGNED = str(Note(TEXT, (sign_note(TEXT, NAME, KEY),)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "\n\n",
        TEXT,
        TEXT + "\n",
        SIGNED[:-1],
        SIGNED + "\n",
        SIGNED + "x\n",
        SIGNED.replace("\n", "\r\n"),
        SIGNED.replace("1", "\t"),
        SIGNED.replace("1\n", "\x00\n"),
        SIGNED.replace("1\n", "\ud800\n"),
        SIGNED.replace("\u2014 ", "- "),
        SIGNED.replace("\u2014 ", "\u2014"),
        SIGNED.replace("\u2014 ", " \u2014 "),
        SIGNED.replace("=\n", "\n"),
        SIGNED.replace("=\n", "= \n"),
        SIGNED.replace("=\n", "=é\n"),
        TEXT + "\n\u2014 name \n",
        TEXT + "\n\u2014 name\n",
        TEXT + "\n\u2014  AAAAAAA=\n",
        TEXT + "\n\u2014 a+b AAAAAAA=\n",
        TEXT + "\n\u2014 name AAAAAA==\n",
        TEXT + "\n\u2014 name AAAAAAB=\n",
        TEXT + "\n" + "\u2014 name AAAAAAA=\n" * (MAX_SIGNATURES + 1),
        "x" * MAX_NOTE_CHARS + "\n\n\u2014 name AAAAAAA=\n",
    ],
)
def test_what_is_no_note(text: str) -> None:
    with pytest.raises(NoteInvalid):
        parse_note(text)


def test_sixteen_signatures_of_post_quantum_size_are_read() -> None:
    lines = tuple(NoteSignature("w", bytes([n, 0, 0, 0]), bytes(5000)) for n in range(MAX_SIGNATURES))
    assert parse_note(str(Note(TEXT, lines))).signatures == lines


@pytest.mark.parametrize(
    ("text", "name"), [("no newline", NAME), ("tab\t\n", NAME), ("", NAME), ("x\n", ""), ("x\n", "a b")]
)
def test_what_cannot_be_a_note_is_not_signed(text: str, name: str) -> None:
    with pytest.raises(ValueError):
        sign_note(text, name, KEY)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_reading_a_note_fails_in_one_way(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(SIGNED)))
    end = data.draw(st.integers(start, min(len(SIGNED), start + 4)))
    put = data.draw(st.text(st.sampled_from("\n\u2014 +=A/\x00\ud800\u2028é") | st.characters(), max_size=4))
    text = SIGNED[:start] + put + SIGNED[end:]
    try:
        note = parse_note(text)
    except NoteInvalid:
        return
    assert str(note) == text
    try:
        signed = verify_note(note, [LOG])
    except NoteInvalid:
        return
    assert not signed or text == SIGNED


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40), st.text(max_size=40))
def test_any_note_that_can_be_signed_reads_back(text: str, name: str) -> None:
    try:
        note = Note(text, (sign_note(text, name, KEY),))
    except ValueError:
        return
    assert parse_note(str(note)) == note
    assert len(verify_note(note, [Verifier(name, KEY.public_bytes)])) == 1


def test_a_line_carries_the_key_id_and_the_signature() -> None:
    line = sign_note(TEXT, NAME, KEY).line
    assert line == f"\u2014 {NAME} {encode_b64(LOG.key_id + KEY.sign(TEXT.encode()))}\n"
