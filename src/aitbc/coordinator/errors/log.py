"""The log: receipts, blocks, heads."""

from aitbc.coordinator.errors.base import AitbcError, NotFound


class ReceiptNotFound(NotFound):
    code = "RECEIPT_NOT_FOUND"
    template = "There is no such receipt: {receipt_id}"


class BlockNotFound(NotFound):
    code = "BLOCK_NOT_FOUND"
    template = "There is no such block: {height}"


class NotSealed(AitbcError):
    """It happened, but no block has sealed it yet; `retry_after_s` (seconds) becomes Retry-After."""

    status = 409
    code = "NOT_SEALED"
    template = "No block has sealed this yet; ask again in {retry_after_s} s."


class LogRefused(AitbcError):
    """The database does not continue the tree head that the coordinator has kept outside it."""

    status = 503
    code = "LOG_REFUSED"
    template = "The log is not served: {reason}."


class ForkRefused(AitbcError):
    """The leaves of a block are not those that its root was computed from: it is not sealed."""

    status = 500
    code = "FORK_REFUSED"
    template = "Block {height} does not fit the log; it was not sealed."


class WrongNetwork(AitbcError):
    """The database and the settings name different networks: nothing is begun."""

    status = 500
    code = "WRONG_NETWORK"
    template = "The database is of the network {database}, and CHAIN_ID is {configured}."
