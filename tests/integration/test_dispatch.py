"""Dispatch: an id is put on its queue once, whatever state its job is in, and RQ can read it."""

import time

import pytest
from rq import Queue
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from app_srvc.errors import BrokerUnavailableError
from app_srvc.messages.dispatch import PROCESS_TASK, Dispatcher, JobSpec, Look
from tests.support.servers import ValkeyServer

ID = "0193e4a0-0000-7000-8000-000000000001"


@pytest.fixture
def dispatcher(valkey: ValkeyServer) -> Dispatcher:
    return Dispatcher(valkey.client, result_ttl_s=60, failure_ttl_s=600)


def spec(id: str = ID, *, delay_s: float | None = None, attempt: int = 0) -> JobSpec:
    return JobSpec(id, "QUE_X", PROCESS_TASK, (id,), attempt, 60, delay_s)


def test_rq_reads_the_job_as_one_of_its_own(valkey: ValkeyServer, dispatcher: Dispatcher) -> None:
    assert dispatcher.dispatch([spec(attempt=2)]) == 1
    queue = Queue("QUE_X", connection=valkey.client, serializer=JSONSerializer)
    assert queue.job_ids == [ID]
    assert Queue.all(connection=valkey.client) == [queue]
    job = Job.fetch(ID, connection=valkey.client, serializer=JSONSerializer)
    assert (job.func_name, job.args, job.kwargs) == (PROCESS_TASK, [ID], {})
    assert job.get_status() == JobStatus.QUEUED
    assert (job.origin, job.timeout, job.result_ttl, job.failure_ttl) == ("QUE_X", 60, 60, 600)
    assert job.meta == {"try": 2}
    assert job.enqueued_at is not None


def test_the_same_id_twice_is_queued_once(valkey: ValkeyServer, dispatcher: Dispatcher) -> None:
    assert dispatcher.dispatch([spec(), spec()]) == 1
    assert dispatcher.dispatch([spec()]) == 0
    assert valkey.client.lrange("rq:queue:QUE_X", 0, -1) == [ID.encode()]


def test_a_delayed_job_is_scheduled_with_a_fraction_of_a_second(
    valkey: ValkeyServer, dispatcher: Dispatcher
) -> None:
    before = time.time()
    dispatcher.dispatch([spec(delay_s=0.75)])
    after = time.time()
    score = valkey.client.zscore("rq:scheduled:QUE_X", ID)
    assert score is not None
    assert before + 0.75 <= score + 0.001
    assert score <= after + 0.75 + 0.001
    assert valkey.client.llen("rq:queue:QUE_X") == 0
    assert dispatcher.dispatch([spec()]) == 0


@pytest.mark.parametrize("status", ["finished", "failed", "canceled"])
def test_a_job_that_has_ended_is_made_anew(
    valkey: ValkeyServer, dispatcher: Dispatcher, status: str
) -> None:
    valkey.client.hset(
        f"rq:job:{ID}", mapping={"status": status, "exc_info": "old", "ended_at": "x"}
    )
    registry = f"rq:{status}:QUE_X"
    valkey.client.zadd(registry, {ID: time.time() + 600})
    assert dispatcher.dispatch([spec()]) == 1
    assert valkey.client.zscore(registry, ID) is None
    assert valkey.client.hexists(f"rq:job:{ID}", "exc_info") is False
    assert valkey.client.hget(f"rq:job:{ID}", "status") == b"queued"


def test_a_job_started_under_a_live_lease_is_left_alone(
    valkey: ValkeyServer, dispatcher: Dispatcher
) -> None:
    _start(valkey, lease_s=30)
    assert dispatcher.dispatch([spec()]) == 0
    _, (fact,) = dispatcher.probe([(ID, "QUE_X")])
    assert (fact.status, fact.is_live) == ("started", True)


def test_a_job_whose_lease_has_ended_is_made_anew_and_its_execution_forgotten(
    valkey: ValkeyServer, dispatcher: Dispatcher
) -> None:
    _start(valkey, lease_s=-1)
    _, (fact,) = dispatcher.probe([(ID, "QUE_X")])
    assert (fact.status, fact.is_live) == ("started", False)
    assert dispatcher.dispatch([spec()]) == 1
    assert valkey.client.zcard("rq:wip:QUE_X") == 0
    assert valkey.client.exists(f"rq:executions:{ID}", f"rq:execution:{ID}:e1") == 0


def test_a_hash_whose_list_is_gone_is_found_by_an_exact_look_only(
    valkey: ValkeyServer, dispatcher: Dispatcher
) -> None:
    dispatcher.dispatch([spec()])
    valkey.client.delete("rq:queue:QUE_X")
    assert dispatcher.dispatch([spec()]) == 0
    assert dispatcher.dispatch([spec()], look=Look.LIST) == 1
    assert valkey.client.llen("rq:queue:QUE_X") == 1


def test_a_job_that_was_claimed_and_not_started_is_live(
    valkey: ValkeyServer, dispatcher: Dispatcher
) -> None:
    _start(valkey, lease_s=30)
    valkey.client.hset(f"rq:job:{ID}", "status", "queued")
    assert dispatcher.dispatch([spec()], look=Look.LIST) == 0
    _, (fact,) = dispatcher.probe([(ID, "QUE_X")], look=Look.LIST)
    assert fact.is_live


def test_a_scheduled_hash_that_is_in_no_registry_is_made_anew(
    valkey: ValkeyServer, dispatcher: Dispatcher
) -> None:
    valkey.client.hset(f"rq:job:{ID}", "status", "scheduled")
    assert dispatcher.dispatch([spec()]) == 1


def test_who_has_looked_himself_is_believed(valkey: ValkeyServer, dispatcher: Dispatcher) -> None:
    dispatcher.dispatch([spec()])
    assert dispatcher.dispatch([spec()], look=Look.ABSENT) == 1
    _start(valkey, lease_s=30)
    valkey.client.hset(f"rq:job:{ID}", "status", "queued")
    assert dispatcher.dispatch([spec()], look=Look.ABSENT) == 0, "it is claimed"


@pytest.mark.parametrize("key", [f"rq:job:{ID}", f"rq:executions:{ID}"])
def test_a_key_of_another_type_keeps_no_other_job_from_its_queue(
    valkey: ValkeyServer, dispatcher: Dispatcher, key: str
) -> None:
    if "executions" in key:
        _start(valkey, lease_s=-1)
        valkey.client.delete(key)
    valkey.client.set(key, "garbage")
    _, facts = dispatcher.probe([(ID, "QUE_X"), ("other", "QUE_X")])
    assert not any(fact.is_live for fact in facts)
    assert dispatcher.dispatch([spec(), spec("other")]) == 2
    assert dispatcher.forget([(ID, "QUE_X"), ("other", "QUE_X")]) == 2


def test_a_lease_that_has_ended_awaits_its_rescue(
    valkey: ValkeyServer, dispatcher: Dispatcher
) -> None:
    _start(valkey, lease_s=-1)
    _, (fact,) = dispatcher.probe([(ID, "QUE_X")])
    assert fact.awaits_rescue
    valkey.client.delete("rq:wip:QUE_X")
    _, (fact,) = dispatcher.probe([(ID, "QUE_X")])
    assert not fact.awaits_rescue


def test_ten_thousand_jobs_keep_their_order(valkey: ValkeyServer, dispatcher: Dispatcher) -> None:
    ids = [f"job-{number}" for number in range(10_000)]
    assert dispatcher.dispatch([spec(id) for id in ids]) == 10_000
    assert [raw.decode() for raw in valkey.client.lrange("rq:queue:QUE_X", 0, -1)] == ids
    assert dispatcher.waiting_ids("QUE_X") == {hash(id) for id in ids}


def test_forgetting_leaves_nothing_of_a_job(valkey: ValkeyServer, dispatcher: Dispatcher) -> None:
    dispatcher.dispatch([spec()])
    assert dispatcher.forget([(ID, "QUE_X")], from_list=True) == 1
    assert valkey.client.keys("*") == [b"rq:queues"]


@pytest.mark.parametrize(
    "meta", [b"", b"not json", b'{"try": "x"}', b'{"try": true}', b"[]", b"[" * 5000, b"\xff\xfe"]
)
def test_meta_that_somebody_broke_counts_as_unknown(
    valkey: ValkeyServer, dispatcher: Dispatcher, meta: bytes
) -> None:
    valkey.client.hset(f"rq:job:{ID}", mapping={"status": "started", "meta": meta})
    _, (fact,) = dispatcher.probe([(ID, "QUE_X")])
    assert (fact.attempt, fact.note, fact.is_live) == (-1, None, False)


def test_with_redis_away_a_caller_who_cannot_wait_pays_once(valkey: ValkeyServer) -> None:
    dispatcher = Dispatcher(valkey.client, result_ttl_s=60, failure_ttl_s=600)
    valkey.stop()
    with pytest.raises(BrokerUnavailableError):
        dispatcher.dispatch([spec()])
    assert dispatcher.try_dispatch([spec()]) is False
    valkey.start()
    assert dispatcher.try_dispatch([spec()]) is False, "a pause follows a failure"
    assert valkey.client.exists(f"rq:job:{ID}") == 0


def _start(valkey: ValkeyServer, *, lease_s: float) -> None:
    """A job that a worker holds, as RQ writes it."""
    until = time.time() + lease_s
    valkey.client.hset(f"rq:job:{ID}", mapping={"status": "started", "meta": '{"try": 0}'})
    valkey.client.zadd(f"rq:executions:{ID}", {"e1": until})
    valkey.client.hset(f"rq:execution:{ID}:e1", "id", "e1")
    valkey.client.zadd("rq:wip:QUE_X", {f"{ID}:e1": until})
