"""Jobs: submitted, queued, leased, ended."""

from aitbc.coordinator.errors.base import AitbcError, NotFound


class InvalidJobType(AitbcError):
    status = 400
    code = "INVALID_JOB_TYPE"
    template = "The specified job type is not supported: {job_type}"


class JobNotFound(NotFound):
    code = "JOB_NOT_FOUND"
    template = "There is no such job: {job_id}"


class JobNotCancellable(AitbcError):
    status = 409
    code = "JOB_NOT_CANCELLABLE"
    template = "The job has already ended as {status}."


class JobNotAvailable(AitbcError):
    status = 409
    code = "JOB_NOT_AVAILABLE"
    template = "The job cannot be claimed by this miner now: {job_id}"


class JobNotRunning(AitbcError):
    status = 409
    code = "JOB_NOT_RUNNING"
    template = "The job is not running: {job_id}"


class LeaseLost(AitbcError):
    status = 409
    code = "LEASE_LOST"
    template = "This miner does not hold the job's lease: {job_id}"


class QueueFull(AitbcError):
    status = 429
    code = "QUEUE_FULL"
    template = "{waiting} jobs of this account are waiting, and {limit} may; try again when some have run."


class FreeJobsUsedUp(AitbcError):
    """Each job leaves rows for good: so many of an account's may end on one day without having paid for any."""

    status = 429
    code = "FREE_JOBS_USED_UP"
    template = (
        "{ended} jobs of this account ended today without having paid for anything (cancelled, expired, failed or"
        " answered for a price of 0), and {limit} a day may; it may submit again from {resets_at} on."
    )


class InputQuotaExceeded(AitbcError):
    status = 429
    code = "INPUT_QUOTA_EXCEEDED"
    template = (
        "This input of {input_bytes} bytes does not fit: {waiting_bytes} bytes of the account's large inputs"
        " wait, and {limit_bytes} may; try again when some have run."
    )
