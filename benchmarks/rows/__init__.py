"""The rows of the published table: one function measures each, on one engine."""
