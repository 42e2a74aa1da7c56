"""What a miner says of itself when it registers: what its engine really has, and what it asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aitbc.core.money import ait_number
from aitbc.core.signing import public_to_text
from aitbc.miner.engines.base import ModelInfo
from aitbc.miner.engines.names import MODEL_NAME
from aitbc.miner.gpu import Gpu
from aitbc.miner.installation import installation_id
from aitbc.miner.settings import MinerSettings

MAX_MODELS = 256


def offered(models: Sequence[ModelInfo]) -> list[ModelInfo]:
    """The models that a job can name: no job can carry a name with other characters in it."""
    return [model for model in models if MODEL_NAME.fullmatch(model.name)][:MAX_MODELS]


def above_cap(
    settings: MinerSettings, models: Sequence[ModelInfo], cap_units: int | None
) -> dict[int, list[str]]:
    """The models, by price, that ask more than clients pay by default (base units per 1000 tokens; None: unknown)."""
    above: dict[int, list[str]] = {}
    for model in models:
        price_units = settings.price_for(model.name)
        if cap_units is not None and price_units is not None and price_units > cap_units:
            above.setdefault(price_units, []).append(model.name)
    return above


def registration_body(
    settings: MinerSettings,
    miner_id: str,
    models: Sequence[ModelInfo],
    gpus: Sequence[Gpu],
    public_bytes: bytes,
    *,
    takeover: bool = False,
) -> dict[str, Any]:
    """The body of `POST /v1/miner/register`, with typed capabilities."""
    capabilities: dict[str, Any] = {
        "models": [_model_body(settings, model) for model in models],
        "gpus": [{"name": gpu.name, "memory_gb": gpu.memory_gb} for gpu in gpus],
        "job_types": sorted({kind for model in models for kind in model.job_types}),
        "concurrency": settings.concurrency,
        "public_key": public_to_text(public_bytes),
    }
    if settings.region:
        capabilities["region"] = settings.region
    body = {
        "miner_id": miner_id,
        "capabilities": capabilities,
        "installation_id": installation_id(settings.home),
    }
    return {**body, "takeover": True} if takeover else body


def _model_body(settings: MinerSettings, model: ModelInfo) -> dict[str, Any]:
    body: dict[str, Any] = {"name": model.name, "engine": model.engine}
    if model.context_length is not None:
        body["context_length"] = model.context_length
    if model.quantisation is not None:
        body["quantisation"] = model.quantisation
    price_units = settings.price_for(model.name)
    if price_units is not None:
        body["price_per_1k"] = ait_number(price_units)
    return body
