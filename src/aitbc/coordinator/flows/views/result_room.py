"""How large a miner's results may be, by what its account has leased: asked before a large body is read."""

from collections.abc import Callable
from typing import Any, NamedTuple

from sqlalchemy import Select, bindparam, func, select
from sqlalchemy import text as sql
from sqlalchemy.sql.expression import literal_column

from aitbc.coordinator.database import Tx, statement
from aitbc.coordinator.database.columns import table_of
from aitbc.coordinator.jobs.models import RUNNING, Job
from aitbc.coordinator.miners.models import Miner
from aitbc.coordinator.receipts.models import Receipt
from aitbc.core import jobspec
from aitbc.core.ids import floor_id

RESENT_MS = 600_000
"""So long after its receipt a result may be sent again by who did not hear of it."""
MOST_RESENT = 1000  # of these, the newest
BESIDE_BYTES = 4096
"""What may come with a result: names, usage, a signature."""

_j: Any = table_of(Job).c
_m: Any = table_of(Miner).c
_r: Any = table_of(Receipt).c


class _Alike(NamedTuple):
    """So many jobs whose results have one bound."""

    job_type: str
    completion_bound: int
    inputs: int
    jobs: int


def _counted(narrowed: Callable[[Any], Any]) -> Callable[[str], Select[Any]]:
    """Jobs by what bounds their results; `inputs` is the number of an embedding's texts, else 0."""

    def build(dialect: str) -> Select[Any]:
        texts = "json_array_length(request, '$.input.input')"
        if dialect != "sqlite":
            texts = "json_array_length(CAST(request AS json) #> '{input,input}')"
        inputs: Any = literal_column(
            f"CASE WHEN jobs.job_type = '{jobspec.Embedding.name}' THEN coalesce((SELECT {texts}"
            " FROM job_requests WHERE job_requests.job_id = jobs.id), 1) ELSE 0 END"
        )
        each = narrowed(select(_j.job_type, _j.completion_bound, inputs.label("inputs"))).subquery()
        return select(*each.c, func.count().label("jobs")).group_by(*each.c)

    return build


LEASED = statement(
    _counted(
        lambda query: query.where(
            sql(RUNNING), _j.miner_id.in_(select(_m.id).where(_m.account_id == bindparam("account")))
        )
    ),
    _Alike,
)
RESENT = statement(
    _counted(
        lambda query: (
            query.join(Receipt, _r.job_id == _j.id)
            .where(_r.provider_id == bindparam("account"), _r.id > bindparam("since"))
            .order_by(_r.id.desc())
            .limit(MOST_RESENT)
        )
    ),
    _Alike,
)


def room(tx: Tx, account_id: str, wanted_bytes: int, together: bool) -> int:
    """The most bytes of a body with one result of the account, or with all of them `together`.

    It may be of leases that the account holds or, where these are not enough for `wanted_bytes`, of those that
    ended with a receipt a moment ago: who did not hear of it sends the same again.
    """
    found = tx.all(LEASED, account=account_id)
    most = _most(found, together)
    if most < wanted_bytes:
        found += tx.all(RESENT, account=account_id, since=floor_id(max(0, tx.now_ms - RESENT_MS)))
        most = _most(found, together)
    return most


def _most(found: list[_Alike], together: bool) -> int:
    each = [
        (
            BESIDE_BYTES
            + jobspec.job_type_named(one.job_type).most_sent_bytes(one.completion_bound, one.inputs)
        )
        * (one.jobs if together else 1)
        for one in found
    ]
    return sum(each) if together else max(each, default=0)
