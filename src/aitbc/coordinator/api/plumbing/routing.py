"""Routes that FastAPI documents and that we bind ourselves.

Endpoints are declared the FastAPI way, and FastAPI makes the OpenAPI document from them. What runs them is
`Endpoint.respond`: it knows the five kinds of parameters we use, checks the caller before it reads the body,
reads JSON strictly, and leaves out the general machinery (per-request exit stacks, dependency graphs, a
second pass over the routes), which costs more than most of our endpoints do. FastAPI hears of them when its
document is asked for: making its routes takes a quarter of the program's start.
"""

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, ParamSpec, TypeVar, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl

from fastapi import APIRouter
from fastapi.params import Depends, Query
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from aitbc.coordinator.api.plumbing.auth import Auth
from aitbc.coordinator.api.plumbing.dialect import Dialect
from aitbc.coordinator.api.plumbing.errors import invalid_fields
from aitbc.coordinator.api.plumbing.ratelimit import network_of
from aitbc.coordinator.api.plumbing.requests import ApiRequest, parse_json
from aitbc.coordinator.api.plumbing.results import read_results
from aitbc.coordinator.database import READING_FOR
from aitbc.coordinator.errors import InvalidRequest

MAX_QUERY_BYTES = 8192
MAX_QUERY_FIELDS = 64
MAX_PATH_PARAMETER_CHARS = 128
MAX_BATCH = 1000  # items of one batch
QUICK_BODY_BYTES = 65_536  # larger bodies are parsed beside the event loop
_large_bodies = ThreadPoolExecutor(1, "body")

_PARAMETER = re.compile(r"\{([a-z_]+)(:path)?\}")


class Body(BaseModel):
    """Base of request bodies: exact types, unknown fields ignored.

    `decimals`: numbers arrive as Decimals, for bodies with money. `batch`: the larger size limit.
    `report`: what a miner says, which is not refused for what its engine wrote (see `parse_json`).
    `carries`: "result" or "results" of a miner, whose leases bound the size (see `plumbing.results`).
    """

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)
    decimals: ClassVar[bool] = False
    batch: ClassVar[bool] = False
    report: ClassVar[bool] = False
    carries: ClassVar[Literal["", "result", "results"]] = ""


AnyBody = TypeVar("AnyBody", bound=Body)
P = ParamSpec("P")
R = TypeVar("R")
AnyModel = TypeVar("AnyModel", bound=BaseModel)
Handler = Callable[..., Awaitable[Response]]
AnyHandler = TypeVar("AnyHandler", bound=Handler)


class QueryFields(BaseModel):
    """Base of query parameters: text turned into the declared types, unknown ones ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class _Binding:
    """How an endpoint's parameters are filled: names by kind."""

    request: str | None
    auth: tuple[str, Auth] | None
    path: tuple[str, ...]
    query: tuple[str, type[QueryFields], QueryFields | None] | None
    body: tuple[str, type[Body]] | None


class Endpoint:
    """An operation whose handler returns a Response and takes any of: request, caller, path, query, body.

    `options` are those of FastAPI's routes, for the document alone.
    """

    def __init__(
        self, path: str, handler: Handler, methods: frozenset[str], dialect: Dialect, options: dict[str, Any]
    ) -> None:
        self.path = path
        self.handler = handler
        self.methods = methods
        self.dialect = dialect
        self.options = options
        self.binding = _bind(path, handler)

    @property
    def summary(self) -> str | None:
        return self.options.get("summary")

    async def respond(self, request: ApiRequest, path_values: dict[str, str]) -> Response:
        """Binds the parameters and runs the endpoint. The caller is checked before anything is read."""
        binding = self.binding
        values: dict[str, Any] = dict(path_values)
        if binding.auth is not None:
            principal = await binding.auth[1].check(request)
            values[binding.auth[0]] = principal
            request.principal, request.caller = principal, principal.account_id
        READING_FOR.set(request.caller or network_of(request.client_address))
        for value in path_values.values():
            if len(value) > MAX_PATH_PARAMETER_CHARS or "\0" in value:
                raise InvalidRequest("The path is not valid.")
        if binding.query is not None:
            name, model, default = binding.query
            query: bytes = request.scope["query_string"]
            values[name] = _read_query(query, model) if query or default is None else default
        if binding.body is not None:
            name, body_model = binding.body
            values[name] = await read_body(request, body_model, path_values.get("job_id"))
        if binding.request is not None:
            values[binding.request] = request
        return await self.handler(**values)


async def read_body(request: ApiRequest, model: type[AnyBody], job_id: str | None = None) -> AnyBody:
    """The request's JSON body as `model`. Raises InvalidRequest with the offending fields, BodyTooLarge.

    `job_id`: the job that the path names, which results are then of.
    """
    settings = request.runtime.settings
    limit_bytes = settings.max_batch_body_bytes if model.batch else settings.max_body_bytes
    if model.carries:
        content = await read_results(request, limit_bytes, model.carries == "results", job_id)
    else:
        content = await request.read(limit_bytes)
    if len(content) <= QUICK_BODY_BYTES:
        return _parsed(model, content)
    return await off_the_loop(_parsed, model, content)


def _parsed(model: type[AnyBody], content: bytes) -> AnyBody:
    return _validated(model, parse_json(content, decimals=model.decimals, report=model.report))


async def off_the_loop(act: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Runs what takes long for a large body beside the event loop, one at a time: what it makes is large too."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_large_bodies, partial(act, *args, **kwargs))


def _validated(model: type[AnyModel], value: Any) -> AnyModel:
    """Raises InvalidRequest, whatever it was that a validator could not compute with."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise invalid_fields(error) from None
    except (ArithmeticError, RecursionError, ValueError):  # not wrapped by pydantic, as ValueErrors are
        raise InvalidRequest from None


def _read_query(query: bytes, model: type[QueryFields]) -> QueryFields:
    if len(query) > MAX_QUERY_BYTES:
        raise InvalidRequest(f"The query is longer than {MAX_QUERY_BYTES} bytes.")
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError:
        raise InvalidRequest(f"The query has more than {MAX_QUERY_FIELDS} fields.") from None
    fields = dict(pairs)
    for name, value in fields.items():
        if "\0" in value:
            raise InvalidRequest("The query holds a NUL character.", fields=[{"field": name[:64]}])
    return _validated(model, fields)


def _bind(path: str, endpoint: Callable[..., Any]) -> _Binding:
    """Sorts an endpoint's parameters by kind. TypeError for one that is none of ours."""
    hints = get_type_hints(endpoint, include_extras=True)
    in_path = tuple(name for name, _rest in _PARAMETER.findall(path))
    request: str | None = None
    auth: tuple[str, Auth] | None = None
    query: tuple[str, type[QueryFields], QueryFields | None] | None = None
    body: tuple[str, type[Body]] | None = None
    for name in inspect.signature(endpoint).parameters:
        hint = hints[name]
        extras = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
        plain = get_args(hint)[0] if extras else hint
        caller = next((e.dependency for e in extras if isinstance(e, Depends)), None)
        if name in in_path and plain is str:
            continue
        if isinstance(caller, Auth):
            auth = (name, caller)
        elif isinstance(plain, type) and issubclass(plain, Request):
            request = name
        elif isinstance(plain, type) and issubclass(plain, QueryFields) and _has(extras, Query):
            query = (name, plain, _default(plain))
        elif isinstance(plain, type) and issubclass(plain, Body):
            body = (name, plain)
        else:
            raise TypeError(f"{endpoint.__qualname__}: cannot bind parameter {name!r} of type {hint!r}")
    return _Binding(request, auth, in_path, query, body)


def _has(extras: tuple[Any, ...], kind: type) -> bool:
    return any(isinstance(extra, kind) for extra in extras)


def _default(model: type[QueryFields]) -> QueryFields | None:
    """The model without any query; None where something is required."""
    try:
        return model()
    except ValidationError:
        return None


class Router:
    """Declares Endpoints, all of one dialect. `tags` and `include_in_schema` are for the document."""

    def __init__(
        self, dialect: Dialect, tags: list[str] | None = None, include_in_schema: bool = True
    ) -> None:
        self.dialect = dialect
        self.tags = tags
        self.include_in_schema = include_in_schema
        self.routes: list[Endpoint] = []

    def get(self, path: str, **options: Any) -> Callable[[AnyHandler], AnyHandler]:
        return self._declare("GET", path, options)

    def post(self, path: str, **options: Any) -> Callable[[AnyHandler], AnyHandler]:
        return self._declare("POST", path, options)

    def delete(self, path: str, **options: Any) -> Callable[[AnyHandler], AnyHandler]:
        return self._declare("DELETE", path, options)

    def _declare(self, method: str, path: str, options: dict[str, Any]) -> Callable[[AnyHandler], AnyHandler]:
        def declare(handler: AnyHandler) -> AnyHandler:
            self.routes.append(Endpoint(path, handler, frozenset({method}), self.dialect, options))
            return handler

        return declare

    def documented(self) -> list[BaseRoute]:
        """The same as FastAPI's routes, which its document is made from; none of them is ever called."""
        if not self.include_in_schema:
            return []
        router = APIRouter(tags=list(self.tags or ()))
        for route in self.routes:
            router.add_api_route(route.path, route.handler, methods=list(route.methods), **route.options)
        return router.routes


class _Node:
    __slots__ = ("any", "children", "dialects", "methods", "rest")

    def __init__(self) -> None:
        self.dialects: set[int] = set()  # of this segment's endpoints and of all below it, by id
        self.children: dict[str, _Node] = {}
        self.any: _Node | None = None
        self.rest: _Node | None = None
        self.methods: dict[str, tuple[Endpoint, tuple[str, ...]]] = {}


class RouteTable:
    """Endpoints by path segment: finding one costs the same however many there are.

    A fixed segment wins over a parameter, and both over `{name:path}`, which takes all that is left of the
    path; the order of declaration does not matter. `usual`: the dialect of what lies in no other's paths.
    """

    def __init__(self, routes: Iterable[Endpoint], usual: Dialect) -> None:
        self._root = _Node()
        self._usual = usual
        self._dialects: dict[int, Dialect] = {}
        for route in routes:
            self._add(route)

    def _add(self, route: Endpoint) -> None:
        node = self._root
        names: list[str] = []
        dialect = id(route.dialect)
        self._dialects[dialect] = route.dialect
        node.dialects.add(dialect)
        for segment in route.path.split("/")[1:]:
            parameter = _PARAMETER.fullmatch(segment)
            if parameter is None:
                node = node.children.setdefault(segment, _Node())
            elif parameter.group(2):
                names.append(parameter.group(1))
                node.rest = node.rest or _Node()
                node = node.rest
            else:
                names.append(parameter.group(1))
                node.any = node.any or _Node()
                node = node.any
            node.dialects.add(dialect)
        for method in route.methods:
            if method in node.methods:
                raise TypeError(f"{method} {route.path} is declared twice")
            node.methods[method] = (route, tuple(names))

    def find(self, path: str) -> tuple[dict[str, tuple[Endpoint, tuple[str, ...]]], list[str]] | None:
        """The endpoints of a path by method, and its parameters' values; None for an unknown path."""
        values: list[str] = []
        node = _walk(self._root, path.split("/"), 1, values)
        return None if node is None else (node.methods, values)

    def dialect_at(self, path: str) -> Dialect:
        """In which dialect an unknown path, or an unknown method, is refused.

        That of the routes below the longest beginning of the path that there is, where all are of one.
        """
        node = self._root
        for segment in path.split("/")[1:]:
            below = node.children.get(segment) or (node.any if segment else None) or node.rest
            if below is None:
                break
            node = below
        if len(node.dialects) != 1:
            return self._usual
        return self._dialects[next(iter(node.dialects))]


def _walk(node: _Node, segments: list[str], at: int, values: list[str]) -> _Node | None:
    if at == len(segments):
        return node if node.methods else None
    segment = segments[at]
    child = node.children.get(segment)
    if child is not None:
        found = _walk(child, segments, at + 1, values)
        if found is not None:
            return found
    if node.any is not None and segment:
        values.append(segment)
        found = _walk(node.any, segments, at + 1, values)
        if found is None:
            values.pop()
        else:
            return found
    if node.rest is not None:
        values.append("/".join(segments[at:]))
        return node.rest
    return None
