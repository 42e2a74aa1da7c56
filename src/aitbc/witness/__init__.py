"""A witness: a small independent server that vouches that a log only ever grows (C2SP tlog-witness)."""
