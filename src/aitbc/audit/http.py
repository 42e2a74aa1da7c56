"""The coordinator as an outsider reads it: one connection kept alive, bounded answers, bounded patience."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

import httpx

from aitbc.core.numbers import read_count

TIMEOUT_S = 30.0
TRIES = 6
MAX_PAUSE_S = 60.0


class Unreachable(Exception):
    """The coordinator does not answer, or not in a way that can be read."""


class NotServed(Exception):
    """The coordinator says that there is no such thing (404)."""


class Coordinator:
    """GETs below one address. Busy or rate-limited answers are asked for again, a few times."""

    def __init__(self, url: str) -> None:
        self._reached = False
        self._client = httpx.Client(
            base_url=url.rstrip("/"),
            timeout=TIMEOUT_S,
            headers={"User-Agent": "aitbc-audit"},
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()

    def get(self, path: str, max_bytes: int) -> bytes:
        """The body. Raises NotServed, Unreachable."""
        reason = ""
        for attempt in range(TRIES):
            try:
                with self._client.stream("GET", path) as response:
                    self._reached = True
                    if response.status_code == httpx.codes.OK:
                        return _read(response, path, max_bytes)
                    status = response.status_code
                    pause_s = _pause_s(response, attempt)
            except httpx.InvalidURL as error:
                raise Unreachable(f"not an address: {error}") from error
            except httpx.HTTPError as error:
                if not self._reached:  # it is not there at all: patience is for one that went away
                    raise Unreachable(f"{self._client.base_url}: {error}") from error
                reason, pause_s, status = str(error) or type(error).__name__, 0.2 * 2**attempt, 0
            if status == httpx.codes.NOT_FOUND:
                raise NotServed(path)
            if status and status != httpx.codes.TOO_MANY_REQUESTS and status < 500:
                raise Unreachable(f"{response.url} was answered with {status}")
            reason = f"{response.url} was answered with {status}" if status else reason
            if attempt < TRIES - 1:
                time.sleep(pause_s)
        raise Unreachable(reason)


def _pause_s(response: httpx.Response, attempt: int) -> float:
    told_s = read_count(response.headers.get("Retry-After", ""))
    return 0.2 * 2**attempt if told_s is None else min(told_s, MAX_PAUSE_S)


def _read(response: httpx.Response, path: str, max_bytes: int) -> bytes:
    data = bytearray()
    for chunk in response.iter_bytes():
        data += chunk
        if len(data) > max_bytes:
            raise Unreachable(f"{path} was answered with more than {max_bytes} bytes")
    return bytes(data)
