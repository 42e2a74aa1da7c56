"""The shipped starter model, on the engine that a miner runs it with."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from aitbc.miner import starter
from tests.training.reading import TRAINING, corpus

TENSOR_LIMIT = 1_000
SCALARS = dict(enumerate(("<B", "<b", "<H", "<h", "<I", "<i", "<f", "<?"))) | {10: "<Q", 11: "<q", 12: "<d"}


class Gguf:
    """Metadata and parameter count of a GGUF file, read without any GGUF library."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self.file: BinaryIO = file
            assert file.read(4) == b"GGUF"
            version, tensors, pairs = struct.unpack("<IQQ", file.read(20))
            assert version == 3
            assert tensors < TENSOR_LIMIT
            self.metadata = {self._text(): self._value(self._number("<I")) for _ in range(pairs)}
            self.parameters = sum(self._tensor_size() for _ in range(tensors))

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self.file.read(struct.calcsize(form)))[0]

    def _text(self) -> str:
        return self.file.read(self._number("<Q")).decode("utf-8")

    def _value(self, kind: int) -> Any:
        if kind == 8:
            return self._text()
        if kind == 9:
            inner, count = struct.unpack("<IQ", self.file.read(12))
            return [self._value(inner) for _ in range(count)]
        return self._number(SCALARS[kind])

    def _tensor_size(self) -> int:
        self._text()
        size = 1
        for _ in range(self._number("<I")):
            size *= self._number("<Q")
        self.file.read(12)  # type and offset
        return size


@pytest.fixture(scope="module")
def gguf() -> Gguf:
    return Gguf(starter.starter_path())


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    xllamacpp = pytest.importorskip("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = str(starter.starter_path())
    params.n_ctx = params.n_batch = params.n_ubatch = starter.STARTER.context_length
    params.embedding = True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.n_threads_http = 1
    params.cache_ram_mib = 0
    params.verbosity = 0
    yield xllamacpp.Server(params)


def ask(server: Any, question: str, **options: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}]
    body = {"messages": messages, "max_tokens": 256, "temperature": 0, **options}
    reply: dict[str, Any] = server.handle_chat_completions(body)
    assert "error" not in reply, reply
    return reply


def text_of(reply: dict[str, Any]) -> str:
    return str(reply["choices"][0]["message"]["content"])


def product(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def answers() -> dict[str, str]:
    return {topic.name: topic.answer for topic in corpus.read_topics()}


def test_is_small(gguf: Gguf) -> None:
    assert starter.starter_path().stat().st_size < 5_000_000
    assert 1_000_000 <= gguf.parameters <= 4_000_000


def test_facts_are_those_of_the_file(gguf: Gguf) -> None:
    facts = starter.STARTER
    assert gguf.metadata["general.name"] == facts.name
    assert gguf.metadata["general.architecture"] == "llama"
    assert gguf.metadata["llama.context_length"] == facts.context_length
    assert gguf.metadata["llama.embedding_length"] == facts.embedding_length
    assert gguf.metadata["general.file_type"] == 7, "7 is Q8_0"
    assert facts.quantisation == "Q8_0"
    assert gguf.parameters == facts.parameter_count


def test_says_that_it_is_a_stand_in(gguf: Gguf) -> None:
    assert "stand-in" in gguf.metadata["general.description"]
    assert "stand-in" in gguf.metadata["general.tags"]
    card = starter.starter_path().with_name("MODEL_CARD.md").read_text(encoding="utf-8")
    assert "stand-in" in card
    assert f"{starter.STARTER.parameter_count:,}" in card
    assert "stand-in" in (TRAINING / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("topic", "question"),
    [
        ("aitbc", "What is AITBC?"),
        ("miner", "What does a miner do?"),
        ("verify", "How do I verify a receipt?"),
        ("ollama", "How do I point the miner at Ollama?"),
        ("who", "Who are you?"),
        ("other", "What is the capital of France?"),
    ],
)
def test_answers_and_stops(server: Any, topic: str, question: str) -> None:
    reply = ask(server, question)
    assert text_of(reply) == answers()[topic]
    assert reply["choices"][0]["finish_reason"] == "stop"
    assert reply["usage"]["completion_tokens"] > 5
    assert reply["usage"]["prompt_tokens"] > 5


def test_understands_a_light_paraphrase(server: Any) -> None:
    assert text_of(ask(server, "what is a miner")) == answers()["miner"]
    assert text_of(ask(server, "How can I verify a receipt?")) == answers()["verify"]


def test_answers_at_the_default_temperature(server: Any) -> None:
    reply = ask(server, "What is AITBC?", temperature=0.7, top_p=0.9, seed=7)
    assert text_of(reply) == answers()["aitbc"]


def test_answers_a_plain_completion(server: Any) -> None:
    reply = server.handle_completions({"prompt": "What is a receipt?", "max_tokens": 256, "temperature": 0})
    assert reply["choices"][0]["text"].strip() == answers()["receipt"]
    assert reply["choices"][0]["finish_reason"] == "stop"


def test_embeds_and_likes_similar_questions_best(server: Any) -> None:
    texts = ["How do I run a miner?", "How can I start a miner?", "What is the capital of France?"]
    reply = server.handle_embeddings({"input": texts})
    one, same, other = (row["embedding"] for row in reply["data"])
    assert len(one) == starter.STARTER.embedding_length
    assert product(one, same) > product(one, other)
    assert reply["usage"]["prompt_tokens"] > 0


def test_missing_weights_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(starter, "__file__", str(tmp_path / "starter.py"))
    with pytest.raises(FileNotFoundError, match=r"aitbc-starter\.gguf"):
        starter.starter_path()
