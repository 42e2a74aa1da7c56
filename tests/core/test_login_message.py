"""Login texts: exactly EIP-4361's, read back only where nothing is missing or moved."""

import dataclasses

import pytest

from aitbc.core.signing import PrivateKey
from aitbc.core.wallet.address import native_address
from aitbc.core.wallet.login_message import LoginMessage, LoginMessageInvalid, parse_login_message

EVM = LoginMessage(
    domain="coordinator.example:8443",
    address="0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed",
    uri="https://coordinator.example:8443",
    chain="1",
    nonce="0123456789abcdef",
    issued_at_ms=1_767_225_600_000,
    expires_at_ms=1_767_225_900_000,
)
NATIVE = dataclasses.replace(
    EVM, address=native_address(PrivateKey.from_seed(b"\x01" * 32).public_bytes), chain="ait-devnet"
)
TEXT = """coordinator.example:8443 wants you to sign in with your Ethereum account:
0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed

Log in to AITBC. This costs nothing and moves no money.

URI: https://coordinator.example:8443
Version: 1
Chain ID: 1
Nonce: 0123456789abcdef
Issued At: 2026-01-01T00:00:00.000Z
Expiration Time: 2026-01-01T00:05:00.000Z"""


def test_the_text_is_that_of_eip_4361() -> None:
    assert EVM.to_text() == TEXT
    assert NATIVE.to_text().startswith(
        f"coordinator.example:8443 wants you to sign in with your AITBC account:\n{NATIVE.address}\n"
    )


@pytest.mark.parametrize("message", [EVM, NATIVE])
def test_it_is_read_back(message: LoginMessage) -> None:
    assert parse_login_message(message.to_text()) == message


def test_a_truncated_text_is_none() -> None:
    for length in range(len(TEXT)):
        with pytest.raises(LoginMessageInvalid):
            parse_login_message(TEXT[:length])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n", "\r\n"),
        ("Ethereum", "AITBC"),
        ("Ethereum", "Bitcoin"),
        ("0x5aAeb", "0x5aaeb"),
        ("Version: 1", "Version: 2"),
        ("Nonce: 0123456789abcdef\n", ""),
        ("Nonce: 0123456789abcdef", "Nonce: 0"),
        ("Nonce: 0123456789abcdef", "Nonce: 0123456789abcdef\nNonce: 0123456789abcdeg"),
        ("2026-01-01T00:05:00.000Z", "2026-13-01T00:05:00.000Z"),
        ("2026-01-01T00:05:00.000Z", "2026-01-01T00:05:00Z"),
        ("coordinator.example:8443 wants", " wants"),
        ("coordinator.example:8443 wants", "evil.example\ncoordinator.example:8443 wants"),
        ("URI: https", "URI:  https"),
    ],
)
def test_texts_that_are_none(old: str, new: str) -> None:
    assert old in TEXT
    with pytest.raises(LoginMessageInvalid):
        parse_login_message(TEXT.replace(old, new, 1))
    for wrong in (TEXT + "\n", "\n" + TEXT, TEXT + " ", "x" * 5000, TEXT + "x" * 5000):
        with pytest.raises(LoginMessageInvalid):
            parse_login_message(wrong)
