"""Acts and views give rows; dialects make bytes of them, after the commit: held by looking at the source."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

import aitbc.coordinator.api as api_package
from aitbc.core import jobspec
from tests.coordinator.api.conftest import sqlite_only
from tests.coordinator.api.support import Market

API = Path(api_package.__file__).parent
RENDERING = re.compile(r"\w+_json|json_bytes|orjson\.\w+|ait|plain|rfc3339|format_ait|reply|Response")


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_nothing_is_rendered_inside_a_transaction() -> None:
    """What runs in a transaction gives rows and views; a dialect makes bytes of them when it is over."""
    seen, wrong = 0, []
    for path in API.rglob("*.py"):
        for function in functions(path):
            if "tx" not in [argument.arg for argument in function.args.args]:
                continue
            seen += 1
            called = {ast.unparse(one.func) for one in ast.walk(function) if isinstance(one, ast.Call)}
            rendered = sorted(name for name in called if RENDERING.fullmatch(name))
            gives = "" if function.returns is None else ast.unparse(function.returns)
            if rendered or gives in ("bytes", "dict[str, Any]", "Answer", "Response"):
                wrong.append(f"{path.relative_to(API)}: {function.name} -> {gives} calls {rendered}")
    assert wrong == []
    assert seen > 5


def test_every_answer_is_made_of_a_declared_form() -> None:
    """What renders an answer returns a form of api.schemas, which the type checker holds it to: no bare dictionary."""
    seen, bare = 0, []
    for path in API.rglob("*.py"):
        for function in functions(path):
            gives = "" if function.returns is None else ast.unparse(function.returns)
            if function.name.endswith("_json") and path.parent.name != "plumbing":
                seen += 1
                if "dict[" in gives or gives in ("", "Any"):
                    bare.append(f"{path.relative_to(API)}: {function.name} -> {gives}")
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "reply":
                    item = call.args[0].elt if isinstance(call.args[0], ast.ListComp) else call.args[0]
                    if isinstance(item, ast.Dict):
                        bare.append(f"{path.relative_to(API)}: {function.name} replies {ast.unparse(item)}")
    assert bare == []
    assert seen > 25


def test_one_place_keeps_answers_under_a_key() -> None:
    """Whoever takes an Idempotency-Key does so through `perform`, whatever the dialect."""
    users = {path.name for path in API.rglob("*.py") if "idempotency_key(" in path.read_text()}
    assert users == {"requests.py", "once.py"}


@sqlite_only
def test_a_submission_is_read_and_written_once(api: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long its prompt is: validated once, made canonical once, and never read back to answer."""
    prompt, written, read = "word " * 20_000, [], []
    encode, loads = jobspec.encode, orjson.loads

    def counted(value: Any) -> bytes:
        text = encode(value)
        written.append(len(text))
        return text

    def parsed(text: Any) -> Any:
        read.append(len(text))
        return loads(text)

    client = api.key("client")
    for module in (jobspec, jobspec.base):
        monkeypatch.setattr(module, "encode", counted)
    monkeypatch.setattr(
        "aitbc.coordinator.api.native.render.orjson", SimpleNamespace(**{**vars(orjson), "loads": parsed})
    )
    for path, body in (
        ("/v1/jobs", {"prompt": prompt}),
        ("/v1/client/jobs", {"job_type": "llm_inference", "parameters": {"prompt": prompt}}),
        ("/v1/jobs/batch", {"jobs": [{"prompt": prompt}]}),
    ):
        written.clear()
        assert api.post(path, client, json=body).status_code in (200, 201)
        assert len([size for size in written if size > 10_000]) == 1, path
    assert read == []
