"""What is said of the queue and of lists of jobs, against the jobs themselves."""

from aitbc.coordinator.api_keys.principal import Principal
from aitbc.coordinator.database import Tx
from aitbc.coordinator.flows.acts import job_lifecycle
from aitbc.coordinator.jobs import queries
from aitbc.coordinator.jobs.lifecycle import MAX_PRIORITY, TERMINAL
from aitbc.coordinator.jobs.rows import JobRow
from tests.support.flows import Market, spec_of


def submit(
    market: Market, client: Principal, priority: int = 5, model: str = "llama", **change: object
) -> JobRow:
    spec = spec_of(priority=priority, model=model)._replace(**change)  # type: ignore[arg-type]
    return market.db.write_sync(job_lifecycle.submit, market.ctx, client, spec)


def test_a_place_in_the_queue_is_among_jobs_of_the_model_by_urgency_and_age(market: Market) -> None:
    client = market.client()
    made = [submit(market, client, priority) for priority in (5, 9, 5, 0, 9, 5)]
    others = [submit(market, client, 9, "other"), submit(market, client, 9, job_type="embedding")]
    paid_later = submit(market, client, 9, manual_payment=True)

    def places(tx: Tx) -> list[int | None]:
        return [queries.position(tx, job) for job in (*made, *others, paid_later)]

    assert market.db.read_sync(places) == [3, 1, 4, 6, 2, 5, 1, 1, None]

    def ahead(tx: Tx) -> list[int]:
        return [
            queries.ahead_of_new(tx, "llm_inference", "llama", MAX_PRIORITY - priority)
            for priority in (10, 9, 5, 0)
        ]

    assert market.db.read_sync(ahead) == [0, 2, 5, 6]
    miner = market.miner()
    market.take(miner)
    market.cancel(client, made[0].id)
    assert market.db.read_sync(ahead) == [0, 1, 3, 4]
    assert market.db.read_sync(queries.position, market.job(made[1].id)) is None


def test_the_queue_and_what_runs_are_counted(market: Market) -> None:
    client = market.client()
    assert market.db.read_sync(queries.queue_state) == queries.QueueState(0, None)
    market.clock.advance(1)
    created = []
    for priority, change in ((1, {}), (9, {}), (5, {"job_type": "embedding"}), (5, {"manual_payment": True})):
        created.append(submit(market, client, priority, **change).created_at_ms)
        market.clock.advance(1)
    state = market.db.read_sync(queries.queue_state)
    assert state == queries.QueueState(3, created[0]), "one waits for its payment"
    assert market.db.read_sync(queries.open_counts) == (4, 0)
    one, two = market.miner("m1"), market.miner("m2", job_types=("embedding", "llm_inference"), concurrency=2)
    market.take(one)
    assert market.db.read_sync(queries.queue_state) == queries.QueueState(2, created[0])
    (ran,) = market.take(two)
    market.cancel(client, ran.id)
    assert len(market.take(two, 2)) == 1
    assert market.db.read_sync(queries.queue_state) == queries.QueueState(0, None)
    assert market.db.read_sync(queries.open_counts) == (1, 2)
    assert market.db.read_sync(queries.running_by_miner) == {"m1": 1, "m2": 1}


def test_a_list_is_of_one_client_and_one_state_newest_first(market: Market) -> None:
    client, other, miner = market.client(), market.client("other"), market.miner(concurrency=2)
    made = [submit(market, who) for who in (client, other, client, client, other, client, client)]
    market.take(miner, 2)
    market.complete(miner, made[0].id)
    market.cancel(client, made[3].id)
    states = ["completed", "running", "pending", "cancelled", "pending", "pending", "pending"]
    assert [market.job(job.id).status for job in made] == states
    for who in (client.account_id, other.account_id, None):
        for status in (None, "pending", "running", *TERMINAL):
            expected = [
                job.id
                for job, state in zip(reversed(made), reversed(states), strict=True)
                if who in (None, job.client_id) and status in (None, state)
            ]
            for limit in (1, 2, 50):
                found: list[str] = []
                before: str | None = None
                while True:
                    page = market.db.read_sync(
                        lambda tx, most=limit, below=before, who=who, status=status: queries.listed(
                            tx, who, status=status, limit=most, offset=0, before_id=below
                        )
                    )
                    assert page.total == len(expected)
                    found += [row.id for row in page.rows]
                    before = page.next_before
                    if before is None:
                        break
                assert found == expected


def test_a_history_is_of_its_own_job_in_order(market: Market) -> None:
    client, miner = market.client(), market.miner()
    one, two = submit(market, client), submit(market, client)
    market.take(miner)
    market.cancel(client, two.id)
    market.complete(miner, one.id)
    for job, kinds in ((one, ["created", "claimed", "completed"]), (two, ["created", "cancelled"])):
        events = market.db.read_sync(queries.events, job.id)
        assert [(event.job_id, event.seq, event.type) for event in events] == [
            (job.id, number, kind) for number, kind in enumerate(kinds, 1)
        ]
