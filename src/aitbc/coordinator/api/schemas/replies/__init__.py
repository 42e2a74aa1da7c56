"""Bodies of answers, each written once: the OpenAPI document is made of them, and what renders one returns one, so
that the type checker holds it to every member. At run time they are plain dictionaries.

Each is in the module of what it tells of; those that several dialects share are imported from here.
"""

from aitbc.coordinator.api.schemas.replies.accounts import Account, KeyState
from aitbc.coordinator.api.schemas.replies.base import Error, ErrorDetail, Reply
from aitbc.coordinator.api.schemas.replies.jobs import (
    Batch,
    BatchItem,
    Change,
    Explanation,
    FailedJob,
    Job,
    JobEvent,
    JobWarning,
    PriceRange,
    Quote,
    Result,
    SubmittedJob,
)
from aitbc.coordinator.api.schemas.replies.miners import (
    Assignment,
    Assignments,
    Deregistered,
    Gpu,
    Heartbeat,
    HeldJob,
    Lease,
    ListedMiner,
    Miner,
    MinerRecord,
    MinerState,
    Model,
    Reputation,
    ReputationPart,
    Standing,
)
from aitbc.coordinator.api.schemas.replies.receipts import (
    MinerSignature,
    Receipt,
    Signature,
    SubmittedResult,
    SubmittedResults,
)
from aitbc.coordinator.api.schemas.replies.system import Health, PublicKey, PublicKeys
