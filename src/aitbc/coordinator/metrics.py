"""The process's Prometheus metrics. Anything above `core` may import them; `/metrics` shows them.

Gauges that describe the database (queue, miners) are set when they are asked for, not when they change.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

# Without this every counter would come with a `_created` series that says nothing new.
disable_created_metrics()

API_REQUESTS = Counter(
    "api_requests_total", "HTTP requests by method, route and status.", ("method", "path", "status")
)
API_REQUEST_DURATION = Histogram(
    "api_request_duration_seconds",
    "Time from a request's arrival to its answer, long polls' waiting left out.",
    ("method", "path"),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
ACTIVE_JOBS = Gauge("active_jobs", "Jobs that are pending or running.")
REGISTERED_MINERS = Gauge("registered_miners", "Miners that have registered and not left.")

ACTIVE_MINERS = Gauge("aitbc_active_miners", "Miners that take jobs now.")
RUNNING_JOBS = Gauge("aitbc_running_jobs", "Jobs that a miner holds now.")
QUEUE_DEPTH = Gauge("aitbc_queue_depth", "Jobs that wait for a miner.")
QUEUE_AGE = Gauge("aitbc_queue_age_seconds", "How long the oldest waiting job has waited.")
WAITING_POLLS = Gauge("aitbc_waiting_polls", "Long polls that are open now.")
DISPATCH_LATENCY = Histogram(
    "aitbc_dispatch_latency_seconds",
    "Time from a job's submission to its first claim.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 30, 300),
)
LEASE_EXPIRIES = Counter(
    "aitbc_lease_expiries_total", "Leases that ended without a result, by cause.", ("cause",)
)
JOBS_ENDED = Counter("aitbc_jobs_ended_total", "Jobs that ended, by status.", ("status",))
BOOKINGS_ENDED = Counter(
    "aitbc_bookings_ended_total",
    "Bookings of GPUs that time ended, by outcome: ran_out, no_show or cancelled.",
    ("outcome",),
)
WRITER_BATCH_SIZE = Histogram(
    "aitbc_writer_batch_size", "Writes that shared one commit.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
BLOCKS_SEALED = Counter("aitbc_blocks_sealed_total", "Blocks that this coordinator sealed.")
COSIGNATURES = Counter(
    "aitbc_cosignatures_total",
    "Answers of witnesses asked to cosign, by witness and outcome.",
    ("witness", "outcome"),
)
BITCOIN_LOOKS = Counter(
    "aitbc_bitcoin_looks_total",
    "Looks at the Bitcoin chain, by source and outcome: done, began, behind (nothing new to say), another (coordinator"
    " was first) or failed.",
    ("source", "outcome"),
)
BITCOIN_HEIGHT = Gauge("aitbc_bitcoin_height", "The last Bitcoin block that this coordinator looked at.")
BITCOIN_AGE = Gauge(
    "aitbc_bitcoin_age_seconds",
    "Since the Bitcoin chain and its mempool were last looked at; 0: no exchange.",
)
OPEN_TOPUPS = Gauge("aitbc_open_topups", "Top-ups whose rate is still locked.")
UNCREDITED_OUTPUTS = Gauge(
    "aitbc_uncredited_outputs", "Bitcoin outputs that pay us and no top-up: an operator says whose they are."
)
OWED_OUTPUTS = Gauge(
    "aitbc_owed_outputs",
    "Bitcoin outputs whose credit was taken back after a reorganisation, but not in full.",
)
LOOP_ROUNDS = Counter(
    "aitbc_loop_rounds_total",
    "Rounds of the background loops, by outcome: done, failed, or waits (for the clock, or the log is refused).",
    ("loop", "outcome"),
)
LOOP_ROUND = Gauge("aitbc_loop_round_seconds", "How long a background loop's last round took.", ("loop",))
RATE_LIMITED = Counter("aitbc_rate_limited_total", "Requests refused by a rate limit, by limit.", ("limit",))
CONNECTIONS = Gauge("aitbc_connections", "Connections that are open now.")
REFUSED = Counter(
    "aitbc_refused_total",
    "Connections and requests that a limit of the server refused or ended, by reason.",
    ("reason",),
)
