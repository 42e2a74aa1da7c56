"""The least client that can be told exactly what was acknowledged: one connection, retried until it is."""

from __future__ import annotations

import http.client
import json
import time
from typing import Any
from urllib.parse import urlsplit

GIVE_UP_S = 60.0


class NotAnswered(Exception):
    """Nobody answered for `GIVE_UP_S`, or the caller has stopped."""


class Wire:
    """JSON over one kept connection. `stopped()` ends the retries of a load that is over."""

    def __init__(self, url: str, key: str, stopped: Any = lambda: False) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._address = parts.hostname, parts.port
        self._headers = {"X-Api-Key": key, "Content-Type": "application/json"}
        self._stopped = stopped
        self._connection: http.client.HTTPConnection | None = None
        self.broken = 0

    def once(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """One try. OSError or HTTPException where the connection broke before the whole answer was there."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection(*self._address, timeout=20)
        try:
            data = None if body is None else json.dumps(body)
            self._connection.request(method, path, data, {**self._headers, **headers})
            reply = self._connection.getresponse()
            return reply.status, json.loads(reply.read() or b"null")
        except (OSError, http.client.HTTPException, ValueError):
            self.close()
            raise

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """The answer, however often the request has to be sent for it; 503 is no answer."""
        until = time.monotonic() + GIVE_UP_S
        while time.monotonic() < until:
            try:
                status, answer = self.once(method, path, body, **headers)
                if status != 503:
                    return status, answer
            except (OSError, http.client.HTTPException, ValueError):
                self.broken += 1
            if self._stopped():
                break
            time.sleep(0.05)
        raise NotAnswered(f"{method} {path}")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
