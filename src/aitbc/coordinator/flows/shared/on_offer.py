"""What miners have on offer now: the model of a client that names none, and warnings before a job waits in vain."""

from typing import Any, NamedTuple

from aitbc.coordinator.database import Tx
from aitbc.coordinator.flows.shared import supply
from aitbc.coordinator.jobs.matching.rules import RULES
from aitbc.coordinator.jobs.rows import JobRow
from aitbc.coordinator.miners import queries as miners
from aitbc.coordinator.miners.on_offer import OnOffer
from aitbc.core.jobspec import DEFAULT_MODEL

SHOWN_MODELS = 20  # the most names of models that a warning carries


class Warned(NamedTuple):
    """Why a job would wait in vain as things are. `models`: what is on offer instead, cheapest to ask for by name."""

    code: str
    message: str
    models: list[str]


def default_model(tx: Tx, job_type: str) -> str:
    """The model of a submission that names none: the documented default where it is served, else the only one.

    Where several others are on offer, or none, it stays the default, and the job's warning says so.
    """
    if miners.serves(tx, job_type, DEFAULT_MODEL):
        return DEFAULT_MODEL
    names = miners.models_on_offer(tx, job_type, 2)
    return names[0] if len(names) == 1 else DEFAULT_MODEL


def warnings(tx: Tx, known: OnOffer, job: JobRow) -> list[Warned]:
    """What keeps a waiting job from every miner that is here now; [] where some miner could run it."""
    if job.status != "pending":
        return []
    what = _what(job)
    if known.knows(what, tx.now_ms):
        return []
    if supply.could_run(tx, job.job_type, job.model, RULES.limits_of_client(job)):
        known.remember(what, tx.now_ms)
        return []
    why = _why(tx, job)
    known.note(what, (why, job.id), tx.now_ms)
    return [why]


def lately(tx: Tx, known: OnOffer, job: JobRow) -> list[Warned]:
    """`warnings` for a job that is looked at again and again: as they were found a moment ago."""
    noted = known.noted(_what(job), tx.now_ms) if job.status == "pending" else None
    if noted is None:
        return warnings(tx, known, job)
    why, of_job = noted
    return [why._replace(message=why.message.replace(of_job, job.id))]


def _what(job: JobRow) -> tuple[Any, ...]:
    """What is alike for jobs that get the same warning."""
    return (job.job_type, job.model, *RULES.limits_of_client(job).values())


def _why(tx: Tx, job: JobRow) -> Warned:
    if miners.serves(tx, job.job_type, job.model):
        for constraint in RULES.of_client:
            shortage = constraint.shortage
            if shortage is None:
                continue
            best = supply.best_on_offer(tx, constraint, job.job_type, job.model)
            asked = getattr(job, constraint.column)
            if best is not None and shortage.fails(asked, best):
                return Warned(constraint.reason, shortage.words(asked, best, job.model), [])
        return Warned(
            "NO_MINER_FITS",
            f"Miners serve {job.model}, but none that is here now within the job's constraints:"
            f" GET /v1/jobs/{job.id}/explain says what would change that.",
            [],
        )
    models = miners.models_on_offer(tx, job.job_type, SHOWN_MODELS)
    if not models:
        return Warned(
            "MODEL_NOT_SERVED",
            f"No miner is here now that serves {job.model}, or any model for {job.job_type}:"
            " the job waits for the first one.",
            [],
        )
    return Warned(
        "MODEL_NOT_SERVED",
        f"No miner that is here now serves {job.model}; on offer: {', '.join(models)}.",
        models,
    )


def fields_ignored(names: list[str]) -> Warned:
    """A submission had fields that mean nothing here."""
    return Warned("FIELDS_IGNORED", f"These fields are not known and were ignored: {', '.join(names)}.", [])
