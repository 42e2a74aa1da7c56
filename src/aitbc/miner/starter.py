"""The starter model: a stand-in that lets a miner answer its first jobs with no download.

It was trained by this project on its own questions and answers about AITBC (see training/README.md in the
source tree and MODEL_CARD.md beside the weights). It is an ordinary GGUF file for the llama.cpp engine.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class StarterModel:
    """What a miner advertises about the starter model; the GGUF file's metadata says the same."""

    name: str
    context_length: int
    """Tokens of prompt and answer together."""
    quantisation: str
    embedding_length: int
    """Length of an embedding vector (mean pooling)."""
    parameter_count: int


STARTER = StarterModel(
    name="aitbc-starter",
    context_length=1024,
    quantisation="Q8_0",
    embedding_length=160,
    parameter_count=1_676_000,
)


def starter_path() -> Path:
    """The GGUF file inside the installed package; FileNotFoundError where the installation lacks it."""
    path = Path(__file__).resolve().parent / "models" / f"{STARTER.name}.gguf"
    if not path.is_file():
        raise FileNotFoundError(f"the starter model is missing from this installation: {path}")
    return path
