"""The text that a wallet signs to log in: EIP-4361, and its CAIP-122 form for native addresses.

Reading is strict: only a text that `to_text` would have written is one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from aitbc.core.clock import parse_rfc3339, rfc3339
from aitbc.core.wallet.address import EVM, AddressInvalid, canonical_address, checksummed, kind_of

STATEMENT = "Log in to AITBC. This costs nothing and moves no money."
EVM_CHAIN = "1"
_WORDS = {"evm": "Ethereum", "native": "AITBC"}
MAX_CHARS = 2048

_TEXT = re.compile(
    r"(?P<domain>[A-Za-z0-9.\-:\[\]]{1,255}) wants you to sign in with your (?P<word>Ethereum|AITBC) account:\n"
    r"(?P<address>[0-9A-Za-z]{1,64})\n\n"
    r"(?P<statement>[ -~]{1,200})\n\n"
    r"URI: (?P<uri>[!-~]{1,512})\n"
    r"Version: 1\n"
    r"Chain ID: (?P<chain>[a-z0-9-]{1,63})\n"
    r"Nonce: (?P<nonce>[A-Za-z0-9]{8,128})\n"
    r"Issued At: (?P<issued>[0-9TZ:.\-]{24})\n"
    r"Expiration Time: (?P<expires>[0-9TZ:.\-]{24})",
    re.ASCII,
)


class LoginMessageInvalid(ValueError):
    """Not a login message of this form."""


@dataclass(frozen=True, slots=True)
class LoginMessage:
    """`address` is canonical; `chain` is "1" for EVM wallets and the network's name for native ones."""

    domain: str
    address: str
    uri: str
    chain: str
    nonce: str
    issued_at_ms: int
    expires_at_ms: int
    statement: str = STATEMENT

    def to_text(self) -> str:
        """The text to sign, without a line feed at its end. EVM addresses are spelled as EIP-55 wants."""
        kind = kind_of(self.address)
        shown = checksummed(self.address) if kind == EVM else self.address
        return (
            f"{self.domain} wants you to sign in with your {_WORDS[kind]} account:\n"
            f"{shown}\n\n"
            f"{self.statement}\n\n"
            f"URI: {self.uri}\n"
            "Version: 1\n"
            f"Chain ID: {self.chain}\n"
            f"Nonce: {self.nonce}\n"
            f"Issued At: {rfc3339(self.issued_at_ms)}\n"
            f"Expiration Time: {rfc3339(self.expires_at_ms)}"
        )


def parse_login_message(text: str) -> LoginMessage:
    """Reads a login message back. LoginMessageInvalid: not exactly what `to_text` writes."""
    found = _TEXT.fullmatch(text) if len(text) <= MAX_CHARS else None
    if found is None:
        raise LoginMessageInvalid("not a login message")
    try:
        message = LoginMessage(
            domain=found["domain"],
            address=canonical_address(found["address"]),
            uri=found["uri"],
            chain=found["chain"],
            nonce=found["nonce"],
            issued_at_ms=parse_rfc3339(found["issued"]),
            expires_at_ms=parse_rfc3339(found["expires"]),
            statement=found["statement"],
        )
    except AddressInvalid as error:
        raise LoginMessageInvalid(str(error)) from None
    except ValueError:
        raise LoginMessageInvalid("its times cannot be read") from None
    if message.to_text() != text:
        raise LoginMessageInvalid("not written as a login message is")
    return message
