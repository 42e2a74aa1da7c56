"""Which engine a miner runs: the one that was asked for, or the one that this machine has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from aitbc.miner.engines.base import Engine, http_client
from aitbc.miner.engines.llamacpp import LlamaCppEngine
from aitbc.miner.engines.names import MODEL_NAME
from aitbc.miner.engines.ollama import DEFAULT_URL, OllamaEngine
from aitbc.miner.engines.openai_compatible import OpenAIEngine
from aitbc.miner.starter import STARTER, starter_path

ENGINES = ("auto", "ollama", "openai", "llamacpp")
PROBE_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """What the command line says about the engine.

    `models` are the engine's models to offer, `MODEL` or `NAME=MODEL` (none: all that it has), or for
    llama.cpp one GGUF file, `FILE` or `NAME=FILE`.
    """

    engine: str = "auto"
    url: str | None = None
    models: Sequence[str] = ()
    engine_key: str | None = None
    concurrency: int = 1
    context_length: int | None = None
    threads: int | None = None
    job_types: frozenset[str] | None = None


class NoEngine(Exception):
    """The choice cannot be made as it stands; the message says what to do."""


async def choose_engine(choice: EngineChoice) -> Engine:
    """The engine for `choice`, not yet started. Raises NoEngine.

    auto: a server at `url` is asked what it is; a GGUF named as the model means llama.cpp; else Ollama, where
    it runs and has a model; else llama.cpp on the starter model.
    """
    _check(choice)
    match choice.engine:
        case "ollama":
            return _ollama(choice, choice.url or ollama_url())
        case "openai":
            if choice.url is None:
                raise NoEngine("--engine openai needs the server's address: --url http://host:port/v1")
            return _openai(choice, choice.url)
        case "llamacpp":
            return _llamacpp(choice)
        case "auto":
            return await _find(choice)
        case other:
            raise NoEngine(f"no engine {other!r}; there are {', '.join(ENGINES)}")


def _check(choice: EngineChoice) -> None:
    """Raises NoEngine for an address or a name that no engine can have."""
    if choice.url is not None:
        try:
            parts, host = urlsplit(choice.url), httpx.URL(choice.url).host
            _ = parts.hostname, parts.port
        except (httpx.InvalidURL, ValueError) as error:
            raise NoEngine(f"--url {choice.url!r} is no address: {error}") from None
        if not choice.url.startswith(("http://", "https://")) or not host:
            raise NoEngine(f"--url begins with http:// or https:// and a host, not {choice.url!r}")
    for model in choice.models:
        name, separator, _ = model.partition("=")
        if separator and not Path(model).expanduser().is_file() and not MODEL_NAME.fullmatch(name):
            raise NoEngine(f"--model {model}: a name has 1 to 128 characters of A-Z a-z 0-9 . _ : / @ + -")


def ollama_url() -> str:
    """Where Ollama listens: OLLAMA_HOST as Ollama itself reads it, else 127.0.0.1:11434."""
    host = os.environ.get("OLLAMA_HOST", "").strip().rstrip("/")
    if not host:
        return DEFAULT_URL
    url = host if "://" in host else f"http://{host}"
    scheme, _, rest = url.partition("://")
    rest = rest.replace("0.0.0.0", "127.0.0.1", 1)  # noqa: S104 - a server's "everywhere" is no address to call
    if rest.startswith(":"):
        rest = f"127.0.0.1{rest}"
    has_port = ":" in rest.rpartition("]")[2] and "/" not in rest
    return f"{scheme}://{rest}" if has_port or "/" in rest else f"{scheme}://{rest}:11434"


async def _find(choice: EngineChoice) -> Engine:
    if choice.url is not None:
        if await _has_ollama_models(choice.url) is not None:
            return _ollama(choice, choice.url)
        return _openai(choice, choice.url)
    if choice.models and any(_split_gguf(model)[1].suffix.lower() == ".gguf" for model in choice.models):
        return _llamacpp(choice)
    url = ollama_url()
    ollama_has_models = await _has_ollama_models(url)
    if ollama_has_models:
        return _ollama(choice, url)
    found = "does not answer" if ollama_has_models is None else "answers and has no models"
    if choice.models and list(choice.models) != [STARTER.name]:
        raise NoEngine(
            f"nothing here serves {', '.join(choice.models)}: Ollama {found} at {url}. Start it (ollama pull "
            "MODEL), or name another server with --engine openai --url, or a GGUF file with --engine llamacpp "
            "--model FILE"
        )
    try:
        path = starter_path()
    except FileNotFoundError as error:
        raise NoEngine(f"no engine found: Ollama {found} at {url}, and {error}") from error
    return _starter(choice, path)


async def _has_ollama_models(url: str) -> bool | None:
    """Whether the Ollama at `url` has a model; None where there is no Ollama."""
    async with http_client(url.rstrip("/")) as http:
        try:
            reply = await http.get("/api/tags", timeout=PROBE_TIMEOUT_S)
            models = reply.json().get("models") if reply.status_code == 200 else None
        except (httpx.HTTPError, ValueError, AttributeError, RecursionError):
            return None  # nothing there, or something else: that is the answer
    return bool(models) if isinstance(models, list) else None


def _ollama(choice: EngineChoice, url: str) -> OllamaEngine:
    return OllamaEngine(
        url, only=choice.models, context_length=choice.context_length, job_types=choice.job_types
    )


def _openai(choice: EngineChoice, url: str) -> OpenAIEngine:
    return OpenAIEngine(url, api_key=choice.engine_key, only=choice.models, job_types=choice.job_types)


def _llamacpp(choice: EngineChoice) -> LlamaCppEngine:
    if len(choice.models) != 1:
        raise NoEngine("--engine llamacpp needs one GGUF file: --model FILE")
    if choice.models[0] == STARTER.name:
        return _starter(choice, starter_path())
    name, path = _split_gguf(choice.models[0])
    if not path.is_file():
        raise NoEngine(f"there is no file {path}")
    return LlamaCppEngine(
        path,
        model_name=name,
        concurrency=choice.concurrency,
        context_length=choice.context_length,
        threads=choice.threads,
        job_types=choice.job_types,
    )


def _starter(choice: EngineChoice, path: Path) -> LlamaCppEngine:
    return LlamaCppEngine(
        path,
        model_name=STARTER.name,
        concurrency=choice.concurrency,
        context_length=min(choice.context_length or STARTER.context_length, STARTER.context_length),
        threads=choice.threads or 1,  # so small that a second thread costs more than it brings
        job_types=choice.job_types,
    )


def _split_gguf(model: str) -> tuple[str | None, Path]:
    """`FILE` or `NAME=FILE`; a file whose own name has a `=` in it is a file."""
    path = Path(model).expanduser()
    if path.is_file() or "=" not in model:
        return None, path
    name, _, file = model.partition("=")
    return name, Path(file).expanduser()
