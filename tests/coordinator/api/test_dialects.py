"""A third dialect is a folder and not a fork: one of a few lines speaks in its own words, whatever goes wrong."""

from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import orjson
import pytest
from pydantic import BaseModel
from starlette.responses import Response

from aitbc.connections.limits import Why
from aitbc.coordinator.api.acts import jobs as acts
from aitbc.coordinator.api.app import ROUTERS, create_app
from aitbc.coordinator.api.plumbing.auth import Client
from aitbc.coordinator.api.plumbing.dialect import Dialect
from aitbc.coordinator.api.plumbing.once import Form, perform
from aitbc.coordinator.api.plumbing.requests import ApiRequest
from aitbc.coordinator.api.plumbing.routing import Body, Router
from aitbc.coordinator.api.plumbing.terms import CoordinatorTerms
from aitbc.coordinator.api.schemas.jobs import Submission
from aitbc.coordinator.flows.acts import job_lifecycle
from aitbc.coordinator.flows.shared.job_views import JobView
from aitbc.coordinator.ledger import service as ledger
from aitbc.core import jobspec
from tests.coordinator.api.conftest import sqlite_only
from tests.coordinator.api.support import Headers, Market, expect_error

pytestmark = sqlite_only


# --- the dialect ------------------------------------------------------------------------------------------


class Sorry(BaseModel):
    sorry: dict[str, str]


TOY = Dialect(
    lambda error, _request_id: orjson.dumps({"sorry": {"type": error.code.lower(), "text": error.message}}),
    Sorry,
    "application/toy+json",
)
router = Router(TOY, tags=["Toy"])


class Question(Body):
    words: int


@router.post("/v1/toy/questions", responses=TOY.errors(400, 401))
async def ask(request: ApiRequest, principal: Client, body: Question) -> Response:
    """How many units more than words."""
    money = await request.runtime.db.read(ledger.balance, principal.account_id)
    if body.words > 9:
        raise RuntimeError("more than anybody can count")
    content = orjson.dumps({"toy": money.available_units - body.words})
    return Response(content, media_type=TOY.media_type)


class Wish(Submission):
    """A job in the toy's own form."""

    wish: str

    def unnamed_model(self) -> str | None:
        return "llm_inference"

    def params_given(self) -> Any:
        return None

    def request(self, model: str | None = None) -> jobspec.Request:
        return jobspec.build_request("llm_inference", model=model, body={"prompt": self.wish})


@router.post("/v1/toy/wishes", status_code=201)
async def wish(request: ApiRequest, principal: Client, body: Wish) -> Response:
    """A job, named as the toy names it."""
    asked = body.canonical(await acts.model_for(request, body))
    ctx, spec = request.runtime.context, body.to_spec(asked)
    act = partial(
        job_lifecycle.submit_shown, ctx=ctx, principal=principal, request=asked, spec=spec, ignored=[]
    )
    return await perform(request, principal, act, Form(201, wished, media_type=TOY.media_type))


def wished(view: JobView) -> bytes:
    return orjson.dumps({"wish": view.job.id, "because": [warned.code for warned in view.warned]})


# --- what it says -----------------------------------------------------------------------------------------


def sorry(answer: httpx.Response, status: int, code: str) -> str:
    """Holds an answer to the toy's error body; gives its text."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/toy+json"
    assert answer.json().keys() == {"sorry"}
    assert answer.json()["sorry"].keys() == {"type", "text"}
    assert answer.json()["sorry"]["type"] == code
    assert answer.headers["x-request-id"]
    return str(answer.json()["sorry"]["text"])


@pytest.fixture
def start_toy(start_api: Callable[..., Market]) -> Callable[..., Market]:
    def start(**settings: Any) -> Market:
        market = start_api(**settings)
        market.app = create_app(market.runtime, (*ROUTERS, router))
        transport = httpx.ASGITransport(app=market.app)
        market.client = httpx.AsyncClient(transport=transport, base_url="http://api", timeout=30)
        return market

    return start


def ask_toy(api: Market, headers: Headers | None, words: Any = 1, **options: Any) -> httpx.Response:
    return api.post("/v1/toy/questions", headers, **(options or {"json": {"words": words}}))


def test_its_own_bodies(start_toy: Callable[..., Market]) -> None:
    api = start_toy(max_body_bytes=2000)
    client = api.key("client", grant_units=100)
    good = ask_toy(api, client)
    assert (good.status_code, good.json(), good.headers["content-type"]) == (200, {"toy": 99}, TOY.media_type)
    assert "words" in sorry(ask_toy(api, client, "many"), 400, "invalid_request")
    assert sorry(ask_toy(api, client, content=b"{"), 400, "invalid_request")
    assert sorry(ask_toy(api, client, content=b"[" * 3000), 413, "body_too_large")
    refused = ask_toy(api, None)
    assert sorry(refused, 401, "unauthorized")
    assert refused.headers["www-authenticate"], "what is HTTP's is the same in all dialects"
    assert sorry(ask_toy(api, api.key("miner")), 403, "forbidden")
    assert sorry(ask_toy(api, client, 10), 500, "internal_error")
    wrong = api.get("/v1/toy/questions", client)
    assert sorry(wrong, 405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"


def test_paths_of_its_own(start_toy: Callable[..., Market]) -> None:
    """What lies below its routes alone is refused in its words, under /api too; all else in the API's own."""
    api = start_toy()
    for path in ("/v1/toy/nothing", "/v1/toy", "/api/v1/toy/questions/1", "/v1/toy/questions/1/2"):
        sorry(api.get(path), 404, "not_found")
    for path in ("/v1/toys", "/v1/nothing", "/v1", "/", "/toy", "/v1/jobs/j1/toy"):
        expect_error(api.get(path), 404, "NOT_FOUND")
    expect_error(api.post("/v1/jobs", None, json={"prompt": "x"}), 401, "UNAUTHORIZED")


def test_rate_limits(start_toy: Callable[..., Market]) -> None:
    api = start_toy(rate_limit_client=2, rate_limit_user=2)
    client = api.key("client")
    assert [ask_toy(api, client).status_code for _ in range(2)] == [200, 200]
    refused = ask_toy(api, client)
    assert sorry(refused, 429, "rate_limited")
    assert int(refused.headers["retry-after"]) >= 1
    [_, _, guessed] = [ask_toy(api, {"X-Api-Key": f"aitbc_client_{n}"}) for n in range(3)]
    assert sorry(guessed, 429, "rate_limited")


def test_a_busy_coordinator(start_toy: Callable[..., Market], monkeypatch: pytest.MonkeyPatch) -> None:
    api = start_toy()
    client = api.key("client")

    def full(*_: Any) -> None:
        from aitbc.coordinator.errors import ServerBusy

        raise ServerBusy()

    monkeypatch.setattr(ledger, "balance", full)
    refused = ask_toy(api, client)
    assert sorry(refused, 503, "server_busy")
    assert refused.headers["retry-after"] == "1"


def test_what_the_connection_refuses(start_toy: Callable[..., Market]) -> None:
    api = start_toy()
    terms = CoordinatorTerms(api.runtime.settings, api.app.dialect_at)
    for why in Why:
        for target in (b"/v1/toy/questions", b"/api/v1/toy/questions?a=/v1/jobs", b"/v1/toy/%71uestions"):
            answer = terms.answer(why, target)
            assert orjson.loads(answer.body).keys() == {"sorry"}
            assert (b"content-type", b"application/toy+json") in answer.headers
        for target in (b"", b"/v1/jobs", b"/v1/jobs?x=/v1/toy/questions", b"\xff"):
            assert "error_code" in orjson.loads(terms.answer(why, target).body)


def test_the_document_says_it(start_toy: Callable[..., Market]) -> None:
    document = start_toy().app.app.openapi()
    responses = document["paths"]["/v1/toy/questions"]["post"]["responses"]
    for status in ("400", "401"):
        form = responses[status]["content"]["application/json"]["schema"]
        assert form == {"$ref": "#/components/schemas/Sorry"}


def test_a_job_in_its_own_shape_once_per_key(start_toy: Callable[..., Market]) -> None:
    """The same acts, the same admission and the same memory of keys, in the toy's words."""
    api = start_toy()
    client = {**api.key("client"), "Idempotency-Key": "k1"}
    first = api.post("/v1/toy/wishes", client, json={"wish": "rain"})
    assert (first.status_code, first.json().keys()) == (201, {"wish", "because"})
    assert first.json()["because"] == ["MODEL_NOT_SERVED"]
    again = api.post("/v1/toy/wishes", client, json={"wish": "rain"})
    assert again.content == first.content
    assert again.headers["content-type"] == first.headers["content-type"] == TOY.media_type
    assert again.headers["idempotency-replayed"] == "true"
    other = api.post("/v1/toy/wishes", client, json={"wish": "sun"})
    sorry(other, 409, "idempotency_conflict")
    assert api.get(f"/v1/jobs/{first.json()['wish']}", client).json()["prompt"] == "rain"
    poor = api.key("client", grant_units=0)
    sorry(api.post("/v1/toy/wishes", poor, json={"wish": "gold"}), 402, "insufficient_funds")
    assert "wish" in sorry(api.post("/v1/toy/wishes", poor, json={"wish": 1}), 400, "invalid_request")
