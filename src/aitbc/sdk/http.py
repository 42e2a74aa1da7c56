"""What both clients share around httpx: their settings, and httpx's results and failures in our terms."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any, ParamSpec, TypedDict, TypeVar
from urllib.parse import urlsplit

import httpx

from aitbc import __version__
from aitbc.sdk.transport import HttpReply, HttpRequest, Policy, TryFailed

P = ParamSpec("P")
F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_URL = "http://127.0.0.1:8000"
CONNECT_TIMEOUT_S = 5.0
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class HttpxOptions(TypedDict):
    """What both httpx clients are made with."""

    base_url: str
    trust_env: bool
    verify: ssl.SSLContext | bool
    follow_redirects: bool
    limits: httpx.Limits


def make_policy(url: str | None, api_key: str | None, timeout_s: float, tries: int) -> Policy:
    """Settings of a client; AITBC_URL and AITBC_API_KEY fill in what is None. ValueError if bad."""
    url = (url or os.environ.get("AITBC_URL") or DEFAULT_URL).strip().rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"not an http(s) address: {url!r}")
    if parts.username or parts.password:
        raise ValueError("credentials do not belong into the address: pass api_key")
    if api_key is None:
        api_key = os.environ.get("AITBC_API_KEY")
    api_key = (api_key or "").strip() or None
    if api_key and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
        raise ValueError("an API key has only printable ASCII characters and no spaces")
    if tries < 1 or timeout_s <= 0:
        raise ValueError("tries and timeout_s must be positive")
    return Policy(url, api_key, timeout_s, tries, user_agent=f"aitbc-python/{__version__}")


def httpx_options(url: str) -> HttpxOptions:
    """No redirects (they would carry the key off), no proxy for this machine, authorities only for https."""
    parts = urlsplit(url)
    # A context without any authority costs nothing to make and could verify no https server: fit for plain
    # http.
    context: ssl.SSLContext | bool = True
    if parts.scheme == "http":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return {
        "base_url": url,
        "trust_env": parts.hostname not in _LOOPBACK,
        "verify": context,
        "follow_redirects": False,
        "limits": httpx.Limits(max_connections=100, max_keepalive_connections=20),
    }


def httpx_arguments(request: HttpRequest) -> dict[str, Any]:
    """Arguments of httpx's `request`."""
    return {
        "method": request.method,
        "url": request.path,
        "params": request.query or None,
        "headers": request.headers,
        "content": request.body,
        "timeout": httpx.Timeout(request.timeout_s, connect=min(CONNECT_TIMEOUT_S, request.timeout_s)),
    }


def reply_of(response: httpx.Response) -> HttpReply:
    """An httpx response, read."""
    return HttpReply(response.status_code, response.headers, response.content)


def failure_of(error: httpx.HTTPError) -> TryFailed:
    """A try that got no answer, in words."""
    if isinstance(error, httpx.TimeoutException):
        return TryFailed(f"timed out ({type(error).__name__})")
    return TryFailed(str(error) or type(error).__name__)


def describe(method: F, operation: Callable[..., Any]) -> F:
    """Give a client's method the name, text and signature of the operation that it performs."""
    original = signature(operation)
    result = str(original.return_annotation).removeprefix("Flow[").removesuffix("]")
    parameters = [Parameter("self", Parameter.POSITIONAL_ONLY), *original.parameters.values()]
    method.__name__ = operation.__name__
    method.__doc__ = operation.__doc__
    wrapped: Any = method
    wrapped.__signature__ = original.replace(parameters=parameters, return_annotation=result)
    return method
