"""The bodies of job submissions: one function for each kind of job, one set of options for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, TypedDict, Unpack

from aitbc.core.money import ait_number, parse_ait

JobBody = dict[str, Any]
"""The JSON object that submits a job."""

Money = Decimal | int | str | float
"""An amount of AIT; at most 8 decimals. A float is taken at its shortest decimal text."""


class JobOptions(TypedDict, total=False):
    """What may be said of a job beside its input. What is left out is the network's default.

    model: its name, as miners advertise it. max_tokens: the most to generate, which bounds the price.
    temperature, top_p, seed, stop: as in other model APIs. min_memory_gb, region, miner_id: which miners may
    run it. max_price: AIT per 1000 tokens, at most. priority: 0 to 9, higher first. ttl_s: seconds that it may
    wait for a miner. max_run_s: seconds that a run of it may take. payment: "auto" (reserved at once) or "manual"
    (waits until its escrow is paid).
    """

    model: str
    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    stop: Sequence[str]
    min_memory_gb: float
    region: str
    miner_id: str
    max_price: Money
    priority: int
    ttl_s: int
    max_run_s: int
    payment: str


_PARAMS = ("max_tokens", "temperature", "top_p", "seed", "stop")
_CONSTRAINTS = ("min_memory_gb", "region", "miner_id")
_TOP = ("priority", "ttl_s", "max_run_s", "payment")


def prompt_job(prompt: str, **options: Unpack[JobOptions]) -> JobBody:
    """A job that answers a prompt."""
    return _text_job({"prompt": prompt}, options)


def chat_job(messages: Sequence[Mapping[str, str]], **options: Unpack[JobOptions]) -> JobBody:
    """A job that answers a conversation: `{"role": system|user|assistant|tool, "content": text}`, …"""
    return _text_job({"messages": [dict(message) for message in messages]}, options)


def embedding_job(inputs: str | Sequence[str], **options: Unpack[JobOptions]) -> JobBody:
    """A job that embeds one text or several: one vector each, in order."""
    texts = [inputs] if isinstance(inputs, str) else list(inputs)
    params, constraints, rest = _sort(options)
    parameters: JobBody = {"input": texts, **params}
    if "model" in options:
        parameters["model"] = options["model"]
    return {"job_type": "embedding", "parameters": parameters, **constraints, **rest}


def _text_job(source: JobBody, options: JobOptions) -> JobBody:
    params, constraints, rest = _sort(options)
    body: JobBody = dict(source)
    if "model" in options:
        body["model"] = options["model"]
    if params:
        body["params"] = params
    return {**body, **constraints, **rest}


def _sort(options: JobOptions) -> tuple[JobBody, JobBody, JobBody]:
    """(generation parameters, {"constraints": …} or {}, what stands at the top), as JSON values."""
    values: dict[str, Any] = dict(options)
    unknown = values.keys() - {"model", "max_price", *_PARAMS, *_CONSTRAINTS, *_TOP}
    if unknown:
        raise TypeError(f"unknown job option: {', '.join(sorted(unknown))}")
    params = {name: values[name] for name in _PARAMS if name in values}
    if "stop" in params:
        params["stop"] = [params["stop"]] if isinstance(params["stop"], str) else list(params["stop"])
    constraints = {name: values[name] for name in _CONSTRAINTS if name in values}
    if "max_price" in values:
        constraints["max_price"] = ait_number(parse_ait(values["max_price"]))
    top = {name: values[name] for name in _TOP if name in values}
    return params, ({"constraints": constraints} if constraints else {}), top
