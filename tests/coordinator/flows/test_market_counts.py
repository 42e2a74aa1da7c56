"""What an explanation and a quote count of the miners: as the rule says for each of them, and at a bounded cost."""

import random
from typing import Any

import pytest

from aitbc.coordinator.flows.shared import supply
from aitbc.coordinator.flows.views import explain
from aitbc.coordinator.jobs.matching.constraints import Ask, MinerNeeds
from aitbc.coordinator.jobs.matching.rules import RULES, MinerProfile
from aitbc.coordinator.parameters import service as parameters
from tests.support.flows import MODEL, Market, spec_of

MODELS = ("llama", "mistral", "phi")
WANTED = [
    RULES.wanted(
        "llm_inference",
        model,
        max_price_units=cap,
        min_memory_mb=memory,
        region=region,
        required_miner_id=required,
    )
    for model in (*MODELS, "none")
    for cap in (100, 1000)
    for memory in (0, 8000)
    for region in ("", "eu")
    for required in ("", "m3", "nobody")
]


def test_miners_are_counted_as_the_rule_says(market: Market) -> None:
    chance = random.Random(7)
    profiles = []
    for number in range(24):
        models = {name: chance.choice((50, 100, 500, 2000)) for name in MODELS if chance.random() < 0.6}
        if chance.random() < 0.2:
            models = {}  # serves any model
        types = chance.choice((("llm_inference",), ("embedding",), ("llm_inference", "embedding")))
        region, memory_mb = chance.choice(("", "eu", "us")), chance.choice((4000, 16_000))
        market.miner(f"m{number}", models=models, job_types=types, region=region, memory_mb=memory_mb)
        offered = models or {"*": None}
        asks = tuple(Ask(kind, name, price or 0) for name, price in offered.items() for kind in types)
        profiles.append((MinerProfile(MinerNeeds(f"m{number}", region, memory_mb), asks), not models))
    for wanted in WANTED:
        counted = market.db.read_sync(explain._count, market.ctx, wanted)
        expected: dict[str, int] = {}
        fit = 0
        for profile, any_model in profiles:
            asked = wanted.but(max_price_units=2**62) if any_model else wanted
            reason = RULES.reason_against(profile, asked)
            if any_model and not reason and wanted.limits["max_price_units"] < default_price(market):
                reason = "PRICE_ABOVE_CAP"
            if reason:
                expected[reason] = expected.get(reason, 0) + 1
            fit += not reason
        assert (counted.reasons, len(counted.fit), counted.free) == (expected, fit, fit), wanted


def default_price(market: Market) -> int:
    return market.db.read_sync(parameters.get, "default_price_per_1k_tokens")


def test_so_many_miners_are_looked_at(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cheapest of the model; and so many of those that do not serve it."""
    for number in range(9):
        market.miner(f"m{number}", models={"llama": 500 - number})
    monkeypatch.setattr(supply, "MOST_LOOKED_AT", 4)
    quote = market.db.read_sync(explain.quote, market.ctx, spec_of())
    assert (quote.eligible_miners, quote.asks_units) == (4, (492, 495, 493))
    none = market.db.read_sync(explain.quote, market.ctx, spec_of(model="none"))
    assert none.reasons == {"MODEL_NOT_SERVED": 4}


def test_a_typical_price_is_of_recent_answers_of_the_model(market: Market) -> None:
    client, miner = market.client(), market.miner(models={"llama": 1000, "other": 1000}, concurrency=4)
    assert market.db.read_sync(explain.quote, market.ctx, spec_of()).typical_units is None
    for model, usage in (("llama", (1, 1)), ("llama", (2, 2)), ("llama", (2, 4)), ("other", (2, 8))):
        job = market.submit(client, model=model)
        market.take(miner)
        market.clock.advance(2)
        market.complete(miner, job.id, usage=usage)
    typical = market.db.read_sync(explain.quote, market.ctx, spec_of()).typical_units
    assert typical == market.receipts()[2].price_units
    market.clock.advance(86_401)
    assert market.db.read_sync(explain.quote, market.ctx, spec_of()).typical_units is None


def test_what_is_recent_are_the_newest_answers_of_the_model_and_the_type(market: Market) -> None:
    client, miner = market.client(), market.miner(concurrency=4, job_types=("llm_inference", "embedding"))
    for run_s in (1000, 1000, *range(explain.RECENT)):
        market.submit(client)
        (job,) = market.take(miner)
        market.clock.advance(run_s)
        if run_s == 1000:
            market.heartbeat(miner)
        market.complete(miner, job.id)
    market.submit(client)
    assert [row.finished_at_ms - row.started_at_ms for row in recent(market, "llm_inference")] == [
        run_s * 1000 for run_s in reversed(range(explain.RECENT))
    ]
    assert recent(market, "embedding") == []


def recent(market: Market, job_type: str) -> list[Any]:
    return market.db.read_sync(
        lambda tx: tx.all(explain.RECENT_OF_MODEL, model=MODEL, job_type=job_type, since="")
    )
