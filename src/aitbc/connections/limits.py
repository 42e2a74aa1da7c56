"""What strangers may take of a server before anybody knows who they are: connections, time, memory.

One `ConnectionLimits` counts for all connections of a process; `connections.protocol` asks it. What it bounds:

- connections in all and by peer. Where there are too many, one that keeps us waiting for its bytes gives way
  (half a request, or none), so that new callers always get in; connections past the limit are only told so,
  but for `/health` and `/metrics`, for which some places are kept.
- time: a head, a body, an answer that is not read, an idle connection. One look a second at all connections
  costs requests nothing.
- memory: answers that nobody reads.

Each thing refused is told to the server's `Terms`, which say too what a refusal looks like, and logged at a limited
rate. The coordinator's terms are in `api.terms`, the witness's in `witness.server`.
"""

from __future__ import annotations

import ipaddress
import resource
from collections.abc import Callable, Container
from dataclasses import dataclass
from enum import Enum, IntEnum
from itertools import islice
from typing import Any, NamedTuple, Protocol

import structlog

log = structlog.get_logger(__name__)

RESERVED = 32  # places past MAX_CONNECTIONS, for /health and /metrics
OWN_FILES = 128  # file descriptors that are not connections: databases, key files, a worker's pipes
CANDIDATES = 16  # of so many that keep us waiting longest, one of the peer with most connections gives way
LINGER_S = 1.0  # so long after a refusal its caller may read why
LOG_EVERY_S = 10.0  # a log line for each reason at most so often
IPV6_PEER_BITS = 64  # who has one IPv6 address has all of its /64


class Stage(IntEnum):
    """What a connection waits for."""

    IDLE = 0  # the first byte of a request
    HEAD = 1
    BODY = 2
    WHOLE = 3  # nothing more: the answer is being made
    REFUSED = 4  # its end


class Peer:
    """The connections of one address, and those of them that keep us waiting, the longest first."""

    __slots__ = ("connections", "name", "trusted", "waiting")

    def __init__(self, name: str, *, trusted: bool) -> None:
        self.name = name
        self.trusted = trusted
        self.connections = 0
        self.waiting: dict[Any, None] = {}


class Why(Enum):
    """Why a request is answered here and not by the application."""

    MALFORMED = "malformed"
    FRAMING = "framing"  # a body that is mostly framing
    HEAD_SIZE = "head_size"
    TIME = "time"
    BUSY = "busy"


class Answer(NamedTuple):
    """What a refusal looks like; `headers` beside Content-Length and Connection."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits as the protocol needs them: seconds, bytes, bytes a second."""

    connections: int
    connections_of_peer: int
    head_bytes: int
    headers: int
    pipelined: int
    head_s: float
    body_s: float
    answer_s: float
    idle_s: float
    rate: float
    discarded_bytes: int
    unsent_bytes: int


class Terms(Protocol):
    """What differs from server to server."""

    @property
    def bounds(self) -> Bounds:
        """The limits."""

    @property
    def trusted(self) -> Container[str]:
        """Addresses of proxies: their connections are not bounded by peer."""

    @property
    def always_open(self) -> Container[bytes]:
        """Paths that the places past the last are kept for."""

    def answer(self, why: Why, target: bytes) -> Answer:
        """What who is refused is told. `target`: what was asked for, b"" where it did not come so far."""

    def opened(self, connections: int) -> None:
        """Hears how many connections are open now."""

    def refused(self, reason: str) -> None:
        """Hears of each thing refused."""


class Reports:
    """Logs the first refusal of each reason and then how many there were."""

    def __init__(self) -> None:
        self._logged_at: dict[str, float] = {}
        self._more: dict[str, int] = {}

    def refused(self, reason: str, peer: str, now: float) -> None:
        count = self._more.pop(reason, 0) + 1
        if now - self._logged_at.get(reason, -LOG_EVERY_S) < LOG_EVERY_S:
            self._more[reason] = count
            return
        self._logged_at[reason] = now
        log.warning("refused", reason=reason, last_peer=peer, count=count)


class ConnectionLimits:
    """The connections of one server, each a `LimitedProtocol`."""

    def __init__(self, terms: Terms, now: Callable[[], float], files: int | None = None) -> None:
        self.terms = terms
        self.now = now
        self.reports = Reports()
        self.bounds = terms.bounds
        self.most = connections_possible(self.bounds.connections, files)
        self.most_of_peer = self.bounds.connections_of_peer
        self.trusted = terms.trusted
        self.connections: dict[Any, None] = {}
        self._peers: dict[str, Peer] = {}
        self._waiting: dict[Any, None] = {}  # those that keep us waiting, the longest first
        self._refused: set[Any] = set()
        self._unsent: dict[Any, int] = {}  # bytes of answers that are not read yet, by connection
        self._unsent_bytes = 0
        self._forwarded: dict[str, int] = {}

    # --- connections ------------------------------------------------------------------------------------

    def admit(self, connection: Any, address: str) -> tuple[Peer, bool] | None:
        """The connection's peer, and whether it has one of the reserved places; None: no place at all."""
        name = peer_name(address)
        peer = self._peers.get(name)
        if peer is None:
            peer = self._peers[name] = Peer(name, trusted=address in self.trusted)
        if peer.connections >= self.most_of_peer and not peer.trusted:
            if not peer.waiting:
                self.report("connections_of_peer", name)
                return None
            self._give_way(next(iter(peer.waiting)), "connections_of_peer")
        reserved = False
        if len(self.connections) >= self.most:
            victim = self._victim()
            if victim is not None:
                self._give_way(victim, "connections")
            else:
                reserved = True
                if len(self.connections) >= self.most + RESERVED:
                    self.report("connections", name)
                    if not peer.connections:
                        del self._peers[name]
                    return None
        peer.connections += 1
        self.connections[connection] = None
        self.terms.opened(len(self.connections))
        self.waits(connection, peer)
        return peer, reserved

    def leave(self, connection: Any, peer: Peer) -> None:
        """The connection has ended, or is about to: it counts no more. May be called twice."""
        if connection not in self.connections:
            return
        del self.connections[connection]
        self.terms.opened(len(self.connections))
        self.works(connection, peer)
        self._refused.discard(connection)
        self._unsent_bytes -= self._unsent.pop(connection, 0)
        peer.connections -= 1
        if not peer.connections and self._peers.get(peer.name) is peer:
            del self._peers[peer.name]

    def waits(self, connection: Any, peer: Peer) -> None:
        """From here on the connection keeps us waiting for its bytes."""
        self._waiting[connection] = peer.waiting[connection] = None

    def works(self, connection: Any, peer: Peer) -> None:
        """From here on the connection has all that we need from it."""
        self._waiting.pop(connection, None)
        peer.waiting.pop(connection, None)

    def lingers(self, connection: Any) -> None:
        """The connection was refused; `sweep` ends it a moment later."""
        self._refused.add(connection)

    def _victim(self) -> Any | None:
        candidates = list(islice(self._waiting, CANDIDATES))
        return max(candidates, key=lambda one: one.peer.connections, default=None)

    def _give_way(self, connection: Any, reason: str) -> None:
        self.report(reason, connection.peer.name)
        self.leave(connection, connection.peer)
        connection.cut()

    def report(self, reason: str, peer: str) -> None:
        self.terms.refused(reason)
        self.reports.refused(reason, peer, self.now())

    # --- requests by forwarded address ------------------------------------------------------------------

    def enter_forwarded(self, address: str) -> bool:
        """Counts a request that a trusted proxy forwards for `address`. False: it has too many under way."""
        name = peer_name(address)
        under_way = self._forwarded.get(name, 0)
        if under_way >= self.most_of_peer:
            self.report("connections_of_peer", name)
            return False
        self._forwarded[name] = under_way + 1
        return True

    def leave_forwarded(self, address: str) -> None:
        name = peer_name(address)
        under_way = self._forwarded.pop(name, 0) - 1
        if under_way > 0:
            self._forwarded[name] = under_way

    # --- answers ----------------------------------------------------------------------------------------

    def unsent(self, connection: Any, size: int) -> None:
        """So many bytes of answers wait for this connection's reader. Where all have too many, the oldest goes."""
        if connection not in self.connections:
            return
        before = self._unsent.get(connection, 0)
        self._unsent_bytes += size - before
        if size:
            self._unsent[connection] = size  # keeps its place
        elif before:
            del self._unsent[connection]
        while self._unsent_bytes > self.bounds.unsent_bytes and self._unsent:
            self._give_way(next(iter(self._unsent)), "answers_size")

    # --- time -------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """One look at all connections; to be called about once a second."""
        now, bounds = self.now(), self.bounds
        for connection in list(self._refused):
            if now - connection.since > LINGER_S:
                self.leave(connection, connection.peer)
                connection.cut()
        for connection in list(self._waiting):
            stage, waited_s = connection.stage, now - connection.since
            if stage == Stage.IDLE:
                if waited_s > (bounds.idle_s if connection.served else bounds.head_s):
                    connection.close_idle()
            elif stage == Stage.HEAD:
                if waited_s > bounds.head_s:
                    connection.refuse("head_time", Why.TIME)
            elif connection.flow.read_paused:
                connection.since = now  # it is we who do not read
            elif stage == Stage.BODY and waited_s > bounds.body_s + connection.body_bytes / bounds.rate:
                connection.refuse("body_time", Why.TIME)
        for connection in list(self.connections):
            self._look_at_answer(connection, now)

    def _look_at_answer(self, connection: Any, now: float) -> None:
        size = connection.transport.get_write_buffer_size()
        before = self._unsent.get(connection, 0)
        self.unsent(connection, size)
        if not size:
            return
        if not before:
            connection.unread_since, connection.read_bytes = now, 0
        connection.read_bytes += max(0, before - size)
        allowed_s = self.bounds.answer_s + connection.read_bytes / self.bounds.rate
        if now - connection.unread_since > allowed_s:
            self._give_way(connection, "answer_time")


def peer_name(address: str) -> str:
    """Who an address counts as: itself, or its /64."""
    if ":" not in address:
        return address
    try:
        network = ipaddress.IPv6Network((address.partition("%")[0], IPV6_PEER_BITS), strict=False)
    except ValueError:
        return address[:64]
    mapped = ipaddress.IPv6Address(address.partition("%")[0]).ipv4_mapped
    return str(mapped or network.network_address)


def connections_possible(wanted: int, files: int | None = None) -> int:
    """MAX_CONNECTIONS, or what the process's limit of open files leaves room for. Raises that limit if it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + RESERVED + OWN_FILES
    if files is not None:
        soft = files
    elif soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    possible = max(1, soft - RESERVED - OWN_FILES)
    log.warning("connections_limited", max_connections=wanted, possible=possible, open_files=soft)
    return possible
