"""Under which names an engine's models are offered.

Servers that were started on a file or a folder call the model by its path. What a disk looks like is its
owner's business: such a model goes by the file's own name. `NAME=MODEL` gives any model another name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

MODEL_NAME = re.compile(r"[A-Za-z0-9._:/@+-]{1,128}")
NOT_A_NAME = re.compile(r"[^A-Za-z0-9._:/@+-]+")
MAX_NAME_CHARS = 128
LATEST = ":latest"

_IS_PATH = re.compile(r"[/~.]|[A-Za-z]:[\\/]|file:", re.IGNORECASE)
_HUB_FOLDER = re.compile(r"models--([^/\\]+)--([^/\\]+)")
_PART_OF_MANY = re.compile(r"-\d{5}-of-\d{5}$")
GGUF = ".gguf"


def is_path(model: str) -> bool:
    """Whether an engine's own name for a model is a place on its disk."""
    return bool(_IS_PATH.match(model)) or "\\" in model or model.lower().endswith(GGUF)


def public_name(model: str) -> str:
    """The name that the engine's `model` is offered under where it was given no other.

    A path, or a GGUF file: the last part of it without the ending (a folder of Hugging Face's cache: the
    model it holds). Letters that a name cannot have become hyphens.
    """
    name = model
    is_file = name.lower().endswith(GGUF)
    if is_path(name):
        hub = _HUB_FOLDER.search(name)
        last = re.split(r"[/\\]", name.rstrip("/\\"))[-1]
        name = f"{hub[1]}/{hub[2]}" if hub and not is_file else last
        if name.lower().endswith(GGUF):
            name = _PART_OF_MANY.sub("", name[: -len(GGUF)])
    return NOT_A_NAME.sub("-", name)[:MAX_NAME_CHARS].strip("-") or "model"


class Selection:
    """Which of an engine's models are offered, and as what. `wanted`: MODEL or NAME=MODEL; none: all.

    `ids` maps each offered name to the engine's own, `missing` are those wanted that the engine has not,
    `found` all that it has.
    """

    def __init__(self, wanted: Collection[str] = ()) -> None:
        self.wanted = tuple(sorted(wanted))
        self.ids: dict[str, str] = {}
        self.missing: list[str] = []
        self.found: list[str] = []

    def choose(self, models: Iterable[str]) -> dict[str, str]:
        """`ids` for what the engine has now, by its own names. Two of one name: the second gets a number."""
        names: dict[str, str] = {}
        for model in sorted(set(models)):
            name, number = public_name(model), 1
            while name in names:
                number += 1
                name = f"{public_name(model)[: MAX_NAME_CHARS - 4]}-{number}"
            names[name] = model
        self.found = list(names)
        if not self.wanted:
            self.ids, self.missing = names, []
            return names
        self.ids, self.missing = {}, []
        for text in self.wanted:
            known = self._find(text, names)
            if known is not None:
                self.ids[next(name for name, each in names.items() if each == known)] = known
                continue
            name, _, model = text.partition("=")
            renamed = self._find(model, names) if model else None
            if renamed is None:
                self.missing.append(model or text)
            else:
                self.ids[name] = renamed
        return self.ids

    def engine_name(self, model: str) -> str:
        """What the engine calls the model that a job names."""
        return self.ids.get(model) or self.ids.get(model + LATEST) or model

    def hide(self, text: str) -> str:
        """`text`, an engine's words, with the paths of offered models replaced by their names."""
        for name, model in self.ids.items():
            if is_path(model):
                text = text.replace(model, name)
        return text

    @staticmethod
    def _find(wanted: str, names: dict[str, str]) -> str | None:
        for model in (wanted, wanted + LATEST):
            if model in names.values():
                return model
            if model in names:
                return names[model]
        return None
