"""Wallets of both kinds for tests, and what they sign."""

import sys
from typing import Any

from eth_account import Account
from eth_account.messages import encode_defunct

from aitbc.core.signing import PrivateKey, encode_b64
from aitbc.core.wallet.address import native_address
from aitbc.core.wallet.transaction import Transaction

# One of eth_account's libraries raises it to 100,000, for which no stack is large enough: deep JSON, which other tests
# send, would end the whole process.
sys.setrecursionlimit(1_000)

CHAIN = "ait-devnet"
NETWORK = "ab" * 32


class NativeWallet:
    """An Ed25519 wallet; `number` makes its seed."""

    def __init__(self, number: int = 1) -> None:
        self.key = PrivateKey.from_seed(number.to_bytes(32, "big"))
        self.address = native_address(self.key.public_bytes)
        self.account = self.address
        self.public_key: str | None = encode_b64(self.key.public_bytes)
        self.network_id = NETWORK

    def sign(self, text: str) -> str:
        return encode_b64(self.key.sign(text.encode()))

    def transfer(self, to: str, amount_units: int, nonce: int, **changes: Any) -> dict[str, Any]:
        """A signed transfer, as it is sent."""
        fields: dict[str, Any] = {
            "chain_id": CHAIN,
            "network_id": self.network_id,
            "recipient": to,
            "fee_units": 0,
        }
        fields["amount_units"] = amount_units
        return Transaction.make(self.key, nonce=nonce, **{**fields, **changes}).signed(self.key)


class EvmWallet:
    """A secp256k1 wallet, whose signer is eth-account; `number` makes its key."""

    def __init__(self, number: int = 1) -> None:
        self.signer = Account.from_key(number.to_bytes(32, "big"))
        self.address: str = self.signer.address
        self.account = self.address.lower()
        self.public_key: str | None = None

    def sign(self, text: str) -> str:
        return "0x" + bytes(self.signer.sign_message(encode_defunct(text=text)).signature).hex()


Wallet = NativeWallet | EvmWallet
