"""How many tokens a finished job is billed for: the engine's count, held to what can be checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

ENGINE = "engine"
ESTIMATE = "estimate"
SOURCES = frozenset({ENGINE, ESTIMATE})
BYTES_PER_TOKEN = 4
CANCELLED_TOKENS_PER_S = 10
"""What a cancelled run counts as having generated each second, where its miner reported no progress."""
MOST_TOKENS_PER_S = 200
"""What a report of progress counts for at most, each second of the run."""


class Usage(NamedTuple):
    """Token counts as an engine reports them."""

    prompt_tokens: int
    completion_tokens: int


class Metered(NamedTuple):
    """What is billed. `units` = prompt + completion tokens; `source` is "engine" or "estimate"."""

    prompt_tokens: int
    completion_tokens: int
    units: int
    source: str


def read_usage(value: object) -> Usage | None:
    """The usage a miner sent: None, or an object with two counts (a missing one is 0).

    ValueError: not an object, or a count that is not an integer from 0 to 2**53-1.
    """
    if value is None:
        return None
    if isinstance(value, Usage):
        return value
    if not isinstance(value, Mapping):
        raise ValueError("usage is an object with prompt_tokens and completion_tokens")
    return Usage(_count(value, "prompt_tokens"), _count(value, "completion_tokens"))


def _count(value: Mapping[str, Any], name: str) -> int:
    count = value.get(name, 0)
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count < 2**53:
        raise ValueError(f"usage.{name} is an integer that is not negative")
    return count


def meter_within(prompt_bound: int, completion_bound: int, result_bytes: int, usage: Usage | None) -> Metered:
    """The tokens to bill for a result of so many bytes; the bounds of its job in tokens.

    Prompt tokens never exceed the input's bytes; completion tokens never exceed the job's bound, nor the
    result's bytes + 1 (the end-of-text token has none). Without usage: a token per four bytes, rounded up,
    within the same bounds.
    """
    if usage is None:
        source = ESTIMATE
        prompt, completion = -(-prompt_bound // BYTES_PER_TOKEN), -(-result_bytes // BYTES_PER_TOKEN)
    else:
        source = ENGINE
        prompt, completion = usage
    prompt = min(prompt, prompt_bound)
    completion = min(completion, completion_bound, result_bytes + 1)
    return Metered(prompt, completion, prompt + completion, source)


def cancelled_units(
    prompt_bound: int, completion_bound: int, run_ms: int, progress_tokens: int = 0, progress_ms: int = 0
) -> int:
    """The tokens to bill for a run that its client cancelled after `run_ms`.

    The prompt as `meter_within` estimates it, and what was generated: as fast as the miner's last report says,
    `progress_tokens` after `progress_ms` of the run, within MOST_TOKENS_PER_S; CANCELLED_TOKENS_PER_S without a
    report (`progress_ms` 0). Never more than the answer might have had; nothing for a run of no time.
    """
    if run_ms <= 0:
        return 0
    if progress_ms > 0:
        counted = min(progress_tokens, MOST_TOKENS_PER_S * progress_ms // 1000)
        generated = counted * max(run_ms, progress_ms) // progress_ms
    else:
        generated = CANCELLED_TOKENS_PER_S * run_ms // 1000
    return -(-prompt_bound // BYTES_PER_TOKEN) + min(completion_bound, generated)


def claimed_tokens(usage: Usage | None) -> tuple[int, int]:
    """The counts a miner signs: its engine's, or (0, 0) where the engine reports none."""
    return (usage.prompt_tokens, usage.completion_tokens) if usage is not None else (0, 0)
