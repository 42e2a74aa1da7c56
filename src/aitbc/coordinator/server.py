"""Runs the coordinator under uvicorn: a ready line, and a shutdown that keeps nobody waiting."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from types import FrameType

import structlog
import uvicorn

from aitbc.connections.limits import ConnectionLimits
from aitbc.connections.protocol import protocol_within
from aitbc.connections.server import LimitedServer
from aitbc.coordinator.api.app import create_app
from aitbc.coordinator.api.plumbing.terms import CoordinatorTerms
from aitbc.coordinator.config import Settings
from aitbc.coordinator.errors import LogRefused
from aitbc.coordinator.logs import configure_logs
from aitbc.coordinator.process.runtime import Runtime

BACKLOG = 4096
DRAIN_S = 3
"""How long requests under way may take after a signal; the whole exit stays within 5 s."""
LAST_S = 4.5
"""So long after a signal the process ends in any case."""


class StartupFailed(Exception):
    """The server could not start; the text says why."""


class _Server(LimitedServer):
    """uvicorn's server, which tells the runtime first: long polls end before connections are waited for."""

    def __init__(self, config: uvicorn.Config, runtime: Runtime, limits: ConnectionLimits) -> None:
        super().__init__(config, limits)
        self._runtime = runtime
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started:
            _announce(self)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Unlike uvicorn's, does not raise the signal again at the end: an orderly exit is a success."""
        if not self.should_exit:
            last = threading.Timer(LAST_S, _end_now)
            last.daemon = True
            last.start()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._runtime.begin_shutdown)
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True


def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT. The database must be migrated. Raises StartupFailed, LogRefused."""
    configure_logs(settings.log_level)
    listener = listen(settings)
    runtime = Runtime.open(settings)
    try:
        runtime.check_history()
    except LogRefused:
        listener.close()
        raise
    app = create_app(runtime)
    limits = ConnectionLimits(CoordinatorTerms(settings, app.dialect_at), time.monotonic)
    config = uvicorn.Config(
        app,
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        http=protocol_within(limits),
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
        server_header=False,
        date_header=True,
        backlog=BACKLOG,
        timeout_graceful_shutdown=DRAIN_S,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
    )
    server = _Server(config, runtime, limits)
    _spare_collections()
    try:
        server.run(sockets=[listener])
    finally:
        listener.close()
    if not server.started:
        raise StartupFailed("the coordinator could not start; the log above says why")


def _end_now() -> None:
    """Whatever still hangs (a disk, a thread): what was acknowledged is durable, and nothing else is owed."""
    structlog.get_logger(__name__).error("ended_at_once", after_s=LAST_S)
    os._exit(1)


def _spare_collections() -> None:
    """What is loaded by now stays for good: keep the garbage collector from looking at it again and again.

    Requests make few cycles, so whole collections may be rare, but not so rare that what strangers make of
    them stays: a million objects are a few hundred MB. Measured: a twentieth of a batch's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 5)


def listen(settings: Settings) -> socket.socket:
    """The listening socket, before anything else is opened. Raises StartupFailed for a taken port."""
    family = socket.AF_INET6 if ":" in settings.api_host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.api_host, settings.api_port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise StartupFailed(
            f"cannot listen on {settings.api_host} port {settings.api_port}: {error.strerror or error}"
        ) from error
    listener.set_inheritable(True)
    return listener


def _announce(server: uvicorn.Server) -> None:
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    sys.stdout.write(f"AITBC coordinator ready on http://{shown}:{port}\n")
    sys.stdout.flush()
