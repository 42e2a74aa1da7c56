"""Which miner may run which job, and why not. Pure; the queue's SQL filters say the same."""

from typing import NamedTuple

from aitbc.coordinator.jobs.exclusion import keeps_away
from aitbc.coordinator.jobs.merit import Merit
from aitbc.coordinator.jobs.rows import Ask, MinerNeeds

REASONS = (
    "MINER_INACTIVE",
    "NOT_APPROVED",
    "NOT_THE_REQUIRED_MINER",
    "JOB_TYPE_NOT_SERVED",
    "MODEL_NOT_SERVED",
    "REGION_DIFFERS",
    "NOT_ENOUGH_MEMORY",
    "CONTEXT_TOO_SHORT",
    "PRICE_ABOVE_CAP",
    "FAILED_IT_BEFORE",
    "PAUSED",
    "TRUST",
    "BUSY",
)
"""Why a miner does not run a job now, in the order in which they are looked at."""


class Wanted(NamedTuple):
    """A job's side of the match; the fields of a `queued` signal after its name.

    `min_context`: tokens that it needs at the least; `most_context`: that it might come to.
    """

    job_type: str
    model: str
    max_price_units: int
    min_memory_mb: int
    region: str
    required_miner_id: str
    excluded: str
    min_context: int = 0
    most_context: int = 0

    def surely_fits(self, ask: Ask) -> bool:
        """Whether every token that the job might come to, not only those it must, has room."""
        return self.most_context <= ask.context


class MinerProfile(NamedTuple):
    """A miner's side of the match, and how well it has served (which decides among those that match)."""

    needs: MinerNeeds
    asks: tuple[Ask, ...]
    merit: Merit = Merit()

    def ask_for(self, wanted: Wanted) -> Ask | None:
        """The ask that serves this job type and model, the named model before '*'."""
        found: Ask | None = None
        for ask in self.asks:
            if ask.job_type == wanted.job_type:
                if ask.model == wanted.model:
                    return ask
                if ask.model == "*":
                    found = ask
        return found


def reason_against(profile: MinerProfile, wanted: Wanted) -> str:
    """The first of REASONS that keeps the miner from the job; '' where nothing does."""
    needs = profile.needs
    if wanted.required_miner_id not in ("", needs.miner_id):
        return "NOT_THE_REQUIRED_MINER"
    ask = profile.ask_for(wanted)
    if ask is None:
        served = any(ask.job_type == wanted.job_type for ask in profile.asks)
        return "MODEL_NOT_SERVED" if served else "JOB_TYPE_NOT_SERVED"
    if wanted.region not in ("", needs.region):
        return "REGION_DIFFERS"
    if wanted.min_memory_mb > needs.memory_mb:
        return "NOT_ENOUGH_MEMORY"
    if wanted.min_context > ask.context:
        return "CONTEXT_TOO_SHORT"
    if ask.price_units > wanted.max_price_units:
        return "PRICE_ABOVE_CAP"
    if keeps_away(wanted.excluded, needs.miner_id, needs.account_id, needs.proven):
        return "FAILED_IT_BEFORE"
    return ""


def fits(profile: MinerProfile, wanted: Wanted, surely: bool) -> bool:
    """Whether nothing keeps the miner from the job; `surely`: and it has room for all that it might come to."""
    if reason_against(profile, wanted):
        return False
    ask = profile.ask_for(wanted)
    return not surely or (ask is not None and wanted.surely_fits(ask))
