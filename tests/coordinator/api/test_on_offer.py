"""A client learns at once when nobody would run its job: the default model, warnings, and what is on offer."""

from typing import Any

import pytest

from aitbc.coordinator.database import Tx
from aitbc.coordinator.flows.shared import on_offer
from aitbc.coordinator.jobs.rows import JobRow
from aitbc.coordinator.miners.on_offer import NOTED_MS, REMEMBERED, TRUSTED_MS, OnOffer
from aitbc.core.clock import ManualClock
from aitbc.core.jobspec import DEFAULT_MODEL
from tests.coordinator.api.support import Market, expect_error

BY_RESOURCE = ("/v1/jobs", {"prompt": "Hi"})
BY_ROLE = ("/v1/client/jobs", {"job_type": "llm_inference", "parameters": {"prompt": "Hi"}})


def register(api: Market, miner_id: str, *models: str, **more: Any) -> None:
    body = {
        "miner_id": miner_id,
        "models": [{"name": name, "price_per_1k": more.pop("price", 0.01)} for name in models],
        "job_types": ["llm_inference"],
        **more,
    }
    assert api.post("/v1/miners/register", api.key("miner", "mill"), json=body).status_code == 201


def submit(api: Market, route: tuple[str, dict[str, Any]] = BY_RESOURCE, **more: Any) -> dict[str, Any]:
    path, body = route
    answer = api.post(path, api.key("client", "alice"), json={**body, **more})
    assert answer.status_code == 201, answer.text
    job: dict[str, Any] = answer.json()
    return job


@pytest.mark.parametrize("route", [BY_RESOURCE, BY_ROLE])
def test_the_documented_default_stays_where_it_is_served(api: Market, route: Any) -> None:
    register(api, "m1", DEFAULT_MODEL, "another")
    job = submit(api, route)
    assert (job["model"], job["warnings"]) == (DEFAULT_MODEL, [])


@pytest.mark.parametrize("route", [BY_RESOURCE, BY_ROLE])
@pytest.mark.parametrize("name", ["tiny", "tiny:latest"])
def test_without_a_model_the_only_one_on_offer_is_meant(api: Market, route: Any, name: str) -> None:
    register(api, "m1", name)
    register(api, "m2", name)
    job = submit(api, route)
    assert (job["model"], job["warnings"]) == (name, [])
    assert job["parameters"]["model"] == name
    client, miner = api.key("client", "alice"), api.key("miner", "mill")
    quoted = api.post("/v1/jobs/quote", client, json=route[1]).json()
    assert quoted["eligible_miners"] == 2
    batch = api.post("/v1/jobs/batch", client, json={"jobs": [route[1], {**route[1], "model": "x"}]}).json()
    assert batch["items"][0]["job"]["warnings"] == []
    leased = api.get("/v1/miner/jobs", miner, params={"miner_id": "m1"}).json()["jobs"]
    assert leased[0]["request"]["model"] == name


def test_a_miner_of_any_model_serves_the_default(api: Market) -> None:
    api.post(
        "/v1/miners/register",
        api.key("miner", "mill"),
        json={"miner_id": "m", "capabilities": ["llm_inference"]},
    )
    job = submit(api)
    assert (job["model"], job["warnings"]) == (DEFAULT_MODEL, [])


def test_a_choice_is_the_clients(api: Market) -> None:
    register(api, "m1", "tiny", "small")
    job = submit(api)
    assert job["model"] == DEFAULT_MODEL
    (warning,) = job["warnings"]
    assert (warning["code"], warning["models"]) == ("MODEL_NOT_SERVED", ["small", "tiny"])
    assert DEFAULT_MODEL in warning["message"]
    assert "small, tiny" in warning["message"]


def test_nobody_is_here(api: Market) -> None:
    job = submit(api)
    (warning,) = job["warnings"]
    assert (warning["code"], warning["models"]) == ("MODEL_NOT_SERVED", [])


def test_a_warning_lasts_as_long_as_what_it_warns_of(api: Market, clock: ManualClock) -> None:
    client = api.key("client", "alice")
    register(api, "m1", "tiny")
    job = submit(api, model="huge")
    assert [warning["code"] for warning in job["warnings"]] == ["MODEL_NOT_SERVED"]
    for path in ("/v1/jobs/{}", "/v1/client/jobs/{}/status", "/v1/jobs/{}/result"):
        assert api.get(path.format(job["job_id"]), client).json()["warnings"] == job["warnings"]
    register(api, "m2", "huge")
    assert api.get(f"/v1/jobs/{job['job_id']}", client).json()["warnings"] == []
    assert submit(api, model="huge")["warnings"] == []
    api.post("/v1/miner/deregister", api.key("miner", "mill"), json={"miner_id": "m2"})
    clock.advance(TRUSTED_MS / 1000 + 1)
    assert submit(api, model="huge")["warnings"][0]["models"] == ["tiny"]


def test_constraints_that_no_miner_meets_are_said(api: Market) -> None:
    register(api, "m1", "tiny", price=0.05, region="eu", gpus=[{"name": "gpu", "memory_gb": 8}])
    for constraints, code in (
        ({"max_price": 0.01}, "PRICE_ABOVE_CAP"),
        ({"region": "us"}, "NO_MINER_FITS"),
        ({"min_memory_gb": 80}, "NO_MINER_FITS"),
        ({"miner_id": "m2"}, "NO_MINER_FITS"),
    ):
        job = submit(api, model="tiny", constraints=constraints)
        assert [warning["code"] for warning in job["warnings"]] == [code], constraints
    assert "0.05" in submit(api, model="tiny", constraints={"max_price": 0.01})["warnings"][0]["message"]
    fits = {"max_price": 0.05, "region": "eu", "min_memory_gb": 8, "miner_id": "m1"}
    assert submit(api, model="tiny", constraints=fits)["warnings"] == []


@pytest.mark.parametrize("route", [BY_RESOURCE, BY_ROLE])
def test_sampling_parameters_are_understood_where_other_apis_have_them(api: Market, route: Any) -> None:
    register(api, "m1", "tiny")
    given = {"max_tokens": 7, "temperature": 0.25, "top_p": 0.5, "seed": 3, "stop": ["."]}
    job = submit(api, route, **given)
    assert job["params"] == given
    assert job["warnings"] == []
    assert submit(api, route, max_completion_tokens=9)["params"]["max_tokens"] == 9
    client, (path, body) = api.key("client", "alice"), route
    inside = "parameters" if "parameters" in body else "params"
    both = {**body, "max_tokens": 7, inside: {**body.get(inside, {}), "max_tokens": 8}}
    error = expect_error(api.post(path, client, json=both), 400, "INVALID_REQUEST")
    assert error["error"]["details"]["fields"][0]["field"] == "max_tokens"
    for bad in ({"max_tokens": "many"}, {"temperature": 9}, {"max_completion_tokens": 0}):
        expect_error(api.post(path, client, json={**body, **bad}), 400, "INVALID_REQUEST")


@pytest.mark.parametrize("route", [BY_RESOURCE, BY_ROLE])
def test_what_is_not_understood_is_named(api: Market, route: Any) -> None:
    register(api, "m1", "tiny")
    inside = "parameters" if "parameters" in route[1] else "params"
    job = submit(api, route, n=2, **{inside: {**route[1].get(inside, {}), "top_k": 40}})
    (warning,) = job["warnings"]
    assert warning["code"] == "FIELDS_IGNORED"
    assert f"n, {inside}.top_k" in warning["message"]
    many = submit(api, route, **{f"{number:03}" + "x" * 500: 1 for number in range(500)})
    assert len(many["warnings"][0]["message"]) < 2000


def test_only_good_news_is_remembered_and_not_for_long() -> None:
    known = OnOffer()
    assert not known.knows("a", 0)
    known.remember("a", 1000)
    assert known.knows("a", 1000)
    assert known.knows("a", 1000 + TRUSTED_MS)
    assert not known.knows("a", 1001 + TRUSTED_MS)
    assert not known.knows("a", 0), "a clock that was set back makes nothing last longer"
    for number in range(2 * REMEMBERED):
        known.remember(number, 1000)
    assert not known.knows("a", 1000)
    assert known.knows(2 * REMEMBERED - 1, 1000)
    assert len(known._until_ms) == REMEMBERED


def test_a_warning_is_noted_for_a_moment_only(
    api: Market, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks at waiting jobs again and again does not have it found out each time."""
    client = api.key("client", "alice")
    jobs = [submit(api)["job_id"] for _ in range(2)]
    looked: list[str] = []
    found_out = on_offer._why

    def counted(tx: Tx, job: JobRow) -> on_offer.Warned:
        looked.append(job.id)
        return found_out(tx, job)

    monkeypatch.setattr(on_offer, "_why", counted)

    def warned(job_id: str) -> list[dict[str, Any]]:
        shown: list[dict[str, Any]] = api.get(f"/v1/jobs/{job_id}", client).json()["warnings"]
        return shown

    assert [warned(job)[0]["code"] for job in jobs * 3] == ["MODEL_NOT_SERVED"] * 6
    assert looked == []
    clock.advance(NOTED_MS / 1000 + 0.001)
    assert warned(jobs[0]) and looked == jobs[:1]
    register(api, "far", DEFAULT_MODEL, region="eu")
    assert warned(jobs[0]) == [], "a miner that came is seen at once"


def test_a_noted_warning_names_the_job_that_is_looked_at(api: Market) -> None:
    register(api, "far", "m", region="eu")
    jobs = [submit(api, model="m", constraints={"region": "us"})["job_id"] for _ in range(2)]
    for job in jobs * 2:
        (warning,) = api.get(f"/v1/jobs/{job}", api.key("client", "alice")).json()["warnings"]
        assert job in warning["message"]


def test_notes_are_few() -> None:
    known = OnOffer()
    for number in range(2 * REMEMBERED):
        known.note(number, "w", 1000)
    assert known.noted(2 * REMEMBERED - 1, 1000 + NOTED_MS) == "w"
    assert known.noted(2 * REMEMBERED - 1, 1001 + NOTED_MS) is None
    assert known.noted(2 * REMEMBERED - 1, 0) is None
    assert known.noted(0, 1000) is None
    assert len(known._noted) == REMEMBERED
