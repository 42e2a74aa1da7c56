"""Tables of wallet users: who they are, how they log in, what they signed."""

from sqlalchemy import CheckConstraint, Index
from sqlmodel import SQLModel

from aitbc.coordinator.database.append_only import append_only
from aitbc.coordinator.database.columns import big, listed, text

KINDS = ("evm", "native")


class User(SQLModel, table=True):
    """A wallet that logged in, or signed a transfer. Its id is its address and its account's id.

    public_key    a native wallet's Ed25519 key, base64; '' for EVM wallets
    nonce         that of its last applied transfer; the next one has one more
    last_login_ms 0 for one that never logged in
    """

    __tablename__ = "users"
    __table_args__ = (
        listed("kind", "kind", KINDS),
        CheckConstraint("nonce >= 0", name="nonce_not_negative"),
    )

    id: str = text(primary_key=True, foreign_key="accounts.id")
    kind: str = text()
    public_key: str = text("")
    nonce: int = big(0)
    created_at_ms: int = big()
    last_login_ms: int = big(0)


class Challenge(SQLModel, table=True):
    """A login text that was used; kept until it expires, so that it is good once."""

    __tablename__ = "login_challenges"
    __table_args__ = (Index("ix_login_challenges_expires", "expires_at_ms"),)

    nonce: str = text(primary_key=True)
    address: str = text()
    message: str = text()
    expires_at_ms: int = big()
    used_at_ms: int = big(0)


class SharedSecret(SQLModel, table=True):
    """A secret that all coordinators of this database share; hex. `login` makes the codes of login texts."""

    __tablename__ = "shared_secrets"

    name: str = text(primary_key=True)
    value: str = text()
    created_at_ms: int = big()


class Session(SQLModel, table=True):
    """One login. Only a hash of its token is stored. `revoked_at_ms`: 0 while it stands."""

    __tablename__ = "sessions"
    __table_args__ = (
        Index("ux_sessions_token", "token_hash", unique=True),
        Index("ix_sessions_user", "user_id", "id"),
        Index("ix_sessions_expires", "expires_at_ms"),
    )

    id: str = text(primary_key=True)
    user_id: str = text(foreign_key="users.id")
    token_hash: str = text()
    created_at_ms: int = big()
    expires_at_ms: int = big()
    revoked_at_ms: int = big(0)


class WalletTransaction(SQLModel, table=True):
    """A transfer as its sender signed it: `body` is the signed text (RFC 8785), `transfer_id` what it made."""

    __tablename__ = "wallet_transactions"
    __table_args__ = (Index("ux_wallet_transactions_nonce", "sender_id", "nonce", unique=True),)

    hash: str = text(primary_key=True)
    sender_id: str = text(foreign_key="users.id")
    nonce: int = big()
    body: str = text()
    signature: str = text()
    transfer_id: str = text(foreign_key="transfers.id")
    created_at_ms: int = big()


append_only(WalletTransaction)
