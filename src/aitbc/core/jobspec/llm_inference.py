"""The job type llm_inference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aitbc.core.jobspec.base import FieldError, InvalidResult, JobType, Request, Result, least_tokens
from aitbc.core.jobspec.reading import is_unicode, read_int, read_messages, read_number, read_stop, read_text

DEFAULT_MAX_TOKENS = 256
DEFAULT_TEMPERATURE = 0.7
DEFAULT_TOP_P = 0.9
MAX_TOKENS_LIMIT = 32_768
MAX_TEMPERATURE = 2
MAX_SEED = 2**53 - 1
SAMPLING = ("max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop")
"""What a job's params may name; `max_completion_tokens` is another name of `max_tokens`."""
FINISH_REASONS = frozenset({"stop", "length"})


class LlmInference(JobType):
    """Text from a prompt or a chat."""

    name = "llm_inference"
    result_needs_request = False
    result_field = "text"

    def read_input(self, body: Mapping[str, Any], where: str, errors: list[FieldError]) -> dict[str, Any]:
        prompt, messages = body.get("prompt"), body.get("messages")
        if prompt is not None and messages is not None:
            errors.append(FieldError(f"{where}prompt", "give a prompt or messages, not both"))
            return {}
        if messages is not None:
            return {"messages": read_messages(messages, f"{where}messages", errors)}
        if prompt is None:
            errors.append(FieldError(f"{where}prompt", "a prompt or messages are required"))
            return {}
        return {"prompt": read_text(prompt, f"{where}prompt", errors, allow_empty=False)}

    def read_params(self, params: Mapping[str, Any], where: str, errors: list[FieldError]) -> dict[str, Any]:
        def given(name: str, default: Any) -> Any:
            value = params.get(name)
            return default if value is None else value

        most, other_name = given("max_tokens", None), given("max_completion_tokens", None)
        if most is not None and other_name not in (None, most):
            errors.append(FieldError(f"{where}max_completion_tokens", "differs from max_tokens"))
        if most is None:
            most = DEFAULT_MAX_TOKENS if other_name is None else other_name
        read: dict[str, Any] = {
            "max_tokens": read_int(most, f"{where}max_tokens", errors, 1, MAX_TOKENS_LIMIT),
            "temperature": read_number(
                given("temperature", DEFAULT_TEMPERATURE), f"{where}temperature", errors, MAX_TEMPERATURE
            ),
            "top_p": read_number(given("top_p", DEFAULT_TOP_P), f"{where}top_p", errors, 1, above_zero=True),
        }
        if params.get("seed") is not None:
            read["seed"] = read_int(params["seed"], f"{where}seed", errors, 0, MAX_SEED)
        stop = params.get("stop")
        if stop is not None and stop != []:
            read["stop"] = read_stop(stop, f"{where}stop", errors)
        return read

    def completion_bound(self, request: Request) -> int:
        return int(request["params"]["max_tokens"])

    def context_floor(self, request: Request) -> int:
        asked = request["input"]
        texts = [asked["prompt"]] if "prompt" in asked else [one["content"] for one in asked["messages"]]
        return sum(map(least_tokens, texts)) + self.completion_bound(request)

    def read_result(self, result: object) -> Result:
        if isinstance(result, str):
            result = {"text": result}
        if not isinstance(result, Mapping) or not isinstance(result.get("text"), str):
            raise InvalidResult(
                'a result is a string or {"text": string, "finish_reason": "stop"|"length"|null}'
            )
        text, reason = result["text"], result.get("finish_reason")
        if reason is not None and not (isinstance(reason, str) and reason in FINISH_REASONS):
            raise InvalidResult('finish_reason is "stop", "length" or null')
        if not is_unicode(text):
            raise InvalidResult("text is not valid Unicode")
        return {"text": text, "finish_reason": reason}

    def result_bytes(self, result: Result) -> bytes:
        return str(result["text"]).encode("utf-8")

    def result_from_text(self, text: str) -> Result:
        return {"text": text}
