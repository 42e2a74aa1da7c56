"""Which models an engine offers and under which names, and what is said of an engine that cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from aitbc.core.causes import Cause
from aitbc.miner.agent import EXIT_FAILED
from aitbc.miner.engines.base import Engine, EngineError, ModelInfo
from aitbc.miner.engines.names import Selection, public_name
from aitbc.miner.engines.ollama import OllamaEngine
from aitbc.miner.engines.openai_compatible import OpenAIEngine
from tests.miner.fake_engines import FakeOllama, FakeOpenAI
from tests.miner.fakes import FakeCoordinator, FakeServer, free_port
from tests.miner.harness import mining, run, until

MODELS = "/home/alice/models"


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("llama3.2:latest", "llama3.2:latest"),
        ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct"),
        ("hf.co/org/model-GGUF:Q4_K_M", "hf.co/org/model-GGUF:Q4_K_M"),
        (f"{MODELS}/Llama-3.2-1B-Q4_K_M.gguf", "Llama-3.2-1B-Q4_K_M"),
        (f"{MODELS}/llama/", "llama"),
        ("models/Llama.GGUF", "Llama"),
        ("./llama", "llama"),
        ("../up/llama", "llama"),
        ("~/llama", "llama"),
        ("C:\\Users\\alice\\llama.gguf", "llama"),
        ("c:/models/llama", "llama"),
        ("models\\llama", "llama"),
        ("file:///srv/llama", "llama"),
        (f"{MODELS}/big-00001-of-00007.gguf", "big"),
        ("/root/.cache/huggingface/hub/models--org--name/snapshots/0f3a", "org/name"),
        ("/srv/My Model (v2)", "My-Model-v2"),
        ("My Model", "My-Model"),
        ("/", "model"),
        ("\u6a21\u578b", "model"),
        ("x" * 500, "x" * 128),
    ],
)
def test_no_path_is_a_models_name(model: str, name: str) -> None:
    assert public_name(model) == name


def test_models_are_chosen_and_renamed() -> None:
    both = [f"{MODELS}/a/m.gguf", f"{MODELS}/b/m.gguf", "plain"]
    every = Selection()
    assert every.choose(both) == {"m": both[0], "m-2": both[1], "plain": "plain"}
    some = Selection(["plain", f"llama3.2={both[1]}", "small=m", "gone", "x=nowhere"])
    assert some.choose(both) == {"plain": "plain", "llama3.2": both[1], "small": both[0]}
    assert some.missing == ["gone", "nowhere"]
    assert some.engine_name("llama3.2") == both[1]
    assert some.hide(f"cannot load {both[1]}") == "cannot load llama3.2"
    tagged = Selection(["llama3.2", "chat=mistral"])
    assert tagged.choose(["llama3.2:latest", "mistral:latest"]) == {
        "llama3.2:latest": "llama3.2:latest",
        "chat": "mistral:latest",
    }


@pytest.mark.parametrize("only", [[], ["mine={}"]])
def test_a_servers_paths_stay_with_their_owner(tmp_path: Path, only: list[str]) -> None:
    path = f"{MODELS}/llama.gguf"
    name = "mine" if only else "llama"

    async def scenario() -> None:
        async with FakeCoordinator() as coordinator, FakeOpenAI() as server:
            server.models = [{"id": path, "meta": {"n_ctx": 512}}]
            engine = OpenAIEngine(server.url, only=[text.format(path) for text in only])
            async with mining(coordinator, tmp_path, engine) as miner:
                job = coordinator.submit(model=name)
                await until(lambda: job.status == "completed")
                assert server.bodies[0]["model"] == path

                async def refuse(body: dict[str, Any]) -> Response:
                    return JSONResponse({"error": f"the model {body['model']} is out of memory"}, 500)

                server.on_chat = refuse
                failed = coordinator.submit(model=name)
                await until(lambda: failed.failures)
                assert failed.failures[0]["message"] == f"the model {name} is out of memory"
            public = repr((coordinator.registrations, coordinator.heartbeats, coordinator.fail_bodies, job))
            assert "alice" not in public
            assert [model["name"] for model in coordinator.registration["models"]] == [name]
            assert "alice" not in repr(miner.events.all)

    run(scenario())


ODD: list[Any] = [
    JSONResponse({"error": "invalid file magic"}, 500),
    Response("<html>", media_type="text/html"),
    JSONResponse([]),
    JSONResponse({"capabilities": []}),
    JSONResponse({"capabilities": [["completion"], None], "details": "x", "model_info": 7}),
]
HARMLESS: list[Any] = [
    {"details": None, "model_info": {"general.architecture": ["x"]}, "capabilities": ["completion"]},
    {"details": {"family": {}, "quantization_level": 4}, "parameters": "num_ctx " + "9" * 5000},
    {"model_info": {"general.architecture": "a", "a.context_length": 10**30}, "parameters": 3},
]


def test_one_odd_model_hides_no_other(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as coordinator, FakeOllama() as server:
            for number, shown in enumerate(HARMLESS):
                server.models[f"harmless{number}"] = shown | {"details": shown.get("details")}
            for number in range(len(ODD)):
                server.models[f"odd{number}"] = {"details": {}}

            async def show(body: dict[str, Any]) -> Response:
                name = body["model"]
                return ODD[int(name[3:])] if name.startswith("odd") else JSONResponse(server.models[name])

            server.on_show = show
            async with mining(coordinator, tmp_path, OllamaEngine(server.url)) as miner:
                names = {model["name"] for model in coordinator.registration["models"]}
                assert names == {"llama3.2:latest", "nomic-embed-text:latest"} | {
                    f"harmless{number}" for number in range(len(HARMLESS))
                }
                skipped = {facts["model"]: facts["reason"] for facts in miner.events.named("model_skipped")}
                assert set(skipped) == {f"odd{number}" for number in range(len(ODD))}
                assert "invalid file magic" in skipped["odd0"]
                job = coordinator.submit(model="llama3.2")
                await until(lambda: job.status == "completed")

    run(scenario())


def test_odd_rows_of_a_listing_hide_no_other() -> None:
    async def scenario() -> None:
        async with FakeOpenAI() as server:
            server.models = [None, 7, {}, {"id": None}, {"id": ""}, {"id": "ok"}, {"id": "ok"}]  # type: ignore[list-item]
            server.models += [
                {"id": "odd", "meta": [], "max_model_len": -1},
                {"id": "huge", "meta": {"n_ctx": 1e9}},
            ]
            server.lm_studio = [None, {"id": "ok", "max_context_length": "x", "type": []}]  # type: ignore[list-item]
            engine = OpenAIEngine(server.url)
            assert await engine.models() == [ModelInfo(name, "openai") for name in ("huge", "odd", "ok")]
            await engine.close()

    run(scenario())


@pytest.mark.parametrize(
    "listing",
    [
        {"data": ["a", {"id": "b"}]},
        {"models": [{"name": "a", "model": "a"}, {"model": "b"}]},
        ["b", "a"],
        {"data": [{"id": "a"}, {"name": "b"}], "models": [{"name": "c"}]},
    ],
)
def test_a_listing_may_have_other_forms(listing: Any) -> None:
    async def scenario() -> None:
        async with Page("/v1/models", listing) as server:
            engine = OpenAIEngine(server.url)
            assert [model.name for model in await engine.models()] == ["a", "b"]
            await engine.close()

    run(scenario())


class Page(FakeServer):
    """A web server that is no engine."""

    def __init__(self, path: str = "/{rest:path}", body: Any = "<html>hello</html>") -> None:
        async def answer(request: Request) -> Response:
            headers = {"server": "nginx"}
            return HTMLResponse(body, 200, headers) if isinstance(body, str) else JSONResponse(body)

        super().__init__([Route(path, answer)])


async def reason_of(coordinator: FakeCoordinator, home: Path, engine: Engine) -> str:
    async with mining(coordinator, home, engine) as miner:
        assert await miner.task == EXIT_FAILED
        assert coordinator.registrations == []
        [facts] = miner.events.named("engine_unusable")
        return str(facts["reason"])


def test_dead_engine_wrong_address_and_wrong_model_are_different_messages(tmp_path: Path) -> None:
    async def scenario() -> None:
        nowhere = f"http://127.0.0.1:{free_port()}"
        health = Page("/health", {"status": "ok", "chain_id": "ait-devnet"})
        async with (
            FakeCoordinator() as coordinator,
            FakeOllama() as ollama,
            FakeOpenAI() as openai,
            Page() as page,
            health as other,
            FakeOpenAI() as locked,
        ):
            locked.refuses = 401

            table: list[tuple[Engine, list[str]]] = [
                (OllamaEngine(nowhere), [nowhere, "connection refused", "Is Ollama running"]),
                (OpenAIEngine(nowhere), [nowhere, "connection refused", "OpenAI-compatible server running"]),
                (OpenAIEngine("http://no-such-host.invalid"), ["no such host"]),
                (OpenAIEngine(locked.url), ["wants another key", "--engine-key"]),
                (OpenAIEngine(nowhere.replace("//", "//me:secret@")), [f" {nowhere}/v1"]),
                (OllamaEngine(openai.url), ["is not Ollama", "OpenAI-compatible", "--engine openai --url"]),
                (OpenAIEngine(ollama.url), ["it is Ollama", f"--engine ollama --url {ollama.url}"]),
                (OpenAIEngine(f"{openai.url}/api/v2"), [f"--url {openai.url}/v1"]),
                (OllamaEngine(page.url), ["is not Ollama", "nginx", "text/html"]),
                (OpenAIEngine(page.url), ["nginx", "text/html"]),
                (OpenAIEngine(other.url), ["AITBC coordinator", "--coordinator"]),
                (OllamaEngine(ollama.url, only=["mistral"]), ["no model mistral", "it has llama3.2:latest"]),
                (OpenAIEngine(openai.url, only=["a=b"]), ["no model b", "it has qwen"]),
            ]
            for engine, words in table:
                said = await reason_of(coordinator, tmp_path, engine)
                assert [word for word in words if word not in said] == [], said
                assert "secret" not in said
            ollama.models = {}
            assert "ollama pull" in await reason_of(coordinator, tmp_path, OllamaEngine(ollama.url))

    run(scenario())


def test_a_model_that_is_not_there_is_named_beside_those_that_are(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as coordinator, FakeOllama() as server:
            engine = OllamaEngine(server.url, only=["llama3.2", "typo"])
            async with mining(coordinator, tmp_path, engine) as miner:
                [facts] = miner.events.named("model_missing")
                assert facts["model"] == "typo" and "llama3.2:latest" in facts["found"]
                assert len(coordinator.registration["models"]) == 1

    run(scenario())


def test_an_engines_address_is_not_told_to_clients() -> None:
    async def scenario() -> None:
        url = f"http://alice:secret@127.0.0.1:{free_port()}"
        for engine in (OllamaEngine(url), OpenAIEngine(url)):
            with pytest.raises(EngineError) as caught:
                await engine.run(
                    {
                        "type": "llm_inference",
                        "model": "m",
                        "input": {"prompt": "x"},
                        "params": {"max_tokens": 1},
                    },
                    lambda pieces: None,
                )
            assert caught.value.cause == Cause.ENGINE_UNAVAILABLE
            assert "127.0.0.1" not in caught.value.message and "secret" not in caught.value.message
            await engine.close()

    run(scenario())
