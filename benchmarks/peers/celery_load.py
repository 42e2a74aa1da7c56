"""`python -m benchmarks.peers.celery_load TASKS IN_FLIGHT`: whole Celery tasks per second, as JSON.

A whole task: sent, run by the worker, its result received here.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque

from benchmarks.peers.celery_app import answer

TIMEOUT_S = 30


def measure(tasks: int, in_flight: int) -> float:
    """Keeps `in_flight` tasks under way until `tasks` are done; tasks per second."""
    pending = deque(answer.delay("prompt") for _ in range(min(in_flight, tasks)))
    sent = len(pending)
    started = time.perf_counter()
    done = 0
    while pending:
        pending.popleft().get(timeout=TIMEOUT_S)
        done += 1
        if sent < tasks:
            pending.append(answer.delay("prompt"))
            sent += 1
    return done / (time.perf_counter() - started)


if __name__ == "__main__":
    count, flight = int(sys.argv[1]), int(sys.argv[2])
    measure(max(10, count // 10), flight)
    print(json.dumps({"per_s": measure(count, flight)}))
