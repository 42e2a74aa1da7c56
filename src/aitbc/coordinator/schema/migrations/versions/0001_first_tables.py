"""First tables"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("balance_units", sa.BigInteger(), nullable=False),
        sa.Column("held_units", sa.BigInteger(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "(kind = 'user' OR kind = 'mint' OR kind = 'treasury' OR kind = 'escrow')", name="kind"
        ),
        sa.CheckConstraint("kind = 'mint' OR balance_units >= held_units", name="no_overdraft"),
        sa.CheckConstraint("held_units >= 0", name="held_not_negative"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "idempotent_answers",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_hash", sa.Text(), nullable=False),
        sa.Column("status", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "key"),
    )
    op.create_index(
        "ix_idempotent_answers_created_at_ms", "idempotent_answers", ["created_at_ms"], unique=False
    )
    op.create_table(
        "parameters",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "signing_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("vkey", sa.Text(), nullable=False),
        sa.Column("valid_from_ms", sa.BigInteger(), nullable=False),
        sa.Column("valid_to_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.Text(), nullable=False),
        sa.Column("previous_hash", sa.Text(), nullable=True),
        sa.Column("previous_expires_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("limit_units", sa.BigInteger(), nullable=True),
        sa.Column("limit_period", sa.Text(), nullable=True),
        sa.Column("period_start_ms", sa.BigInteger(), nullable=False),
        sa.Column("spent_units", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("limit_period IN ('day', 'month')", name="ck_api_keys_limit_period"),
        sa.CheckConstraint("role IN ('client', 'miner', 'admin')", name="ck_api_keys_role"),
        sa.CheckConstraint("(limit_units IS NULL) = (limit_period IS NULL)", name="ck_api_keys_limit"),
        sa.CheckConstraint("limit_units >= 0", name="ck_api_keys_limit_units"),
        sa.CheckConstraint(
            "limit_units IS NULL OR spent_units <= limit_units", name="ck_api_keys_within_limit"
        ),
        sa.CheckConstraint("spent_units >= 0", name="ck_api_keys_spent_units"),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_api_keys_account_id", "api_keys", ["account_id"], unique=False)
    op.create_table(
        "jobs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("spend_period_ms", sa.BigInteger(), nullable=False),
        sa.Column("job_type", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("queued", sa.Integer(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("max_price_units", sa.BigInteger(), nullable=False),
        sa.Column("min_memory_mb", sa.BigInteger(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("required_miner_id", sa.Text(), nullable=False),
        sa.Column("excluded_miner_id", sa.Text(), nullable=False),
        sa.Column("excluded_until_ms", sa.BigInteger(), nullable=False),
        sa.Column("hold_id", sa.Text(), nullable=False),
        sa.Column("held_units", sa.BigInteger(), nullable=False),
        sa.Column("prompt_bound", sa.BigInteger(), nullable=False),
        sa.Column("completion_bound", sa.BigInteger(), nullable=False),
        sa.Column("prompt_hash", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("event_count", sa.Integer(), nullable=False),
        sa.Column("miner_id", sa.Text(), nullable=False),
        sa.Column("lease_id", sa.Text(), nullable=False),
        sa.Column("lease_expires_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("unit_price_units", sa.BigInteger(), nullable=False),
        sa.Column("price_units", sa.BigInteger(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("receipt_id", sa.Text(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("started_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("finished_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "(actor = '' OR actor = 'client' OR actor = 'miner' OR actor = 'coordinator' OR actor = 'admin')",
            name="actor",
        ),
        sa.CheckConstraint(
            "(cause = '' OR cause = 'ENGINE_ERROR' OR cause = 'ENGINE_UNAVAILABLE' OR cause = 'MODEL_NOT_FOUND' OR cause = 'OUT_OF_MEMORY' OR cause = 'CONTEXT_LENGTH_EXCEEDED' OR cause = 'BAD_REQUEST' OR cause = 'TIMEOUT' OR cause = 'SHUTTING_DOWN' OR cause = 'COMPLETED' OR cause = 'CANCELLED_BY_CLIENT' OR cause = 'CANCELLED_BY_ADMIN' OR cause = 'EXPIRED' OR cause = 'LEASE_EXPIRED' OR cause = 'MINER_LEFT')",
            name="cause",
        ),
        sa.CheckConstraint(
            "(status = 'completed' OR status = 'failed' OR status = 'cancelled') = (finished_at_ms IS NOT NULL)",
            name="ended",
        ),
        sa.CheckConstraint("(status = 'completed') = (receipt_id <> '')", name="completed_has_a_receipt"),
        sa.CheckConstraint(
            "(status = 'pending' OR status = 'running' OR status = 'completed' OR status = 'failed' OR status = 'cancelled')",
            name="status",
        ),
        sa.CheckConstraint("(status = 'running') = (lease_id <> '')", name="running_has_a_lease"),
        sa.CheckConstraint("queued = 0 OR status = 'pending'", name="queued_is_pending"),
        sa.CheckConstraint("held_units >= 0 AND max_price_units >= 0 AND price_units >= 0", name="money"),
        sa.CheckConstraint("price_units <= held_units", name="price_within_hold"),
        sa.ForeignKeyConstraint(
            ["client_id"],
            ["accounts.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_jobs_client", "jobs", ["client_id", "id"], unique=False)
    op.create_index(
        "ix_jobs_expiry",
        "jobs",
        ["expires_at_ms", "id"],
        unique=False,
        sqlite_where=sa.text("status = 'pending'"),
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        "ix_jobs_held_by",
        "jobs",
        ["miner_id", "id"],
        unique=False,
        sqlite_where=sa.text("status = 'running'"),
        postgresql_where=sa.text("status = 'running'"),
    )
    op.create_index(
        "ix_jobs_lease",
        "jobs",
        ["lease_expires_at_ms", "id"],
        unique=False,
        sqlite_where=sa.text("status = 'running'"),
        postgresql_where=sa.text("status = 'running'"),
    )
    op.create_index(
        "ix_jobs_open",
        "jobs",
        ["client_id", "status", "id"],
        unique=False,
        sqlite_where=sa.text("finished_at_ms IS NULL"),
        postgresql_where=sa.text("finished_at_ms IS NULL"),
    )
    op.create_index(
        "ix_jobs_queue",
        "jobs",
        [
            "job_type",
            "model",
            "rank",
            "id",
            "max_price_units",
            "min_memory_mb",
            "region",
            "required_miner_id",
            "excluded_miner_id",
            "excluded_until_ms",
        ],
        unique=False,
        sqlite_where=sa.text("queued = 1"),
        postgresql_where=sa.text("queued = 1"),
    )
    op.create_index(
        "ix_jobs_queue_any",
        "jobs",
        [
            "job_type",
            "rank",
            "id",
            "max_price_units",
            "min_memory_mb",
            "region",
            "required_miner_id",
            "excluded_miner_id",
            "excluded_until_ms",
        ],
        unique=False,
        sqlite_where=sa.text("queued = 1"),
        postgresql_where=sa.text("queued = 1"),
    )
    op.create_table(
        "miners",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("deregistered", sa.Integer(), nullable=False),
        sa.Column("capabilities", sa.Text(), nullable=False),
        sa.Column("job_types", sa.Text(), nullable=False),
        sa.Column("gpus", sa.Text(), nullable=False),
        sa.Column("load", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("memory_mb", sa.BigInteger(), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("registered_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_heartbeat_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "(status = 'active' OR status = 'draining' OR status = 'inactive')", name="status"
        ),
        sa.CheckConstraint("concurrency BETWEEN 1 AND 4096", name="concurrency"),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_miners_account", "miners", ["account_id", "id"], unique=False)
    op.create_index("ix_miners_status", "miners", ["status", "last_heartbeat_ms"], unique=False)
    op.create_table(
        "transfers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("debit_id", sa.Text(), nullable=False),
        sa.Column("credit_id", sa.Text(), nullable=False),
        sa.Column("amount_units", sa.BigInteger(), nullable=False),
        sa.Column("hold_id", sa.Text(), nullable=True),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "(kind = 'mint' OR kind = 'transfer' OR kind = 'hold' OR kind = 'post' OR kind = 'fee' OR kind = 'void')",
            name="kind",
        ),
        sa.CheckConstraint(
            "(kind = 'post' OR kind = 'fee' OR kind = 'void') = (hold_id IS NOT NULL)", name="settles_a_hold"
        ),
        sa.CheckConstraint("amount_units >= 0", name="amount_not_negative"),
        sa.ForeignKeyConstraint(
            ["credit_id"],
            ["accounts.id"],
        ),
        sa.ForeignKeyConstraint(
            ["debit_id"],
            ["accounts.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_transfers_credit", "transfers", ["credit_id", "id"], unique=False)
    op.create_index("ix_transfers_debit", "transfers", ["debit_id", "id"], unique=False)
    op.create_index(
        "ux_transfers_settled",
        "transfers",
        ["hold_id"],
        unique=True,
        sqlite_where=sa.text("(kind = 'post' OR kind = 'void')"),
        postgresql_where=sa.text("(kind = 'post' OR kind = 'void')"),
    )
    op.create_table(
        "job_events",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("miner_id", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "(status = 'pending' OR status = 'running' OR status = 'completed' OR status = 'failed' OR status = 'cancelled')",
            name="status",
        ),
        sa.CheckConstraint(
            "(type = 'created' OR type = 'claimed' OR type = 'requeued' OR type = 'completed' OR type = 'failed' OR type = 'cancelled' OR type = 'expired')",
            name="type",
        ),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["jobs.id"],
        ),
        sa.PrimaryKeyConstraint("job_id", "seq"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "job_requests",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["jobs.id"],
        ),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.create_table(
        "job_results",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["jobs.id"],
        ),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.create_table(
        "offers",
        sa.Column("miner_id", sa.Text(), nullable=False),
        sa.Column("job_type", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("price_units", sa.BigInteger(), nullable=False),
        sa.Column("engine", sa.Text(), nullable=False),
        sa.Column("context_length", sa.BigInteger(), nullable=False),
        sa.Column("quantisation", sa.Text(), nullable=False),
        sa.CheckConstraint("price_units >= 0", name="price_not_negative"),
        sa.ForeignKeyConstraint(
            ["miner_id"],
            ["miners.id"],
        ),
        sa.PrimaryKeyConstraint("miner_id", "job_type", "model"),
    )
    op.create_index("ix_offers_model", "offers", ["job_type", "model", "price_units"], unique=False)
    op.create_table(
        "receipts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("provider_id", sa.Text(), nullable=False),
        sa.Column("miner_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("units", sa.BigInteger(), nullable=False),
        sa.Column("price_units", sa.BigInteger(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.CheckConstraint("units >= 0 AND price_units >= 0", name="not_negative"),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["jobs.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_receipts_client", "receipts", ["client_id", "id"], unique=False)
    op.create_index("ix_receipts_provider", "receipts", ["provider_id", "id"], unique=False)
    op.create_index("ux_receipts_job", "receipts", ["job_id"], unique=True)
