"""Results that miners send."""

from aitbc.coordinator.errors.base import AitbcError


class SignatureRequired(AitbcError):
    status = 400
    code = "SIGNATURE_REQUIRED"
    template = "This miner registered a public key, so its results must be signed."


class SignatureInvalid(AitbcError):
    status = 400
    code = "SIGNATURE_INVALID"
    template = "The signature does not match the result and the miner's registered key."


class StatementOldVersion(SignatureInvalid):
    code = "STATEMENT_OLD_VERSION"
    template = (
        "The result is signed in a form that is good on every network of this name, and taken nowhere any more:"
        " upgrade the miner's program, which then signs {version}."
    )


class ResultTooLarge(AitbcError):
    """Counts as a try of the job, like any other result that is none."""

    status = 413
    code = "RESULT_TOO_LARGE"
    template = "The job allows a result of {max_bytes} bytes; this one has {bytes}."
