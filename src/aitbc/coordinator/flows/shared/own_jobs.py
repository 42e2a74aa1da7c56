"""Whose job it is: who may see it, and who may act on it. To all others it does not exist."""

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.database import Tx
from aitbc.coordinator.errors import Forbidden, JobNotFound, MinerNotFound
from aitbc.coordinator.jobs import service as jobs
from aitbc.coordinator.jobs.rows import JobRow
from aitbc.coordinator.miners import service as miners


def is_owner(principal: Principal, job: JobRow) -> bool:
    """Whether the caller may see all of the job and end it: its client, or an admin. A booking's key: of its jobs."""
    if principal.reservation:
        return job.reservation == principal.reservation
    return job.client_id == principal.account_id or principal.is_admin


def owned(tx: Tx, principal: Principal, job_id: str, *, lock: bool = False) -> JobRow:
    """The caller's own job; any job for an admin. Raises JobNotFound for anybody else's.

    `lock`: it is kept from changing until the transaction ends.
    """
    job = jobs.lock(tx, job_id) if lock else jobs.get(tx, job_id)
    if job is None or not is_owner(principal, job):
        raise JobNotFound(job_id=job_id)
    return job


def paid_by(tx: Tx, principal: Principal, job_id: str) -> JobRow:
    """The job that the caller itself pays for, locked; also an admin spends nobody else's money. Raises JobNotFound."""
    job = owned(tx, principal, job_id, lock=True)
    if job.client_id != principal.account_id:
        raise JobNotFound(job_id=job_id)
    return job


def visible(tx: Tx, principal: Principal, job_id: str) -> JobRow:
    """The job for its client, its miner or an admin. Raises JobNotFound for anybody else."""
    job = jobs.get(tx, job_id)
    if job is None:
        raise JobNotFound(job_id=job_id)
    if is_owner(principal, job):
        return job
    if job.miner_id and "miner" in principal.scopes:
        try:
            miners.owned(tx, principal.account_id, job.miner_id)
        except (Forbidden, MinerNotFound):
            raise JobNotFound(job_id=job_id) from None
        return job
    raise JobNotFound(job_id=job_id)
