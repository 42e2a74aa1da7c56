"""The repository itself: what a newcomer finds in it is there, works, and says what the program does."""

import ast
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from aitbc.coordinator.schema.tables import metadata
from tests.support import doc_tables

ROOT = Path(__file__).parents[1]
TARGETS = ("setup", "demo", "test", "check", "bench", "help")
DOCUMENTS = (
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "pyproject.toml",
    "constraints.txt",
    ".env.example",
    ".ci/run",
    "benchmarks/README.md",
    "docs/api.md",
    "docs/operating.md",
    "docs/formats/receipt.md",
)
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
# In two halves each, or this file would find itself.
FORBIDDEN = (
    "pypi" + ".org",
    "python" + "hosted.org",
    "npm" + "js.org",
    "deb.debian" + ".org",
    "crates" + ".io",
    "/wo" + "rk/",
    "--hash=sha" + "256",
)


@cache
def tracked() -> tuple[Path, ...]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout: " + listed.stderr.strip())
    return tuple(ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file())


def text_of(file: Path) -> str | None:
    try:
        return file.read_text()
    except UnicodeDecodeError:
        return None


def page_name(file: Path) -> str:
    return str(file.relative_to(ROOT))


def makefile_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def shell_lines(document: str) -> list[str]:
    """The lines of the document's shell code blocks, continued lines joined."""
    lines: list[str] = []
    language: str | None = None
    for line in document.splitlines():
        fence = re.match(r"\s*```(\w*)", line)
        if fence:
            language = fence[1] if language is None else None
        elif language in ("sh", "bash", "console", "shell"):
            lines.append(line)
    return "\n".join(lines).replace("\\\n", " ").splitlines()


def commands(document: str, program: str) -> list[list[str]]:
    """The words of every shell command in the document that runs `program`."""
    found = []
    for line in shell_lines(document):
        for part in re.split(r"\s(?:&&|\|\|?|;)\s|\$\(|^\$ ", line):
            try:
                words = shlex.split(part.rstrip(")"), comments=True)
            except ValueError:  # a quoted text that goes on in the next line
                continue
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            if words and words[0].removeprefix(".venv/bin/") == program:
                found.append(words[1:])
    return found


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_newcomer_finds(name: str) -> None:
    assert (ROOT / name).is_file()
    assert (ROOT / name).stat().st_size > 0


def test_decisions_are_written_down() -> None:
    assert list((ROOT / "docs" / "decisions").glob("*.md"))


def test_make_has_the_targets_and_help_lists_them() -> None:
    assert makefile_targets() >= set(TARGETS)
    helped = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert all(f"make {target} " in helped for target in TARGETS)


@pytest.mark.parametrize("target", ["demo", "test", "check", "bench"])
def test_targets_run_setup_by_themselves(target: str) -> None:
    assert re.search(rf"^{target}: .*\bsetup\b", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_scripts_can_be_run() -> None:
    for script in [*(ROOT / "scripts").iterdir(), ROOT / ".ci" / "run"]:
        if script.is_file():
            assert script.stat().st_mode & 0o111, script
            assert script.read_text().startswith("#!/usr/bin/env "), script


def test_nothing_private_to_one_machine_is_committed() -> None:
    found = []
    for file in tracked():
        text = text_of(file)
        found += [f"{file.relative_to(ROOT)}: {word}" for word in FORBIDDEN if text and word in text]
    assert not found
    assert not [file for file in tracked() if file.name in ("uv.lock", "poetry.lock", ".env")]


def test_nothing_large_is_committed() -> None:
    large = {str(file.relative_to(ROOT)): file.stat().st_size for file in tracked()}
    assert not {name: size for name, size in large.items() if size > 5_000_000}


def test_nothing_is_left_for_later_in_the_program() -> None:
    word = re.compile(r"\b(TODO|FIXME|XXX|HACK|placeholder)\b", re.IGNORECASE)
    found = []
    for file in tracked():
        text = text_of(file) if file.suffix == ".py" and (ROOT / "src") in file.parents else None
        found += [f"{file.relative_to(ROOT)}: {hit[0]}" for hit in word.finditer(text or "")]
    assert not found


MOST_LINES = 425


def test_no_file_of_the_program_is_long() -> None:
    """About 400 lines can be read at one sitting; beyond, a file has a seam where it can be two."""
    files = [file for file in tracked() if file.suffix == ".py" and (ROOT / "src") in file.parents]
    lengths = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in files}
    assert len(lengths) > 300
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def requirement_name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def test_constraints_pin_every_requirement_by_version_alone() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert not [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.+!]*", line)]
    pinned = {requirement_name(line) for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    assert {requirement_name(requirement) for requirement in wanted} <= pinned


def test_the_version_is_the_same_everywhere() -> None:
    import aitbc

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == aitbc.__version__


# Documents against the program.


@pytest.mark.parametrize("file", PAGES, ids=page_name)
def test_make_commands_in_documents_exist(file: Path) -> None:
    document = file.read_text()
    named = {words[0] for words in commands(document, "make") if words}
    named |= set(re.findall(r"`make ([a-z]+)", document))
    assert named <= makefile_targets()


def test_the_readme_shows_the_two_commands() -> None:
    named = {words[0] for words in commands((ROOT / "README.md").read_text(), "make") if words}
    assert {"demo", "test"} <= named


def command_line() -> Any:
    """The click command tree of `aitbc`."""
    import typer.main

    from aitbc.cli.main import app

    return typer.main.get_command(app)


def check_command(words: list[str]) -> str | None:
    """What is wrong with `aitbc words...`: an unknown command or option; None where nothing is."""
    command, rest = command_line(), list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        if name not in command.commands:
            return f"no command {name!r}"
        command = command.commands[name]
    if hasattr(command, "commands") and not rest:
        return "names no command"
    known = {"--help", *(name for p in command.params for name in [*p.opts, *p.secondary_opts])}
    unknown = [word for word in rest if word.startswith("--") and word.partition("=")[0] not in known]
    return f"no option {unknown[0]}" if unknown else None


@pytest.mark.parametrize("file", PAGES, ids=page_name)
def test_aitbc_commands_in_documents_exist(file: Path) -> None:
    document = file.read_text()
    shown = commands(document, "aitbc")
    shown += [shlex.split(text) for text in re.findall(r"`aitbc ([^`<>|\[…]+)`", document)]
    wrong = {" ".join(words): check_command(words) for words in shown if words[:1] != ["COMMAND"]}
    assert not {words: what for words, what in wrong.items() if what}


@pytest.mark.parametrize("file", PAGES, ids=page_name)
def test_other_programs_that_documents_run_are_there(file: Path) -> None:
    """Of this repository: scripts, and modules and test files that are given to Python."""
    missing = []
    for line in shell_lines(file.read_text()):
        words = shlex.split(line, comments=True) if line.count("'") % 2 == line.count('"') % 2 == 0 else []
        if words and words[0].startswith("scripts/"):
            missing += [] if (ROOT / words[0]).is_file() else [words[0]]
        if words and Path(words[0]).name == "python" and words[1:2] == ["-m"]:
            missing += [] if find_spec(words[2]) else [words[2]]
            missing += [word for word in words[3:] if word.startswith("tests/") and not names_a_test(word)]
    assert not missing


def names_a_test(word: str) -> bool:
    """Whether a folder or a file of tests, or after "::" one test in it, is there."""
    name, _, test = word.partition("::")
    path = ROOT / name
    return path.exists() and (not test or f"def {test.partition('[')[0]}(" in path.read_text())


def test_files_that_are_named_in_the_repository_exist() -> None:
    """A path in a page, a script or a test that a move left behind. The changelog tells of what was."""
    path = re.compile(
        r"(?<![\w./-])(?:src/aitbc|tests|scripts|docs|benchmarks)/[\w./-]+\.(?:py|json|md|csv|yaml)\b"
    )
    found = []
    for file in tracked():
        if file != ROOT / "CHANGELOG.md":
            found += [
                f"{file.relative_to(ROOT)}: {name}"
                for name in path.findall(text_of(file) or "")
                if not (ROOT / name).exists()
            ]
    assert not found


def test_modules_that_are_imported_exist() -> None:
    """Also by a program within a text, and by one that no other test loads."""
    imported = re.compile(r"\bfrom ((?:aitbc|tests|benchmarks)(?:\.\w+)*) import (\w+)")
    found = []
    for file in tracked():
        text = (text_of(file) or "") if file.suffix in ("", ".py") else ""
        for module, name in imported.findall(text):
            path = (ROOT / "src" if module.startswith("aitbc") else ROOT) / module.replace(".", "/")
            within = path / "__init__.py"
            known = path.with_suffix(".py").is_file() or (
                (path / name).is_dir()
                or (path / f"{name}.py").is_file()
                or (within.is_file() and re.search(rf"\b{name}\b", within.read_text()) is not None)
            )
            found += [] if known else [f"{file.relative_to(ROOT)}: from {module} import {name}"]
    assert not found


def test_every_command_has_help() -> None:
    def walk(command: Any, path: str) -> list[str]:
        missing = [] if command.help else [path]
        for name, child in getattr(command, "commands", {}).items():
            missing += walk(child, f"{path} {name}")
        return missing

    assert not walk(command_line(), "aitbc")


@pytest.mark.parametrize("name", ["docs/operating.md", "docs/api.md"])
def test_tables_in_the_documents_are_the_programs(name: str) -> None:
    text = (ROOT / name).read_text()
    shown = doc_tables.tables_of(text)
    assert shown
    wrong = [table for table, body in shown.items() if body != doc_tables.TABLES[table]()]
    assert not wrong, "run scripts/update-docs"


def test_every_table_is_in_a_document() -> None:
    shown = {
        table for file in doc_tables.DOCS.rglob("*.md") for table in doc_tables.tables_of(file.read_text())
    }
    assert shown == set(doc_tables.TABLES)


def test_the_example_environment_lists_exactly_the_settings() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    listed = dict(found.groups() for line in lines if (found := re.match(r"#?\s?([A-Z][A-Z_]+)=(.*)$", line)))
    assert listed == doc_tables.settings(), "each with its default"


def test_every_setting_is_read_by_the_program() -> None:
    """A setting that nothing reads would promise what does not happen."""
    from aitbc.coordinator.config import Settings

    config = ROOT / "src" / "aitbc" / "coordinator" / "config" / "__init__.py"
    sources = [file.read_text() for file in (ROOT / "src").rglob("*.py") if file != config]
    code = "\n".join([*sources, config.read_text().partition("@property")[2]])
    unread = [name for name in Settings.model_fields if not re.search(rf"\b(settings|self)\.{name}\b", code)]
    assert not unread


@pytest.mark.parametrize("file", PAGES, ids=page_name)
def test_links_between_documents_lead_somewhere(file: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", file.read_text(), flags=re.DOTALL))
    local = [link.partition("#")[0] for link in links if not re.match(r"[a-z]+:|#", link)]
    assert not [link for link in local if link and not (file.parent / link).exists()]


def test_what_bounds_every_table_is_written_down() -> None:
    """A new table needs a line that says what makes its rows, how large they are, and what bounds or removes them."""
    text = (ROOT / "docs" / "operating.md").read_text()
    section = text.partition("\n## What grows, and what bounds it\n")[2].partition("\n\nWhat one stranger")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in section.splitlines()
        if "| `" in line
    ]
    assert sorted(row[0].strip("|` ") for row in rows) == sorted(metadata.tables)
    assert all(len(row) == 5 and all(row) for row in rows)


SLICES = {"api_keys", "idempotency", "jobs", "miners", "payments", "receipts", "users", "ledger"}


def test_what_composes_slices_is_a_flow() -> None:
    """Reads as well as writes: nothing in api/ that is given a transaction calls two slices within it."""
    api = ROOT / "src/aitbc/coordinator/api"
    found = {
        f"{file.relative_to(api)}: {name} calls {sorted(slices)}"
        for file in api.rglob("*.py")
        for name, slices in slices_called(ast.parse(file.read_text()))
        if len(slices) > 1
    }
    assert found == set(), "put it into flows/views or flows/acts"


def slices_called(module: ast.Module) -> Iterator[tuple[str, set[str]]]:
    """The functions that are given `tx`, and the slices that they give it to."""
    slice_of = {
        alias.asname or alias.name: node.module.split(".")[2]
        for node in module.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aitbc.coordinator.")
        for alias in node.names
        if node.module is not None
    }
    for function in ast.walk(module):
        if isinstance(function, ast.FunctionDef) and "tx" in {one.arg for one in function.args.args}:
            called = set()
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and "tx" in {getattr(arg, "id", "") for arg in call.args}:
                    by = call.func.value if isinstance(call.func, ast.Attribute) else call.func
                    called.add(slice_of.get(getattr(by, "id", ""), ""))
            yield function.name, called & SLICES


def test_what_contributors_are_told_to_run_and_read_is_there() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"(?<![\w./-])(?:tests|scripts|src|docs|benchmarks|\.ci)(?:/[\w.-]+)+", page)
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name.rstrip(".")).exists()] == []
    targets = {words[0] for words in commands(page, "make") if words}
    defined = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets and targets <= defined
