"""`python -m benchmarks.serve`: the real `aitbc serve`, with two more endpoints that do nothing.

`/bench/noop` is an endpoint as FastAPI runs it; `/bench/endpoint` does the same on the program's own, faster
router. Both read a small JSON body and answer one, behind the same gateway as every other request; neither
asks for a key or touches the database. BENCH_CORE pins the process to one processor core.
"""

from __future__ import annotations

import os
from typing import Any

import aitbc.server
from aitbc.api import app as application
from aitbc.api.gateway import Gateway
from aitbc.cli.main import app as command_line
from aitbc.runtime import Runtime
from benchmarks.noop import NoOpAnswer, noop, own_router


def create_app(runtime: Runtime) -> Gateway:
    """The coordinator's own application, and the two endpoints."""
    gateway = application.create_app(runtime)
    gateway.app.add_api_route("/bench/noop", noop, methods=["POST"], response_model=NoOpAnswer)
    return gateway


def main() -> None:
    core = os.environ.get("BENCH_CORE", "")
    if core:
        os.sched_setaffinity(0, {int(core)})
    application.ROUTERS = (*application.ROUTERS, own_router)
    served: Any = aitbc.server
    served.create_app = create_app
    command_line(["serve"])


if __name__ == "__main__":
    main()
