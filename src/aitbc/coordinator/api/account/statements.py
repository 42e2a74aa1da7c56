"""Statements of account: /v1/statements."""

import re
from decimal import Decimal
from typing import Annotated, Any

from fastapi import Query
from starlette.responses import Response

from aitbc.coordinator.api.native.amounts import ait
from aitbc.coordinator.api.native.dialect import NATIVE, READ, Responses
from aitbc.coordinator.api.native.render import reply
from aitbc.coordinator.api.plumbing.auth import AnyKey
from aitbc.coordinator.api.plumbing.requests import ApiRequest
from aitbc.coordinator.api.plumbing.routing import Router
from aitbc.coordinator.api.schemas import payments as schemas
from aitbc.coordinator.errors import InvalidRequest
from aitbc.coordinator.flows.views import statement
from aitbc.coordinator.flows.views.statement import Movement, StatementPage
from aitbc.core.clock import parse_rfc3339, rfc3339
from aitbc.core.money import format_ait
from aitbc.core.statement_csv import COLUMNS, csv_line

router = Router(NATIVE, tags=["Account"])

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_CSV: Responses = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}
_MONEY = ("unit_price", "price", "fee", "refunded", "amount")


@router.get(
    "/v1/statements",
    summary="Statement of the caller's account",
    response_model=schemas.Statement,
    responses={**_CSV, **READ},
)
async def get_statement(
    request: ApiRequest, principal: AnyKey, query: Annotated[schemas.StatementQuery, Query()]
) -> Response:
    """Every movement of the balance in [from, to), oldest first: what was spent, earned, received and sent.

    `to` in the answer is never later than now: what is yet to come belongs to the next statement, which begins there.
    A statement's pages add up to its totals, and it opens with what the one before closed with, also while money moves.
    As JSON, or as CSV, whose pages joined are one file; there X-Next-Cursor and X-Opening-Balance,
    X-Closing-Balance, X-Total-In and X-Total-Out stand in the header."""
    from_ms, to_ms = _moment(query.from_, "from") or 0, _moment(query.to, "to")
    runtime = request.runtime
    if not query.cursor and not await runtime.db.read(statement.settled, to_ms):
        to_ms = await runtime.db.write(statement.settle, from_ms, to_ms, runtime.steady.now_ms())
    page = await runtime.db.read(
        statement.read, principal.account_id, from_ms, to_ms or 0, query.limit, query.cursor
    )
    return _csv(page) if query.format == "csv" else reply(_page_json(page))


def _moment(text: str | None, field: str) -> int | None:
    if not text:
        return None
    try:
        found = parse_rfc3339(f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text)
        if found < 0:
            raise ValueError("a time lies after 1970")
    except ValueError as error:
        message = f"{field}: {error}; or a date like 2026-01-02"
        raise InvalidRequest(message, fields=[{"field": field, "message": str(error)}]) from None
    return found


def _cells(row: Movement) -> dict[str, Any]:
    """A movement by its columns' names, as CSV has it."""
    shown: dict[str, Any] = {name: getattr(row, name, None) for name in COLUMNS}
    shown["time"] = rfc3339(row.time_ms)
    for name in _MONEY:
        units = getattr(row, f"{name}_units")
        shown[name] = None if units is None else Decimal(format_ait(units))
    return shown


def _row_json(row: Movement) -> schemas.StatementRow:
    return {
        "time": rfc3339(row.time_ms),
        "kind": row.kind,
        "role": row.role,
        "job_id": row.job_id,
        "model": row.model,
        "units": row.units,
        "unit_price": _ait(row.unit_price_units),
        "price": _ait(row.price_units),
        "fee": _ait(row.fee_units),
        "refunded": _ait(row.refunded_units),
        "amount": ait(row.amount_units),
        "counterparty": row.counterparty,
        "reference": row.reference,
        "transfer_id": row.transfer_id,
        "receipt_id": row.receipt_id,
    }


def _ait(units: int | None) -> float | None:
    return None if units is None else ait(units)


def _page_json(page: StatementPage) -> schemas.Statement:
    totals = page.totals
    return {
        "account": page.account_id,
        "from": rfc3339(page.from_ms),
        "to": rfc3339(page.to_ms),
        "opening_balance": None if totals is None else ait(totals.opening_units),
        "closing_balance": None if totals is None else ait(totals.closing_units),
        "total_in": None if totals is None else ait(totals.in_units),
        "total_out": None if totals is None else ait(totals.out_units),
        "movements": None if totals is None else totals.movements,
        "rows": [_row_json(row) for row in page.rows],
        "next_cursor": page.next_cursor,
    }


def _csv(page: StatementPage) -> Response:
    lines = [] if page.totals is None else [csv_line(COLUMNS)]
    for movement in page.rows:
        row = _cells(movement)
        lines.append(csv_line([row[name] for name in COLUMNS]))
    headers = {"Content-Disposition": f'attachment; filename="statement-{page.account_id}.csv"'}
    if page.totals is not None:
        headers["X-Opening-Balance"] = format_ait(page.totals.opening_units)
        headers["X-Closing-Balance"] = format_ait(page.totals.closing_units)
        headers["X-Total-In"] = format_ait(page.totals.in_units)
        headers["X-Total-Out"] = format_ait(page.totals.out_units)
    if page.next_cursor is not None:
        headers["X-Next-Cursor"] = page.next_cursor
    return Response("".join(lines), headers=headers, media_type="text/csv")
