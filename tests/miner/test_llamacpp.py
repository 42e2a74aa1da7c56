"""llama.cpp in this process, on the starter model: the engine as it is, no fake."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from aitbc.core import jobspec
from aitbc.core.causes import Cause
from aitbc.miner.engines.base import EngineError, EngineResult
from aitbc.miner.engines.llamacpp import GgufFacts, LlamaCppEngine, read_gguf_facts
from aitbc.miner.starter import STARTER, starter_path
from tests.miner.fakes import FakeCoordinator
from tests.miner.harness import mining, run, until


def chat(prompt: str, **params: Any) -> dict[str, Any]:
    return jobspec.build_request(
        "llm_inference", model=STARTER.name, body={"prompt": prompt}, params={"temperature": 0} | params
    )


def embedding(*texts: str) -> dict[str, Any]:
    return jobspec.build_request("embedding", model=STARTER.name, body={"input": list(texts)})


async def ask(engine: LlamaCppEngine, request: dict[str, Any]) -> EngineResult:
    return await engine.run(request, lambda pieces: None)


async def cause_of(engine: LlamaCppEngine, request: dict[str, Any]) -> Cause:
    with pytest.raises(EngineError) as caught:
        await ask(engine, request)
    return caught.value.cause


def test_it_answers_embeds_and_refuses_what_it_cannot_do() -> None:
    async def scenario() -> None:
        engine = LlamaCppEngine(starter_path(), concurrency=2, context_length=512, threads=1)
        await engine.start()
        [model] = await engine.models()
        assert (model.name, model.context_length, model.quantisation) == (STARTER.name, 512, "Q8_0")
        answers = await asyncio.gather(*(ask(engine, chat("What is AITBC?")) for _ in range(5)))
        first = answers[0]
        assert "AITBC" in first.result["text"]
        assert first.result["finish_reason"] == "stop"
        assert all(answer == first for answer in answers)
        assert first.prompt_tokens and first.completion_tokens
        short = await ask(engine, chat("What is AITBC?", max_tokens=3))
        assert (short.result["finish_reason"], short.completion_tokens) == ("length", 3)
        stopped = await ask(engine, chat("What is AITBC?", stop=["market"]))
        assert "market" not in stopped.result["text"]
        messages = {
            "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
        }
        request = jobspec.build_request("llm_inference", model=STARTER.name, body=messages)
        assert (await ask(engine, request)).result["text"]
        vectors = await ask(engine, embedding("a miner", "a receipt"))
        assert [len(row) for row in vectors.result["embeddings"]] == [STARTER.embedding_length] * 2
        assert vectors.completion_tokens == 0
        long = "word " * 2000
        assert await cause_of(engine, chat(long)) == Cause.CONTEXT_LENGTH_EXCEEDED
        assert await cause_of(engine, embedding(long)) == Cause.CONTEXT_LENGTH_EXCEEDED
        other = chat("x") | {"model": "llama3.2"}
        assert await cause_of(engine, other) == Cause.MODEL_NOT_FOUND
        await engine.close()
        assert await cause_of(engine, chat("x")) == Cause.ENGINE_UNAVAILABLE

    run(scenario())


def test_a_file_that_is_no_model_is_refused_with_a_reason(tmp_path: Path) -> None:
    async def scenario() -> None:
        for name, content, said in (
            ("missing.gguf", None, "No such file"),
            ("text.gguf", b"hello", "not a GGUF file"),
            ("torn.gguf", starter_path().read_bytes()[:5000], "could not load"),
        ):
            path = tmp_path / name
            if content is not None:
                path.write_bytes(content)
            with pytest.raises(EngineError, match=said) as caught:
                await LlamaCppEngine(path).start()
            assert caught.value.cause == Cause.ENGINE_UNAVAILABLE

    run(scenario())


def test_the_header_tells_an_encoder() -> None:
    facts = read_gguf_facts(starter_path())
    assert facts.architecture == "llama"
    assert not facts.is_encoder
    assert GgufFacts("nomic-bert", True).is_encoder


def test_a_miner_on_it_answers_side_by_side(tmp_path: Path) -> None:
    async def scenario() -> None:
        engine = LlamaCppEngine(starter_path(), concurrency=4, context_length=256, threads=1)
        async with FakeCoordinator() as coordinator, mining(coordinator, tmp_path, engine, concurrency=4):
            jobs = [coordinator.submit(f"Question {n}", model=STARTER.name, max_tokens=16) for n in range(12)]
            await until(lambda: all(job.status == "completed" for job in jobs))

    run(scenario())
