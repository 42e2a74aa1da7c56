"""Settings and logs."""

import json
import logging
from pathlib import Path

import pytest
import structlog

from aitbc.config import Settings, SettingsError, load_settings
from aitbc.errors import AitbcError, JobNotFound, RateLimited, error_table
from aitbc.logs import configure_logs, describe


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No developer's .env is read."""
    monkeypatch.chdir(tmp_path)


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {
        "AITBC_HOME": str(tmp_path),
        "API_PORT": "0",
        "API_KEYS": "key1,key2,key3",
        "RATE_LIMIT_CLIENT": "7",
        "DEVNET_GRANT": "0.5",
        "LOG_LEVEL": "DEBUG",
        "CHAIN_ID": "",
    }.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.home == tmp_path
    assert settings.database_url == f"sqlite:///{tmp_path}/coordinator.db"
    assert (settings.api_port, settings.rate_limit_client, settings.log_level) == (0, 7, "debug")
    assert (settings.chain_id, settings.devnet_grant_units) == ("ait-devnet", 50_000_000)
    assert settings.max_batch_body_bytes == 16 * settings.max_body_bytes
    assert load_settings(chain_id="ait-main").devnet_grant_units == 0
    assert load_settings(database_url="postgres://h/d").database_url == "postgresql://h/d"


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("API_PORT=1234\nUNKNOWN=1\n")
    assert load_settings().api_port == 1234


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_PORT", "70000"),
        ("API_PORT", "http"),
        ("DATABASE_URL", "mysql://secret@host/db"),
        ("DEVNET_GRANT", "-1"),
        ("DEVNET_GRANT", "0.000000001"),
        ("RATE_LIMIT_CLIENT", "-1"),
        ("MAX_BODY_BYTES", "1"),
        ("CHAIN_ID", "Not A Chain"),
        ("LOG_LEVEL", "loud"),
        ("LEASE_S", "0"),
        ("HEARTBEAT_S", "90"),
        ("API_KEYS", "secret key"),
    ],
)
def test_each_bad_setting_has_one_line_without_its_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    lines = str(caught.value).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"{name}: ")
    assert "secret" not in lines[0]


def test_all_bad_settings_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_PORT", "x")
    monkeypatch.setenv("MAX_ATTEMPTS", "0")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert len(str(caught.value).splitlines()) == 2


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError):
        Settings(_env_file=None).api_port = 1  # type: ignore[misc]


def test_errors_have_one_code_and_a_message() -> None:
    assert JobNotFound(job_id="j1").message == "There is no such job: j1"
    assert JobNotFound("Gone.", job_id="j1").message == "Gone."
    assert RateLimited().message
    table = error_table()
    codes = [code for _, code, _ in table]
    assert len(codes) == len(set(codes))
    assert all(code == code.upper() and 400 <= status < 600 for status, code, _ in table)
    assert AitbcError().code == "INTERNAL_ERROR"


def test_logged_exceptions_do_not_quote_data() -> None:
    try:
        prompt = "marked-prompt"
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError(f"it failed\nDETAIL: row contains ({prompt})") from error
    except ValueError as error:
        text = describe(error)
    assert "marked-prompt" not in text
    assert "ValueError: it failed" in text
    assert "caused by:" in text
    assert "test_logged_exceptions_do_not_quote_data" in text


def test_logs_are_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    row = "marked"
    try:
        configure_logs("info")
        structlog.get_logger("x").info("said", number=1)
        structlog.get_logger("x").debug("not said")
        logging.getLogger("lib").warning("library %s", "words")
        try:
            raise ValueError(f"oops\nDETAIL: {row}")
        except ValueError:
            logging.getLogger("lib").exception("library failed")
            structlog.get_logger("x").exception("failed")
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    finally:
        structlog.reset_defaults()
        root.handlers, root.level = handlers, level
    assert [line["event"] for line in lines] == ["said", "library words", "library failed", "failed"]
    assert lines[0]["level"] == "info"
    assert lines[0]["number"] == 1
    assert all("time" in line for line in lines)
    assert all("oops" in line["exception"] for line in lines[2:])
    assert "marked" not in str(lines)
