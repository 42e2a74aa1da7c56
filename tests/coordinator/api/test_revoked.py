"""A key or session that ends takes with it what is open, and what is leased in the same moment."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import httpx
import pytest

from aitbc.coordinator.api_keys import service as accounts
from aitbc.coordinator.database import Database
from aitbc.coordinator.errors import Unauthorized
from aitbc.coordinator.flows.acts import dispatch
from tests.coordinator.api.support import Headers, Market, expect_error
from tests.coordinator.api.test_users import session
from tests.coordinator.users.support import NativeWallet

SOON_S = 0.6
WITHIN_S = 2.5  # RECHECK_S, and a busy machine


def polled(api: Market, path: str, headers: Headers) -> Future[httpx.Response]:
    """A long poll that waits by now."""
    poll = api.begin(api.client.get(path, headers=headers))
    time.sleep(0.15)
    assert not poll.done()
    return poll


def key_id(headers: Headers) -> str:
    return headers["X-Api-Key"].split("_")[2]


ENDS: dict[str, Callable[[Any, str], Any]] = {
    "revoked": accounts.revoke_key,
    "rotated": lambda tx, key: accounts.rotate_key(tx, key, 0),
}


@pytest.mark.parametrize("end", ENDS)
def test_open_polls_end_with_their_key(api: Market, end: str) -> None:
    miner, client = api.key("miner"), api.key("client")
    api.miner(miner)
    job_id = api.job(client, model="nobody-has-it")
    polls = {
        key_id(miner): [
            polled(api, "/v1/miner/jobs?miner_id=m1&wait=20", miner),
            polled(api, "/v1/jobs/available?miner_id=m1&wait=20", miner),
        ],
        key_id(client): [polled(api, f"/v1/jobs/{job_id}/result?wait=20", client)],
    }
    for key, open_ones in polls.items():
        began = time.monotonic()
        api.write(ENDS[end], key)
        for poll in open_ones:
            expect_error(poll.result(10), 401, "UNAUTHORIZED")
        assert time.monotonic() - began < SOON_S


def test_a_rotation_with_a_grace_ends_nothing(api: Market) -> None:
    miner = api.key("miner")
    api.miner(miner)
    poll = polled(api, "/v1/miner/jobs?miner_id=m1&wait=2", miner)
    api.write(accounts.rotate_key, key_id(miner), 60)
    assert poll.result(10).json() == {"jobs": []}


def test_another_process_s_word_is_heard_within_a_second_or_so(
    api: Market, database_url: str, db: Database
) -> None:
    """As of `aitbc keys revoke`, which sends no signal."""
    miner = api.key("miner")
    api.miner(miner)
    poll = polled(api, "/v1/miner/jobs?miner_id=m1&wait=20", miner)
    began = time.monotonic()
    db.write_sync(accounts.revoke_key, key_id(miner))
    expect_error(poll.result(10), 401, "UNAUTHORIZED")
    assert time.monotonic() - began < WITHIN_S


def test_a_poll_ends_with_the_time_of_its_key(api: Market, clock: Any) -> None:
    miner = api.key("miner", expires_at_ms=clock.now_ms() + 60_000)
    api.miner(miner)
    poll = polled(api, "/v1/miner/jobs?miner_id=m1&wait=20", miner)
    clock.advance(61)
    expect_error(poll.result(10), 401, "UNAUTHORIZED")


@pytest.mark.parametrize("end", ENDS)
def test_no_job_is_leased_for_a_key_that_has_just_ended(api: Market, end: str) -> None:
    """The request was let in before; the transaction that leases looks again."""
    miner = api.key("miner")
    api.miner(miner)
    job_id = api.job(api.key("client"))
    holder = api.run(api.runtime.db.read(accounts.authenticate, miner["X-Api-Key"]))
    api.write(ENDS[end], key_id(miner))
    context = api.runtime.context
    for act in (
        (dispatch.take, context, holder, "m1", 1),
        (dispatch.claim, context, holder, job_id, "m1"),
        (dispatch.offer, context, holder, "m1"),
    ):
        with pytest.raises(Unauthorized):
            api.write(*act)
    assert api.get(f"/v1/jobs/{job_id}", api.key("admin")).json()["status"] == "pending"


def test_a_deregistered_miner_s_poll_ends_at_once(api: Market) -> None:
    miner = api.key("miner")
    api.miner(miner)
    poll = polled(api, "/v1/miner/jobs?miner_id=m1&wait=20", miner)
    began = time.monotonic()
    assert api.post("/v1/miner/deregister", miner, json={"miner_id": "m1"}).status_code == 200
    expect_error(poll.result(10), 409, "MINER_INACTIVE")
    assert time.monotonic() - began < SOON_S


def test_a_session_s_polls_end_with_it(api: Market) -> None:
    holder = session(api, NativeWallet())
    job_id = api.job(holder, model="nobody-has-it")
    poll = polled(api, f"/v1/jobs/{job_id}/result?wait=20", holder)
    assert api.post("/v1/users/logout", holder).status_code == 200
    expect_error(poll.result(10), 401, "UNAUTHORIZED")
