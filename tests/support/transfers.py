"""Ids and references of transfers by short names, so that tests can tell them apart."""

import hashlib

from aitbc.core.transfer_ids import JOB, SIGNED, Reference, TransferId, stored_id


def uuid_of(name: str) -> str:
    """Always the same UUID of version 7 for a name."""
    digits = hashlib.sha256(name.encode()).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-7{digits[12:15]}-8{digits[15:18]}-{digits[18:30]}"


def id_of(name: str) -> TransferId:
    return stored_id(uuid_of(name))


def job_of(name: str = "job") -> Reference:
    return JOB.of(uuid_of(name))


def signed_of(name: str = "signed") -> Reference:
    """Of a transfer between wallets: the hash of what was signed."""
    return SIGNED.of(hashlib.sha256(name.encode()).hexdigest())
