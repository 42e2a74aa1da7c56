"""Settings of the exchange: what is paid to, at which rate, and what watches the chain."""

import re
from decimal import Decimal
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings

from aitbc.coordinator.bitcoin.addresses import AddressesInvalid, Receiving, named_place
from aitbc.core.money import parse_ait

MAX_RATE = 10_000_000
"""AIT for a bitcoin. At it an output of 9 BTC is the largest that one transfer can credit."""

MAX_CONFIRMATIONS = 100
"""Blocks: so far back the exchange follows a reorganisation."""


class BitcoinSettings(BaseSettings):
    """The part of the settings that top-ups with Bitcoin go by."""

    bitcoin_xpub: str = Field(
        "",
        description="Extended public key of an account (BIP84: xpub, zpub, tpub or vpub) from which each top-up gets an"
        " address of its own; never a private key.",
    )
    bitcoin_address: str = Field(
        "",
        description="Without BITCOIN_XPUB: the one address that all top-ups are paid to, told apart by their amounts.",
    )
    btc_to_aitbc_rate: Decimal = Field(
        Decimal(100_000),
        gt=0,
        le=MAX_RATE,
        description="AIT for one bitcoin; fixed for a top-up when it is made.",
    )
    bitcoin_network: Literal["", "mainnet", "testnet", "regtest"] = Field(
        "",
        description="Bitcoin's chain (testnet: any public test network); empty: the key or the address says it.",
    )
    bitcoin_rpc_url: str = Field(
        "", description="A bitcoind to watch the chain with: http://USER:PASSWORD@HOST:PORT."
    )
    bitcoin_rpc_cookie_file: str = Field(
        "", description="Its `.cookie` file, where the URL has no user and password."
    )
    bitcoin_esplora_url: str = Field(
        "", description="Or an Esplora server to ask about the addresses: https://HOST/api."
    )
    bitcoin_timeout_s: float = Field(
        10, ge=1, le=300, description="Seconds that one answer of either may take."
    )
    bitcoin_interval_s: float = Field(
        10, gt=0, le=3600, description="How often the chain is looked at for what was paid."
    )
    bitcoin_confirmations: str = Field(
        "1,3,6",
        description="Blocks that a payment needs below 0.01 BTC, below 0.1 BTC, and from there on.",
    )
    topup_lock_s: float = Field(
        3600,
        ge=60,
        le=86_400,
        description="How long a top-up's rate holds; paid later, it is credited at the new one.",
    )
    max_open_topups: int = Field(
        4,
        ge=1,
        le=20,
        description="Unpaid top-ups of an account that may wait at once; a day, five times as many.",
    )

    @field_validator("btc_to_aitbc_rate")
    @classmethod
    def _check_rate(cls, value: Decimal) -> Decimal:
        parse_ait(value)
        return value

    @field_validator("bitcoin_confirmations")
    @classmethod
    def _check_confirmations(cls, value: str) -> str:
        split_confirmations(value)
        return value

    @field_validator("bitcoin_rpc_url", "bitcoin_esplora_url")
    @classmethod
    def _check_source_url(cls, value: str) -> str:
        if value and re.fullmatch(r"https?://[!-~]{1,500}", value) is None:
            raise ValueError("must be http:// or https:// and a host")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _check_bitcoin(self) -> Self:
        chain: str = self.bitcoin_network
        try:
            if self.bitcoin_xpub:
                chain = Receiving(self.bitcoin_xpub, chain).chain
        except AddressesInvalid as error:
            raise ValueError(f"BITCOIN_XPUB: {error}") from None
        try:
            if self.bitcoin_address:
                chain = named_place(self.bitcoin_address, chain)[1]
        except AddressesInvalid as error:
            raise ValueError(f"BITCOIN_ADDRESS: {error}") from None
        if self.bitcoin_rpc_url and self.bitcoin_esplora_url:
            raise ValueError("BITCOIN_RPC_URL, BITCOIN_ESPLORA_URL: only one of them watches the chain")
        object.__setattr__(self, "bitcoin_network", chain)
        return self

    @property
    def confirmations(self) -> tuple[int, int, int]:
        """BITCOIN_CONFIRMATIONS: for small, medium and large payments."""
        return split_confirmations(self.bitcoin_confirmations)


def split_confirmations(text: str) -> tuple[int, int, int]:
    """Three counts that never fall. ValueError."""
    parts = text.replace(" ", "").split(",")
    counts = [int(part) if part.isdecimal() and len(part) <= 3 else 0 for part in parts]
    if len(counts) != 3 or not 1 <= counts[0] <= counts[1] <= counts[2] <= MAX_CONFIRMATIONS:
        raise ValueError(
            f"must be three numbers from 1 to {MAX_CONFIRMATIONS}, none less than the one before"
        )
    return counts[0], counts[1], counts[2]
