"""Answers of the coordinator, read into what an operation gives; and paths with an id in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote as percent_encode

from aitbc.core.numbers import read_count
from aitbc.sdk.errors import UnexpectedAnswer
from aitbc.sdk.models import Page
from aitbc.sdk.transport import Answer

T = TypeVar("T")


def id_path(template: str, name: str) -> str:
    """The template with an id in it, percent-encoded. Raises ValueError for what would name another path."""
    # "." and ".." are left alone by percent-encoding but not by URL normalisation.
    if not name or name in {".", ".."}:
        raise ValueError("an id must not be empty")
    return template.format(percent_encode(name, safe=""))


def read_one(parse: Callable[[Any], T]) -> Callable[[Answer], T]:
    """Reads an answer that is one thing."""
    return lambda answer: parse(answer.data)


def read_items(parse: Callable[[Any], T], name: str | None = None) -> Callable[[Answer], list[T]]:
    """Reads an answer that is a list of things, or has one as its member `name`. UnexpectedAnswer."""

    def parse_list(answer: Answer) -> list[T]:
        data = answer.data if name is None else read_object(answer.data).get(name)
        if not isinstance(data, list):
            raise UnexpectedAnswer("a list was expected")
        return [parse(item) for item in data]

    return parse_list


def read_page(parse: Callable[[Any], T]) -> Callable[[Answer], Page[T]]:
    """Reads a list with its headers: how many there are in all, and where the next page begins."""

    parse_items = read_items(parse)

    def parse_page(answer: Answer) -> Page[T]:
        total = answer.headers.get("x-total-count", "")
        cursor = answer.headers.get("x-next-cursor")
        return Page(tuple(parse_items(answer)), read_count(total), cursor or None)

    return parse_page


def read_object(data: Any) -> dict[str, Any]:
    """UnexpectedAnswer where it is none."""
    if not isinstance(data, dict):
        raise UnexpectedAnswer("an object was expected")
    return data
