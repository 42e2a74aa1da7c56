"""A native wallet on its owner's machine: its encrypted key file, and what it signs."""
