"""Signals between coordinators on one PostgreSQL database, by NOTIFY.

Who listens holds a shared advisory lock, and says hello when it begins. So a coordinator that is alone, as
most are, knows that it is, and sends nothing: a NOTIFY is a transaction of its own.
"""

import json
import threading
import time
import uuid
import weakref
from collections.abc import Iterator
from typing import Any

import psycopg
import structlog

from aitbc.coordinator.database.patience import PatientConnection, cut
from aitbc.coordinator.database.signals import Signals

log = structlog.get_logger(__name__)

CHANNEL = "aitbc"
NOTIFY_BYTES = 7000  # PostgreSQL refuses payloads of 8000 bytes and more
LISTENING = int.from_bytes(b"hear", "big")
END_S = 0.3  # so long the end waits for each of its threads
LOOK_S = 5.0  # how often it looks whether others are still there
OTHERS = (
    "SELECT count(*) > 1 FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND classid = 0"
    f" AND objid = {LISTENING} AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


class Notices:
    """One coordinator's two ends of the channel, each a thread with a connection of its own."""

    def __init__(self, url: str, signals: Signals) -> None:
        self._url = url
        self._signals = signals
        self._name = uuid.uuid4().hex
        self._outgoing: list[Any] = []
        self._more = threading.Condition()
        self._others = False  # whether another coordinator listens
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._given_up = threading.Event()
        self._connections: weakref.WeakSet[PatientConnection] = weakref.WeakSet()

    def start(self) -> None:
        for act, name in ((self._listen, "listen"), (self._send, "tell")):
            thread = threading.Thread(target=act, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def publish(self, signals: list[Any]) -> None:
        """Tells the other coordinators, where there are any, without making this caller wait."""
        if self._others:
            with self._more:
                self._outgoing.extend(signals)
                self._more.notify()

    def close(self) -> None:
        with self._more:
            self._closed = True
            self._more.notify()
        self._given_up.set()
        for connection in list(self._connections):
            cut(connection)
        for thread in self._threads:
            thread.join(END_S)  # they hold nothing: the program's end may overtake them

    def _connect(self) -> PatientConnection:
        connection = PatientConnection.reach(
            self._url, given_up=self._given_up, autocommit=True, application_name="aitbc signals"
        )
        self._connections.add(connection)
        if self._closed:
            cut(connection)
        connection.execute("SET synchronous_commit = off")  # hints need not survive anything
        return connection

    # --- sending ----------------------------------------------------------------------------------------

    def _send(self) -> None:
        while not self._closed:
            try:
                with self._connect() as connection:
                    while signals := self._taken():
                        for chunk in chunks(signals):
                            self._notify(connection, chunk)
            except psycopg.Error as error:
                if not self._closed:  # waiters look again by themselves
                    log.warning("signals_not_sent", error=str(error).splitlines()[0])
                    time.sleep(1)

    def _taken(self) -> list[Any]:
        """What is to be sent, once there is something; nothing at the end."""
        with self._more:
            while not self._outgoing and not self._closed:
                self._more.wait()
            signals, self._outgoing = self._outgoing, []
            return signals

    def _notify(self, connection: psycopg.Connection[Any], signals: list[Any]) -> None:
        payload = json.dumps([self._name, signals], separators=(",", ":"))
        connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, payload))

    # --- hearing ----------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Hears the other coordinators' signals, and reconnects when cut off."""
        while not self._closed:
            try:
                with self._connect() as connection:
                    connection.execute("SELECT pg_advisory_lock_shared(%s::bigint)", (LISTENING,))
                    connection.execute(f"LISTEN {CHANNEL}")
                    self._notify(connection, [])
                    self._hear_all(connection)
            except psycopg.Error as error:
                if not self._closed:
                    log.warning("listener_reconnects", error=str(error).splitlines()[0])
                    time.sleep(1)

    def _hear_all(self, connection: psycopg.Connection[Any]) -> None:
        looked = -LOOK_S
        while not self._closed:
            if time.monotonic() - looked > LOOK_S:
                looked = time.monotonic()
                row = connection.execute(OTHERS).fetchone()
                self._others = bool(row and row[0])
            for note in connection.notifies(timeout=0.5):
                if self._closed:
                    return
                self._hear(note.payload)

    def _hear(self, payload: str) -> None:
        try:
            sender, signals = json.loads(payload)
            if sender != self._name:
                self._others = True
                self._signals.post([tuple(signal) for signal in signals])
        except (TypeError, ValueError):  # somebody else's, or of another version: signals are only hints
            log.warning("signal_not_understood", bytes=len(payload))


def chunks(signals: list[Any]) -> Iterator[list[Any]]:
    """Parts that fit into a notification each."""
    chunk: list[Any] = []
    size = 0
    for signal in signals:
        length = len(json.dumps(signal)) + 2
        if chunk and size + length > NOTIFY_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(signal)
        size += length
    if chunk:
        yield chunk
