"""Table of the API keys."""

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Index, Text, text
from sqlmodel import Field, SQLModel


class ApiKey(SQLModel, table=True):
    """One key. Only hashes of its secrets are stored; `id` never changes, also when the secret is rotated.

    `previous_hash` is the secret before the last rotation, good until `previous_expires_at_ms`.
    `spent_units` counts against `limit_units` in the period that began at `period_start_ms`.
    `booking_id`: the booking of a GPU that it gives access to, and to nothing else ('' for an ordinary key).
    """

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint("role IN ('client', 'miner', 'admin')", name="ck_api_keys_role"),
        CheckConstraint("limit_period IN ('day', 'month')", name="ck_api_keys_limit_period"),
        CheckConstraint("(limit_units IS NULL) = (limit_period IS NULL)", name="ck_api_keys_limit"),
        CheckConstraint("limit_units >= 0", name="ck_api_keys_limit_units"),
        CheckConstraint("spent_units >= 0", name="ck_api_keys_spent_units"),
        CheckConstraint("limit_units IS NULL OR spent_units <= limit_units", name="ck_api_keys_within_limit"),
        Index("ix_api_keys_account_id", "account_id"),
    )

    id: str = Field(sa_column=Column(Text, primary_key=True))
    account_id: str = Field(sa_column=Column(Text, ForeignKey("accounts.id"), nullable=False))
    role: str = Field(sa_column=Column(Text, nullable=False))
    label: str = Field(sa_column=Column(Text, nullable=False))
    secret_hash: str = Field(sa_column=Column(Text, nullable=False))
    previous_hash: str | None = Field(sa_column=Column(Text))
    previous_expires_at_ms: int | None = Field(sa_column=Column(BigInteger))
    created_at_ms: int = Field(sa_column=Column(BigInteger, nullable=False))
    expires_at_ms: int | None = Field(sa_column=Column(BigInteger))
    revoked_at_ms: int | None = Field(sa_column=Column(BigInteger))
    limit_units: int | None = Field(sa_column=Column(BigInteger))
    limit_period: str | None = Field(sa_column=Column(Text))
    period_start_ms: int = Field(sa_column=Column(BigInteger, nullable=False))
    spent_units: int = Field(sa_column=Column(BigInteger, nullable=False))
    booking_id: str = Field("", sa_column=Column(Text, nullable=False, server_default=text("''")))
