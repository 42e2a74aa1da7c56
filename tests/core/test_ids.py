from __future__ import annotations

import os
import threading
import time
import uuid

import pytest

from aitbc.core import ids
from aitbc.core.ids import id_time_ms, is_id, new_id


def test_an_id_is_a_uuid_of_version_7_with_its_time() -> None:
    before = time.time_ns() // 1_000_000
    text = new_id()
    parsed = uuid.UUID(text)
    assert parsed.version == 7
    assert parsed.variant == uuid.RFC_4122
    assert str(parsed) == text
    assert is_id(text)
    assert id_time_ms(text) >= before


def test_ids_increase_even_if_the_clock_goes_back() -> None:
    future_ms = time.time_ns() // 1_000_000 + 10_000
    made = [new_id(future_ms), new_id(future_ms - 5_000), new_id(0), new_id()]
    made += [new_id() for _ in range(5_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_a_full_counter_carries_into_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_generator", ids._Generator())
    made = [new_id(1_000) for _ in range(2 * 4096 + 1)]
    assert [id_time_ms(text) for text in (made[4095], made[4096], made[-1])] == [1_000, 1_001, 1_002]
    assert made == sorted(made)
    assert all(is_id(text) for text in made)
    assert id_time_ms(new_id(1_001)) == 1_002
    assert id_time_ms(new_id(1_003)) == 1_003


def test_the_random_half_is_random() -> None:
    made = [new_id().replace("-", "") for _ in range(4096)]
    for place in range(16, 32):
        assert len({text[place] for text in made}) == (4 if place == 16 else 16)


def test_threads_never_share_an_id() -> None:
    made: list[list[str]] = [[] for _ in range(8)]

    def make(mine: list[str]) -> None:
        mine.extend(new_id() for _ in range(2_000))

    threads = [threading.Thread(target=make, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({text for mine in made for text in mine}) == 16_000
    assert all(mine == sorted(mine) for mine in made)


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="this system does not fork")
def test_a_forked_child_does_not_repeat_its_parents_ids() -> None:
    # What the fork hook does, without a fork: the same time must give another tail.
    future_ms = time.time_ns() // 1_000_000 + 60_000
    state = ids._generator
    first = new_id(future_ms)
    ids._restart_after_fork()
    assert ids._generator is not state
    assert new_id(future_ms) != first
    assert not state._lock.locked()


@pytest.mark.parametrize("now_ms", [-1, 2**48])
def test_refuses_a_time_that_does_not_fit(now_ms: int) -> None:
    with pytest.raises(ValueError):
        new_id(now_ms)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00000000-0000-7000-8000-00000000000",
        "00000000-0000-4000-8000-000000000000",
        "00000000-0000-7000-c000-000000000000",
        "0000000A-0000-7000-8000-000000000000",
        "00000000000070008000000000000000",
        "00000000-0000-7000-8000-000000000000\n",
        "\uff10\uff10000000-0000-7000-8000-000000000000",
        None,
        7,
    ],
)
def test_other_texts_are_not_ids(text: object) -> None:
    assert not is_id(text)
    with pytest.raises(ValueError):
        id_time_ms(text)  # type: ignore[arg-type]
