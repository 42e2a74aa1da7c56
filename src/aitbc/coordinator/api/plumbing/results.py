"""Results on their way in: a body is no larger than what its sender's leases allow, and is not kept to say so.

Small bodies are read as they come. Of a larger one the account's leases are asked first: by its Content-Length,
or, where it comes in chunks, once so much has come. What is refused is looked through for the job that it is of, a
part at a time, so that it counts as a try of that job like any other result that is refused.
"""

import asyncio
import re
from contextlib import suppress

from aitbc.coordinator.api.plumbing.requests import ApiRequest, Narrowing
from aitbc.coordinator.errors import BodyTooLarge, ResultTooLarge
from aitbc.coordinator.flows.acts import job_lifecycle
from aitbc.coordinator.flows.views import result_room

FREE_BYTES = 262_144
"""A body of no more is read whatever is leased; it is bounded by its job once it is read."""
LOOKED_THROUGH_S = 2.0
"""So long a refused body is waited for, to learn which job it is of."""
NAME_BYTES = 128
LEASES_ALLOW = "What this account has leased allows a body of {} bytes; this one is larger."
_JOB = re.compile(rb'"job_id"\s{0,8}:\s{0,8}"([A-Za-z0-9._-]{1,64})"')


async def read_results(request: ApiRequest, limit_bytes: int, many: bool, job_id: str | None) -> bytes:
    """The body of a result, or of `many`. Raises BodyTooLarge where nobody may send so much.

    ResultTooLarge where it is more than this account's leases allow, which counts as a try of the job: of
    `job_id`, else of the one that the body names. JobNotFound, JobNotRunning, LeaseLost where the account does
    not run that one.
    """
    asked = 0

    async def narrowed(size: int) -> int:
        nonlocal asked
        asked = size
        room = await request.runtime.db.read(result_room.room, request.caller, min(size, limit_bytes), many)
        return max(FREE_BYTES, room)

    try:
        return await request.read(limit_bytes, Narrowing(FREE_BYTES, narrowed))
    except BodyTooLarge as error:
        allowed = int(error.details["max_body_bytes"])
        if not asked or allowed == limit_bytes:
            raise
        job_id = job_id or await _job_named_in(request)
        size = max(asked, len(request.refused_content))
        request.refused_content = b""
        if job_id is None or request.principal is None:
            raise ResultTooLarge(LEASES_ALLOW.format(allowed), max_bytes=allowed, bytes=size) from None
        runtime = request.runtime
        most = await runtime.db.write(
            job_lifecycle.count_too_large, runtime.context, request.principal, job_id
        )
        raise ResultTooLarge(job_id=job_id, max_bytes=most, bytes=size) from None


async def _job_named_in(request: ApiRequest) -> str | None:
    """The one job that the body names; None where it names none, or several, or takes too long."""
    named: set[bytes] = set()
    kept, more = request.refused_content, True
    with suppress(TimeoutError):
        async with asyncio.timeout(LOOKED_THROUGH_S):
            while True:
                named.update(_JOB.findall(kept))
                if not more or len(named) > 1:
                    break
                part, more = await request.next_part()
                kept = kept[-NAME_BYTES:] + part
    return named.pop().decode() if len(named) == 1 else None
