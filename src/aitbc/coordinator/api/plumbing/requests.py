"""A request as endpoints see it: its body read strictly and within its limit, its caller, its deadline."""

import hashlib
import re
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from aitbc.coordinator.api.plumbing.errors import ClientGone, field_errors
from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.errors import BodyTooLarge, InvalidRequest, ServerBusy
from aitbc.coordinator.idempotency.service import IdempotencyKey
from aitbc.coordinator.metrics import REFUSED
from aitbc.coordinator.process.runtime import Runtime
from aitbc.core.canonical import NumberRefused, loads_strict
from aitbc.core.json_size import refuse_too_many_values

_IDEMPOTENCY_KEY = re.compile(rb"[\x21-\x7e]{1,255}")
_ESCAPES = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)|(?P<control>[\x00-\x08\x0b\x0c\x0e-\x1f])",
    re.DOTALL,
)


MAX_JSON_VALUES = 500_000
"""A body may have so many values: a thousand embeddings of 384 numbers, a few hundred bytes of memory each."""
SMALL_BODY_BYTES = 65_536
"""Bodies of no more are not counted: as many may be held as connections may be open."""
CALLERS_SHARE = 4
"""One caller may hold this part of what all may hold."""


class HeldBodies:
    """How many bytes of bodies the requests under way hold, in all and by caller."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.total_bytes = 0
        self._by_caller: dict[str, int] = {}

    def take(self, caller: str, size: int) -> None:
        """Raises ServerBusy where the caller, or all together, would hold too much."""
        held = self._by_caller.get(caller, 0) + size
        if held > self.most_bytes // CALLERS_SHARE or self.total_bytes + size > self.most_bytes:
            REFUSED.labels("bodies_held").inc()
            raise ServerBusy()
        self._by_caller[caller] = held
        self.total_bytes += size

    def give_back(self, caller: str, size: int) -> None:
        self.total_bytes -= size
        held = self._by_caller.pop(caller) - size
        if held:
            self._by_caller[caller] = held


class Narrowing(NamedTuple):
    """What to `ask` for the limit of a body of more than `from_bytes`; it is told how many, as far as that is known."""

    from_bytes: int
    ask: Callable[[int], Awaitable[int]]


class ApiRequest(Request):
    """A starlette request with what our endpoints need, and without what they do not.

    `fields` are the headers by lower-case name (the last of each), as bytes. `waited_s` is the time that a
    long poll waited, kept out of the request's duration. `limit_headers` go out with the answer. `caller` is
    whose share of the held bodies this one is of: an account where it is known, else the address.
    """

    def __init__(self, scope: Scope, receive: Receive, runtime: Runtime, request_id: str) -> None:
        # Request.__init__ would only check the scope's type and set up form handling.
        self.scope = scope
        self._receive = receive
        self._send = _no_send
        self._stream_consumed = False
        self._is_disconnected = False
        self.runtime = runtime
        self.request_id = request_id
        self.fields: dict[bytes, bytes] = dict(scope["headers"])
        self.limit_headers: tuple[tuple[bytes, bytes], ...] = ()
        self.waited_s = 0.0
        self.caller = ""
        self.principal: Principal | None = None
        self.held_bytes = 0
        self._content: bytes | None = None
        self.refused_content = b""  # what was read of a body that turned out too large

    @property
    def client_address(self) -> str:
        """The caller's network address; "unknown" where the server cannot tell."""
        client = self.scope.get("client")
        return client[0] if client else "unknown"

    async def read(self, limit_bytes: int, narrowing: Narrowing | None = None) -> bytes:
        """The whole body. Raises BodyTooLarge as soon as it is known to be, ClientGone on a disconnect.

        `narrowing` may lower the limit once the body is known to be no small one.
        """
        if self._content is not None:
            return self._content
        self.check_declared(limit_bytes)
        if narrowing is not None and (declared := self.declared_bytes()) > narrowing.from_bytes:
            limit_bytes, narrowing = min(limit_bytes, await narrowing.ask(declared)), None
            self.check_declared(limit_bytes)
        message = await self._receive()
        if message["type"] != "http.request":
            raise ClientGone
        content: bytes = message.get("body", b"")
        if message.get("more_body", False):
            content, limit_bytes = await self._rest(content, limit_bytes, narrowing)
        elif len(content) > SMALL_BODY_BYTES:
            self._hold(len(content))
        if len(content) > limit_bytes:
            self.refused_content = content
            raise BodyTooLarge(max_body_bytes=limit_bytes)
        self._content = content
        return content

    def check_declared(self, limit_bytes: int) -> None:
        """Raises BodyTooLarge where Content-Length says so."""
        if self.declared_bytes() > limit_bytes:
            raise BodyTooLarge(max_body_bytes=limit_bytes)

    def declared_bytes(self) -> int:
        """Content-Length; 0 where there is none, as for a body in chunks."""
        declared = self.fields.get(b"content-length", b"")
        return int(declared[:15]) if declared.isdigit() else 0

    async def next_part(self) -> tuple[bytes, bool]:
        """What comes next of the body, for who reads it by himself, and whether more may come."""
        message = await self._receive()
        return message.get("body", b""), message.get("more_body", False)

    async def _rest(self, first: bytes, limit_bytes: int, narrowing: Narrowing | None) -> tuple[bytes, int]:
        """The body, or so much of it as is too much, and the limit."""
        parts, size = [first], len(first)
        while size <= limit_bytes:
            if narrowing is not None and size > narrowing.from_bytes:
                limit_bytes, narrowing = min(limit_bytes, await narrowing.ask(size)), None
                continue
            if size - self.held_bytes > SMALL_BODY_BYTES:
                self._hold(size - self.held_bytes)
            message = await self._receive()
            if message["type"] != "http.request":
                raise ClientGone
            part = message.get("body", b"")
            parts.append(part)
            size += len(part)
            if not message.get("more_body", False):
                break
        return b"".join(parts), limit_bytes

    def _hold(self, size: int) -> None:
        """Counts so many bytes more. Raises ServerBusy."""
        self.caller = self.caller or self.client_address
        bodies: HeldBodies = self.scope["aitbc.bodies"]
        bodies.take(self.caller, size)
        self.held_bytes += size

    async def disconnected(self) -> None:
        """Returns when the caller has gone. For use once the body has been read."""
        if self._content is None:
            await self.read(self.runtime.settings.max_body_bytes)
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def idempotency_key(self, principal: Principal) -> IdempotencyKey | None:
        """The caller's Idempotency-Key, bound to who calls, route and body; None without one.

        The key of a booking, which others may have been given, is told nothing of its account's own requests.
        """
        key = self.fields.get(b"idempotency-key")
        if key is None:
            return None
        if _IDEMPOTENCY_KEY.fullmatch(key) is None:
            raise InvalidRequest(
                "Idempotency-Key: must be 1 to 255 visible ASCII characters",
                fields=[{"field": "Idempotency-Key", "message": "must be 1 to 255 visible ASCII characters"}],
            )
        return IdempotencyKey(
            scope=f"{principal.reservation or principal.account_id} {self.scope['method']} {self.scope['path']}",
            key=key.decode("ascii"),
            request_hash=hashlib.sha256(self._content or b"").hexdigest(),
        )


def parse_json(content: bytes, *, decimals: bool, report: bool = False) -> Any:
    """The value of a JSON body; with `decimals`, numbers with a point or exponent are Decimals (for money).

    `report`: what a miner says of a job. It is not refused for what an engine wrote into it: broken UTF-8 and
    lone surrogates become U+FFFD, NUL stays (its schema cleans what is stored as text).

    Raises InvalidRequest for anything else that is not strict JSON, for a number out of bounds (named by its
    field), and for NUL characters, which PostgreSQL cannot store.
    """
    if not content:
        raise InvalidRequest("The request needs a JSON body.")
    if report:
        return _repaired(content, decimals)
    try:
        refuse_too_many_values(content, MAX_JSON_VALUES)
        value = loads_strict(content, decimals=decimals)
    except NumberRefused as error:
        raise field_errors([(error.path, error.reason)]) from None
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"The body is not valid JSON: {str(error)[:200]}") from None
    if b"\\u0000" in content and _holds_nul(value):
        raise InvalidRequest("The body holds a NUL character.")
    return value


def _repaired(content: bytes, decimals: bool) -> Any:
    try:
        return loads_strict(content, decimals=decimals)
    except (ValueError, RecursionError):
        pass  # said below, if mending its text does not help
    text = _ESCAPES.sub(_mended, content.decode("utf-8", "replace"))
    try:
        return loads_strict(text.encode(), decimals=decimals)
    except NumberRefused as error:
        raise field_errors([(error.path, error.reason)]) from None
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"The body is not valid JSON: {str(error)[:200]}") from None


def _mended(found: re.Match[str]) -> str:
    """An escape as it is, but for that of a lone surrogate; nor may a control character stand unescaped."""
    return "\\ufffd" if found["lone"] or found["control"] else found[0]


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any("\0" in name or _holds_nul(item) for name, item in value.items())
    if isinstance(value, list):
        return any(map(_holds_nul, value))
    return False


async def _no_send(message: Message) -> None:
    raise RuntimeError("endpoints answer with a Response")
