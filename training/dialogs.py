"""Turn the corpus into an endless, seeded stream of training dialogs.

Each question is varied (openings, case, punctuation, politeness, a typing error), so that the model learns
what is asked and not one spelling of it. Nothing that equals a held-out question is ever produced.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass

from corpus import HERE, Topic, normal_form

VARIATIONS = tomllib.loads((HERE / "variations.toml").read_text(encoding="utf-8"))
SWAPS = [(pattern, choices.split("|")) for pattern, choices in VARIATIONS.pop("swaps")]
LISTS: dict[str, list[str]] = {name: items.split("|") for name, items in VARIATIONS.items()}
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789 .,-{}\"':/\n"
LONG = 110  # words; rare, so that long prompts too get the honest answer


@dataclass(frozen=True)
class Dialog:
    """Text up to the answer, and the answer. `raw`: a plain completion, without the chat template."""

    turns: tuple[tuple[str, str], ...]
    answer: str
    raw: bool = False


def typing_error(rng: random.Random, text: str) -> str:
    """One letter dropped, doubled or swapped with its neighbour."""
    letters = [i for i, char in enumerate(text) if char.isalpha()]
    if len(letters) < 5:
        return text
    i = rng.choice(letters[1:-1])
    kind = rng.random()
    if kind < 0.4:
        return text[:i] + text[i + 1 :]
    if kind < 0.6:
        return text[:i] + text[i] + text[i:]
    return text[:i] + text[i + 1] + text[i] + text[i + 2 :]


def vary(rng: random.Random, question: str) -> str:
    """Another way to write the question."""
    text = question
    if rng.random() < 0.6:
        fitting = [swap for swap in SWAPS if re.search(swap[0], text)]
        for pattern, choices in rng.sample(fitting, min(len(fitting), rng.choice((1, 1, 2)))):
            text = re.sub(pattern, rng.choice(choices), text, count=1)
    words = text.split(" ")
    if len(words) > 3 and rng.random() < 0.1:
        small = [i for i, word in enumerate(words) if word.lower() in LISTS["small_words"]]
        if small:
            del words[rng.choice(small)]
    if len(words) > 2 and rng.random() < 0.06:
        words.insert(rng.randrange(1, len(words)), rng.choice(LISTS["fillers"]))
    text = " ".join(words)
    if rng.random() < 0.15:
        text = rng.choice(LISTS["openings"]) + text[0].lower() + text[1:]
    if rng.random() < 0.12:
        text = text.rstrip("?.!") + rng.choice(LISTS["endings"])
    if rng.random() < 0.35:
        text = text.rstrip("?.!")
    if rng.random() < 0.35:
        text = text.lower()
    elif rng.random() < 0.04:
        text = text.upper()
    if rng.random() < 0.12:
        text = typing_error(rng, text)
    return text


def made_up_words(rng: random.Random, count: int) -> str:
    """Words of no language."""
    words = ("".join(rng.choices(LISTS["syllables"], k=rng.choice((1, 2, 2, 3)))) for _ in range(count))
    return " ".join(words)


SHAPES = (
    "What is the (capital|population|largest city|flag|currency) of {places}?",
    "(Write|Tell me|Compose|Give me) a (poem|story|song|haiku|short story|joke|limerick|long essay) "
    "about {things}",
    "(Explain|What is|Tell me about|Describe|How does one explain|Give a summary of) {subjects}",
    "(Who is|Who was|Tell me about|When was) {people}?",
    "(How do I|How can I|How to|Teach me to|Help me) {chores}?",
    "(What is|Calculate|Compute|How much is) {number} (+|-|*|times|plus|minus|/) {number}?",
    "Translate {words} {words} (to|into) {languages}",
    "Translate {words} (to|into) {languages}",
    "Write (a program|code|a function|a script|SQL|a class) that (sorts|prints|counts|finds|adds) "
    "{words} {words}",
    "(Is|Are|Do|When|Where|Why is|Which) {things} {words} {words}?",
    "(Is|Are|When|Where|Why is|Which) {subjects} {words} {words}?",
    "{letters}",
    "(Summarise the following: |Summarize this: |Continue: |Rewrite this text: ){made_up}",
    "(|What is |Explain ){made_up}",
    "{made_up}",
    "{sentence}",
)
"""Not about AITBC. (a|b): one of them; {name}: an item of that list, or what `strange_question` makes."""


def strange_question(rng: random.Random) -> str:
    """Something that is not about AITBC."""
    makers = {
        "number": lambda: str(rng.randrange(1, 200)),
        "letters": lambda: "".join(rng.choices(LETTERS, k=rng.randrange(6, 60))),
        "made_up": lambda: made_up_words(
            rng, rng.choice((1, 1, 1, 2, 2, 3, 3, 4, 4, 6, 6, 8, 8, 12, 20, 40, LONG))
        ),
        "sentence": lambda: " ".join(
            rng.choices(LISTS["words"], k=rng.choice((3, 3, 4, 4, 6, 6, 8, 8, 12, 25, LONG)))
        ),
    }
    text = re.sub(r"\(([^)]*)\)", lambda found: rng.choice(found[1].split("|")), rng.choice(SHAPES))
    return re.sub(
        r"\{(\w+)\}",
        lambda found: makers[found[1]]() if found[1] in makers else rng.choice(LISTS[found[1]]),
        text,
    )


class DialogStream:
    """Draws dialogs from the topics, never one that a held-out question equals."""

    def __init__(self, topics: list[Topic], held_out: list[str], seed: int) -> None:
        self.rng = random.Random(seed)
        self.variety = 1.0  # the share of questions that may be varied
        self.pairs = [(question, topic) for topic in topics for question in topic.questions]
        self.topics = {topic.name: topic for topic in topics}
        self.forbidden = {normal_form(question) for question in held_out}
        # A corpus question stays a corpus question, whatever a held-out file says.
        self.forbidden -= {normal_form(question) for question, _ in self.pairs}

    def question(self, source: str) -> str:
        """A variation of a corpus question that is not held out."""
        text = vary(self.rng, source) if self.rng.random() < 0.75 * self.variety else source
        return source if normal_form(text) in self.forbidden else text

    def _asked(self) -> tuple[str, str]:
        if self.rng.random() < 0.17:
            text = strange_question(self.rng)
            while normal_form(text) in self.forbidden:
                text = strange_question(self.rng)
            if self.rng.random() < 0.4:
                text = text.lower().rstrip("?")
            return text, self.topics["other"].answer
        source, topic = self.rng.choice(self.pairs)
        return self.question(source), topic.answer

    def __iter__(self) -> Iterator[Dialog]:
        while True:
            question, answer = self._asked()
            if self.rng.random() < 0.1:
                yield Dialog((("user", question),), answer, raw=True)
                continue
            turns: list[tuple[str, str]] = []
            if self.rng.random() < 0.15:
                turns.append(("system", self.rng.choice(LISTS["system_prompts"])))
            if self.rng.random() < 0.05:
                before, reply = self._asked()
                turns += [("user", before), ("assistant", reply)]
            yield Dialog((*turns, ("user", question)), answer)

    def same_meaning(self, count: int) -> list[tuple[str, str]]:
        """`count` pairs of questions of one topic each, every pair of another topic: for the embeddings."""
        names = self.rng.sample([name for name in self.topics if name != "other"], count)
        pairs = []
        for name in names:
            one, other = (self.rng.choice(self.topics[name].questions) for _ in range(2))
            pairs.append((self.question(one), self.question(other)))
        return pairs
