"""What a wallet signs: transactions of the chain."""

from aitbc.coordinator.errors.base import AitbcError, NotFound


class UnknownChain(AitbcError):
    status = 400
    code = "UNKNOWN_CHAIN"
    template = "This coordinator keeps the chain {known}, no other."


class TxWrongChain(AitbcError):
    status = 400
    code = "TX_WRONG_CHAIN"
    template = (
        "The transaction was signed for another network; this is {chain_id} with the network_id {network_id}."
    )


class TxOldVersion(AitbcError):
    status = 400
    code = "TX_OLD_VERSION"
    template = (
        "A transaction of this version is good on every network of its name, and taken nowhere any more:"
        " sign it as {version}, with the network_id {network_id}."
    )


class TxBadAddress(AitbcError):
    status = 400
    code = "TX_BAD_ADDRESS"
    template = "The transaction has an address that does not fit: {reason}."


class TxBadSignature(AitbcError):
    status = 400
    code = "TX_BAD_SIGNATURE"
    template = "The signature is not the public key's over this transaction."


class TransactionNotFound(NotFound):
    code = "TRANSACTION_NOT_FOUND"
    template = "There is no such transaction: {hash}"


class TxReplayed(AitbcError):
    status = 409
    code = "TX_REPLAYED"
    template = "This transaction was applied before."


class TxWrongNonce(AitbcError):
    status = 409
    code = "TX_WRONG_NONCE"
    template = "The next nonce of this wallet is {expected}."
