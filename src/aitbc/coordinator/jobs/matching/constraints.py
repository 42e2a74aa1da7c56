"""What a job may ask of a miner: each constraint is declared once, in CONSTRAINTS, and all else follows from it.

From the declarations come the claim's SQL and the columns of the queue's index (`claims`, `models`), the `queued`
signal and the match in memory (`rules`), the reasons in the order in which they are looked at, the SQL for
"could a miner that is here run it" (`flows.shared.supply`), the warnings at submission (`flows.shared.on_offer`)
and the change that an explanation names (`flows.views.explain`). To add one: a column in `models` with its
migration, and a declaration here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Text, and_, bindparam, func, literal_column

from aitbc.coordinator.jobs.exclusion import NEWCOMERS, account, awaits_opinion, keeps_away, member
from aitbc.core.jobspec import MOST_BYTES_OF_A_TOKEN
from aitbc.core.money import format_ait

ANY_CONTEXT = 2**40
"""The context of a miner that names none: it is taken to hold every job."""


class MinerNeeds(NamedTuple):
    """A miner's side of the match, whatever it serves."""

    miner_id: str
    region: str
    memory_mb: int
    account_id: str = ""
    proven: bool = False
    reservation: str = ""


class Ask(NamedTuple):
    """One (job type, model) that a miner serves, at its price per 1000 tokens; ANY_MODEL for whatever model.

    `context` in tokens; ANY_CONTEXT where the miner names none.
    """

    job_type: str
    model: str
    price_units: int
    context: int = ANY_CONTEXT


MINER_COLUMNS = ("region", "memory_mb", "reservation")
OFFER_COLUMNS = ("price_units", "context_length")
"""Columns of `miners` and `offers` that constraints go by, besides who the miner and its account are."""


def needs_of(miner: Any, proven: bool) -> MinerNeeds:
    """The miner's side, from a row with `id`, `account_id` and MINER_COLUMNS."""
    return MinerNeeds(
        miner.id, miner.region, miner.memory_mb, miner.account_id, proven, reservation=miner.reservation
    )


def ask_of(job_type: str, model: str, offer: Any) -> Ask:
    """An offer's side, from a row with OFFER_COLUMNS."""
    return Ask(job_type, model, offer.price_units, offer.context_length or ANY_CONTEXT)


class Candidate(NamedTuple):
    """A miner that would take the job but for one constraint."""

    needs: MinerNeeds
    ask: Ask


class Advice(NamedTuple):
    """What its client could do: the field to change ('wait': nothing), and the words."""

    change: str
    text: str


class Supply(NamedTuple):
    """The miners' tables as a statement over them has them: columns, and SQL for "its account has proven itself"."""

    miners: Any
    offers: Any
    proven: Any = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Shortage:
    """A constraint of which the best on offer tells by itself that no miner of the model meets it.

    best   SQL over a Supply, an aggregate: what the most generous of them has
    fails  whether that is too little; `words` what the client is told (both: job's value, best, model)
    """

    best: Callable[[Supply], Any]
    fails: Callable[[int, int], bool]
    words: Callable[[int, int, str], str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Constraint:
    """One constraint of a job against a miner. SQL and `allows` must agree (tests/coordinator/properties).

    column    of `jobs`, where the job's value is; `nothing` is the value of a job that asks for nothing
    reason    the code for a miner that does not meet it; `looked_at` its place among the reasons
    before_offer  asked of a miner before whether it serves the model: then it cannot go by the offer
    of_client the client sets it, so that a warning may name it; else we do
    personal  goes by who the miner is, so that no two are alike
    signalled a `queued` signal carries it, so that no miner is woken in vain
    exact     a claim asks for one value of it: it stands first in the queue's index, so that jobs of other values
              cost a claim nothing, however many wait
    binds     the miner's values by their names in the claim's SQL
    allows    job's value, miner, ask: whether it is met
    claims    SQL of the same for a claim: from the job's column, with `binds` as parameters
    here      SQL of the same over all miners: from the job's value, a parameter
    ease      of a client's changes, the easiest first; `advise`: from the job's value and who would then take it
    """

    column: str
    nothing: int | str
    reason: str
    looked_at: int
    before_offer: bool = False
    of_client: bool = True
    personal: bool = False
    signalled: bool = True
    exact: bool = False
    binds: Callable[[MinerNeeds, Ask], dict[str, Any]]
    allows: Callable[[Any, MinerNeeds, Ask], bool]
    claims: Callable[[Any], Any]
    here: Callable[[Any, Supply], Any]
    ease: int
    advise: Callable[[Any, Sequence[Candidate]], Advice]
    shortage: Shortage | None = None

    def parameter(self) -> Any:
        """The job's value in a statement over the miners."""
        return bindparam(self.column, type_=Text if isinstance(self.nothing, str) else None)


_NONE: Any = literal_column("''")


def _is_named(column: Any, parameter: str) -> Any:
    return (column == _NONE) | (column == bindparam(parameter))


def _lacks(kept_from: Any, name: Any) -> Any:
    """That the set has not this member. By REPLACE: both databases have it, and it knows no wildcards."""
    return func.replace(kept_from, name, _NONE) == kept_from


_newcomers: Any = literal_column(f"'{member(NEWCOMERS)}'")


def _not_kept_away(column: Any) -> Any:
    """As `exclusion.keeps_away` has it; nearly always nobody is kept away."""
    return (column == _NONE) | and_(
        _lacks(column, bindparam("itself")),
        _lacks(column, bindparam("account")),
        (bindparam("proven") == 1) | _lacks(column, _newcomers),
    )


def _others_here(kept_from: Any, here: Supply) -> Any:
    return and_(
        _lacks(kept_from, literal_column("' '") + here.miners.id + literal_column("' '")),
        _lacks(kept_from, literal_column("' @'") + here.miners.account_id + literal_column("' '")),
        here.proven | _lacks(kept_from, _newcomers),
    )


def _longer_context(needed: int, some: Sequence[Candidate]) -> Advice:
    most = max(one.ask.context for one in some)
    return Advice(
        "max_tokens",
        f"Shorten the prompt or lower max_tokens: the job needs {needed} tokens of context or"
        f" more, the most on offer is {most}.",
    )


def _higher_price(_cap: int, some: Sequence[Candidate]) -> Advice:
    price = format_ait(min(one.ask.price_units for one in some))
    return Advice("max_price", f"Raise max_price to {price} AIT per 1000 tokens.")


def _less_memory(_wanted: int, some: Sequence[Candidate]) -> Advice:
    most = max(one.needs.memory_mb for one in some)
    return Advice("min_memory_gb", f"Lower min_memory_gb to {most / 1024:g}.")


def _asked_units(needs: MinerNeeds, ask: Ask) -> int:
    """What a job pays for 1000 tokens: nothing where its booking has paid for the machine."""
    return 0 if needs.reservation else ask.price_units


def _wait_for_the_booking(reservation: str, some: Sequence[Candidate]) -> Advice:
    if reservation:
        return Advice("wait", "The booked GPU does not take it now; no other one may.")
    return Advice(
        "wait", f"{len(some)} miner(s) that could run it are booked; they take others' jobs afterwards."
    )


def _wait_for_others(kept_from: str, _some: Sequence[Candidate]) -> Advice:
    hopeless = awaits_opinion(kept_from)
    then = "unless another comes in a few seconds, the job fails" if hopeless else "they may try again soon"
    return Advice("wait", f"Only miners that failed it are here; {then}.")


PRICE = Constraint(
    column="max_price_units",
    nothing=2**62,
    reason="PRICE_ABOVE_CAP",
    looked_at=4,
    binds=lambda needs, ask: {"price": _asked_units(needs, ask)},
    allows=lambda cap, needs, ask: bool(_asked_units(needs, ask) <= cap),
    claims=lambda column: column >= bindparam("price"),
    here=lambda cap, here: (here.offers.price_units <= cap) | (here.miners.reservation != _NONE),
    ease=3,
    advise=_higher_price,
    shortage=Shortage(
        best=lambda here: func.min(here.offers.price_units),
        fails=lambda cap, cheapest: cheapest > cap,
        words=lambda cap, cheapest, model: (
            f"Every miner of {model} that is here asks more than {format_ait(cap)} AIT"
            f" per 1000 tokens; the cheapest asks {format_ait(cheapest)}."
        ),
    ),
)
MEMORY = Constraint(
    column="min_memory_mb",
    nothing=0,
    reason="NOT_ENOUGH_MEMORY",
    looked_at=2,
    binds=lambda needs, ask: {"memory": needs.memory_mb},
    allows=lambda least, needs, ask: bool(needs.memory_mb >= least),
    claims=lambda column: column <= bindparam("memory"),
    here=lambda least, here: here.miners.memory_mb >= least,
    ease=6,
    advise=_less_memory,
)
REGION = Constraint(
    column="region",
    nothing="",
    reason="REGION_DIFFERS",
    looked_at=1,
    binds=lambda needs, ask: {"region": needs.region},
    allows=lambda region, needs, ask: region in ("", needs.region),
    claims=lambda column: _is_named(column, "region"),
    here=lambda region, here: (region == _NONE) | (here.miners.region == region),
    ease=5,
    advise=lambda region, some: Advice(
        "region", f"Leave the region out: {len(some)} miner(s) elsewhere could run it."
    ),
)
REQUIRED_MINER = Constraint(
    column="required_miner_id",
    nothing="",
    reason="NOT_THE_REQUIRED_MINER",
    looked_at=0,
    before_offer=True,
    personal=True,
    binds=lambda needs, ask: {"miner": needs.miner_id},
    allows=lambda miner_id, needs, ask: miner_id in ("", needs.miner_id),
    claims=lambda column: _is_named(column, "miner"),
    here=lambda miner_id, here: (miner_id == _NONE) | (here.miners.id == miner_id),
    ease=4,
    advise=lambda miner_id, some: Advice("miner_id", "Leave miner_id out: other miners could run it."),
)
CONTEXT = Constraint(
    column="min_context",
    nothing=0,
    reason="CONTEXT_TOO_SHORT",
    looked_at=3,
    binds=lambda needs, ask: {"context": ask.context},
    allows=lambda least, needs, ask: bool(ask.context >= least),
    claims=lambda column: column <= bindparam("context"),
    here=lambda least, here: (here.offers.context_length == 0) | (here.offers.context_length >= least),
    ease=2,
    advise=_longer_context,
    shortage=Shortage(
        best=lambda here: func.max(here.offers.context_length),
        fails=lambda least, longest: 0 < longest < least,
        words=lambda least, longest, model: (
            f"The job needs {least} tokens of context or more (its input at"
            f" {MOST_BYTES_OF_A_TOKEN} bytes a token, and max_tokens); the most on offer for {model} is"
            f" {longest}."
        ),
    ),
)
EXCLUSION = Constraint(
    column="excluded",
    nothing="",
    reason="FAILED_IT_BEFORE",
    looked_at=5,
    of_client=False,
    personal=True,
    binds=lambda needs, ask: {
        "itself": member(needs.miner_id),
        "account": member(account(needs.account_id)),
        "proven": 1 if needs.proven else 0,
    },
    allows=lambda kept_from, needs, ask: (
        not keeps_away(kept_from, needs.miner_id, needs.account_id, needs.proven)
    ),
    claims=_not_kept_away,
    here=_others_here,
    ease=1,
    advise=_wait_for_others,
)

RESERVATION = Constraint(
    column="reservation",
    nothing="",
    reason="RESERVED",
    looked_at=6,
    before_offer=True,
    of_client=False,
    personal=True,
    exact=True,
    binds=lambda needs, ask: {"reservation": needs.reservation},
    allows=lambda reservation, needs, ask: reservation == needs.reservation,
    claims=lambda column: column == bindparam("reservation"),
    here=lambda reservation, here: here.miners.reservation == reservation,
    ease=7,
    advise=_wait_for_the_booking,
)

CONSTRAINTS = (PRICE, MEMORY, REGION, REQUIRED_MINER, CONTEXT, EXCLUSION, RESERVATION)
"""In the order of the queue's index: a new one goes to the end."""
