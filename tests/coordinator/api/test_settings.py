"""Settings and logs."""

import json
import logging
import re
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest
import structlog
from annotated_types import Ge, Gt, Le, Lt

import aitbc
from aitbc.coordinator import errors
from aitbc.coordinator.config import Settings, SettingsError, load_settings
from aitbc.coordinator.config.environment import environment_name
from aitbc.coordinator.errors import AitbcError, JobNotFound, RateLimited, error_table
from aitbc.coordinator.logs import configure_logs, describe
from aitbc.coordinator.misspelt import OTHER_NAMES, strange_settings


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No developer's .env is read."""
    monkeypatch.chdir(tmp_path)


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {
        "AITBC_HOME": str(tmp_path),
        "API_PORT": "0",
        "API_KEYS": "first-static-key-1,second-static-key,third-static-key1",
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


STRANGE = "no number, key or address"
"""As a text it is another than every default, else it is refused by the name it came under."""


@pytest.mark.parametrize("place", ["environment", "file"])
def test_each_setting_has_its_documented_name_and_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    """A field's own name once was one as well: HOME was taken for AITBC_HOME."""
    plain = load_settings().model_dump()

    def loaded(variables: dict[str, str]) -> dict[str, object]:
        (tmp_path / ".env").unlink(missing_ok=True)
        if place == "file":
            (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
            return load_settings().model_dump()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            return load_settings().model_dump()

    for field in Settings.model_fields:
        name = environment_name(field)
        others = {field, field.title(), f"AITBC_{field}", f"AITBC_{field.upper()}", f"aitbc_{field}"}
        others |= {field.upper(), f"{field.upper()}_DIR", f"{field}_dir", f"SETTINGS__{name}"}
        # HOME says where ~ is: see the next test.
        assert loaded(dict.fromkeys(others - {name, "HOME"}, STRANGE)) == plain, field
        try:
            assert loaded({name: STRANGE})[field] != plain[field], field
        except SettingsError as error:
            assert str(error).startswith(f"{name}: "), field


def test_home_is_not_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_settings().home == tmp_path / ".aitbc"
    assert load_settings().database_url == f"sqlite:///{tmp_path}/.aitbc/coordinator.db"


def test_what_looks_like_a_setting_is_named(tmp_path: Path) -> None:
    file = tmp_path / "some.env"
    file.write_text("SECERT_KEY=marked\nAITBC_FOO=marked\nUNRELATED=1\nLEASE_S=9\n")
    environment = {
        "AITBC_HOEM": "marked",
        "API_KEY": "marked",
        "API_POORT": "marked",
        "DATABASEURL": "marked",
        "MAX_WAIT_": "marked",
        "chain_id": "marked",
        "AITBC_DATABASE_URL": "marked",
        "HOME": "/root",
        "PATH": "/bin",
        "API_PORT": "1",
        **dict.fromkeys(OTHER_NAMES, "x"),
    }
    found = strange_settings(environment, file)
    meant = {name: re.findall(r"mean (\w+)\?", sentence) for name, sentence in found}
    assert meant == {
        "AITBC_HOEM": ["AITBC_HOME"],
        "API_KEY": ["API_KEYS"],
        "API_POORT": ["API_PORT"],
        "DATABASEURL": ["DATABASE_URL"],
        "MAX_WAIT_": ["MAX_WAIT_S"],
        "chain_id": ["CHAIN_ID"],
        "AITBC_DATABASE_URL": ["DATABASE_URL"],
        "SECERT_KEY": ["SECRET_KEY"],
        "AITBC_FOO": [],
    }
    assert "marked" not in str(found)
    for name in map(environment_name, Settings.model_fields):
        assert strange_settings({name: "x"}, tmp_path / "none") == []
        for at in range(len(name)):
            for typo in (
                name[:at] + name[at + 1 :],
                f"{name[:at]}#{name[at:]}",
                f"{name[:at]}#{name[at + 1 :]}",
            ):
                assert strange_settings({typo: "x"}, tmp_path / "none"), typo


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("TRUSTED_PROXY", None),
        ("TRUSTED_PROXIE", "TRUSTED_PROXIES"),
        ("MINER_ADMISION", "MINER_ADMISSION"),
        ("MINER_DEPOSITS", "MINER_DEPOSIT"),
        ("LAESE_S", "LEASE_S"),
        ("HEARTBEATS_S", "HEARTBEAT_S"),
        ("WITNES_QUORUM", "WITNESS_QUORUM"),
        ("Api_Keys", "API_KEYS"),
        ("API-KEYS", "API_KEYS"),
        ("PUBLIC_URI", "PUBLIC_URL"),
        ("export CHAIN_IDS", "CHAIN_ID"),
        ("RATELIMIT_USER", "RATE_LIMIT_USER"),
        ("AITBC_SECRET_KEY", "SECRET_KEY"),
        ("AITBC_SECERT_KEY", "SECRET_KEY"),
    ],
)
def test_typos_in_a_file_are_named(tmp_path: Path, typo: str, meant: str | None) -> None:
    file = tmp_path / "some.env"
    file.write_text(f"# a comment\n{typo}=marked\n")
    found = strange_settings({}, file)
    assert [re.findall(r"mean (\w+)\?", sentence) for _name, sentence in found] == (
        [[meant]] if meant else []
    )


def test_every_variable_of_ours_in_the_code_is_known() -> None:
    folder = Path(aitbc.__file__).parent
    text = "".join(file.read_text() for file in folder.rglob("*.py") if file.name != "misspelt.py")
    assert set(re.findall(r"AITBC_[A-Z_]*[A-Z]", text)) == {*OTHER_NAMES, "AITBC_HOME"}


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
        ("API_KEYS", "secret key with spaces"),
        ("API_KEYS", "client:secret-of-15-ch,miner:a-key-that-is-long-enough"),
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


def test_every_error_is_imported_from_the_package() -> None:
    """So that a module which nobody else imports is in the table of docs/api.md too."""
    modules = [f"{errors.__name__}.{module.name}" for module in iter_modules(errors.__path__)]
    made = {
        name
        for module in map(import_module, modules)
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, AitbcError)
    }
    assert len(modules) > 5
    assert sorted(name for name in made if not hasattr(errors, name)) == []


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


def test_every_number_has_bounds() -> None:
    for name, field in Settings.model_fields.items():
        if field.annotation in (int, float, Decimal):
            kinds = {type(bound) for bound in field.metadata}
            assert kinds & {Ge, Gt} and kinds & {Le, Lt}, name


@pytest.mark.parametrize(
    "text", ["nan", "inf", "1e400", "1e1000000", "1e99999999999999999999", "9" * 5000, "9" * 30, "-1", "0x10"]
)
def test_a_number_beyond_its_bounds_is_one_line(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    numbers = [name for name, one in Settings.model_fields.items() if one.annotation in (int, float, Decimal)]
    for name in numbers:
        with monkeypatch.context() as patch:
            patch.setenv(environment_name(name), text)
            with pytest.raises(SettingsError) as error:
                load_settings()
        assert str(error.value).startswith(f"{environment_name(name)}: "), name
        assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("text", "meant"), [("none", ""), ("NONE", ""), ("10.0.0.1,10.0.0.2", "10.0.0.1,10.0.0.2")]
)
def test_no_proxy_is_a_word_of_its_own(monkeypatch: pytest.MonkeyPatch, text: str, meant: str) -> None:
    """An empty variable is one that is not set, for every setting."""
    monkeypatch.setenv("TRUSTED_PROXIES", text)
    assert load_settings().trusted_proxies == meant
    monkeypatch.setenv("TRUSTED_PROXIES", "")
    assert load_settings().trusted_proxies == "127.0.0.1"
