"""The provable chain: every transfer and receipt is a leaf of one Merkle tree, sealed into signed blocks."""
