"""Table of the first answers given to requests with an Idempotency-Key."""

from sqlalchemy import BigInteger, Column, Index, Text
from sqlmodel import Field, SQLModel


class IdempotentAnswer(SQLModel, table=True):
    """The answer to the first request with this key in this scope (account and route).

    `status` is 0 only inside the transaction that is making the answer. Bodies may hold prompts, so rows are
    purged well before the job's own retention ends.
    """

    __tablename__ = "idempotent_answers"
    __table_args__ = (Index("ix_idempotent_answers_created_at_ms", "created_at_ms"),)

    scope: str = Field(sa_column=Column(Text, primary_key=True))
    key: str = Field(sa_column=Column(Text, primary_key=True))
    request_hash: str = Field(sa_column=Column(Text, nullable=False))
    status: int = Field(sa_column=Column(BigInteger, nullable=False))
    body: str = Field(sa_column=Column(Text, nullable=False))
    created_at_ms: int = Field(sa_column=Column(BigInteger, nullable=False))
