"""Receipts and the keys that signed them."""

from sqlalchemy import CheckConstraint, Index
from sqlmodel import SQLModel

from aitbc.coordinator.database.append_only import append_only
from aitbc.coordinator.database.columns import big, text


class Receipt(SQLModel, table=True):
    """One signed receipt. `body` is the signed text (RFC 8785); the other columns repeat it for queries.

    Not WITHOUT ROWID: rows of that kind above a quarter of a page would spill, and these are larger.
    """

    __tablename__ = "receipts"
    __table_args__ = (
        CheckConstraint("units >= 0 AND price_units >= 0", name="not_negative"),
        Index("ux_receipts_job", "job_id", unique=True),
        Index("ix_receipts_client", "client_id", "id"),
        Index("ix_receipts_provider", "provider_id", "id"),
        Index("ix_receipts_miner", "miner_id", "id"),
        Index("ix_receipts_model", "model", "id"),
    )

    id: str = text(primary_key=True)
    job_id: str = text(foreign_key="jobs.id")
    client_id: str = text()
    provider_id: str = text()
    miner_id: str = text()
    model: str = text()
    units: int = big()
    price_units: int = big()
    created_at_ms: int = big()
    body: str = text()
    key_id: str = text()
    signature: str = text()


append_only(Receipt)


class SigningKey(SQLModel, table=True):
    """A public key that this network's coordinators sign with. `valid_to_ms` is set when it is retired."""

    __tablename__ = "signing_keys"

    id: str = text(primary_key=True)
    public_key: str = text()
    vkey: str = text()
    valid_from_ms: int = big()
    valid_to_ms: int | None = big(None, nullable=True)
