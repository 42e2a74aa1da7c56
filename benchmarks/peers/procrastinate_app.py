"""A Procrastinate application on PostgreSQL whose task does nothing. BENCH_POSTGRES is the database's URL."""

from __future__ import annotations

import os

from procrastinate import App, PsycopgConnector

CONCURRENCY = 32

app = App(connector=PsycopgConnector(conninfo=os.environ["BENCH_POSTGRES"], min_size=4, max_size=CONCURRENCY))


@app.task
async def answer(prompt: str) -> str:
    return f"An answer to {prompt}"
