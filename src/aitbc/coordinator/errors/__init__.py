"""Every error the coordinator answers with: one class per stable code, in the module of its feature.

A new one is a class there and its name here, since all are imported from here.

Slices and flows raise these; only `aitbc.coordinator.api` turns them into bodies. A message is a template over the
details given (`JobNotFound(job_id=...)`), or the text passed first. Details go out to the caller: never put
secrets, prompts or request bodies into them.
"""

from aitbc.coordinator.errors.access import (
    LOGIN_ERRORS,
    ChallengeExpired,
    ChallengeInvalid,
    ChallengeUsed,
    CredentialEnded,
    KeyExpired,
    KeyNotFound,
    KeyRevoked,
    KeyRotated,
    KeyUnknown,
    LoginSignatureInvalid,
    SessionExpired,
    SessionNotFound,
    SessionRevoked,
    SessionUnknown,
    TooManyKeys,
    Unauthorized,
    UserNotFound,
)
from aitbc.coordinator.errors.base import (
    AitbcError,
    Forbidden,
    IdempotencyConflict,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    error_table,
)
from aitbc.coordinator.errors.exchange import (
    AccountOwes,
    ExchangeBlind,
    ExchangeOff,
    NoAmountFree,
    TooManyTopups,
    TopupNotFound,
)
from aitbc.coordinator.errors.governance import (
    DelegationRefused,
    NotTheProposer,
    NoVotingPower,
    PowerTooSmall,
    ProposalInvalid,
    ProposalNotCancellable,
    ProposalNotExecutable,
    ProposalNotFound,
    TooManyProposals,
    VoteChangedTooOften,
    VotingClosed,
    VotingNotOpen,
)
from aitbc.coordinator.errors.jobs import (
    FreeJobsUsedUp,
    InputQuotaExceeded,
    InvalidJobType,
    JobNotAvailable,
    JobNotCancellable,
    JobNotFound,
    JobNotRunning,
    LeaseLost,
    QueueFull,
)
from aitbc.coordinator.errors.limits import (
    BodyTooLarge,
    HeadTooLarge,
    RateLimited,
    RequestTimeout,
    ServerBusy,
    ShuttingDown,
    StorageUnavailable,
)
from aitbc.coordinator.errors.log import (
    BlockNotFound,
    ForkRefused,
    LogRefused,
    NotSealed,
    ReceiptNotFound,
    WrongNetwork,
)
from aitbc.coordinator.errors.marketplace import (
    BookingEnded,
    BookingNotBegun,
    BookingNotFound,
    BookingNotSettled,
    BookingTimeInvalid,
    BookingUnused,
    ForBookedJobs,
    GpuBooked,
    GpuInUse,
    GpuModelNotFound,
    GpuNotBooked,
    GpuNotFound,
    GpuOffline,
    MinerListed,
    OwnGpu,
    RentAboveCap,
    ReviewFinal,
    ReviewNeedsBooking,
    TooManyBookings,
    TooManyGpus,
)
from aitbc.coordinator.errors.miners import (
    MinerIdInUse,
    MinerInactive,
    MinerNotFound,
    MinerSessionReplaced,
    TooManyMiners,
    TooManyOffers,
)
from aitbc.coordinator.errors.money import (
    AccountNotFound,
    FeeTooLow,
    InsufficientFunds,
    KeyLimitExceeded,
    MoneyError,
    PriceTooLarge,
    TransferConflict,
)
from aitbc.coordinator.errors.payments import (
    JobAnswered,
    JobNotCompleted,
    JobStillOpen,
    PaymentAlreadyRefunded,
    PaymentAlreadyReleased,
    PaymentNotEscrowed,
    PaymentNotFound,
    PaymentNotPending,
    RefundTooLarge,
)
from aitbc.coordinator.errors.results import (
    ResultTooLarge,
    SignatureInvalid,
    SignatureRequired,
    StatementOldVersion,
)
from aitbc.coordinator.errors.transactions import (
    TransactionNotFound,
    TxBadAddress,
    TxBadSignature,
    TxOldVersion,
    TxReplayed,
    TxWrongChain,
    TxWrongNonce,
    UnknownChain,
)
