"""Who may call the ledger, and where its ids and references come from: read from the program's own text."""

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCES = Path(__file__).parents[3] / "src" / "aitbc"
LEDGER = "aitbc.coordinator.ledger"
SERVICE = f"{LEDGER}.service"
FORMS = "aitbc.core.transfer_ids"
ONE_WAY = Path("coordinator/flows/shared/holds.py")
HOLDING = {"hold", "post", "void"}
TYPES = {"TransferId", "Reference"}


def imported(tree: ast.AST) -> dict[str, str]:
    """What each name that a module imports stands for, in full."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {one.asname or one.name.split(".")[0]: one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    return found


def named(text: str) -> Iterator[str]:
    """All that a module's text names of other modules, in full: `service.hold` by whatever way it is reached."""
    tree = ast.parse(text)
    names = imported(tree)
    yield from names.values()
    for node in ast.walk(tree):
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if parts and isinstance(node, ast.Name) and node.id in names:
            full = names[node.id]
            if full.split(".")[0] == node.id:  # `import a.b` binds a alone
                full = node.id
            yield ".".join([full, *reversed(parts)])


def called(text: str) -> Iterator[str]:
    """What a module's text calls, or hands on as a value, by its last name where that is imported."""
    tree = ast.parse(text)
    names = imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield names.get(node.func.id, node.func.id)
            if names.get(node.func.id) == "typing.cast":
                yield from (f"cast to {one}" for one in ast.unparse(node.args[0]).split("."))


def modules() -> dict[Path, str]:
    return {file.relative_to(SOURCES): file.read_text() for file in sorted(SOURCES.rglob("*.py"))}


def holding(text: str) -> set[str]:
    return {f"{SERVICE}.{act}" for act in HOLDING} & set(named(text))


def test_holds_are_taken_and_ended_in_one_place() -> None:
    """With the limit of the key that they count against (`flows/shared/holds.py`)."""
    callers = {path for path, text in modules().items() if holding(text)}
    assert callers == {ONE_WAY}
    assert holding(modules()[ONE_WAY]) == {f"{SERVICE}.{act}" for act in HOLDING}


def test_every_way_around_would_be_seen() -> None:
    for text in (
        f"from {LEDGER} import service as ledger\nledger.hold(tx, made)",
        f"from {LEDGER} import service\nact = service.void",
        f"from {SERVICE} import post as pay\npay(tx, held, [])",
        f"def late():\n    from {SERVICE} import post",
        f"import {SERVICE}\n{SERVICE}.hold(tx, made)",
        f"import {SERVICE} as books\nbooks.void(tx, made)",
        f"import {LEDGER} as books\nbooks.service.void(tx, made)",
    ):
        assert holding(text), text
    assert not holding(f"from {LEDGER} import service as ledger\nledger.transfer(tx)\nqueue.post(1)")


def test_ids_and_references_come_from_their_forms() -> None:
    """The types are texts by another name, which any text could be given."""
    wanted = {f"{FORMS}.{name}" for name in TYPES} | {f"cast to {name}" for name in TYPES}
    makers = {path for path, text in modules().items() if wanted & set(called(text))}
    assert makers == set(), "these call a text an id or a reference by themselves"
    assert set(called(modules()[Path("core/transfer_ids.py")])) >= TYPES
    assert f"{FORMS}.Reference" in set(called(f"from {FORMS} import Reference as R\nR('rent')"))
    assert "cast to Reference" in set(called("from typing import cast\ncast(transfer_ids.Reference, 'rent')"))
