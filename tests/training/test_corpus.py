"""The text that the starter model is trained on."""

from __future__ import annotations

import itertools

from tests.training.reading import TRAINING, corpus


def test_every_question_is_asked_once() -> None:
    seen: dict[str, str] = {}
    for topic in corpus.read_topics():
        for question in topic.questions:
            form = corpus.normal_form(question)
            assert seen.setdefault(form, topic.name) == topic.name, question


def test_answers_are_short_and_whole() -> None:
    for topic in corpus.read_topics():
        assert len(topic.answer) <= 260, topic.name
        assert topic.answer.endswith("."), topic.name


def test_held_out_questions_name_a_topic() -> None:
    names = {topic.name for topic in corpus.read_topics()}
    assert {name for name, _ in corpus.read_paraphrases()} <= names
    assert {name for name, _ in corpus.read_paraphrases(TRAINING / "unseen.txt")} <= names


def test_commands_in_the_answers_are_the_cli_s() -> None:
    """A newcomer types what the model says."""
    commands = {"serve", "miner", "miners", "submit", "jobs", "job", "balance", "receipt", "keys", "audit"}
    commands |= {"db", "demo", "doctor"}
    for topic in corpus.read_topics():
        words = topic.answer.split()
        for before, word in itertools.pairwise(words):
            if before == "aitbc" and word.islower():
                assert word.strip(",.:;") in commands, topic.answer
