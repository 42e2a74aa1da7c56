"""Read corpus.txt, paraphrases.txt and unseen.txt (standard library only)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Topic:
    """One answer with every way to ask for it that corpus.txt lists."""

    name: str
    questions: tuple[str, ...]
    answer: str


def read_topics(path: Path = HERE / "corpus.txt") -> list[Topic]:
    """The corpus in file order. ValueError names a block without T:, Q: or A: line, or a name used twice."""
    topics: list[Topic] = []
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    for block in re.split(r"\n\s*\n", "\n".join(lines).strip()):
        fields: dict[str, list[str]] = {"T": [], "Q": [], "A": []}
        for line in block.splitlines():
            mark, _, text = line.partition(": ")
            if mark not in fields or not text.strip():
                raise ValueError(f"{path.name}: not a T:, Q: or A: line: {line!r}")
            fields[mark].append(text.strip())
        if len(fields["T"]) != 1 or len(fields["A"]) != 1 or not fields["Q"]:
            raise ValueError(f"{path.name}: a block needs one T:, one A: and a Q: {block!r}")
        topics.append(Topic(fields["T"][0], tuple(fields["Q"]), fields["A"][0]))
    names = [topic.name for topic in topics]
    if len(set(names)) != len(names):
        raise ValueError(f"{path.name}: a topic's name is used twice")
    return topics


def read_paraphrases(path: Path = HERE / "paraphrases.txt") -> list[tuple[str, str]]:
    """(topic name, question) pairs of paraphrases.txt, or of another file of that form."""
    pairs = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, _, question = line.partition(": ")
            pairs.append((name, question))
    return pairs


def normal_form(question: str) -> str:
    """Lower case, words only: two questions with one normal form count as the same question."""
    return " ".join(re.findall(r"[a-z0-9+]+", question.lower()))
