"""Miners, what each of them offers, and how far the accounts behind them are trusted."""

from sqlalchemy import CheckConstraint, Index
from sqlalchemy import text as sql
from sqlmodel import SQLModel

from aitbc.coordinator.database.columns import big, listed, small, text

STATUSES = ("active", "draining", "inactive")
GONE = "status = 'inactive' AND revision <> 0"
"""Of miners that are not here: those that still have offers and all that they said about themselves."""
APPROVALS = ("none", "approved", "revoked")


class Miner(SQLModel, table=True):
    """A registered miner. It belongs for good to the account whose key first registered it.

    capabilities, job_types, gpus and load are JSON. `revision` is random and new at each registration, so
    that caches notice a change; 0 for a miner of which nothing but the row is kept. `deregistered` is 1 after it
    left by itself, or was forgotten: only a registration undoes it.

    session_id      given by the registration that is in force; another machine's registration ends it
    installation_id what the miner's program calls the machine it runs on ('' where it does not say)
    strikes    failures since its last answer: it gets no work until `paused_until_ms`.
    delivered, failed, run_ms, units: what it did lately (see `jobs.matching.merit`).
    deposit    what its account holds for it while it is registered.
    reservation the booking whose jobs alone it gets now ('' for none).
    up_ms, away_ms how long it was here and missing; lapsed_at_ms how long coordinators had run when it was missed
               (0: it was not; see `miners.uptime`).
    promised_ms, served_ms of bookings of it that ended: the time that was promised, and of it what it was there.
    """

    __tablename__ = "miners"
    __table_args__ = (
        listed("status", "status", STATUSES),
        CheckConstraint("concurrency BETWEEN 1 AND 4096", name="concurrency"),
        Index("ix_miners_account", "account_id", "id"),
        Index("ix_miners_status", "status", "last_heartbeat_ms"),
        Index("ix_miners_gone", "last_heartbeat_ms", sqlite_where=sql(GONE), postgresql_where=sql(GONE)),
    )

    id: str = text(primary_key=True)
    account_id: str = text(foreign_key="accounts.id")
    status: str = text()
    revision: int = big()
    deregistered: int = small(0)
    capabilities: str = text("[]")
    job_types: str = text("[]")
    gpus: str = text("[]")
    load: str = text("{}")
    region: str = text("")
    memory_mb: int = big(0)
    concurrency: int = small(1)
    public_key: str = text("")
    address: str = text("")
    endpoint: str = text("")
    registered_at_ms: int = big()
    last_heartbeat_ms: int = big()
    session_id: str = text("", sa_column_kwargs={"server_default": sql("''")})
    installation_id: str = text("", sa_column_kwargs={"server_default": sql("''")})
    strikes: int = small(0, sa_column_kwargs={"server_default": "0"})
    paused_until_ms: int = big(0, sa_column_kwargs={"server_default": "0"})
    delivered: int = big(0, sa_column_kwargs={"server_default": "0"})
    failed: int = big(0, sa_column_kwargs={"server_default": "0"})
    run_ms: int = big(0, sa_column_kwargs={"server_default": "0"})
    units: int = big(0, sa_column_kwargs={"server_default": "0"})
    deposit_hold_id: str = text("", sa_column_kwargs={"server_default": sql("''")})
    deposit_units: int = big(0, sa_column_kwargs={"server_default": "0"})
    reservation: str = text("", sa_column_kwargs={"server_default": sql("''")})
    up_ms: int = big(0, sa_column_kwargs={"server_default": "0"})
    away_ms: int = big(0, sa_column_kwargs={"server_default": "0"})
    lapsed_at_ms: int = big(0, sa_column_kwargs={"server_default": "0"})
    promised_ms: int = big(0, sa_column_kwargs={"server_default": "0"})
    served_ms: int = big(0, sa_column_kwargs={"server_default": "0"})


class MinerFailure(SQLModel, table=True):
    """How often a miner failed from a cause, all told, without failures that turned out to be the job's."""

    __tablename__ = "miner_failures"
    __table_args__ = (CheckConstraint("count >= 0", name="count"),)

    miner_id: str = text(primary_key=True, foreign_key="miners.id")
    cause: str = text(primary_key=True)
    count: int = big(0)


class Provider(SQLModel, table=True):
    """An account that has miners. All its miners together hold at most `allowance` leases.

    approval  approved: by the operator, trusted without limit; revoked: gets no work at all.
    strikes   failures of its miners since an answer of any of them; many pause the whole account.
    """

    __tablename__ = "providers"
    __table_args__ = (
        listed("approval", "approval", APPROVALS),
        CheckConstraint("allowance >= 1 AND strikes >= 0", name="counts"),
    )

    account_id: str = text(primary_key=True, foreign_key="accounts.id")
    approval: str = text("none")
    allowance: int = small()
    delivered: int = big(0)
    strikes: int = small(0)
    paused_until_ms: int = big(0)


class Offer(SQLModel, table=True):
    """One model that a miner serves for one job type, at its price per 1000 tokens in base units.

    model '*' : any model of the job type (a miner that names job types and no models).
    name      : the model's name as the miner gave it (`model` is also listed without a `:latest` tag).
    """

    __tablename__ = "offers"
    __table_args__ = (
        CheckConstraint("price_units >= 0", name="price_not_negative"),
        Index("ix_offers_model", "job_type", "model", "price_units"),
    )

    miner_id: str = text(primary_key=True, foreign_key="miners.id")
    job_type: str = text(primary_key=True)
    model: str = text(primary_key=True)
    name: str = text("")
    price_units: int = big()
    engine: str = text("")
    context_length: int = big(0)
    quantisation: str = text("")
