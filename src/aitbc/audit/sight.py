"""What the operator's audit cannot see in the database, and why: every column that may be changed unnoticed.

docs/audit.md shows this list. `tests/audit/test_sight.py` changes every column of every table, takes rows away and adds
some: what the audit does not find has to stand here, and what stands here has to be missed. So a new column is
either recomputed by the audit or gets a line with its reason.
"""

ALL = "*"  # the whole table
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

OUTSIDE: dict[str, dict[str, str]] = {
    "account_activity": {
        "marked": "up to where it was looked for balances to mark; the marks are recomputed"
    },
    "accounts": {"created_at_ms": DATE},
    "api_keys": {ALL: "secrets and limits, which only their owner knows"},
    "balance_marks": {REMOVED: "a statement adds up from the mark before it"},
    "cosignatures": {
        "at_ms": "when the line came; the witness's own time is in the line",
        REMOVED: "of older blocks: the newest block's lines, which a policy's quorum asks for, stand for all before",
    },
    "counters": {
        "value": "of `closed`: up to when statements were read; what is booked later bears no earlier time",
        REMOVED: "of `closed`: as if no statement had been read yet",
    },
    "free_jobs": {ALL: "how many jobs of an account paid for nothing, kept for two days"},
    "idempotent_answers": {ALL: "answers that are kept for a day"},
    "job_events": {"actor": TRY, "at_ms": TRY, "cause": TRY},
    "job_requests": {REMOVED: ERASED},
    "job_results": {REMOVED: ERASED},
    "jobs": {
        "attempts": "how often it was tried, without what was not the miner's fault; its events have every claim",
        "excluded": "who failed it before, and gets it last; its events name them",
        "expires_at_ms": "moved with the clock's jumps",
        "key_id": "which of the client's keys submitted it",
        "lease_expires_at_ms": LEASE,
        "lease_id": LEASE,
        "max_run_ms": LEASE,
        "message": "what a miner said about a failure",
        "min_context": WISH,
        "min_memory_mb": WISH,
        "miner_session": LEASE,
        "paid_run_ms": LEASE_PROGRESS,
        "progress_ms": LEASE_PROGRESS,
        "progress_tokens": LEASE_PROGRESS,
        "rank": WISH,
        "region": WISH,
        "required_miner_id": WISH,
        "review_at_ms": "when a job that nobody fits is looked at again",
        "run_ends_at_ms": LEASE,
        "spend_period_ms": "for a key's spending limit, which is outside too",
        "unit_price_units": "of a run without a receipt: the miner's ask at its claim",
    },
    "login_challenges": {ALL: "texts that wallets are asked to sign, good for minutes"},
    "miners": {ALL: OWN_WORD},
    "network": {"id": "always 1, and nothing refers to it"},
    "offers": {ALL: OWN_WORD},
    "parameters": {ALL: "what is in force now; the fee that was in force stands in each receipt"},
    "payments": {"id": "of one that waits for its escrow: its hold will have the same id"},
    "providers": {
        ALL: "how far a miner's account is trusted with work; no money but its deposit, which is a hold"
    },
    "sessions": {ALL: "logins, which only their owner knows"},
    "shared_secrets": {ALL: "secrets of the coordinators"},
    "users": {"created_at_ms": DATE, "last_login_ms": DATE},
}
