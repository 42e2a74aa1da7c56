"""What follows from a list of constraints: which miner may run which job, and why not; a claim's SQL says the same.

`RULES` is the market's; all here is pure.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

from aitbc.coordinator.jobs.matching.constraints import CONSTRAINTS, Ask, Constraint, MinerNeeds, Supply
from aitbc.coordinator.jobs.matching.merit import Merit
from aitbc.core.jobspec import ANY_MODEL

NEVER = ("MINER_INACTIVE", "NOT_APPROVED")
"""Reasons that have nothing to do with the job; they are looked at first."""

NOT_SERVED = ("JOB_TYPE_NOT_SERVED", "MODEL_NOT_SERVED")
NOT_NOW = ("PAUSED", "TRUST", "BUSY")
"""Reasons why a miner that could run the job takes none now; they are looked at last."""

REMEMBERED = 8_192  # asks of miners of which a claim's parameters are kept


class Wanted(NamedTuple):
    """A job's side of the match. `limits`: its values by constraint (the column's name).

    `most_context`: tokens that it might come to.
    """

    job_type: str
    model: str
    most_context: int
    limits: dict[str, Any]

    def but(self, **limits: Any) -> "Wanted":
        """The same with other limits."""
        return self._replace(limits={**self.limits, **limits})

    @property
    def key(self) -> tuple[Any, ...]:
        """What is alike for jobs that every miner sees alike."""
        return (self.job_type, self.model, *self.limits.values())

    def surely_fits(self, ask: Ask) -> bool:
        """Whether every token that the job might come to, not only those it must, has room."""
        return self.most_context <= ask.context


class MinerProfile(NamedTuple):
    """A miner's side of the match, and how well it has served (which decides among those that match)."""

    needs: MinerNeeds
    asks: tuple[Ask, ...]
    merit: Merit = Merit()

    def ask_for(self, wanted: Wanted) -> Ask | None:
        """The ask that serves this job type and model, the named model before ANY_MODEL."""
        found: Ask | None = None
        for ask in self.asks:
            if ask.job_type == wanted.job_type:
                if ask.model == wanted.model:
                    return ask
                if ask.model == ANY_MODEL:
                    found = ask
        return found


class Rules:
    """All that is derived from `constraints`. `reasons`: every code, in the order in which they are looked at."""

    def __init__(self, constraints: Iterable[Constraint]) -> None:
        self.constraints = tuple(constraints)
        looked_at = sorted(self.constraints, key=lambda one: one.looked_at)
        self.before_offer = tuple(one for one in looked_at if one.before_offer)
        self.by_ease = tuple(sorted(self.constraints, key=lambda one: one.ease))
        self.of_client = tuple(one for one in self.constraints if one.of_client)
        self.reasons = (
            *NEVER,
            *(one.reason for one in self.before_offer),
            *NOT_SERVED,
            *(one.reason for one in looked_at if not one.before_offer),
            *NOT_NOW,
        )
        self._columns = tuple(one.column for one in self.constraints)
        self._binds = tuple(one.binds for one in self.constraints)
        self._nothing = {one.column: one.nothing for one in self.constraints}
        self._signalled = tuple(one.column for one in self.constraints if one.signalled)
        self._unsaid = len(self._signalled) < len(self.constraints)
        self._said_names = ("job_type", "model", "max_units", *self._signalled)
        self._said = attrgetter(*self._said_names)
        self._before = tuple((one.column, one.allows, one.reason) for one in self.before_offer)
        self._after = tuple((one.column, one.allows, one.reason) for one in looked_at if not one.before_offer)
        self._all = (*self._before, *self._after)
        self.side_of = lru_cache(maxsize=REMEMBERED)(self._side_of)

    # --- the job's side -----------------------------------------------------------------------------------

    def wanted(self, job_type: str, model: str, most_context: int = 0, **limits: Any) -> Wanted:
        """A job that asks for these limits, and for nothing else."""
        unknown = limits.keys() - self._nothing.keys()
        if unknown:
            raise TypeError(f"no constraints: {unknown}")
        return Wanted(job_type, model, most_context, {**self._nothing, **limits})

    def wanted_by(self, job: Any) -> Wanted:
        """The side of a job, from its row."""
        limits = {column: getattr(job, column) for column in self._columns}
        return Wanted(job.job_type, job.model, job.max_units, limits)

    def limits_of_client(self, job: Any) -> dict[str, Any]:
        """What the client asks for, from the job's row."""
        return {one.column: getattr(job, one.column) for one in self.of_client}

    def wanted_of(self, spec: Any, **set_by_us: Any) -> Wanted:
        """The side of a submission; `set_by_us` are limits that it leaves open."""
        limits = self.limits_of_client(spec)
        most = spec.prompt_bound + spec.completion_bound
        return self.wanted(spec.job_type, spec.model, most, **{**limits, **set_by_us})

    def signal_of(self, job: Any) -> tuple[Any, ...]:
        """The `queued` signal of a job, from its row: names and values in turn, so that coordinators of two
        versions understand each other."""
        flat = ["queued", *self._said_names, *self._said_names]
        flat[1::2] = self._said_names
        flat[2::2] = self._said(job)
        return tuple(flat)

    def heard(self, signal: tuple[Any, ...]) -> Wanted:
        """What a `queued` signal says. What it leaves out is taken to be nothing: the claim looks again."""
        names, values = signal[1::2], signal[2::2]
        if names == self._said_names:  # as nearly always
            job_type, model, most, *limits = values
            said = dict(zip(self._signalled, limits, strict=True))
            return Wanted(job_type, model, most, {**self._nothing, **said} if self._unsaid else said)
        said = dict(zip(names, values, strict=True))
        known = {name: said.get(name, nothing) for name, nothing in self._nothing.items()}
        return Wanted(said["job_type"], said["model"], said.get("max_units", 0), known)

    # --- the match ----------------------------------------------------------------------------------------

    def reason_against(self, profile: MinerProfile, wanted: Wanted, passing: str = "") -> str:
        """The first of `reasons` that keeps the miner from the job; '' where nothing does.

        `passing`: a constraint (its column) that is taken to be met.
        """
        needs, limits = profile.needs, wanted.limits
        ask = profile.ask_for(wanted)
        for column, allows, reason in self._before:
            if not allows(limits[column], needs, ask or NO_ASK) and column != passing:
                return reason
        if ask is None:
            served = any(ask.job_type == wanted.job_type for ask in profile.asks)
            return "MODEL_NOT_SERVED" if served else "JOB_TYPE_NOT_SERVED"
        for column, allows, reason in self._after:
            if not allows(limits[column], needs, ask) and column != passing:
                return reason
        return ""

    def fits(self, profile: MinerProfile, wanted: Wanted, surely: bool) -> bool:
        """Whether nothing keeps the miner from the job; `surely`: and it has room for all that it might come to."""
        ask = profile.ask_for(wanted)
        if ask is None or (surely and not wanted.surely_fits(ask)):
            return False
        needs, limits = profile.needs, wanted.limits
        return all(allows(limits[column], needs, ask) for column, allows, _reason in self._all)

    # --- SQL ----------------------------------------------------------------------------------------------

    def claims(self, jobs: Any) -> tuple[Any, ...]:
        """That a queued job is for the miner of `side_of`. `jobs`: the columns of the table."""
        return tuple(one.claims(jobs[one.column]) for one in self.constraints)

    def _side_of(self, needs: MinerNeeds, ask: Ask) -> Mapping[str, Any]:
        """The parameters of `claims`; `side_of` remembers them, for a miner asks with the same again and again."""
        side: dict[str, Any] = {}
        for binds in self._binds:
            side.update(binds(needs, ask))
        return side

    def here(self, supply: Supply, *, of_client: bool = False) -> tuple[Any, ...]:
        """That an offer is good for a job whose limits are the parameters. `of_client`: by what its client asks for."""
        constraints = self.of_client if of_client else self.constraints
        return tuple(one.here(one.parameter(), supply) for one in constraints)


NO_ASK = Ask("", "", 0, 0)
RULES = Rules(CONSTRAINTS)
