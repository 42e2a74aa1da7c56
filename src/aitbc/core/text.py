"""Free text of others, made fit to be kept and shown: what a miner says must never be refused for a character."""

import re

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# Controls but tab, line feed and carriage return: PostgreSQL cannot store NUL, a terminal obeys the others.
# Lone surrogates are no text at all: they have no UTF-8.
_UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def clean(text: str, most_chars: int) -> str:
    """The text with a U+FFFD for each character that is unfit, cut after `most_chars`."""
    return _UNFIT.sub(REPLACEMENT, text[:most_chars])
