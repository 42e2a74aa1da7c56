"""EVM signatures, made by an independent signer: accepted in one form, and only for their signer."""

import os

import pytest

from aitbc.coordinator.users.evm import GROUP_ORDER, EvmSignatureInvalid, recover, signed_hash
from tests.coordinator.users.support import Account, encode_defunct

SIGNER = Account.from_key("0x" + "11" * 32)


def sign(text: str, signer: object = SIGNER) -> bytes:
    made: bytes = bytes(signer.sign_message(encode_defunct(text=text)).signature)  # type: ignore[attr-defined]
    return made


def hexed(data: bytes) -> str:
    return "0x" + data.hex()


@pytest.mark.parametrize("text", ["", "hello", "two\nlines", "größer \u4f60\u597d \U0001f600", "x" * 5000])
def test_the_signer_is_found(text: str) -> None:
    signed = sign(text)
    assert recover(text, hexed(signed)) == SIGNER.address.lower()
    assert recover(text, "0x" + signed.hex().upper()) == SIGNER.address.lower()
    assert recover(text, hexed(signed[:64] + bytes([signed[64] - 27]))) == SIGNER.address.lower()


def test_many_random_keys() -> None:
    for _ in range(20):
        signer = Account.create(os.urandom(16).hex())
        assert recover("log in", hexed(sign("log in", signer))) == signer.address.lower()


def test_the_hash_is_that_of_eip_191() -> None:
    # keccak256("\x19Ethereum Signed Message:\n5hello"), as every wallet computes it
    assert signed_hash("hello").hex() == "50b2c43fd39106bafbba0da34fc430e1f91e3c96ea2acee2bc34119f92b37750"


def test_another_text_or_signature_names_another_address() -> None:
    signed = sign("hello")
    assert recover("hallo", hexed(signed)) != SIGNER.address.lower()
    other = Account.from_key("0x" + "22" * 32)
    assert recover("hello", hexed(sign("hello", other))) == other.address.lower()


def test_the_high_form_is_refused() -> None:
    signed = sign("hello")
    s = GROUP_ORDER - int.from_bytes(signed[32:64], "big")
    high = signed[:32] + s.to_bytes(32, "big") + bytes([55 - signed[64]])  # the other parity: same key
    with pytest.raises(EvmSignatureInvalid, match="upper half"):
        recover("hello", hexed(high))


@pytest.mark.parametrize("v", [2, 3, 4, 26, 29, 35, 37, 255])
def test_other_recovery_ids_are_refused(v: int) -> None:
    with pytest.raises(EvmSignatureInvalid, match="recovery id"):
        recover("hello", hexed(sign("hello")[:64] + bytes([v])))


def test_the_other_recovery_id_names_another_address() -> None:
    signed = sign("hello")
    assert recover("hello", hexed(signed[:64] + bytes([55 - signed[64]]))) != SIGNER.address.lower()


def test_numbers_out_of_range_are_refused() -> None:
    signed = sign("hello")
    zero, order = bytes(32), GROUP_ORDER.to_bytes(32, "big")
    for r, s in ((zero, signed[32:64]), (order, signed[32:64]), (signed[:32], zero), (signed[:32], order)):
        with pytest.raises(EvmSignatureInvalid, match="out of range"):
            recover("hello", hexed(r + s + signed[64:]))
    # An r that is no x-coordinate of the curve.
    unfit = (5).to_bytes(32, "big")
    with pytest.raises(EvmSignatureInvalid, match="no key"):
        recover("hello", hexed(unfit + (1).to_bytes(32, "big") + b"\x1b"))


@pytest.mark.parametrize("wrong", ["", "0x", "0x00", "nonsense", "0x" + "zz" * 65])
def test_other_forms_are_refused(wrong: str) -> None:
    with pytest.raises(EvmSignatureInvalid):
        recover("hello", wrong)
    signed = sign("hello").hex()
    for spelled in (signed, "0X" + signed, "0x" + signed + "00", "0x" + signed[:-2], "0x" + signed + "\n"):
        with pytest.raises(EvmSignatureInvalid):
            recover("hello", spelled)
