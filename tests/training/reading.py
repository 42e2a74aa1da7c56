"""training/corpus.py as a module; the folder is not a package, and the program never imports it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

TRAINING = Path(__file__).resolve().parents[2] / "training"


def load(name: str) -> ModuleType:
    """One of the folder's modules that needs the standard library only."""
    module_name = f"aitbc_training_{name}"
    found = importlib.util.spec_from_file_location(module_name, TRAINING / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[module_name] = module
    found.loader.exec_module(module)
    return module


corpus = load("corpus")
