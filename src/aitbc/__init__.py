"""AITBC: a marketplace for AI compute where every answer comes with a verifiable receipt."""

__version__ = "0.1.0"
