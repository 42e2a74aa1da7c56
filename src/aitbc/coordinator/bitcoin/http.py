"""One request to a source within its time and size, and the JSON of its answer. What goes wrong is a SourceError."""

import asyncio
import json
from decimal import Decimal
from typing import Any

import httpx

from aitbc.coordinator.bitcoin.source import SourceError
from aitbc.core.canonical import is_deep, refuse_constant

# As it is sent: nothing that grows when it is unpacked.
HEADERS = {"Accept-Encoding": "identity", "User-Agent": "aitbc"}
MAX_EXCERPT_CHARS = 100


class Caller:
    """Requests to one server, each in `timeout_s` seconds from its first byte to the answer's last."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._client = httpx.AsyncClient(timeout=timeout_s, trust_env=False, headers=HEADERS)

    async def call(
        self,
        method: str,
        url: str,
        most_bytes: int,
        content: bytes | None = None,
        auth: tuple[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Its status and body. SourceError says neither the URL nor the credentials, which may be secret."""
        try:
            async with asyncio.timeout(self._timeout_s):
                request = self._client.stream(method, url, content=content, auth=auth)
                async with request as response:
                    return response.status_code, await _body(response, most_bytes)
        except TimeoutError as error:
            raise SourceError(f"it did not answer within {self._timeout_s:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise SourceError(f"it cannot be asked: {type(error).__name__}") from error

    async def close(self) -> None:
        await self._client.aclose()


async def _body(response: httpx.Response, most_bytes: int) -> bytes:
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise SourceError("it packs its answers, though it was asked not to")
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) > most_bytes:
            raise SourceError(f"its answer is larger than {most_bytes} bytes")
    return bytes(body)


def parse_json(body: bytes) -> Any:
    """JSON in which no number is a float (Decimal where it is not whole). SourceError."""
    try:
        if is_deep(body):
            raise ValueError("too deep")
        return json.loads(body, parse_float=Decimal, parse_constant=refuse_constant)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise SourceError(f"its answer is no JSON: {excerpt(body)}") from error


def excerpt(body: bytes | str) -> str:
    """The beginning of what it said, safe for a log."""
    text = body[:MAX_EXCERPT_CHARS]
    shown = text.decode("ascii", "replace") if isinstance(text, bytes) else text
    return "".join(letter if " " <= letter <= "~" else "?" for letter in shown)
