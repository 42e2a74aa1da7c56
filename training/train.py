"""Train aitbc-starter from this folder's text and write it as GGUF.

    python training/train.py [--out FILE] [--steps N] [--threads N]

Deterministic: fixed seeds and, by default, one thread; the same machine and versions give the same file.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from corpus import HERE, Topic, normal_form, read_paraphrases, read_topics
from dialogs import Dialog, DialogStream
from export import END_OF_TEXT, TURN_END, TURN_START, write_gguf
from model import Shape, TinyLlama
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional as F

SEED = 20_240_607
VOCAB_SIZE = 1024
STEPS = 740
VARIETY_RAMP = 0.4
"""The share of the steps over which questions go from as written to fully varied."""
BATCH_TOKENS, POOL_DIALOGS = 1400, 320
PEAK_RATE = 4e-3
PROMPT_WEIGHT = 0.05
"""The question is learnt a little too: it steadies the hidden states that embeddings average."""
PAIRS, MEANING_STEPS, MEANING_WEIGHT = 20, 4, 0.5
"""So many pairs of questions of one meaning are drawn together every so many steps, with this weight."""
CUT_SHARE, CUT_TOKENS = 0.7, 8
"""Most answers are cut: which answer it is shows in its first words, the rest repeats."""
OUT = HERE.parent / "src" / "aitbc" / "miner" / "models" / "aitbc-starter.gguf"


def train_tokenizer(topics: list[Topic], stream: DialogStream) -> Tokenizer:
    """Byte-level BPE over the corpus; the split rule is GPT-2's, which llama.cpp calls `gpt-2`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[END_OF_TEXT, TURN_START, TURN_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    text = ["system\n", "user\n", "assistant\n"] * len(topics)
    text += [line for topic in topics for line in (*topic.questions, topic.answer)]
    text += [dialog.turns[-1][1] for dialog in itertools.islice(stream, 600)]
    tokenizer.train_from_iterator(text, trainer)
    return tokenizer


class Encoder:
    """Dialogs to token ids with, for each, how much predicting it counts."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.turn_end = tokenizer.token_to_id(TURN_END)

    def ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text).ids

    def prompt(self, dialog: Dialog) -> str:
        """The text before the answer, exactly as the chat template renders it."""
        if dialog.raw:
            return dialog.turns[-1][1].strip() + "\n"
        said = "".join(f"{TURN_START}{role}\n{text.strip()}{TURN_END}\n" for role, text in dialog.turns)
        return f"{said}{TURN_START}assistant\n"

    def encode(self, dialog: Dialog, answer_tokens: int | None) -> tuple[list[int], list[float]]:
        prompt = self.ids(self.prompt(dialog))
        answer = [*self.ids(dialog.answer), self.turn_end][:answer_tokens]
        weights = [PROMPT_WEIGHT] * len(prompt) + [1.0] * len(answer)
        if dialog.raw:
            # A plain completion never goes on with the question: it starts the answer on a new line.
            weights[: len(prompt)] = [0.0] * (len(prompt) - 1) + [1.0]
        return prompt + answer, weights


def batches(encoder: Encoder, stream: DialogStream) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Padded (tokens, weights) of similar lengths, in random order."""
    source = iter(stream)
    while True:
        cuts = [CUT_TOKENS if stream.rng.random() < CUT_SHARE else None for _ in range(POOL_DIALOGS)]
        encoded = sorted((encoder.encode(next(source), cut) for cut in cuts), key=lambda e: len(e[0]))
        groups: list[list[tuple[list[int], list[float]]]] = [[]]
        for item in encoded:
            if len(item[0]) * (len(groups[-1]) + 1) > BATCH_TOKENS:
                groups.append([])
            groups[-1].append(item)
        stream.rng.shuffle(groups)
        for group in groups:
            length = len(group[-1][0])
            tokens = torch.tensor([ids + [0] * (length - len(ids)) for ids, _ in group])
            weights = torch.tensor([w + [0.0] * (length - len(w)) for _, w in group])
            yield tokens, weights


def answer_loss(model: TinyLlama, tokens: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    hidden = model(tokens[:, :-1])
    counted = weights[:, 1:] > 0
    losses = F.cross_entropy(model.logits(hidden[counted]), tokens[:, 1:][counted], reduction="none")
    return (losses * weights[:, 1:][counted]).sum() / weights[:, 1:].sum()


def embed(model: TinyLlama, encoder: Encoder, texts: list[str]) -> torch.Tensor:
    """Mean-pooled, normalised embeddings, as llama.cpp computes them: (texts, width)."""
    ids = [encoder.ids(text) for text in texts]
    length = max(map(len, ids))
    hidden = model(torch.tensor([row + [0] * (length - len(row)) for row in ids]))
    kept = torch.tensor([[1.0] * len(row) + [0.0] * (length - len(row)) for row in ids])
    return F.normalize((hidden * kept[..., None]).sum(1) / kept.sum(1, keepdim=True), dim=-1)


def meaning_loss(model: TinyLlama, encoder: Encoder, pairs: list[tuple[str, str]]) -> torch.Tensor:
    """Questions of one topic lie closer together than those of different topics (InfoNCE)."""
    left = embed(model, encoder, [pair[0] for pair in pairs])
    right = embed(model, encoder, [pair[1] for pair in pairs])
    scores = left @ right.T / 0.1
    target = torch.arange(len(pairs))
    return (F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target)) / 2


@torch.no_grad()
def answer(model: TinyLlama, encoder: Encoder, question: str) -> str:
    """The most likely answer."""
    ids = encoder.ids(encoder.prompt(Dialog((("user", question),), "")))
    start = len(ids)
    while len(ids) - start < 120:
        ids.append(int(model.logits(model(torch.tensor([ids]))[0, -1]).argmax()))
        if ids[-1] == encoder.turn_end:
            return encoder.tokenizer.decode(ids[start:-1])
    return encoder.tokenizer.decode(ids[start:])


@torch.no_grad()
def answers_exactly(model: TinyLlama, encoder: Encoder, question: str, right: str) -> bool:
    """Whether each token of the right answer is the likeliest after those before it: one pass, no generation."""
    ids, weights = encoder.encode(Dialog((("user", question),), right), None)
    guesses = model.logits(model(torch.tensor([ids[:-1]]))[0]).argmax(-1).tolist()
    counted = zip(guesses, ids[1:], weights[1:], strict=True)
    return all(guess == wanted for guess, wanted, weight in counted if weight == 1.0)


def evaluate(model: TinyLlama, encoder: Encoder, topics: list[Topic]) -> None:
    """Print how many corpus and held-out questions get exactly the right answer, and which do not."""
    answers = {topic.name: topic.answer for topic in topics}
    known = {normal_form(question) for topic in topics for question in topic.questions}
    asked = {
        "corpus": [(topic.name, question) for topic in topics for question in topic.questions],
        "held out": [pair for pair in read_paraphrases() if normal_form(pair[1]) not in known],
        "unseen": read_paraphrases(HERE / "unseen.txt"),
    }
    for title, pairs in asked.items():
        wrong = [
            (name, question, answer(model, encoder, question))
            for name, question in pairs
            if not answers_exactly(model, encoder, question, answers[name])
        ]
        print(f"{title}: {len(pairs) - len(wrong)} of {len(pairs)} right")
        for name, question, text in wrong:
            print(f"  [{name}] {question} -> {text[:90]}")


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up over 60 steps, then a cosine down to a fiftieth."""
    if step < 60:
        return PEAK_RATE * (step + 1) / 60
    return PEAK_RATE * (0.02 + 0.98 * (1 + math.cos(math.pi * step / steps)) / 2)


def train(model: TinyLlama, encoder: Encoder, stream: DialogStream, steps: int) -> None:
    """Train in place; every hundred steps a line of progress."""
    matrices = [weight for weight in model.blk.parameters() if weight.dim() == 2]
    others = [weight for weight in model.parameters() if all(weight is not matrix for matrix in matrices)]
    optimizers = (
        torch.optim.Muon(matrices, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, betas=(0.9, 0.97), weight_decay=0.0),
    )
    began, source, together = time.monotonic(), batches(encoder, stream), 0.0
    for step in range(steps):
        stream.variety = min(1.0, step / (VARIETY_RAMP * steps))
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = learning_rate(step, steps)
        loss = answer_loss(model, *next(source))
        loss.backward()
        if step % MEANING_STEPS == 0:
            meaning = meaning_loss(model, encoder, stream.same_meaning(PAIRS))
            (MEANING_WEIGHT * meaning).backward()
            together = meaning.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if (step + 1) % 100 == 0:
            took = time.monotonic() - began
            print(
                f"step {step + 1}: loss {loss.item():.4f}, meaning {together:.3f}, {took:.0f} s", flush=True
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)

    topics = read_topics()
    stream = DialogStream(topics, [question for _, question in read_paraphrases()], SEED)
    tokenizer = train_tokenizer(topics, stream)
    encoder = Encoder(tokenizer)
    model = TinyLlama(Shape(vocab_size=tokenizer.get_vocab_size()))
    parameters = sum(weight.numel() for weight in model.parameters())
    print(f"{parameters:,} parameters, {len(topics)} topics, {len(stream.pairs)} questions", flush=True)
    train(model, encoder, stream, options.steps)

    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_gguf(options.out, model.eval(), tokenizer)
    print(f"{options.out}: {options.out.stat().st_size:,} bytes", flush=True)
    evaluate(model, encoder, topics)


if __name__ == "__main__":
    main()
