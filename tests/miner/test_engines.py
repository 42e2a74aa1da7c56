"""The engines over HTTP against fakes of Ollama and of an OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response

from aitbc.core import jobspec
from aitbc.core.causes import Cause
from aitbc.miner.engines.base import Engine, EngineError, EngineResult, ModelInfo
from aitbc.miner.engines.detect import EngineChoice, NoEngine, choose_engine, ollama_url
from aitbc.miner.engines.llamacpp import LlamaCppEngine
from aitbc.miner.engines.ollama import OllamaEngine
from aitbc.miner.engines.openai_compatible import OpenAIEngine, base_url
from aitbc.miner.engines.verdict import classify
from tests.miner.fake_engines import FakeOllama, FakeOpenAI, ndjson, sse
from tests.miner.fakes import FakeCoordinator, free_port
from tests.miner.harness import mining, run, until


def chat(model: str, prompt: str = "hello", **params: Any) -> dict[str, Any]:
    return jobspec.build_request("llm_inference", model=model, body={"prompt": prompt}, params=params)


def embedding(model: str, *texts: str) -> dict[str, Any]:
    return jobspec.build_request("embedding", model=model, body={"input": list(texts)})


def answering(response: Callable[[], Response]) -> Callable[[dict[str, Any]], Awaitable[Response]]:
    async def handler(body: dict[str, Any]) -> Response:
        return response()

    return handler


async def ask(engine: Engine, request: dict[str, Any]) -> EngineResult:
    return await engine.run(request, lambda pieces: None)


async def cause_of(engine: Engine, request: dict[str, Any]) -> Cause:
    with pytest.raises(EngineError) as caught:
        await ask(engine, request)
    return caught.value.cause


def test_ollama_models_are_advertised_with_their_context_and_quantisation() -> None:
    async def scenario() -> None:
        async with FakeOllama() as server:
            engine = OllamaEngine(server.url)
            models = {model.name: model for model in await engine.models()}
            assert sorted(models) == ["llama3.2:latest", "nomic-embed-text:latest"]
            assert models["llama3.2:latest"] == ModelInfo("llama3.2:latest", "ollama", 131072, "Q4_K_M")
            assert models["nomic-embed-text:latest"].job_types == frozenset({"embedding"})
            server.loaded = {"llama3.2:latest": 4096}
            server.models["mistral:7b"] = {
                "details": {"family": "llama", "quantization_level": "Q8_0"},
                "model_info": {"general.architecture": "llama", "llama.context_length": 32768},
                "parameters": 'num_ctx    16384\nstop  "[INST]"',
            }
            models = {model.name: model for model in await engine.models()}
            assert models["llama3.2:latest"].context_length == 4096
            assert models["mistral:7b"] == ModelInfo("mistral:7b", "ollama", 16384, "Q8_0")
            assert server.shows == 3  # one for each model, not one for each look
            only = OllamaEngine(server.url, only=frozenset({"llama3.2"}), context_length=2048)
            assert await only.models() == [ModelInfo("llama3.2:latest", "ollama", 2048, "Q4_K_M")]
            await engine.close()
            await only.close()

    run(scenario())


def test_ollama_answers_with_its_own_token_counts() -> None:
    async def scenario() -> None:
        async with FakeOllama() as server:
            engine = OllamaEngine(server.url, context_length=2048)
            request = chat("llama3.2", seed=7, stop=["#"], temperature=0.5, top_p=0.8, max_tokens=9)
            got = await ask(engine, request)
            assert got == EngineResult({"text": "Hi there", "finish_reason": "stop"}, 26, 5)
            sent = server.chats[0]
            assert sent["messages"] == [{"role": "user", "content": "hello"}]
            assert sent["options"] == {"num_predict": 9, "temperature": 0.5, "top_p": 0.8, "seed": 7} | {
                "stop": ["#"],
                "num_ctx": 2048,
            }
            assert (sent["truncate"], sent["shift"]) == (False, False)
            vectors = await ask(engine, embedding("nomic-embed-text", "ab", "c"))
            assert vectors == EngineResult({"embeddings": [[0.5, 2.0], [0.5, 1.0]]}, 9, 0)
            await engine.close()

    run(scenario())


OLLAMA_OVERFLOW = json.dumps(
    {"error": {"code": 400, "message": "request (2622 tokens) exceeds", "type": "exceed_context_size_error"}}
)
DONE = {"message": {"content": ""}, "done": True, "done_reason": "stop"}


@pytest.mark.parametrize(
    ("response", "cause"),
    [
        (lambda: JSONResponse({"error": "model 'x' not found"}, 404), Cause.MODEL_NOT_FOUND),
        (
            lambda: JSONResponse({"error": "the input length exceeds the context length"}, 400),
            Cause.CONTEXT_LENGTH_EXCEEDED,
        ),
        (lambda: JSONResponse({"error": OLLAMA_OVERFLOW}, 400), Cause.CONTEXT_LENGTH_EXCEEDED),
        (
            lambda: JSONResponse(
                {"error": "model requires more system memory (9 GiB) than is available"}, 500
            ),
            Cause.OUT_OF_MEMORY,
        ),
        (lambda: JSONResponse({"error": "invalid options"}, 400), Cause.BAD_REQUEST),
        (lambda: JSONResponse({"error": "server busy"}, 503), Cause.ENGINE_UNAVAILABLE),
        (lambda: JSONResponse({"error": "boom"}, 500), Cause.ENGINE_ERROR),
        (lambda: ndjson([{"message": {"content": "half"}, "done": False}]), Cause.ENGINE_UNAVAILABLE),
        (lambda: ndjson([{"message": {"content": "x"}}, {"error": "runner died"}]), Cause.ENGINE_ERROR),
        (lambda: ndjson([DONE]), Cause.ENGINE_ERROR),
        (lambda: Response("<html>", media_type="text/html"), Cause.ENGINE_ERROR),
        # A version that cuts prompts: its count is all of the context.
        (
            lambda: ndjson([{"message": {"content": "x"}}, DONE | {"prompt_eval_count": 2048}]),
            Cause.CONTEXT_LENGTH_EXCEEDED,
        ),
    ],
)
def test_ollama_failures_are_causes(response: Callable[[], Response], cause: Cause) -> None:
    async def scenario() -> None:
        async with FakeOllama() as server:
            engine = OllamaEngine(server.url, context_length=2048)
            server.on_chat = answering(response)
            assert await cause_of(engine, chat("llama3.2")) == cause
            await engine.close()

    run(scenario())


def test_an_embedding_that_is_missing_or_no_number_is_a_failure() -> None:
    async def scenario() -> None:
        async with FakeOllama() as server:
            engine = OllamaEngine(server.url)
            for vectors in ([[1.0]], [[1.0], []], [[1.0], ["a"]], None):
                server.on_embed = answering(lambda vectors=vectors: JSONResponse({"embeddings": vectors}))
                assert await cause_of(engine, embedding("nomic-embed-text", "a", "b")) == Cause.ENGINE_ERROR
            await engine.close()

    run(scenario())


def test_openai_servers_are_asked_what_they_have() -> None:
    async def scenario() -> None:
        async with FakeOpenAI() as server:
            server.models = [
                {"id": "qwen", "max_model_len": 4096},
                {"id": "gguf", "meta": {"n_ctx": 512, "n_ctx_train": 8192, "ftype": "Q4_K - Medium"}},
                {"id": "bge-embed"},
            ]
            engine = OpenAIEngine(server.url)
            assert await engine.models() == [
                ModelInfo("bge-embed", "openai", job_types=frozenset({"embedding"})),
                ModelInfo("gguf", "openai", 512, "Q4_K_M"),
                ModelInfo("qwen", "openai", 4096),
            ]
            server.lm_studio = [
                {"id": "qwen", "type": "llm", "quantization": "4bit", "max_context_length": 32768}
                | {"loaded_context_length": 8192},
            ]
            only = OpenAIEngine(f"{server.url}/v1", only=frozenset({"qwen"}))
            assert await only.models() == [ModelInfo("qwen", "openai", 8192, "4bit")]
            await engine.close()
            await only.close()

    run(scenario())


def test_openai_answers_with_its_own_token_counts() -> None:
    async def scenario() -> None:
        async with FakeOpenAI() as server:
            engine = OpenAIEngine(server.url, api_key="k")
            pieces: list[int] = []
            got = await engine.run(chat("qwen", seed=3, max_tokens=9), pieces.append)
            assert got == EngineResult({"text": "Hello", "finish_reason": "stop"}, 11, 3)
            assert pieces == [1, 2]
            sent = server.bodies[0]
            assert sent["stream_options"] == {"include_usage": True}
            assert (sent["max_tokens"], sent["seed"], sent["temperature"], sent["top_p"]) == (9, 3, 0.7, 0.9)
            assert "stop" not in sent
            vectors = await ask(engine, embedding("qwen", "a", "b"))
            assert vectors == EngineResult({"embeddings": [[1.0, 0.0], [1.0, 1.0]]}, 4, 0)
            await engine.close()

    run(scenario())


def test_a_base_model_without_a_chat_template_gets_the_prompt_as_it_is() -> None:
    async def scenario() -> None:
        async with FakeOpenAI() as server:
            message = "As of transformers v4.44, default chat template is no longer allowed"
            server.on_chat = answering(lambda: JSONResponse({"error": {"message": message}}, 400))
            engine = OpenAIEngine(server.url)
            for _ in range(2):
                assert (await ask(engine, chat("qwen"))).result["text"] == "Hello"
            assert ["prompt" in body for body in server.bodies] == [False, True, True]
            await engine.close()

    run(scenario())


def test_a_server_that_does_not_know_stream_options_is_asked_without() -> None:
    async def scenario() -> None:
        async with FakeOpenAI() as server:

            async def strict(body: dict[str, Any]) -> Response:
                if "stream_options" in body:
                    message = "stream_options: Extra inputs are not permitted"
                    return JSONResponse({"detail": message}, 422)
                return await server.answer(body)

            server.on_chat = strict
            engine = OpenAIEngine(server.url)
            for _ in range(2):
                assert (await ask(engine, chat("qwen"))).result["text"] == "Hello"
            assert ["stream_options" in body for body in server.bodies] == [True, False, False]
            await engine.close()

    run(scenario())


CUT = [{"choices": [{"delta": {"content": "half an ans"}, "finish_reason": None}]}]
EMPTY = [{"choices": [{"delta": {}, "finish_reason": "length"}]}]


def openai_error(status: int, message: str, **more: Any) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "code": status, **more}}, status)


@pytest.mark.parametrize(
    ("response", "cause"),
    [
        (lambda: openai_error(404, "The model `x` does not exist."), Cause.MODEL_NOT_FOUND),
        (
            lambda: openai_error(400, "This model's maximum context length is 4096 tokens"),
            Cause.CONTEXT_LENGTH_EXCEEDED,
        ),
        (
            lambda: openai_error(400, "too long", type="exceed_context_size_error"),
            Cause.CONTEXT_LENGTH_EXCEEDED,
        ),
        (lambda: openai_error(500, "CUDA out of memory. Tried to allocate 2 GiB"), Cause.OUT_OF_MEMORY),
        (lambda: openai_error(422, "bad temperature"), Cause.BAD_REQUEST),
        (lambda: openai_error(503, "Loading model"), Cause.ENGINE_UNAVAILABLE),
        (lambda: openai_error(401, "Invalid API Key"), Cause.ENGINE_UNAVAILABLE),
        (lambda: openai_error(500, "boom"), Cause.ENGINE_ERROR),
        (lambda: JSONResponse({"error": "boom"}, 200), Cause.ENGINE_ERROR),
        (lambda: JSONResponse({"choices": []}, 200), Cause.ENGINE_ERROR),
        (lambda: JSONResponse({}, 200), Cause.ENGINE_ERROR),
        (lambda: sse(CUT, done=False), Cause.ENGINE_UNAVAILABLE),
        (lambda: sse([*CUT, {"error": {"message": "engine dead"}}]), Cause.ENGINE_ERROR),
        (lambda: sse(EMPTY), Cause.ENGINE_ERROR),
        (lambda: sse([]), Cause.ENGINE_ERROR),
        (lambda: sse(["not an object"]), Cause.ENGINE_ERROR),
    ],
)
def test_openai_failures_are_causes(response: Callable[[], Response], cause: Cause) -> None:
    async def scenario() -> None:
        async with FakeOpenAI() as server:
            engine = OpenAIEngine(server.url)
            server.on_chat = answering(response)
            assert await cause_of(engine, chat("qwen")) == cause
            await engine.close()

    run(scenario())


def test_a_server_that_does_not_stream_is_understood() -> None:
    async def scenario() -> None:
        async with FakeOpenAI() as server:
            whole = {
                "choices": [{"message": {"role": "assistant", "content": "Hey"}, "finish_reason": "length"}],
                "usage": {"prompt_tokens": 2, "completion_tokens": 1},
            }
            server.on_chat = answering(lambda: JSONResponse(whole))
            engine = OpenAIEngine(server.url)
            got = await ask(engine, chat("qwen"))
            assert got == EngineResult({"text": "Hey", "finish_reason": "length"}, 2, 1)
            await engine.close()

    run(scenario())


def test_dropping_a_job_stops_the_generation() -> None:
    async def scenario() -> None:
        async with FakeOpenAI() as server:
            server.on_chat = server.answer_for_ever
            engine = OpenAIEngine(server.url)
            pieces: list[int] = []
            job = asyncio.create_task(engine.run(chat("qwen"), pieces.append))
            await until(lambda: pieces)
            job.cancel()
            await asyncio.wait_for(server.closed_early.wait(), 2)
            await engine.close()

    run(scenario())


def test_an_engine_that_dies_in_the_middle_fails_the_job_and_pauses_the_miner(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as coordinator, FakeOpenAI() as server:
            server.on_chat = server.answer_for_ever
            async with mining(coordinator, tmp_path, OpenAIEngine(server.url)) as miner:
                job = coordinator.submit(model="qwen")
                await until(lambda: any(view.pieces for view in miner.events.view.running.values()))
                await server.stop()
                await until(lambda: job.failures)
                assert job.failures[0]["cause"] == "ENGINE_UNAVAILABLE"
                assert job.completion is None
                await until(lambda: coordinator.status == "draining")
                server.on_chat = server.answer
                await server.start()
                second = coordinator.submit(model="qwen")
                await until(lambda: second.status == "completed")

    run(scenario())


def test_nobody_listening_is_engine_unavailable() -> None:
    async def scenario() -> None:
        url = f"http://127.0.0.1:{free_port()}"
        for engine in (OllamaEngine(url), OpenAIEngine(url)):
            assert await cause_of(engine, chat("x")) == Cause.ENGINE_UNAVAILABLE
            with pytest.raises(EngineError) as caught:
                await engine.models()
            assert caught.value.cause == Cause.ENGINE_UNAVAILABLE
            await engine.close()

    run(scenario())


def test_half_a_surrogate_does_not_reach_the_result() -> None:
    async def scenario() -> None:
        async with FakeOpenAI() as server:
            whole = {"choices": [{"message": {"content": "a\ud83d"}, "finish_reason": "stop"}]}
            body = json.dumps(whole)
            server.on_chat = answering(lambda: Response(body, media_type="application/json"))
            engine = OpenAIEngine(server.url)
            assert (await ask(engine, chat("qwen"))).result["text"] == "a?"
            await engine.close()

    run(scenario())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("http://h:1", "http://h:1/v1"),
        ("http://h:1/", "http://h:1/v1"),
        ("http://h:1/v1/", "http://h:1/v1"),
        ("https://h/api/v3", "https://h/api/v3"),
    ],
)
def test_the_api_root_of_a_server(given: str, expected: str) -> None:
    assert base_url(given) == expected


def test_an_engines_words_are_cut() -> None:
    assert len(classify(500, "x" * 9999).message) == 500


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        (":8080", "http://127.0.0.1:8080"),
        ("gpu.lan", "http://gpu.lan:11434"),
        ("https://gpu.lan:443", "https://gpu.lan:443"),
        ("[::1]:9", "http://[::1]:9"),
    ],
)
def test_ollama_is_looked_for_where_it_was_told_to_listen(
    monkeypatch: pytest.MonkeyPatch, host: str, expected: str
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", host)
    assert ollama_url() == expected


def test_auto_finds_ollama_else_a_gguf_else_the_starter_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gguf = tmp_path / "My Model.gguf"
    gguf.write_bytes(b"GGUF")

    async def scenario() -> None:
        async with FakeOllama() as ollama, FakeOpenAI() as openai:
            monkeypatch.setenv("OLLAMA_HOST", ollama.url)
            assert isinstance(await choose_engine(EngineChoice()), OllamaEngine)
            assert isinstance(await choose_engine(EngineChoice(url=openai.url)), OpenAIEngine)
            assert isinstance(await choose_engine(EngineChoice(url=ollama.url)), OllamaEngine)
            named = await choose_engine(EngineChoice(models=[str(gguf)]))
            assert isinstance(named, LlamaCppEngine)
            assert named.model_name == "My-Model"
            alias = await choose_engine(EngineChoice(engine="llamacpp", models=[f"llama3.2={gguf}"]))
            assert isinstance(alias, LlamaCppEngine)
            assert (alias.model_name, alias.path) == ("llama3.2", gguf)
            served = EngineChoice(url=openai.url, models=["mine=/models/x.gguf"])
            assert isinstance(await choose_engine(served), OpenAIEngine)
            ollama.models = {}
            starter = await choose_engine(EngineChoice())
            assert isinstance(starter, LlamaCppEngine)
            assert starter.model_name == "aitbc-starter"
            with pytest.raises(NoEngine, match="--engine openai --url"):
                await choose_engine(EngineChoice(models=["llama3.2"]))

    run(scenario())


@pytest.mark.parametrize(
    "choice",
    [
        EngineChoice(engine="openai"),
        EngineChoice(engine="llamacpp"),
        EngineChoice(engine="llamacpp", models=["/nowhere/x.gguf"]),
        EngineChoice(engine="tensorflow"),
        EngineChoice(engine="openai", url="localhost:8001"),
        EngineChoice(engine="ollama", url="http://"),
        EngineChoice(url="http://[1"),
        EngineChoice(engine="openai", url="http://h:1", models=["my model=m"]),
    ],
)
def test_a_choice_that_cannot_be_made_says_why(choice: EngineChoice) -> None:
    async def scenario() -> None:
        with pytest.raises(NoEngine):
            await choose_engine(choice)

    run(scenario())
