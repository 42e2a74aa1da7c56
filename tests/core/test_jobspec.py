from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc.core import jobspec
from aitbc.core.canonical import encode, sha256_hex
from aitbc.core.jobspec import (
    InvalidRequest,
    InvalidResult,
    UnknownJobType,
    build_request,
    encoded,
    job_type_named,
    parameters_of,
    prompt_hash,
    request_from_parameters,
    result_hash,
    result_text,
)

LLM = job_type_named("llm_inference")
EMBEDDING = job_type_named("embedding")


def llm(body: dict[str, Any], params: object = None, **extra: Any) -> dict[str, Any]:
    return build_request("llm_inference", body=body, params=params, **extra)


def faults(job_type: str, body: dict[str, Any], params: object = None, **extra: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        build_request(job_type, body=body, params=params, **extra)
    return {error.field: error.message for error in caught.value.errors}


def test_defaults_are_filled_in() -> None:
    assert llm({"prompt": "hi", "unknown": 1}, {"unknown": 2}) == {
        "type": "llm_inference",
        "model": "llama3.2",
        "input": {"prompt": "hi"},
        "params": {"max_tokens": 256, "temperature": 0.7, "top_p": 0.9},
    }


def test_all_is_kept_in_its_canonical_form() -> None:
    request = llm(
        {"messages": [{"role": "user", "content": "", "name": "x"}], "prompt": None},
        {"max_tokens": 1, "temperature": 2.0, "top_p": Decimal("0.5"), "seed": 0, "stop": "\n", "n": 3},
        model="Qwen/Qwen2.5-7B:q4@main+x",
    )
    assert request["input"] == {"messages": [{"role": "user", "content": ""}]}
    assert request["params"] == {"max_tokens": 1, "temperature": 2, "top_p": 0.5, "seed": 0, "stop": ["\n"]}
    assert isinstance(request["params"]["temperature"], int)
    assert llm({"prompt": "x"}, {"stop": [], "seed": None, "temperature": None}) == llm({"prompt": "x"})


def test_both_dialects_make_the_same_request() -> None:
    parameters = {"prompt": "hi", "model": "m", "max_tokens": 5, "temperature": 0}
    request = request_from_parameters("llm_inference", parameters)
    assert request == llm({"prompt": "hi"}, {"max_tokens": 5, "temperature": 0.0}, model="m")
    assert parameters_of(request) == {**parameters, "top_p": 0.9}
    assert prompt_hash(request) == sha256_hex(rfc8785.dumps(request))


def test_embedding_requests() -> None:
    request = request_from_parameters("embedding", {"input": "one", "temperature": "ignored"})
    assert request == {"type": "embedding", "model": "llama3.2", "input": {"input": ["one"]}, "params": {}}
    assert EMBEDDING.completion_bound(request) == 0
    assert EMBEDDING.prompt_bound(request) == len('{"input":["one"]}')


@pytest.mark.parametrize("name", ["", "LLM_INFERENCE", "x" * 1000, None, 3, ["llm_inference"], {}])
def test_unknown_job_types(name: object) -> None:
    with pytest.raises(UnknownJobType, match="known: llm_inference, embedding"):
        build_request(name, body={"prompt": "x"})
    with pytest.raises(UnknownJobType):
        request_from_parameters(name, None)


def test_names_every_fault_at_once() -> None:
    assert set(
        faults(
            "llm_inference",
            {"messages": [{"role": "boss", "content": 1}, "x", {"role": "user"}]},
            {"max_tokens": 0, "temperature": 2.1, "top_p": 0, "seed": -1, "stop": [""]},
            model="no spaces",
        )
    ) == {
        "model",
        *("messages[0].role", "messages[0].content", "messages[1]", "messages[2].content"),
        *("params.max_tokens", "params.temperature", "params.top_p", "params.seed", "params.stop"),
    }


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": 1}, "prompt"),
        ({"prompt": "\ud800"}, "prompt"),
        ({"prompt": "x", "messages": []}, "prompt"),
        ({"messages": []}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": [{"role": "user", "content": "x"}] * 257}, "messages"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": "\udfff"}]}, "messages[0].content"),
    ],
)
def test_refuses_input(body: dict[str, Any], field: str) -> None:
    assert list(faults("llm_inference", body)) == [field]


@pytest.mark.parametrize("value", [None, [], [1], ["x"] * 257, [""], {}, 3, "", ["\ud800"]])
def test_refuses_embedding_input(value: object) -> None:
    assert next(iter(faults("embedding", {"input": value}))).startswith("input")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("max_tokens", [0, 32_769, 1.5, 256.0, "1", True, [], 10**400]),
        ("temperature", [-0.1, 2.01, "0", True, float("nan"), float("inf"), 10**400, Decimal("1e999")]),
        ("top_p", [0, 0.0, 1.1, -1, "1", False, Decimal("1e-999999")]),
        ("seed", [-1, 2**53, 1.0, "1", True]),
        ("stop", ["", "x" * 65, [1], ["a"] * 5, [""], {}, 1, ["\ud800"], [["a"]]]),
    ],
)
def test_refuses_parameters(name: str, values: list[object]) -> None:
    for value in values:
        assert list(faults("llm_inference", {"prompt": "x"}, {name: value})) == [f"params.{name}"], value


@pytest.mark.parametrize("params", [[], "x", 1, True])
def test_parameters_are_an_object(params: object) -> None:
    assert "params" in faults("llm_inference", {"prompt": "x"}, params)
    with pytest.raises(InvalidRequest, match="parameters: must be an object"):
        request_from_parameters("llm_inference", params)


@pytest.mark.parametrize("model", ["", "a b", "x" * 129, "é", 1, [], "a\n", "a;b"])
def test_refuses_models(model: object) -> None:
    assert list(faults("llm_inference", {"prompt": "x"}, model=model)) == ["model"]


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
field_names = st.sampled_from(
    ["prompt", "messages", "input", "model", "max_tokens", "temperature", "top_p", "seed", "stop"]
)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(["llm_inference", "embedding"]), st.dictionaries(field_names, json_values))
def test_any_json_is_a_request_or_a_clear_refusal(job_type: str, parameters: dict[str, Any]) -> None:
    try:
        request = request_from_parameters(job_type, parameters)
    except InvalidRequest as error:
        assert error.errors
        return
    text = encode(request)
    assert json.loads(text) == request
    assert request_from_parameters(job_type, parameters_of(request)) == request


def test_text_results() -> None:
    request = llm({"prompt": "x"})
    result = LLM.check_result(request, "Grüße\0")
    assert result == {"text": "Grüße\0", "finish_reason": None}
    assert LLM.result_bytes(result) == "Grüße\0".encode()
    assert LLM.check_result(request, {"text": "", "finish_reason": "stop", "more": 1}) == {
        "text": "",
        "finish_reason": "stop",
    }
    assert result_hash("llm_inference", result) == sha256_hex("Grüße\0".encode())
    assert result_text("llm_inference", result) == "Grüße\0"
    assert LLM.result_from_text("Grüße\0") == {"text": "Grüße\0"}


@pytest.mark.parametrize(
    "result",
    [
        *(None, 1, [], {}, {"text": 1}, {"text": None}, {"text": "\ud800"}, "\udc00"),
        *({"text": "x", "finish_reason": "tired"}, {"text": "x", "finish_reason": ["stop"]}),
    ],
)
def test_refuses_text_results(result: object) -> None:
    with pytest.raises(InvalidResult):
        LLM.check_result(llm({"prompt": "x"}), result)


def test_embedding_results() -> None:
    request = build_request("embedding", body={"input": ["a", "b"]})
    result = EMBEDDING.check_result(request, {"embeddings": [[1, -0.0], [0.5, 1e-7]]})
    assert result == {"embeddings": [[1.0, 0.0], [0.5, 1e-7]]}
    assert str(result["embeddings"][0][1]) == "0.0"
    assert EMBEDDING.result_bytes(result) == b"[[1,0],[0.5,1e-7]]"
    assert EMBEDDING.check_result(request, [[1, 2], [3, 4]]) == {"embeddings": [[1.0, 2.0], [3.0, 4.0]]}


@pytest.mark.parametrize(
    "rows",
    [
        *(None, "[[1]]", [], [[1]], [[1], [2], [3]], [[1], [2, 3]], [[], []], [1, 2], [["1"], ["2"]]),
        *([[True], [False]], [[None], [1]], [[float("nan")], [1]], [[float("inf")], [1]], [[10**400], [1]]),
        *([[2**53], [1]], [[-(2.0**53)], [1]], [[Decimal("1e999")], [1]], [[0.0] * 16_385] * 2),
    ],
)
def test_refuses_embedding_results(rows: object) -> None:
    request = build_request("embedding", body={"input": ["a", "b"]})
    for result in (rows, {"embeddings": rows}):
        with pytest.raises(InvalidResult):
            EMBEDDING.check_result(request, result)


@settings(deadline=None)
@given(st.lists(st.floats(-(2.0**53) + 1, 2.0**53 - 1), min_size=1, max_size=8))
def test_embeddings_survive_as_text(vector: list[float]) -> None:
    result = EMBEDDING.read_result({"embeddings": [vector]})
    text = result_text("embedding", result)
    assert EMBEDDING.result_from_text(text) == result
    assert EMBEDDING.read_result(json.loads(json.dumps(result))) == result
    assert result_hash("embedding", result) == sha256_hex(text.encode())


def test_every_registered_type_says_all_that_a_receipt_needs() -> None:
    for name, kind in jobspec.JOB_TYPES.items():
        assert kind.name == name
        assert kind.unit_type == jobspec.UNIT_TOKENS
        assert kind.result_field


def test_a_request_is_written_in_parts_that_make_the_whole() -> None:
    for request in (
        llm({"prompt": 'é"\n'}, {"stop": ["a"], "seed": 3}, model="m"),
        llm({"messages": [{"role": "user", "content": "hi"}]}, {"temperature": 0.5}),
        build_request("embedding", body={"input": ["one", "two"]}),
    ):
        whole, asked = encoded(request)
        assert whole == rfc8785.dumps(request)
        assert asked == rfc8785.dumps(request["input"])
