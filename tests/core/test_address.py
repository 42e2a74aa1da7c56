"""Addresses in their one spelling: bech32 and EIP-55, and nothing near to them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc.core.signing import PrivateKey
from aitbc.core.wallet.address import (
    AddressInvalid,
    canonical_address,
    checksummed,
    keccak256,
    kind_of,
    looks_like_address,
    native_address,
)

NATIVE = native_address(PrivateKey.from_seed(b"\x01" * 32).public_bytes)
EIP55 = (  # the examples of EIP-55
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
)


def test_keccak_is_the_old_one() -> None:
    assert keccak256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"


def test_a_native_address_is_the_vector() -> None:
    assert NATIVE == "ait1x36slx9at870e9rd53d2405n80s4ff948vrrkz"
    assert canonical_address(NATIVE) == NATIVE
    assert kind_of(NATIVE) == "native"


@pytest.mark.parametrize("address", EIP55)
def test_evm_addresses_are_read_with_the_right_checksum_or_without_any(address: str) -> None:
    lower = address.lower()
    assert canonical_address(address) == canonical_address(lower) == lower
    assert checksummed(lower) == address
    assert kind_of(lower) == "evm"
    for at in range(2, 42):  # the wrong case at any one letter
        if address[at].isalpha():
            with pytest.raises(AddressInvalid):
                canonical_address(address[:at] + address[at].swapcase() + address[at + 1 :])
    for wrong in ("0x" + address[2:].upper(), "0X" + lower[2:], lower[2:], lower + "0", lower[:-1]):
        with pytest.raises(AddressInvalid):
            canonical_address(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "alice",
        "system:treasury",
        NATIVE.upper(),
        NATIVE.capitalize(),
        NATIVE[:-1],
        NATIVE + "q",
        NATIVE + "\n",
        " " + NATIVE,
        NATIVE.replace("ait1", "bc1"),
        "ait1",
        "ait1" + "q" * 38,
        "0x" + "g" * 40,
        "0x" + "\u0661" * 40,  # digits of another script
    ],
)
def test_what_is_no_address(wrong: str) -> None:
    with pytest.raises(AddressInvalid):
        canonical_address(wrong)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 37), st.sampled_from("qpzry9x8gf2tvdw0s3jn54khce6mua7l"))
def test_one_changed_character_is_found(at: int, letter: str) -> None:
    changed = NATIVE[: 4 + at] + letter + NATIVE[5 + at :]
    if changed != NATIVE:
        with pytest.raises(AddressInvalid):
            canonical_address(changed)


def test_names_that_mean_to_be_addresses() -> None:
    assert all(map(looks_like_address, (NATIVE, NATIVE.upper(), EIP55[0], "0Xab")))
    assert not any(map(looks_like_address, ("alice", "aitbc", "x0x", "")))
