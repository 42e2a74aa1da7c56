"""Who is calling: a request's API key or session, looked up, remembered for a moment, held to scope and rate."""

import asyncio
import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Annotated, Any

from fastapi import Security
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.requests import Request

from aitbc.coordinator.api.plumbing.metrics import Gauges
from aitbc.coordinator.api.plumbing.ratelimit import RateLimits
from aitbc.coordinator.api.plumbing.requests import ApiRequest
from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.api_keys.service import authenticate, looks_like_key, static_principal
from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import (
    AitbcError,
    Forbidden,
    ForBookedJobs,
    KeyUnknown,
    RateLimited,
    SessionUnknown,
    Unauthorized,
)
from aitbc.coordinator.process.runtime import Runtime
from aitbc.coordinator.users import service as users

CACHE_S = 1.0
"""How long a key's holder is remembered: a key revoked by another process works at most this much longer."""
CACHE_ENTRIES = 10_000
REFUSED_S = 10.0
"""How long a credential that was not good is remembered: asking the database again would say the same."""
REFUSED_ENTRIES = 10_000
SUSPECT_LOOKUPS = 1
"""Credentials from addresses that failed too often are looked up so many at a time, in the order they came:
others wait for one of them at most."""

API_KEY = APIKeyHeader(name="X-Api-Key", scheme_name="ApiKey", auto_error=False)
BEARER = HTTPBearer(scheme_name="Bearer", auto_error=False, description="An API key as a bearer token.")
SESSION = APIKeyHeader(
    name="X-Session-Token",
    scheme_name="Session",
    auto_error=False,
    description="A wallet user's session: acts as a client of the wallet's account, never as a miner.",
)
SESSION_SCOPES = frozenset({"client", "user"})
_TOKEN = re.compile(rb"[A-Za-z0-9_-]{1,%d}" % users.MAX_TOKEN_CHARS)


class KeyRing:
    """Principals by key, with a short memory in front of the database.

    Every credential is looked at, whatever came from its address before. What bad ones cost is bounded: one
    of a form that none has is refused unseen, one that was refused is remembered, and the rest is one read by
    primary key, few at a time for addresses that failed too often.
    """

    def __init__(self, runtime: Runtime, limits: RateLimits) -> None:
        self._runtime = runtime
        self._limits = limits
        self._known: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()
        self._refused: OrderedDict[bytes, tuple[Callable[[], Unauthorized], float]] = OrderedDict()
        self._suspects = asyncio.Semaphore(SUSPECT_LOOKUPS)
        runtime.db.signals.listen(self._hear)

    async def identify(self, request: ApiRequest) -> Principal:
        """The holder of the request's key; of its session where it shows no key.

        Raises Unauthorized without a good one, RateLimited in its place where the address failed too often.
        """
        shown = shown_key(request)
        session = shown is None
        if shown is None:
            shown = request.fields.get(b"x-session-token")
        if not shown:
            raise failed(request, self._limits, "address", Unauthorized())
        # A token is no key: it has its own place in the memory (no header holds a line feed).
        digest = hashlib.sha256(b"session\n" + shown if session else shown).digest()
        known = self._known.get(digest)
        clock = self._runtime.clock
        if known is not None:
            principal, until = known
            if clock.monotonic() < until and not _expired(principal, clock.now_ms()):
                return principal
            del self._known[digest]
        refused = self._refused.get(digest)
        if refused is not None and clock.monotonic() < refused[1]:
            raise failed(request, self._limits, "address", refused[0]())
        try:
            return await self._look_up(request, shown, digest, session)
        except Unauthorized as error:
            again = partial(type(error), **error.details)  # an exception raised twice would keep both stacks
            _remember(self._refused, REFUSED_ENTRIES, digest, again, clock.monotonic() + REFUSED_S)
            raise failed(request, self._limits, "address", error) from None

    async def _look_up(self, request: ApiRequest, shown: bytes, digest: bytes, session: bool) -> Principal:
        runtime = self._runtime
        asked_at = runtime.clock.monotonic()
        text = shown.decode("latin-1")
        principal = None if session else static_principal(runtime.settings, text)
        if principal is None:
            if session and _TOKEN.fullmatch(shown) is None:
                raise SessionUnknown()
            if not session and not looks_like_key(text):
                raise KeyUnknown()
            act = _session_holder if session else authenticate
            if self._limits.allows("address", request.client_address):
                principal = await runtime.db.glance(act, text)
            else:
                async with self._suspects:
                    principal = await runtime.db.glance(act, text)
        _remember(self._known, CACHE_ENTRIES, digest, principal, asked_at + CACHE_S)
        return principal

    def forget(self, key_id: str) -> None:
        """Drops a key from memory: it was revoked or rotated."""
        for digest in [d for d, (principal, _) in self._known.items() if principal.key_id == key_id]:
            del self._known[digest]

    def _hear(self, signal: object) -> None:
        if type(signal) is tuple and signal[0] == "key":
            self.forget(signal[1])


class Auth:
    """A dependency: the caller, who must have one of `scopes` (none: any good key will do).

    `admin` lets an admin key in as well, `booked` the key that the booking of a GPU gives: for what is done with jobs.
    The request counts against the rate limit of the scope used.
    """

    def __init__(self, *scopes: str, admin: bool = False, booked: bool = False) -> None:
        self.scopes = scopes
        self.admin = admin
        self.booked = booked

    async def __call__(
        self,
        request: Request,
        _key: Annotated[str | None, Security(API_KEY)] = None,
        _bearer: Annotated[object, Security(BEARER)] = None,
        _session: Annotated[str | None, Security(SESSION)] = None,
    ) -> Principal:
        raise RuntimeError(
            "endpoints with this dependency must be on an aitbc.coordinator.api.plumbing.routing.Router"
        )

    async def check(self, request: ApiRequest) -> Principal:
        """Raises Unauthorized, Forbidden or RateLimited."""
        access: Access = request.scope["aitbc.access"]
        principal = await access.keys.identify(request)
        held = principal.scopes
        if principal.reservation and not self.booked:
            access.charge(request, principal.role, principal)
            raise ForBookedJobs()
        used = next((scope for scope in self.scopes if scope in held), "")
        if not used:
            if "admin" in held and (self.admin or not self.scopes):
                return principal
            if self.scopes:
                access.charge(request, "session" if principal.role == "user" else principal.role, principal)
                raise Forbidden(f"This needs {self.wanted}.")
            used = principal.role
        if principal.role == "user" and self.scopes != ("user",):
            used = "session"
        access.charge(request, used, principal)
        return principal

    @property
    def wanted(self) -> str:
        """What gets in, in words."""
        keys = [scope for scope in self.scopes if scope != "user"]
        if len(keys) == len(self.scopes):
            return f"a {' or '.join(keys)} key"
        named = [*(f"a {key} key" for key in keys), *(["an admin key"] if self.admin else [])]
        return " or ".join(["a wallet user's session", *named])


class Access:
    """Keys, limits and gauges of one application. `started`: when it was made, on the monotonic clock."""

    def __init__(self, runtime: Runtime) -> None:
        self.started = runtime.clock.monotonic()
        self.limits = RateLimits(runtime.settings, runtime.clock.monotonic)
        self.keys = KeyRing(runtime, self.limits)
        self.gauges = Gauges(runtime)

    def charge(self, request: ApiRequest, name: str, principal: Principal) -> None:
        """Counts the request against the account's limit of this name. Raises RateLimited."""
        self.count(request, name, principal.account_id)

    def admit(self, request: ApiRequest, name: str, who: str) -> None:
        """Raises RateLimited where `who` has used up the limit. Counts nothing: `note` does, when it is done."""
        try:
            self.limits.check(name, who)
        except RateLimited:
            request.limit_headers = self.limits.headers(name, who)
            raise

    def note(self, request: ApiRequest, name: str, who: str) -> None:
        """Counts what was admitted and cannot be refused any more."""
        with suppress(RateLimited):
            self.count(request, name, who)

    def failed(self, request: ApiRequest, error: AitbcError) -> AitbcError:
        """What to raise for a login or a transfer that is refused: counts it against the caller's address."""
        return failed(request, self.limits, "peer", error)

    def count(self, request: ApiRequest, name: str, who: str) -> None:
        """Counts the request of `who` against a limit; its headers go out with the answer. Raises RateLimited."""
        try:
            request.limit_headers = self.limits.hit(name, who)
        except RateLimited:
            request.limit_headers = self.limits.headers(name, who)
            raise


def failed(request: ApiRequest, limits: RateLimits, name: str, error: AitbcError) -> AitbcError:
    """What to raise for a failed attempt, which counts against the caller's address: `error`, or RateLimited.

    A credential whose holder proved to have it, though it has ended, is answered with its reason always.
    """
    if isinstance(error, Unauthorized) and error.details.keys() & {"key_id", "session_id"}:
        return error
    try:
        request.limit_headers = limits.hit(name, request.client_address)
    except RateLimited as refusal:
        request.limit_headers = limits.headers(name, request.client_address)
        return RateLimited(
            "Too many attempts from your address have failed ({limit} a minute are answered); a good key, session"
            " or signature is let in all the same.".format(**refusal.details),
            **refusal.details,
        )
    return error


def _remember(memory: OrderedDict[bytes, Any], most: int, digest: bytes, what: object, until: float) -> None:
    memory.pop(digest, None)
    if len(memory) >= most:
        memory.popitem(last=False)
    memory[digest] = (what, until)


def shown_key(request: ApiRequest) -> bytes | None:
    """The key in X-Api-Key, else in Authorization: Bearer; None where there is neither."""
    key = request.fields.get(b"x-api-key")
    if key:
        return key
    header = request.fields.get(b"authorization")
    if header is not None and header[:7].lower() == b"bearer ":
        return header[7:].strip() or None
    return None


def _session_holder(tx: Tx, token: str) -> Principal:
    """A session's user. Raises Unauthorized."""
    row = users.authenticate(tx, token)
    return Principal(row.user_id, "user", row.id, SESSION_SCOPES, expires_at_ms=row.expires_at_ms)


def _expired(principal: Principal, now_ms: int) -> bool:
    return principal.expires_at_ms is not None and principal.expires_at_ms <= now_ms


Client = Annotated[Principal, Security(Auth("client"))]
"""A client key."""
ClientOrAdmin = Annotated[Principal, Security(Auth("client", admin=True))]
"""A client key, or an admin's."""
JobClient = Annotated[Principal, Security(Auth("client", booked=True))]
"""A client key, or that of a booked GPU: for what is done with jobs."""
JobClientOrAdmin = Annotated[Principal, Security(Auth("client", admin=True, booked=True))]
"""The same, or an admin's key."""
JobKey = Annotated[Principal, Security(Auth(booked=True))]
"""Any good key, or a session, or that of a booked GPU."""
MinerKey = Annotated[Principal, Security(Auth("miner"))]
"""A miner key."""
AnyKey = Annotated[Principal, Security(Auth())]
"""Any good key, or a session."""
User = Annotated[Principal, Security(Auth("user"))]
"""A wallet user's session."""
UserOrAdmin = Annotated[Principal, Security(Auth("user", admin=True))]
"""A wallet user's session, or an admin's key."""
