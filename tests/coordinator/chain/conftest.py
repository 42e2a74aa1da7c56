"""Databases that are quick rather than durable."""

from tests.support.flows import database_url, memory_folder

__all__ = ["database_url", "memory_folder"]
