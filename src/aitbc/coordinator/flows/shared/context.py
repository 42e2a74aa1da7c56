"""What every flow needs beside the transaction: who this network is and its limits."""

from dataclasses import dataclass, field

from aitbc.coordinator.database import Tx
from aitbc.coordinator.miners.on_offer import OnOffer
from aitbc.coordinator.parameters import service as parameters
from aitbc.coordinator.signing.signatures import Signatures, SigningWorker
from aitbc.core.signing import PrivateKey


@dataclass(frozen=True, slots=True)
class FlowContext:
    """Made once from the settings; the same for all requests.

    `signing_key` signs receipts; times in ms; `max_pending_jobs` and `max_pending_bytes` are per account;
    `max_free_jobs` of an account may end on one day without having paid for anything (0: any number);
    `acceptance_ms` is how long after a job's completion its manual payment is released by itself;
    `default_max_run_ms` and `max_max_run_ms` are how long a run may take where the job does not say, and at most;
    `worker` shares the signatures of batches; `on_offer` remembers for a moment what miners offer;
    `only_approved`: accounts that the operator has not approved get no work; `deposit_units` are held for each
    registered miner. A booking lasts `min_booking_ms` to `max_booking_ms`; one whose GPU is not heard of for
    `no_show_ms` after its start is given back.
    `network_id` is known once the coordinator has opened its database; nothing is signed before.
    """

    chain_id: str
    signing_key: PrivateKey
    lease_ms: int = 60_000
    heartbeat_ms: int = 15_000
    max_attempts: int = 3
    max_pending_jobs: int = 10_000
    max_pending_bytes: int = 64 << 20
    max_free_jobs: int = 0
    acceptance_ms: int = 3 * 86_400_000
    default_max_run_ms: int = 1_800_000
    max_max_run_ms: int = 86_400_000
    worker: SigningWorker | None = None
    only_approved: bool = False
    deposit_units: int = 0
    min_booking_ms: int = 900_000
    max_booking_ms: int = 720 * 3_600_000
    no_show_ms: int = 600_000
    network_id: str = ""
    on_offer: OnOffer = field(default_factory=OnOffer, compare=False)

    def lease_ms_in(self, tx: Tx) -> int:
        """How long a new lease lasts: as the parameter says, or the setting where that was never changed."""
        changed_s = parameters.changed_to(tx, "lease_s")
        return self.lease_ms if changed_s is None else changed_s * 1000

    @property
    def lapse_ms(self) -> int:
        """A miner that was not heard of for so long is inactive."""
        return self.lease_ms + 2 * self.heartbeat_ms

    @property
    def grace_ms(self) -> int:
        """Between two heartbeats no further apart than this a booked machine was there."""
        return 3 * self.heartbeat_ms

    def signatures(self, count: int) -> Signatures:
        """For the signatures of a batch of about `count` items."""
        return Signatures(self.signing_key) if self.worker is None else self.worker.signatures(count)
