from __future__ import annotations

import json
import stat
import threading
from pathlib import Path

import pytest

from aitbc.core.signing import PrivateKey
from aitbc.keyfile import KeyFileError, load_key, load_or_create_key


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_creates_a_private_file_once(tmp_path: Path) -> None:
    path = tmp_path / "home" / "keys" / "miner.json"
    key = load_or_create_key(path)
    assert load_or_create_key(path).seed == key.seed
    assert load_key(str(path)).key_id == key.key_id
    assert mode(path) == 0o600
    assert mode(path.parent) == mode(path.parent.parent) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["miner.json"]
    assert json.loads(path.read_text())["alg"] == "Ed25519"


def test_all_who_create_it_at_once_get_the_same_key(tmp_path: Path) -> None:
    path, keys, barrier = tmp_path / "new" / "key.json", [], threading.Barrier(8)

    def create() -> None:
        barrier.wait()
        keys.append(load_or_create_key(path).seed)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1
    assert [entry.name for entry in path.parent.iterdir()] == ["key.json"]


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o660, 0o644])
def test_refuses_a_file_that_others_may_read(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "key.json"
    load_or_create_key(path)
    path.chmod(bits)
    with pytest.raises(KeyFileError, match="chmod 600"):
        load_or_create_key(path)


@pytest.mark.parametrize(
    "content",
    [
        *("", "{}", "[]", "null", "not json", '{"alg":"Ed25519"}', '{"alg":"Ed25519","seed":1}'),
        *('{"alg":"Ed25519","seed":"QQ=="}', '{"alg":"RSA","seed":"QQ=="}', '{"alg":"Ed25519","seed":"!"}'),
        '{"alg":"Ed25519","alg":"Ed25519","seed":"' + "A" * 43 + '="}',
        " " * 5_000,
    ],
)
def test_refuses_another_file_and_leaves_it_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key.json"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="not a key file"):
        load_or_create_key(path)
    assert path.read_text() == content


def test_an_error_never_shows_the_seed(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    seed = "QUJD" * 9
    path.write_text(json.dumps({"alg": "Ed25519", "seed": seed}))
    path.chmod(0o600)
    with pytest.raises(KeyFileError) as caught:
        load_key(path)
    assert seed not in str(caught.value)


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("aitbc.keyfile.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        load_or_create_key(tmp_path / "key.json")
    assert list(tmp_path.iterdir()) == []


def test_loading_alone_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_key(tmp_path / "key.json")
    assert list(tmp_path.iterdir()) == []
    assert PrivateKey.generate().key_id
