"""Why a miner gives a job back: what its program says and the coordinator records, letter for letter."""

from enum import StrEnum


class Cause(StrEnum):
    """What a miner may say."""

    ENGINE_ERROR = "ENGINE_ERROR"
    ENGINE_UNAVAILABLE = "ENGINE_UNAVAILABLE"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    CONTEXT_LENGTH_EXCEEDED = "CONTEXT_LENGTH_EXCEEDED"
    BAD_REQUEST = "BAD_REQUEST"
    TIMEOUT = "TIMEOUT"
    SHUTTING_DOWN = "SHUTTING_DOWN"


UNKNOWN = Cause.ENGINE_ERROR
"""What a cause that is none of these counts as."""

FINAL = frozenset({Cause.CONTEXT_LENGTH_EXCEEDED, Cause.BAD_REQUEST})
"""Causes that another miner would meet as well, if the miner is right: they go to no miner twice."""
