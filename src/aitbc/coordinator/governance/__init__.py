"""Governance: proposals and their life, votes and their weight, and who votes for whom."""
