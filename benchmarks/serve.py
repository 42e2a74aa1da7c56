"""`python -m benchmarks.serve`: the real `aitbc serve`, with two more endpoints that do nothing.

`/bench/noop` is an endpoint as FastAPI runs it; `/bench/endpoint` does the same on the program's own, faster
router. Both read a small JSON body and answer one, behind the same gateway as every other request; neither
asks for a key or touches the database. BENCH_WITHOUT_LOG leaves the log out, to measure what it costs.
"""

from __future__ import annotations

import os
from typing import Any

import aitbc.coordinator.server
from aitbc.cli.main import app as command_line
from aitbc.coordinator.api import app as application
from aitbc.coordinator.api.plumbing.gateway import Gateway
from aitbc.coordinator.chain import service as chain
from aitbc.coordinator.process.runtime import Runtime
from benchmarks.noop import NoOpAnswer, noop, own_router


def create_app(runtime: Runtime) -> Gateway:
    """The coordinator's own application, and the two endpoints."""
    gateway = application.create_app(runtime, (*application.ROUTERS, own_router))
    # FastAPI would look for the endpoint among all of the application's: that is what it is held against.
    for router in application.ROUTERS:
        gateway.app.router.routes.extend(router.documented())
    gateway.app.add_api_route("/bench/noop", noop, methods=["POST"], response_model=NoOpAnswer)
    return gateway


def leave_out_the_log() -> None:
    """Nothing is appended, so nothing is sealed: what a coordinator without a log would cost."""

    def append(*_args: Any) -> None:
        return None

    parts: Any = chain
    parts.append = append


def main() -> None:
    if os.environ.get("BENCH_WITHOUT_LOG"):
        leave_out_the_log()
    served: Any = aitbc.coordinator.server
    served.create_app = create_app
    command_line(["serve"])


if __name__ == "__main__":
    main()
