from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc.core.canonical import encode
from aitbc.core.jobspec import build_request, job_type_named
from aitbc.core.metering import Metered, Usage, claimed_tokens, meter_within, read_usage


def meter(request: dict[str, Any], job_type: str, result: dict[str, Any], usage: Usage | None) -> Metered:
    """What a canonical result of the request is billed at."""
    kind = job_type_named(job_type)
    prompt, completion = kind.prompt_bound(request), kind.completion_bound(request)
    return meter_within(prompt, completion, len(kind.result_bytes(result)), usage)


COUNTS = st.integers(0, 2**53 - 1)


def request(prompt: str, max_tokens: int = 256) -> dict[str, Any]:
    return build_request("llm_inference", body={"prompt": prompt}, params={"max_tokens": max_tokens})


@settings(deadline=None)
@given(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=50),
    st.text(st.characters(codec="utf-8"), max_size=50),
    st.integers(1, 100),
    st.one_of(st.none(), st.builds(Usage, COUNTS, COUNTS)),
)
def test_never_bills_more_than_can_be_seen(
    prompt: str, answer: str, max_tokens: int, usage: Usage | None
) -> None:
    asked = request(prompt, max_tokens)
    metered = meter(asked, "llm_inference", {"text": answer, "finish_reason": None}, usage)
    assert metered.units == metered.prompt_tokens + metered.completion_tokens
    assert 0 <= metered.prompt_tokens <= len(encode(asked["input"]))
    assert 0 <= metered.completion_tokens <= min(max_tokens, len(answer.encode()) + 1)
    if usage is not None:
        assert metered.prompt_tokens <= usage.prompt_tokens
        assert metered.completion_tokens <= usage.completion_tokens
    assert metered.source == ("estimate" if usage is None else "engine")


def test_the_engines_count_stands_within_its_bounds() -> None:
    result = {"text": "four", "finish_reason": "stop"}
    assert meter(request("hello"), "llm_inference", result, Usage(3, 5)) == (3, 5, 8, "engine")
    assert meter(request("hello"), "llm_inference", result, Usage(10**6, 10**6)) == (18, 5, 23, "engine")
    assert meter(request("hello", 2), "llm_inference", result, Usage(3, 5)) == (3, 2, 5, "engine")


def test_an_estimate_is_a_token_for_four_bytes_rounded_up() -> None:
    result = {"text": "12345", "finish_reason": None}
    assert meter(request("hello"), "llm_inference", result, None) == (5, 2, 7, "estimate")
    assert meter(request("hello"), "llm_inference", {"text": ""}, None) == (5, 0, 5, "estimate")


def test_embeddings_bill_the_prompt_only() -> None:
    asked = build_request("embedding", body={"input": ["abc"]})
    result = {"embeddings": [[0.5] * 100]}
    assert meter(asked, "embedding", result, Usage(3, 7)) == (3, 0, 3, "engine")
    assert meter(asked, "embedding", result, None).completion_tokens == 0
    assert job_type_named("embedding").completion_bound(asked) == 0


def test_usage_as_sent() -> None:
    assert read_usage(None) is None
    assert read_usage({"prompt_tokens": 3, "total_tokens": 9}) == Usage(3, 0)
    assert read_usage(Usage(1, 2)) == Usage(1, 2)
    assert claimed_tokens(Usage(1, 2)) == (1, 2)
    assert claimed_tokens(None) == (0, 0)


@pytest.mark.parametrize("count", [-1, 1.0, "1", True, None, 2**53, []])
def test_refuses_other_usage(count: object) -> None:
    for name in ("prompt_tokens", "completion_tokens"):
        with pytest.raises(ValueError, match=name):
            read_usage({name: count})
    for usage in ([], "x", 1, True):
        with pytest.raises(ValueError, match="usage"):
            read_usage(usage)
