"""C2SP signed notes: a text, a blank line, and lines of signatures by named keys."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from aitbc.core.signing import PUBLIC_BYTES, PrivateKey, decode_b64, encode_b64, verify

ED25519 = 0x01
COSIGNATURE_V1 = 0x04
MAX_NOTE_CHARS = 1_000_000
MAX_SIGNATURES = 64  # C2SP signed-note: at least 16 must be accepted
MAX_SIGNATURE_BYTES = 8192  # post-quantum signatures have up to nearly 5,000
_DASH = "\N{EM DASH} "
_KEY_ID_BYTES = 4
# All but the newline below U+0020, which notes may not have; and surrogates, which are not UTF-8.
_FORBIDDEN = re.compile(r"[\x00-\x09\x0b-\x1f\ud800-\udfff]")


class NoteInvalid(ValueError):
    """The text is not a signed note, or a known key's signature on it is wrong."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """A named public key of one signature type (ED25519 or COSIGNATURE_V1)."""

    name: str
    public_bytes: bytes
    kind: int = ED25519

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that name the key on a signature line."""
        return note_key_id(self.name, self.kind, self.public_bytes)

    @property
    def vkey(self) -> str:
        """C2SP verifier key `<name>+<hex id>+<base64>`."""
        return f"{self.name}+{self.key_id.hex()}+{encode_b64(bytes([self.kind]) + self.public_bytes)}"

    @classmethod
    def parse(cls, text: str) -> Verifier:
        """From a verifier key. ValueError: another form or type, or an id that does not fit."""
        name, _, rest = text.partition("+")
        _, separator, encoded = rest.partition("+")
        if not separator or not name_is_valid(name):
            raise ValueError("a verifier key is <name>+<hash>+<base64>")
        typed = decode_b64(encoded)
        if len(typed) != 1 + PUBLIC_BYTES or typed[0] not in (ED25519, COSIGNATURE_V1):
            raise ValueError("not an Ed25519 verifier key")
        verifier = cls(name, typed[1:], typed[0])
        if verifier.vkey != text:
            raise ValueError("the verifier key's hash does not fit its name and key")
        return verifier


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: the key's name, its 4-byte id and the signature's bytes."""

    name: str
    key_id: bytes
    signature: bytes

    @property
    def line(self) -> str:
        """As it stands in a note, with its newline."""
        return f"{_DASH}{self.name} {encode_b64(self.key_id + self.signature)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A note's text (ends in a newline) and its signatures, in order."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def __str__(self) -> str:
        return f"{self.text}\n" + "".join(signature.line for signature in self.signatures)

    def by(self, verifier: Verifier) -> list[NoteSignature]:
        """The signatures that name this key (not yet verified)."""
        key_id = verifier.key_id
        return [s for s in self.signatures if s.name == verifier.name and s.key_id == key_id]


def name_is_valid(name: str) -> bool:
    """Whether this may name a key: UTF-8, not empty, no white space, no control character, no plus sign."""
    # split() cuts at what str.isspace() holds for, which is every Unicode space.
    return "+" not in name and name.split() == [name] and _FORBIDDEN.search(name) is None


def note_key_id(name: str, kind: int, public_bytes: bytes) -> bytes:
    """SHA-256(name, newline, type, key), its first 4 bytes."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public_bytes).digest()[:_KEY_ID_BYTES]


def sign_note(text: str, name: str, key: PrivateKey) -> NoteSignature:
    """An Ed25519 signature line for the text. ValueError: no note has this text, or no key this name."""
    if not text.endswith("\n") or _FORBIDDEN.search(text) is not None:
        raise ValueError("a note's text ends in a newline and has no control characters")
    if not name_is_valid(name):
        raise ValueError("a key's name is not empty and has no white space and no plus sign")
    return NoteSignature(name, note_key_id(name, ED25519, key.public_bytes), key.sign(text.encode()))


def parse_signature_line(line: str) -> NoteSignature:
    """One line, without its newline. NoteInvalid."""
    if not line.startswith(_DASH):
        raise NoteInvalid("a signature line begins with an em dash and a space")
    name, separator, encoded = line[len(_DASH) :].partition(" ")
    if not separator or not name_is_valid(name):
        raise NoteInvalid("a signature line is: dash, key name, base64")
    try:
        data = decode_b64(encoded)
    except ValueError:
        raise NoteInvalid("a signature is not base64") from None
    if not _KEY_ID_BYTES < len(data) <= _KEY_ID_BYTES + MAX_SIGNATURE_BYTES:
        raise NoteInvalid(f"a signature has 1 to {MAX_SIGNATURE_BYTES} bytes after the key's id")
    return NoteSignature(name, data[:_KEY_ID_BYTES], data[_KEY_ID_BYTES:])


def parse_note(text: str) -> Note:
    """Splits a note; verifies nothing. `str()` of what it returns is `text` again. NoteInvalid."""
    if len(text) > MAX_NOTE_CHARS or _FORBIDDEN.search(text) is not None:
        raise NoteInvalid("the note is too long or has control characters")
    body, separator, tail = text.rpartition("\n\n")
    if not separator or not tail.endswith("\n"):
        raise NoteInvalid("a note is a text, an empty line and signature lines")
    lines = tail[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise NoteInvalid(f"a note has at most {MAX_SIGNATURES} signatures")
    return Note(body + "\n", tuple(parse_signature_line(line) for line in lines))


def verify_note(note: Note, verifiers: Iterable[Verifier]) -> list[Verifier]:
    """Which of these keys (ED25519) signed the text; who signed nothing is left out.

    Lines of unknown keys are passed over. NoteInvalid where a known key's signature is wrong; ValueError for
    a key of another type, whose signatures are not over the text alone.
    """
    signed = []
    text = note.text.encode()
    for verifier in verifiers:
        if verifier.kind != ED25519:
            raise ValueError(f"{verifier.name} is no Ed25519 note key")
        lines = note.by(verifier)
        if any(not verify(verifier.public_bytes, text, line.signature) for line in lines):
            raise NoteInvalid(f"the signature by {verifier.name} is wrong")
        if lines:
            signed.append(verifier)
    return signed
