"""A coordinator as a wallet sees it: balances, signed transfers, logging in. Shows no API key."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from aitbc.core.money import ait_number, parse_ait
from aitbc.sdk import Client
from aitbc.sdk.errors import Conflict
from aitbc.sdk.fields import Fields, plain
from aitbc.sdk.transport import Answer, Call, send


@dataclass(frozen=True, slots=True)
class Funds:
    """What an address has, in AIT, the nonce of its last transfer, which network says so, and its least fee."""

    address: str
    chain_id: str
    network_id: str
    balance: Decimal
    nonce: int
    min_fee_units: int

    @classmethod
    def of(cls, answer: Answer) -> Funds:
        read = Fields("a balance", answer.data)
        return cls(
            read.text("address"),
            read.text("chain_id"),
            read.text("network_id"),
            read.money("balance"),
            read.integer("nonce"),
            parse_ait(read.opt_money("min_fee") or 0),
        )


@dataclass(frozen=True, slots=True)
class Login:
    """A session. `token` goes into X-Session-Token."""

    token: str
    session_id: str
    expires_at: str

    @classmethod
    def of(cls, answer: Answer) -> Login:
        read = Fields("a login", answer.data)
        return cls(read.text("session_token"), read.text("session_id"), read.text("expires_at"))


class WalletClient(Client):
    """Calls that need no API key. Errors are those of `aitbc.sdk`."""

    def __init__(self, url: str | None = None, **options: Any) -> None:
        super().__init__(url, "", **options)

    def funds(self, address: str, chain_id: str | None = None) -> Funds:
        """Raises an ApiError UNKNOWN_CHAIN where `chain_id` is not the coordinator's."""
        path = f"/rpc/getBalance/{quote(address, safe='')}"
        return self._run(send(Call("GET", path, Funds.of, query={"chain_id": chain_id})))

    def send_transaction(self, document: dict[str, Any], transaction_hash: str) -> str:
        """Sends a signed transfer; its hash. One that turns out to be applied already, by an earlier try
        whose answer was lost, has been sent as well."""
        try:
            self._run(send(Call("POST", "/rpc/sendTx", _any, body=document)))
        except Conflict as error:
            if error.code != "TX_REPLAYED":
                raise
        return transaction_hash

    def challenge(self, address: str) -> str:
        """The text to sign. Read it before signing: `parse_login_message`."""
        body = {"wallet_address": address}
        return self._run(send(Call("POST", "/v1/users/challenge", _message, body=body)))

    def log_in(self, address: str, message: str, signature: str, public_key: str) -> Login:
        body = {
            "wallet_address": address,
            "message": message,
            "signature": signature,
            "public_key": public_key,
        }
        return self._run(send(Call("POST", "/v1/users/login", Login.of, body=body)))

    def make_key(
        self,
        session_token: str,
        label: str,
        *,
        role: str = "client",
        limit: str | None = None,
        limit_period: str | None = None,
    ) -> str:
        """A new client or miner key of the session's account: its text. `limit` in AIT for each day or month."""
        headers = {"x-session-token": session_token}
        body: dict[str, Any] = {"role": role, "label": label}
        if limit is not None:
            body |= {"limit": ait_number(parse_ait(limit)), "limit_period": limit_period}
        return self._run(send(Call("POST", "/v1/users/me/keys", _key, body=body, headers=headers)))

    def list_keys(self, session_token: str) -> list[dict[str, Any]]:
        """The account's keys as the coordinator shows them."""
        headers = {"x-session-token": session_token}
        return self._run(send(Call("GET", "/v1/users/me/keys", _keys, headers=headers)))

    def revoke_key(self, session_token: str, key_id: str) -> None:
        """Raises NotFound for a key that is not the account's."""
        headers = {"x-session-token": session_token}
        path = f"/v1/users/me/keys/{quote(key_id, safe='')}"
        self._run(send(Call("DELETE", path, _any, headers=headers)))

    def log_out(self, session_token: str) -> None:
        headers = {"x-session-token": session_token}
        self._run(send(Call("POST", "/v1/users/logout", _any, headers=headers)))


def _any(answer: Answer) -> Any:
    return answer.data


def _message(answer: Answer) -> str:
    return Fields("a challenge", answer.data).text("message")


def _keys(answer: Answer) -> list[dict[str, Any]]:
    found = Fields("keys", answer.data).items("keys") or []
    return [plain(dict(Fields("a key", item).data)) for item in found]


def _key(answer: Answer) -> str:
    return Fields("a key", answer.data).text("key")
