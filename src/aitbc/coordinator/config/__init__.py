"""All settings, from the environment (or a `.env` file in the working directory), checked once at start."""

import os
import re
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from aitbc.coordinator.config.bitcoin import BitcoinSettings
from aitbc.coordinator.config.environment import ENV_FILE, ByName, environment_name
from aitbc.coordinator.config.lists import split_api_keys, split_witnesses
from aitbc.core.money import parse_ait

BATCH_BODY_FACTOR = 16
"""Batch routes take bodies of this many times MAX_BODY_BYTES."""


MAX_COUNT = 1_000_000_000
"""The most of anything that settings count."""
MAX_GRANT = 60_000_000
"""AIT. A grant is a transfer, and no transfer is above 2^53 - 1 base units (90 million AIT)."""

MAX_DEPOSIT = 1_000_000
"""AIT. Far more than any miner earns with the leases that it may hold unproven: above it is a typo."""

MIN_SECRET_CHARS = 16
"""What SECRET_KEY and each key of API_KEYS have at least: less can be guessed."""


class SettingsError(Exception):
    """One or more settings are wrong; the text has one line for each."""


class Settings(BitcoinSettings):
    """Read-only settings. Each field is the environment variable of the same name in capitals."""

    model_config = SettingsConfigDict(env_file=ENV_FILE, extra="forbid", frozen=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = getattr(dotenv_settings, "env_file", None)
        return (
            init_settings,
            ByName(settings_cls, os.environ),
            ByName(settings_cls, dotenv_values(file) if file else {}),
        )

    api_host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for every interface.")
    api_port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    public_url: str = Field(
        "", description="Address that users know this coordinator by; empty: http://127.0.0.1:API_PORT."
    )
    home: Path = Field(
        Path("~/.aitbc"),
        description="Directory of the signing keys and the default database.",
    )
    database_url: str = Field(
        "", description="sqlite:///FILE or postgresql://...; empty: a file in AITBC_HOME."
    )
    database_pool_size: int = Field(
        12, ge=2, le=256, description="PostgreSQL connections held open at most, a third of them for reads."
    )
    database_timeout_s: float = Field(
        5,
        ge=1,
        le=600,
        description="Seconds that the database may take for a statement, a connection or a lock; then 503.",
    )
    secret_key: str = Field(
        "",
        description="The signing key is made from it, the same on every coordinator; empty: a key file in"
        " AITBC_HOME. It also keys the account names of API_KEYS. At least 16 random characters.",
    )
    api_keys: str = Field(
        "",
        description="Static keys: KEY, client:KEY, miner:KEY or admin:KEY, comma separated; each at least 16"
        " random characters.",
    )
    chain_id: str = Field(
        "ait-devnet", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Name of the network."
    )
    devnet_grant: Decimal = Field(
        Decimal(1000),
        ge=0,
        le=MAX_GRANT,
        description="AIT given to each new account on ait-devnet (nowhere else).",
    )
    max_body_bytes: int = Field(
        1 << 20, ge=1024, le=1 << 30, description="Largest request body; batches 16 times it."
    )
    max_bodies_bytes: int = Field(
        128 << 20,
        ge=1 << 20,
        le=1 << 40,
        description="Request bodies held at once, in all; one caller a quarter of it.",
    )
    max_unsent_bytes: int = Field(
        128 << 20, ge=1 << 20, le=1 << 40, description="Answers that their callers have not read, in all."
    )
    max_head_bytes: int = Field(
        16_384, ge=1024, le=1 << 20, description="Largest head of a request: its first line and headers."
    )
    max_pipelined: int = Field(
        32, ge=0, le=1000, description="Requests that one connection may send before they are answered."
    )
    max_connections: int = Field(
        4096,
        ge=1,
        le=1 << 20,
        description="Connections open at once; fewer where the system allows fewer files.",
    )
    max_connections_per_address: int = Field(
        1024,
        ge=1,
        le=1 << 20,
        description="The same for one address; behind a trusted proxy: requests of one forwarded address.",
    )
    head_timeout_s: float = Field(
        10, gt=0, le=3600, description="Seconds in which a request's head must arrive."
    )
    body_timeout_s: float = Field(
        30, gt=0, le=3600, description="Seconds in which a body must arrive, beside MIN_BYTES_PER_S."
    )
    answer_timeout_s: float = Field(
        30, gt=0, le=3600, description="Seconds in which an answer must be read, beside MIN_BYTES_PER_S."
    )
    min_bytes_per_s: int = Field(
        16_384,
        ge=1,
        le=MAX_COUNT,
        description="Bodies and answers may take as much longer as they have bytes at this rate.",
    )
    keep_alive_s: float = Field(
        75, gt=0, le=86_400, description="An idle connection is closed after so long."
    )
    max_wait_s: float = Field(60, ge=0, le=600, description="Longest long poll, seconds.")
    max_pending_jobs: int = Field(
        10_000,
        ge=1,
        le=MAX_COUNT,
        description="Jobs of one account that may wait at once; more get 429 QUEUE_FULL.",
    )
    max_pending_bytes: int = Field(
        64 << 20,
        ge=1 << 20,
        le=1 << 40,
        description="Bytes of one account's large inputs (above 4096 bytes) that may wait at once; more get 429"
        " INPUT_QUOTA_EXCEEDED.",
    )
    max_free_jobs_per_day: int = Field(
        20_000,
        ge=0,
        le=MAX_COUNT,
        description="Jobs of one account that may end on one day (UTC) without having paid for anything; then it"
        " submits no more on that day: 429 FREE_JOBS_USED_UP. 0 switches it off.",
    )
    rate_limit_client: int = Field(
        100,
        ge=0,
        le=MAX_COUNT,
        description="Requests a minute of an account's client keys together; 0 switches it off.",
    )
    rate_limit_miner: int = Field(
        1000,
        ge=0,
        le=MAX_COUNT,
        description="Requests a minute of an account's miner keys together; 0 switches it off.",
    )
    rate_limit_user: int = Field(
        60,
        ge=0,
        le=MAX_COUNT,
        description="Requests a minute of a user, failed attempts from an address; 0 switches it off.",
    )
    rate_limit_newcomers: int = Field(
        200,
        ge=0,
        le=MAX_COUNT,
        description="Wallets a day that may log in for the first time from one address; 0 switches it off.",
    )
    lease_s: float = Field(
        60,
        gt=0,
        le=86_400,
        description="How long a claimed job is a miner's without a heartbeat, until the network's parameter"
        " lease_s is changed.",
    )
    heartbeat_s: float = Field(
        15, gt=0, le=3600, description="How often miners are asked to send a heartbeat."
    )
    default_max_run_s: int = Field(
        1800, ge=1, le=604_800, description="How long one run of a job may take that names no max_run_s."
    )
    max_max_run_s: int = Field(86_400, ge=1, le=604_800, description="The largest max_run_s of a job.")
    miner_admission: Literal["open", "approved"] = Field(
        "open",
        description="Whose miners get work: any account's, or only those that `aitbc providers approve` names.",
    )
    miner_deposit: Decimal = Field(
        Decimal(0),
        ge=0,
        le=MAX_DEPOSIT,
        description="AIT held for each registered miner until it deregisters; approved accounts need none.",
    )
    max_attempts: int = Field(3, ge=1, le=100, description="Tries of one job before it fails for good.")
    acceptance_window_s: float = Field(
        259_200, ge=0, le=31_536_000, description="A manual payment is released this long after the answer."
    )
    booking_min_hours: float = Field(
        0.25, gt=0, le=720, description="The shortest time that a GPU is booked for."
    )
    booking_max_hours: float = Field(
        720, gt=0, le=8784, description="The longest time that a GPU is booked for."
    )
    booking_no_show_s: float = Field(
        600,
        ge=10,
        le=86_400,
        description="A booking whose GPU is not heard of for so long after its start is ended, and all money goes"
        " back; only time in which a coordinator ran counts.",
    )
    block_interval_s: float = Field(
        2, gt=0, le=3600, description="How often waiting transfers and receipts are sealed into a block."
    )
    witnesses: str = Field("", description="Witnesses asked to cosign each block: VKEY@URL, comma separated.")
    witness_quorum: int = Field(
        0, ge=0, le=64, description="Cosignatures that make a block final; 0: no block is called final."
    )
    clock_steady_s: float = Field(
        300,
        ge=0,
        le=86_400,
        description="A jump of the clock ahead is believed after so long; what cannot be undone waits for it.",
    )
    job_retention_days: float = Field(
        30, gt=0, le=36_500, description="Days that prompts and results of ended jobs are kept."
    )
    miner_retention_days: float = Field(
        30,
        gt=0,
        le=36_500,
        description="Days after which what a miner said about itself is forgotten, if it is not heard of.",
    )
    trusted_proxies: str = Field(
        "127.0.0.1", description="Proxies whose X-Forwarded-For is believed, comma separated; none: no proxy."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="What is logged.")
    slow_request_s: float = Field(
        1, gt=0, le=86_400, description="Requests that take longer are logged as slow."
    )

    @field_validator("home", mode="after")
    @classmethod
    def _expand_home(cls, value: Path) -> Path:
        try:
            return value.expanduser().absolute()
        except RuntimeError as error:
            raise ValueError(f"~ stands for no folder here: {error}") from error

    @field_validator("trusted_proxies")
    @classmethod
    def _no_proxies(cls, value: str) -> str:
        return "" if value.strip().lower() == "none" else value

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower_level(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("devnet_grant", "miner_deposit")
    @classmethod
    def _check_grant(cls, value: Decimal) -> Decimal:
        parse_ait(value)
        return value

    @field_validator("api_keys")
    @classmethod
    def _check_keys(cls, value: str) -> str:
        for role, key in split_api_keys(value):
            if len(key) > 512 or not key.isascii() or not key.isprintable() or " " in key:
                raise ValueError(f"a {role or 'bare'} key is not of printable ASCII characters, 512 at most")
            if len(key) < MIN_SECRET_CHARS:
                raise ValueError(
                    f"a {role or 'bare'} key has {len(key)} characters; at least {MIN_SECRET_CHARS} are"
                    " needed, chosen at random (or make keys with `aitbc keys create`)"
                )
        return value

    @field_validator("secret_key")
    @classmethod
    def _check_secret(cls, value: str) -> str:
        if value and len(value) < MIN_SECRET_CHARS:
            raise ValueError(
                f"at least {MIN_SECRET_CHARS} characters, chosen at random: the signing key is made from it"
            )
        return value

    @field_validator("witnesses")
    @classmethod
    def _check_witnesses(cls, value: str) -> str:
        split_witnesses(value)
        return value

    @model_validator(mode="after")
    def _default_database(self) -> Self:
        url = self.database_url or f"sqlite:///{self.home}/coordinator.db"
        if url.startswith("postgres://"):
            url = "postgresql://" + url.removeprefix("postgres://")
        if not url.startswith(("sqlite:///", "postgresql://")):
            raise ValueError("DATABASE_URL: must begin with sqlite:/// or postgresql://")
        object.__setattr__(self, "database_url", url)
        return self

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, value: str) -> str:
        url = value.rstrip("/")
        if url and re.fullmatch(r"https?://[A-Za-z0-9.\-:\[\]]{1,255}(/[!-~]*)?", url) is None:
            raise ValueError("must be http:// or https://, a host, a port where it is not the usual one")
        return url

    @model_validator(mode="after")
    def _default_public_url(self) -> Self:
        if not self.public_url:
            object.__setattr__(self, "public_url", f"http://127.0.0.1:{self.api_port}")
        return self

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        if self.heartbeat_s >= self.lease_s:
            raise ValueError("HEARTBEAT_S: must be shorter than LEASE_S, or live miners lose their jobs")
        if self.default_max_run_s > self.max_max_run_s:
            raise ValueError("DEFAULT_MAX_RUN_S: must be at most MAX_MAX_RUN_S")
        return self

    @property
    def log_url(self) -> str:
        """The URL prefix that others reach the log under; '' where PUBLIC_URL is an address of this machine's
        or of a private network's, which says nothing to anybody else."""
        host = urlsplit(self.public_url).hostname or ""
        try:
            public = ip_address(host).is_global
        except ValueError:
            public = "." in host and not host.endswith((".local", ".localhost", ".internal"))
        return f"{self.public_url}/log" if public else ""

    @property
    def devnet_grant_units(self) -> int:
        """Base units that a new account gets from the mint: 0 anywhere but on the devnet."""
        return parse_ait(self.devnet_grant) if self.chain_id == "ait-devnet" else 0

    @property
    def max_batch_body_bytes(self) -> int:
        """Largest body of a batch route, bytes."""
        return self.max_body_bytes * BATCH_BODY_FACTOR


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment, with `overrides` by field name on top.

    Raises SettingsError whose text has one line for each bad setting, naming the variable but not its value
    (it may be a secret).
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        lines = []
        for item in error.errors(include_input=False, include_url=False):
            name = environment_name(str(item["loc"][0])) if item["loc"] else ""
            text = item["msg"].removeprefix("Value error, ")
            lines.append(f"{name}: {text}" if name else text)
        raise SettingsError("\n".join(lines)) from error
