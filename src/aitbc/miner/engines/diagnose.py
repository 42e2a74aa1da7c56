"""Why an engine cannot be used, for the person who starts the miner: what was found there, and what to do."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import httpx

from aitbc.miner.engines.base import Engine, EngineError, EngineUnreachable, clean_text, http_client
from aitbc.miner.engines.framing import decode_json

PROBE_TIMEOUT_S = 3.0
MAX_NAMES = 10
SERVERS = {"ollama": "Ollama", "openai": "an OpenAI-compatible server"}


async def why_unusable(engine: Engine, error: EngineError) -> str:
    """One line for an engine whose models could not be listed: nothing is there, it wants a key, or what is
    there is something else."""
    if not engine.url:
        return error.message
    url, wanted = _shown(engine.url), SERVERS.get(engine.name, engine.name)
    if isinstance(error, EngineUnreachable):
        return f"no engine answers at {url}: {error.why}. Is {wanted} running there?"
    if "refused our key" in error.message or "HTTP 401" in error.message or "HTTP 403" in error.message:
        return f"the server at {url} wants another key: --engine-key or AITBC_ENGINE_KEY"
    found, advice = await _what_answers(engine.url)
    return f"what answers at {url} is not {wanted}: {found}. {advice}"


def why_no_model(engine: Engine) -> str:
    """One line for an engine that answers and has nothing to offer."""
    where = f" at {_shown(engine.url)}" if engine.url else ""
    missing, found = engine.selection.missing, engine.selection.found
    if missing and found:
        return f"the engine{where} has no model {_listed(missing)}; it has {_listed(found)}"
    if engine.skipped:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(engine.skipped.items())[:MAX_NAMES])
        return f"no model of the engine{where} can be offered ({reasons})"
    hint = ". Get one: ollama pull llama3.2" if engine.name == "ollama" else ""
    return f"the engine{where} answers and has none of the models to offer{hint or ': it lists none'}"


def _shown(url: str) -> str:
    """An address without the name and password that it may have: what is said of it ends up in logs."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


async def _what_answers(url: str) -> tuple[str, str]:
    """What listens at an engine's URL, and what to do about it."""
    parts = urlsplit(url)
    root, host = f"{parts.scheme}://{parts.netloc}", _shown(f"{parts.scheme}://{parts.netloc}")
    async with http_client(root) as http:
        ollama = await _json(http, "/api/tags")
        if isinstance(ollama, dict) and isinstance(ollama.get("models"), list):
            return "it is Ollama", f"Use --engine ollama --url {host}"
        openai = await _json(http, "/v1/models")
        if isinstance(openai, list) or (isinstance(openai, dict) and isinstance(openai.get("data"), list)):
            return "it is an OpenAI-compatible server", f"Use --engine openai --url {host}/v1"
        health = await _json(http, "/health")
        if isinstance(health, dict) and "chain_id" in health:
            return "it is an AITBC coordinator", "--url is the engine's address, --coordinator that one's"
        try:
            reply = await http.get("/", timeout=PROBE_TIMEOUT_S)
        except httpx.HTTPError:
            return "its answer could not be read", "Check --url"
    server = clean_text(reply.headers.get("server", ""), 40) or "a server without a name"
    kind = clean_text(reply.headers.get("content-type", "").partition(";")[0], 40) or "nothing"
    return f"{server}, which answers HTTP {reply.status_code} with {kind}", "Check --url"


async def _json(http: httpx.AsyncClient, path: str) -> Any:
    try:
        reply = await http.get(path, timeout=PROBE_TIMEOUT_S)
        return decode_json(reply.content) if reply.is_success else None
    except (httpx.HTTPError, ValueError):
        return None
