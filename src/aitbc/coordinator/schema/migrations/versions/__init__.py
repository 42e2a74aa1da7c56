"""The revisions, in order; each is one file, written once and never changed after its release."""
