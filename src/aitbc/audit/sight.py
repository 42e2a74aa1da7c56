"""What the operator's audit cannot see in the database, and why: every column that may be changed unnoticed.

docs/audit.md shows this list. `tests/audit/test_sight.py` changes every column of every table, takes rows away and adds
some: what the audit does not find has to stand here, and what stands here has to be missed. So a new column is
either recomputed by the audit or gets a line with its reason.
"""

ADDED = "a row added"
REMOVED = "a row removed"

WISH = "the client's wish, which decided who got the job and is not repeated"
LEASE = "of a run that goes on, or of the last one: nobody's money hangs on it"
LEASE_PROGRESS = "the miner's word while it runs; what a cancelled run is paid by is recomputed from it"
OWN_WORD = "the miner's word about itself, until it registers again; receipts have the key that signed for it"
TRY = "of a try that was given up: the next try and the end are held to the job"
ERASED = (
    "erased after JOB_RETENTION_DAYS, so an ended job may lack it; of a job that waits or runs it is missed"
)
DATE = "a date that nothing repeats"
OWNER = "the owner's or the operator's word about a key"
FEWER = (
    "fewer than the receipts say: it is halved now and then, and older than the count may be what was done"
)
NODE = "what a Bitcoin node says: ask one; the credits that came of it are recomputed"
WATCH = "how far the Bitcoin chain was looked at; with another value it is looked at again"
TRUST = "how far a miner is trusted with work after failures, which are not counted for good; no money"

NOT_ENDED = "of a booking that has not ended; its leaf says it from then on"
OFFER = "the owner's word about its GPU; a booking's price and miner are in its leaf"

OUTSIDE: dict[str, dict[str, str]] = {
    "account_activity": {
        "marked": "up to where it was looked for balances to mark; the marks are recomputed"
    },
    "accounts": {"created_at_ms": DATE},
    "api_keys": {
        "account_id": "of a key that has submitted nothing: its jobs say whose it is",
        "created_at_ms": DATE,
        "expires_at_ms": OWNER,
        "id": "of a key that counts against no limit",
        "label": OWNER,
        "limit_period": "of a key that has spent nothing, or on the first day of a month: both begin there",
        "limit_units": f"{OWNER}; what counts against it is counted again",
        "period_start_ms": "of a key without a limit",
        "previous_expires_at_ms": OWNER,
        "previous_hash": OWNER,
        "revoked_at_ms": OWNER,
        "role": OWNER,
        "secret_hash": OWNER,
        ADDED: OWNER,
        REMOVED: OWNER,
    },
    "balance_marks": {
        "low_units": "NULL, as of marks from before it was kept: it is added up again where it is asked for",
        REMOVED: "a statement adds up from the mark before it",
    },
    "bitcoin_blocks": dict.fromkeys(("hash", "height", ADDED, REMOVED), WATCH),
    "bitcoin_outputs": {
        "id": "of one that was never credited",
        **dict.fromkeys(("coinbase", "gone", "hash", "height", "late", "lost_height", ADDED, REMOVED), NODE),
        "final": WATCH,
        "forgiven": "the operator's word; what is owed is in the log",
        "sat": "of one that was never credited",
        "seen_at_ms": DATE,
        "topup_id": "of one that was never credited",
    },
    "bitcoin_watch": dict.fromkeys(
        (
            "genesis",
            "hash",
            "height",
            "id",
            "scanned_height",
            "scanned_number",
            "version",
            "whole_ms",
            ADDED,
            REMOVED,
        ),
        WATCH,
    ),
    "cosignatures": {
        "at_ms": "when the line came; the witness's own time is in the line",
        REMOVED: "of older blocks: the newest block's lines, which a policy's quorum asks for, stand for all before",
    },
    "bookings": {
        "clearing": "whether jobs of a booking that has ended are looked for again",
        "counted_until_ms": "the latest heartbeat that was counted",
        "end_ms": f"{NOT_ENDED}; by less than a minute",
        "key_id": "of a key without a limit",
        "miner_id": NOT_ENDED,
        "model_key": "of its GPU when it was booked, which its owner may say anew",
        "opened": "of one that ended without having been used",
        "spend_period_ms": "of a key without a limit",
        "start_ms": f"{NOT_ENDED}; by less than a minute",
        "up_ms": "how long coordinators had run when it began, which nothing repeats",
        "used_ms": NOT_ENDED,
    },
    "counters": {
        "value": "of `closed`: up to when statements were read; what is booked later bears no earlier time",
        REMOVED: "of `closed`: as if no statement had been read yet",
    },
    "free_jobs": {
        "jobs": "fewer than there were: such a row may be younger than its day",
        REMOVED: "kept for two days",
    },
    "gpus": {
        **dict.fromkeys(
            (
                "capabilities",
                "cards",
                "cuda_version",
                "description",
                "memory_mb",
                "miner_id",
                "price_units",
                "region",
            ),
            OFFER,
        ),
        "promised_ms": "by less than what changes its reliability",
        "registered_at_ms": DATE,
        "state": "available or offline, as its miner's heartbeats have it",
        "updated_at_ms": DATE,
    },
    "idempotent_answers": dict.fromkeys(
        ("body", "created_at_ms", "key", "request_hash", "scope", "status", ADDED, REMOVED),
        "an answer that is kept for a day, to be given again to who asks again",
    ),
    "job_events": {"actor": TRY, "at_ms": TRY, "cause": TRY},
    "job_requests": {REMOVED: ERASED},
    "job_results": {REMOVED: ERASED},
    "jobs": {
        "attempts": "how often it was tried, without what was not the miner's fault; its events have every claim",
        "completion_bound": "of a job that a booking pays for: nothing is held for it",
        "excluded": "who failed it before, and gets it last; its events name them",
        "expires_at_ms": "moved with the clock's jumps",
        "key_id": "which of the client's keys submitted it",
        "lease_expires_at_ms": LEASE,
        "lease_id": LEASE,
        "lease_ms": LEASE,
        "max_run_ms": LEASE,
        "max_price_units": "by less than what changes the hold that was rounded up from it",
        "message": "what a miner said about a failure",
        "min_context": WISH,
        "min_memory_mb": WISH,
        "miner_session": LEASE,
        "paid_run_ms": LEASE_PROGRESS,
        "progress_ms": LEASE_PROGRESS,
        "progress_tokens": LEASE_PROGRESS,
        "prompt_bound": "of a job that a booking pays for: nothing is held for it",
        "rank": WISH,
        "region": WISH,
        "required_miner_id": WISH,
        "review_at_ms": "when a job that nobody fits is looked at again",
        "run_ends_at_ms": LEASE,
        "spend_period_ms": "for a key's spending limit, which is outside too",
        "unit_price_units": "of a run without a receipt: the miner's ask at its claim",
    },
    "leaves": {
        "seq": "the order in which leaves wait for their block; from then on their place stands for it"
    },
    "login_challenges": dict.fromkeys(
        ("address", "expires_at_ms", "message", "nonce", "used_at_ms", ADDED, REMOVED),
        "a text that a wallet has signed to log in; kept for minutes, so that it is good once",
    ),
    "miners": {
        "account_id": "of one that has answered nothing: its receipts say whose it is",
        **dict.fromkeys(
            (
                "address",
                "capabilities",
                "concurrency",
                "deregistered",
                "endpoint",
                "gpus",
                "installation_id",
                "job_types",
                "load",
                "memory_mb",
                "public_key",
                "region",
                "revision",
                "session_id",
                "status",
            ),
            OWN_WORD,
        ),
        **dict.fromkeys(("delivered", "run_ms", "units"), FEWER),
        **dict.fromkeys(("failed", "paused_until_ms", "strikes"), TRUST),
        **dict.fromkeys(
            ("away_ms", "lapsed_at_ms", "promised_ms", "served_ms", "up_ms"),
            "when it was heard of, and by less what it kept of bookings: its reputation, no money",
        ),
        "last_heartbeat_ms": DATE,
        "registered_at_ms": DATE,
        ADDED: "anybody may register one; it has done nothing yet",
    },
    "miner_failures": dict.fromkeys(
        ("cause", "count", ADDED, REMOVED), "why its tries failed, which are not counted for good"
    ),
    "network": {"id": "always 1, and nothing refers to it"},
    "offers": dict.fromkeys(
        (
            "context_length",
            "engine",
            "job_type",
            "model",
            "name",
            "price_units",
            "quantisation",
            ADDED,
            REMOVED,
        ),
        OWN_WORD,
    ),
    "payments": {"id": "of one that waits for its escrow: its hold will have the same id"},
    "proposals": {
        "deposit_key_id": "of a key without a limit, against which nothing counts",
        "deposit_period_ms": "of a key without a limit",
        "due_ms": "of one that is queued: when it is tried again",
        "reason": "why it could not be executed when that was last tried",
    },
    "providers": {
        **dict.fromkeys(("allowance", "approval", "paused_until_ms", "strikes"), TRUST),
        "delivered": FEWER,
    },
    "reviews": {
        "created_at_ms": DATE,
        "id": "nothing refers to it",
        "text": "its author's word",
        "updated_at_ms": DATE,
    },
    "sessions": dict.fromkeys(
        ("created_at_ms", "expires_at_ms", "id", "revoked_at_ms", "token_hash", "user_id", ADDED, REMOVED),
        "a login, which only its owner knows",
    ),
    "shared_secrets": dict.fromkeys(
        ("created_at_ms", "name", "value", ADDED, REMOVED),
        "a secret of the coordinators, from which the codes of login texts are made",
    ),
    "topups": {
        "account_id": "of one for which nothing was credited",
        "ait_units": "by less than a satoshi is worth",
        "asked_ms": WATCH,
        "created_at_ms": DATE,
        "exception": "of one for which something is on its way",
        "expires_at_ms": DATE,
        "id": "of one for which nothing arrived",
        "lock_over": "of one for which something arrived: outputs say themselves whether they came late",
        "looked_height": WATCH,
        "number": "of two that have not both an address of their own, as long as each is another",
        "rate_units": "of one for which nothing was credited, by less than changes its price",
        "state": "of one for which something is on its way",
        "told_by_sat": "nothing: its amount on the common address may be another's by now",
        "updated_at_ms": DATE,
    },
    "users": {"created_at_ms": DATE, "last_login_ms": DATE},
}
