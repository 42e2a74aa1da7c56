"""What every flow needs beside the transaction: who this network is and its limits."""

from dataclasses import dataclass, field

from aitbc.core.signing import PrivateKey
from aitbc.miners.on_offer import OnOffer
from aitbc.signatures import Signatures, SigningWorker


@dataclass(frozen=True, slots=True)
class FlowContext:
    """Made once from the settings; the same for all requests.

    `signing_key` signs receipts; times in ms; `max_pending_jobs` is per account; `acceptance_ms`
    is how long after a job's completion its manual payment is released by itself; `worker` shares the
    signatures of batches; `on_offer` remembers for a moment what miners offer; `only_approved`: accounts
    that the operator has not approved get no work; `deposit_units` are held for each registered miner.
    """

    chain_id: str
    signing_key: PrivateKey
    lease_ms: int = 60_000
    heartbeat_ms: int = 15_000
    max_attempts: int = 3
    max_pending_jobs: int = 10_000
    acceptance_ms: int = 3 * 86_400_000
    worker: SigningWorker | None = None
    only_approved: bool = False
    deposit_units: int = 0
    on_offer: OnOffer = field(default_factory=OnOffer, compare=False)

    def signatures(self, count: int) -> Signatures:
        """For the signatures of a batch of about `count` items."""
        return Signatures(self.signing_key) if self.worker is None else self.worker.signatures(count)
