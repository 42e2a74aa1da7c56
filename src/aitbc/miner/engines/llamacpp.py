"""llama.cpp in this process, on one GGUF file.

The engine is llama.cpp's own server (package xllamacpp), started on a random loopback port behind a random
key, and spoken to as any other OpenAI-compatible server: so a job that is dropped closes its connection,
which stops the generation, and no thread of ours is ever inside the native code when the engine is shut down.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from aitbc.core.causes import Cause
from aitbc.miner.engines.base import (
    EMBEDDING,
    LLM_INFERENCE,
    Engine,
    EngineError,
    EngineResult,
    ModelInfo,
    Progress,
)
from aitbc.miner.engines.names import public_name
from aitbc.miner.engines.openai_compatible import OpenAIEngine

DEFAULT_CONTEXT_LENGTH = 8192
"""Tokens for each job running at once; a model trained for less gets less."""

MAX_BATCH_TOKENS = 2048
GGUF_MAGIC = b"GGUF"
HEADER_BYTES = 64 * 1024


class LlamaCppEngine(Engine):
    """llama.cpp on the GGUF at `path`, served under `model_name` (default: the file's name without its
    ending).

    `context_length` is for each of `concurrency` jobs at once. Embeddings are the mean of the last layer,
    normalised, unless the file says otherwise.
    """

    name: ClassVar[str] = "llamacpp"

    def __init__(
        self,
        path: Path,
        *,
        model_name: str | None = None,
        concurrency: int = 1,
        context_length: int | None = None,
        threads: int | None = None,
        job_types: frozenset[str] | None = None,
    ) -> None:
        self.path = path
        self.model_name = model_name or public_name(path.name)
        self._concurrency = concurrency
        self._context_length = context_length or DEFAULT_CONTEXT_LENGTH
        self._threads = threads
        self._job_types = job_types
        self._server: Any = None
        self._api: OpenAIEngine | None = None
        self._model: ModelInfo | None = None

    async def start(self) -> None:
        facts = await asyncio.to_thread(read_gguf_facts, self.path)
        key = secrets.token_urlsafe(32)
        # A large model takes minutes to read; the terminal and the signals stay alive meanwhile.
        self._server = await asyncio.to_thread(self._load, key, facts)
        self._api = OpenAIEngine(self._server.listening_address, api_key=key)
        found = await self._api.models()
        if not found:
            raise EngineError(Cause.ENGINE_UNAVAILABLE, f"{self.path}: llama.cpp loaded no model")
        self._model = ModelInfo(
            name=self.model_name,
            engine=self.name,
            context_length=found[0].context_length,
            quantisation=found[0].quantisation,
            job_types=self._job_types
            or frozenset({EMBEDDING} if facts.is_encoder else {LLM_INFERENCE, EMBEDDING}),
        )

    async def models(self) -> list[ModelInfo]:
        if self._model is None:
            raise EngineError(Cause.ENGINE_UNAVAILABLE, "llama.cpp is not running")
        return [self._model]

    async def run(self, request: Mapping[str, Any], progress: Progress) -> EngineResult:
        if self._api is None:
            raise EngineError(Cause.ENGINE_UNAVAILABLE, "llama.cpp is not running")
        if request["model"] != self.model_name:
            # llama.cpp would answer with the one model that it has, whatever was asked for.
            raise EngineError(Cause.MODEL_NOT_FOUND, f"this miner serves {self.model_name}")
        return await self._api.run(request, progress)

    async def close(self) -> None:
        api, self._api, self._model = self._api, None, None
        if api is not None:
            await api.close()
        # The server's destructor waits for its own loop to end: the last reference goes on another thread.
        last = [self._server]
        self._server = None
        await asyncio.to_thread(last.clear)

    def _load(self, key: str, facts: GgufFacts) -> Any:
        try:
            import xllamacpp
        except ImportError as error:
            raise EngineError(Cause.ENGINE_UNAVAILABLE, f"xllamacpp cannot be loaded: {error}") from error
        params = xllamacpp.CommonParams()
        params.model.path = str(self.path)
        params.n_parallel = self._concurrency
        params.n_ctx = self._context_length * self._concurrency  # shared by the slots
        params.n_batch = params.n_ubatch = min(MAX_BATCH_TOKENS, self._context_length)
        params.embedding = True
        if not facts.names_pooling:
            params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        if self._threads:
            params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self._threads
        params.n_threads_http = self._concurrency + 2
        params.cache_ram_mib = 0
        params.verbosity = 0
        params.ui = params.endpoint_slots = False
        params.api_keys = [key]
        try:
            return xllamacpp.Server(params)
        except RuntimeError as error:
            raise EngineError(
                Cause.ENGINE_UNAVAILABLE, f"llama.cpp could not load {self.path}: {error}"
            ) from error


@dataclass(frozen=True, slots=True)
class GgufFacts:
    """What a GGUF's header says that decides how it is served."""

    architecture: str
    names_pooling: bool

    @property
    def is_encoder(self) -> bool:
        """An encoder (BERT and its kin) embeds and cannot write."""
        return "bert" in self.architecture or self.architecture.endswith("encoder")


def read_gguf_facts(path: Path) -> GgufFacts:
    """Reads the GGUF's header. Raises EngineError, with what is wrong, unless `path` is a readable GGUF file.

    Source: the GGUF format: magic, version u32, counts 2 x u64, then pairs of key, type u32 and value, where
    a string is a u64 length and its bytes. `general.architecture` comes first, the architecture's own keys
    before the tokenizer.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEADER_BYTES)
    except OSError as error:
        raise EngineError(Cause.ENGINE_UNAVAILABLE, f"{path}: {error.strerror or error}") from error
    if not head.startswith(GGUF_MAGIC):
        raise EngineError(Cause.ENGINE_UNAVAILABLE, f"{path} is not a GGUF file")
    key = b"general.architecture"
    at = head.find(key)
    architecture = ""
    if at >= 0 and len(head) >= at + len(key) + 12:
        start = at + len(key) + 12
        length = int.from_bytes(head[start - 8 : start], "little")
        architecture = head[start : start + min(length, 64)].decode("utf-8", "replace")
    return GgufFacts(architecture, b".pooling_type" in head)
