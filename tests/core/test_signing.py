from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc.core import signing
from aitbc.core.signing import PrivateKey, decode_b64, encode_b64, parse_vkey, vkey
from tests.core import ed25519_reference as reference

# RFC 8032, section 7.1, test 3.
RFC_SEED = bytes.fromhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7")
RFC_PUBLIC = bytes.fromhex("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025")
RFC_MESSAGE = bytes.fromhex("af82")
RFC_SIGNATURE = bytes.fromhex(
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
    "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
)


def test_signs_as_the_standard_says() -> None:
    key = PrivateKey.from_seed(RFC_SEED)
    assert key.public_bytes == RFC_PUBLIC
    assert key.seed == RFC_SEED
    assert key.sign(RFC_MESSAGE) == RFC_SIGNATURE
    assert signing.verify(RFC_PUBLIC, RFC_MESSAGE, RFC_SIGNATURE)


@settings(max_examples=10, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200))
def test_agrees_with_another_implementation(seed: bytes, message: bytes) -> None:
    key = PrivateKey(seed)
    assert key.public_bytes == reference.public_key(seed)
    assert key.sign(message) == reference.sign(seed, message)
    assert reference.verify(key.public_bytes, message, key.sign(message))


def test_refuses_every_flipped_bit() -> None:
    for index in range(64 * 8):
        flipped = bytearray(RFC_SIGNATURE)
        flipped[index // 8] ^= 1 << index % 8
        assert not signing.verify(RFC_PUBLIC, RFC_MESSAGE, bytes(flipped))
    assert not signing.verify(RFC_PUBLIC, RFC_MESSAGE + b"\0", RFC_SIGNATURE)
    assert not signing.verify(PrivateKey(bytes(32)).public_bytes, RFC_MESSAGE, RFC_SIGNATURE)


def test_refuses_other_forms_of_a_signature_and_weak_keys() -> None:
    scalar = int.from_bytes(RFC_SIGNATURE[32:], "little") + reference.ORDER
    malleable = RFC_SIGNATURE[:32] + scalar.to_bytes(32, "little")
    assert not signing.verify(RFC_PUBLIC, RFC_MESSAGE, malleable)
    identity = b"\x01" + bytes(31)
    assert not signing.verify(identity, RFC_MESSAGE, identity + bytes(32))


@pytest.mark.parametrize(("public", "signature"), [(31, 64), (33, 64), (32, 63), (32, 65), (0, 0)])
def test_wrong_lengths_do_not_verify(public: int, signature: int) -> None:
    assert not signing.verify(bytes(public), b"m", bytes(signature))


def test_a_key_hides_its_seed() -> None:
    key = PrivateKey.generate()
    assert key.seed != PrivateKey.generate().seed
    for text in (repr(key), str(key), f"{key}"):
        assert text == f"PrivateKey(key_id='{key.key_id}')"
    assert len(key.key_id) == 16
    for size in (0, 31, 33, 64):
        with pytest.raises(ValueError, match="32 bytes"):
            PrivateKey(bytes(size))


@given(st.binary(max_size=100))
def test_base64_both_ways(data: bytes) -> None:
    assert encode_b64(data) == base64.b64encode(data).decode()
    assert decode_b64(encode_b64(data)) == data


@settings(deadline=None)
@given(st.text("ABQgw/+=-_ \nab01\u0661", max_size=8))
def test_base64_has_one_spelling(text: str) -> None:
    try:
        data = decode_b64(text)
    except ValueError:
        return
    assert encode_b64(data) == text


@pytest.mark.parametrize(
    "text", ["QQ", "QQ=", "QR==", "QQ==\n", " QQ==", "Q Q==", "Q-==", "QQ===", "QQ==QQ==", "é"]
)
def test_base64_refuses(text: str) -> None:
    with pytest.raises(ValueError):
        decode_b64(text)


def test_public_keys_as_text() -> None:
    text = signing.public_to_text(RFC_PUBLIC)
    assert len(text) == 44
    assert signing.public_from_text(text) == RFC_PUBLIC
    with pytest.raises(ValueError, match="32 bytes"):
        signing.public_from_text("QQ==")


def test_verifier_keys_follow_signed_note() -> None:
    # The example of C2SP signed-note and of golang.org/x/mod/sumdb/note.
    text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    name, public = parse_vkey(text)
    assert name == "PeterNeumann"
    assert vkey(name, public) == text


@pytest.mark.parametrize(
    "text",
    [
        "PeterNeumann",
        "PeterNeumann+c74f20a3",
        "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeuman+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+AhpC2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+ARpc",
    ],
)
def test_refuses_other_verifier_keys(text: str) -> None:
    with pytest.raises(ValueError):
        parse_vkey(text)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\n", "a\u00a0b"])
def test_verifier_keys_have_a_proper_name(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        vkey(name, RFC_PUBLIC)
