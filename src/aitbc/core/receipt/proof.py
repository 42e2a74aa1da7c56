"""Whether a leaf is in the network's log: inclusion, the log's signature, the witnesses. Offline.

A C2SP tlog-proof carries all that is needed but the leaf and the keys. Receipts and transfers are checked
alike; `core.receipt_verification` does it for a receipt's `proof`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aitbc.core.log.checkpoint import cosignature_time
from aitbc.core.log.keyset import KeySet, PublishedKey
from aitbc.core.log.merkle import leaf_hash, verify_inclusion
from aitbc.core.log.note import Note, NoteInvalid, Verifier, verify_note
from aitbc.core.log.policy import Policy
from aitbc.core.log.tlog_proof import ProofInvalid, TlogProof, parse_proof

PROOF = "proof"
INCLUSION = "inclusion"
CHECKPOINT = "checkpoint"
WITNESSES = "witnesses"
VALIDITY_TOLERANCE_MS = 86_400_000
"""How far a time may lie outside a key's validity: clocks are set back, coordinators differ."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `ok` is True (holds), False (does not), or None (could not be checked).

    `missing`: it does not hold because something is not there (yet), not because something is wrong.
    """

    name: str
    ok: bool | None
    detail: str
    missing: bool = False


def check_leaf(
    leaf: bytes,
    proof: object,
    chain_id: str,
    *,
    keys: KeySet | None = None,
    policy: Policy | None = None,
    made_at_ms: int | None = None,
) -> list[Check]:
    """What a tlog-proof (text, or None where there is none) says of a leaf of the chain's log.

    The log's keys are the policy's, else the key set's; witnesses are only known by a policy. `made_at_ms` is
    when the leaf was made: a key that had expired by then cannot have signed a checkpoint over it. Checks:
    `proof` (the text is one), then `inclusion`, `checkpoint` and `witnesses`. Never raises.
    """
    if proof is None:
        if policy is not None and policy.require_proof:
            return [Check(PROOF, False, "there is no proof yet, and the policy requires one", missing=True)]
        return [Check(PROOF, None, "no proof in the document; inclusion in the log was not checked")]
    if not isinstance(proof, str):
        return [Check(PROOF, False, "the proof is neither null nor a text")]
    try:
        parsed = parse_proof(proof)
    except ProofInvalid as error:
        return [Check(PROOF, False, f"not a tlog-proof: {error}")]
    if parsed.extra is not None:
        return [Check(PROOF, False, "the proof has an extra line, which nothing vouches for")]
    return [
        Check(PROOF, True, f"a proof for leaf {parsed.index} of {parsed.head.size}"),
        _check_inclusion(leaf, parsed),
        _check_checkpoint(parsed, chain_id, keys, policy, made_at_ms),
        _check_witnesses(parsed.checkpoint, policy),
    ]


def _check_inclusion(leaf: bytes, proof: TlogProof) -> Check:
    head = proof.head
    if not verify_inclusion(proof.index, head.size, leaf_hash(leaf), proof.hashes, head.root):
        return Check(INCLUSION, False, f"the checkpoint's tree does not have this as its leaf {proof.index}")
    return Check(INCLUSION, True, f"it is leaf {proof.index} of the checkpoint's tree of {head.size}")


def _check_checkpoint(
    proof: TlogProof, chain_id: str, keys: KeySet | None, policy: Policy | None, made_at_ms: int | None
) -> Check:
    origin, source = proof.head.origin, keys if policy is None else policy
    if source is None:
        return Check(CHECKPOINT, None, f"no keys given: whether {_shown(origin)} signed it was not checked")
    if source.chain_id != chain_id:
        return Check(CHECKPOINT, False, f"the log keys are of chain {source.chain_id}, not {chain_id}")
    if origin != source.origin:
        return Check(CHECKPOINT, False, f"the checkpoint is of another log than {source.origin}")
    log = _log_keys(source)
    if not log:
        return Check(CHECKPOINT, None, f"the keys have none of {origin}: who signed it was not checked")
    try:
        signed = verify_note(proof.checkpoint, log.keys())
    except NoteInvalid as error:
        return Check(CHECKPOINT, False, str(error))
    if not signed:
        return Check(CHECKPOINT, False, f"no known key of {origin} signed the checkpoint")
    if made_at_ms is not None and all(_had_expired(log[verifier], made_at_ms) for verifier in signed):
        return Check(CHECKPOINT, False, "the log's key had expired before this was made")
    return Check(CHECKPOINT, True, f"{origin} signed the checkpoint")


def _log_keys(source: KeySet | Policy) -> dict[Verifier, PublishedKey | None]:
    if isinstance(source, Policy):
        return dict.fromkeys(source.log)
    return {Verifier(source.origin, key.public_bytes): key for key in source.log_keys}


def _shown(origin: str) -> str:
    """A name that nobody vouches for, as it may stand in a message."""
    return origin if len(origin) <= 80 and origin.isprintable() else f"{origin[:60]!a}..."


def _had_expired(key: PublishedKey | None, at_ms: int) -> bool:
    if key is None or key.valid_to_ms is None:
        return False
    return at_ms >= key.valid_to_ms + VALIDITY_TOLERANCE_MS


def _check_witnesses(checkpoint: Note, policy: Policy | None) -> Check:
    if policy is None:
        return Check(WITNESSES, None, "no policy given: which witnesses count is unknown")
    try:
        seen = [w.name for w in policy.witnesses if cosignature_time(checkpoint, w) is not None]
    except NoteInvalid as error:
        return Check(WITNESSES, False, str(error))
    return _quorum(seen, policy)


def _quorum(seen: Sequence[str], policy: Policy) -> Check:
    if len(seen) < policy.quorum:
        detail = (
            f"{len(seen)} of the policy's {len(policy.witnesses)} witnesses cosigned, not {policy.quorum}"
        )
        return Check(WITNESSES, False, detail, missing=True)
    if not seen:
        return Check(WITNESSES, True, "the policy asks for no witnesses, and none cosigned")
    return Check(WITNESSES, True, f"cosigned by {', '.join(seen)}; {policy.quorum} needed")
