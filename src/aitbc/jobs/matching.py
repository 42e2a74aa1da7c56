"""Which miner may run which job, and why not. Pure; the queue's SQL filters say the same."""

from typing import NamedTuple

from aitbc.jobs.rows import Ask, MinerNeeds

REASONS = (
    "MINER_INACTIVE",
    "NOT_THE_REQUIRED_MINER",
    "JOB_TYPE_NOT_SERVED",
    "MODEL_NOT_SERVED",
    "REGION_DIFFERS",
    "NOT_ENOUGH_MEMORY",
    "PRICE_ABOVE_CAP",
    "FAILED_IT_BEFORE",
    "BUSY",
)
"""Why a miner does not run a job now, in the order in which they are looked at."""


class Wanted(NamedTuple):
    """A job's side of the match; the fields of a `queued` signal after its name."""

    job_type: str
    model: str
    max_price_units: int
    min_memory_mb: int
    region: str
    required_miner_id: str
    excluded_miner_id: str


class MinerProfile(NamedTuple):
    """A miner's side of the match."""

    needs: MinerNeeds
    asks: tuple[Ask, ...]

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
    if ask.price_units > wanted.max_price_units:
        return "PRICE_ABOVE_CAP"
    if wanted.excluded_miner_id == needs.miner_id:
        return "FAILED_IT_BEFORE"
    return ""
