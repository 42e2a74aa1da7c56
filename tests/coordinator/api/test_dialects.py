"""A third dialect is a folder and not a fork: one of a few lines speaks in its own words, whatever goes wrong."""

from collections.abc import Callable
from typing import Any

import httpx
import orjson
import pytest
from pydantic import BaseModel
from starlette.responses import Response

from aitbc.connections.limits import Why
from aitbc.coordinator.api.app import ROUTERS, create_app
from aitbc.coordinator.api.plumbing.auth import Client
from aitbc.coordinator.api.plumbing.dialect import Dialect
from aitbc.coordinator.api.plumbing.requests import ApiRequest
from aitbc.coordinator.api.plumbing.routing import Body, Router
from aitbc.coordinator.api.plumbing.terms import CoordinatorTerms
from aitbc.coordinator.ledger import service as ledger
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
