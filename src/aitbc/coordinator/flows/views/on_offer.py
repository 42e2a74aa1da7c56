"""What miners have on offer now: the model of a client that names none, and warnings before a job waits in vain."""

from typing import Any, NamedTuple

from aitbc.coordinator.database import Tx
from aitbc.coordinator.jobs.rows import JobRow
from aitbc.coordinator.miners import queries as miners
from aitbc.coordinator.miners.on_offer import OnOffer
from aitbc.core.jobspec import DEFAULT_MODEL, MOST_BYTES_OF_A_TOKEN
from aitbc.core.money import format_ait

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
    wants = _wants(job)
    what = tuple(wants.values())
    if known.knows(what, tx.now_ms):
        return []
    if miners.could_run(tx, **wants):
        known.remember(what, tx.now_ms)
        return []
    why = _why(tx, job, wants)
    known.note(what, (why, job.id), tx.now_ms)
    return [why]


def lately(tx: Tx, known: OnOffer, job: JobRow) -> list[Warned]:
    """`warnings` for a job that is looked at again and again: as they were found a moment ago."""
    noted = known.noted(tuple(_wants(job).values()), tx.now_ms) if job.status == "pending" else None
    if noted is None:
        return warnings(tx, known, job)
    why, of_job = noted
    return [why._replace(message=why.message.replace(of_job, job.id))]


def _wants(job: JobRow) -> dict[str, Any]:
    return {
        "job_type": job.job_type,
        "model": job.model,
        "cap": job.max_price_units,
        "memory": job.min_memory_mb,
        "region": job.region,
        "miner": job.required_miner_id,
        "context": job.min_context,
    }


def _why(tx: Tx, job: JobRow, wants: dict[str, Any]) -> Warned:
    if miners.serves(tx, job.job_type, job.model):
        cheapest = miners.cheapest(tx, job.job_type, job.model)
        if cheapest is not None and cheapest > job.max_price_units:
            return Warned(
                "PRICE_ABOVE_CAP",
                f"Every miner of {job.model} that is here asks more than {format_ait(job.max_price_units)} AIT"
                f" per 1000 tokens; the cheapest asks {format_ait(cheapest)}.",
                [],
            )
        largest = miners.largest_context(tx, job.job_type, job.model)
        if 0 < largest < job.min_context:
            return Warned(
                "CONTEXT_TOO_SHORT",
                f"The job needs {job.min_context} tokens of context or more (its input at"
                f" {MOST_BYTES_OF_A_TOKEN} bytes a token, and max_tokens); the most on offer for {job.model} is"
                f" {largest}.",
                [],
            )
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
