"""A Celery application on Redis whose task does nothing. BENCH_REDIS is the server's URL.

`task_acks_late`: a task that a killed worker had is run again, which is what AITBC's leases do. Everything
else is as Celery comes; results are kept in the same Redis, since a whole task includes its result.
"""

from __future__ import annotations

import os

from celery import Celery

URL = os.environ["BENCH_REDIS"]
app = Celery("benchmarks.peers.celery_app", broker=URL, backend=URL)
app.conf.task_acks_late = True
app.conf.broker_connection_retry_on_startup = True


@app.task
def answer(prompt: str) -> dict[str, str]:
    return {"text": f"An answer to {prompt}"}
