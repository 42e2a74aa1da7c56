"""What a GPU is called: one key for the names that people, drivers and shops give to the same model.

"RTX 4090", "rtx4090" and "NVIDIA GeForce RTX 4090" are one model, and so are "A100" and "NVIDIA A100-SXM4-80GB": how
much memory a card has is said beside its name, and how it is plugged in makes it no other model here.
"""

import re
import unicodedata

_MAKERS = frozenset(
    (
        *("nvidia", "amd", "ati", "intel", "apple", "corporation", "corp", "inc", "the"),
        *("geforce", "radeon", "tesla", "gpu", "graphics", "card"),
    )
)
_MARKS = str.maketrans("", "", "®™©")
_FORM = re.compile(r"(?:sxm|pcie|oam|nvl|hbm)\d*[a-z]?|\d+(?:gb|gib|g)", re.ASCII)
_WORD = re.compile(r"[^\W_]+")


def model_key(name: str) -> str:
    """The name without its maker, its memory, its form, spaces and punctuation, in small letters.

    A name of nothing else keeps all its letters and digits; '' for a text that has none.
    """
    words = _WORD.findall(unicodedata.normalize("NFKC", name.translate(_MARKS)).casefold())
    named = [word for word in words if word not in _MAKERS and _FORM.fullmatch(word) is None]
    return "".join(named or words)
