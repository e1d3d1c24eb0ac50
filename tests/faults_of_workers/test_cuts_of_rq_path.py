"""Whatever RQ's own code asks Redis at the end of a job: the connection is cut there, or the worker dies."""

import signal
from contextlib import ExitStack
from itertools import count

import pytest
from rq import Queue

from tests.faults_of_workers.conftest import StartWorker
from tests.support.cutting_proxy import AFTER, BEFORE, RQ, CuttingProxy
from tests.support.lease_workers import (
    SHORT_LEASE,
    Diary,
    assert_nothing_stranded,
)
from tests.support.rq_cases import CASES
from tests.support.servers import ValkeyServer
from tests.support.waiting import wait_until

GOES_ON_S = 5.0
FEWEST_POINTS = 4
# A beat would be taken for a request of RQ's code.
NO_BEAT = {"app_srvc.workers.lease.housekeeping:BEAT_EVERY_S": 600}


@pytest.mark.parametrize("when", [BEFORE, AFTER])
@pytest.mark.parametrize("case", CASES)
def test_the_connection_is_cut_at_every_request_in_turn(
    case: str,
    when: str,
    valkey: ValkeyServer,
    proxy: CuttingProxy,
    start_worker: StartWorker,
    diary: Diary,
) -> None:
    worker = start_worker(url=proxy.url, constants=NO_BEAT)
    wait_until(lambda: proxy.seen["BLMOVE"] >= 1, 10, what="the worker waits for jobs")
    family = worker.family()
    queue = Queue("q", connection=valkey.client)
    for number in count(1):
        point = proxy.cut(RQ, number, when)
        expected = CASES[case](queue, diary, f"cut{number}")
        wait_until(
            lambda expected=expected: expected.is_there(valkey.client),
            GOES_ON_S,
            what=f"the job whose request {number} was cut is {expected.statuses}",
        )
        wait_until(lambda: valkey.client.zcard("rq:wip:q") == 0, GOES_ON_S, what="it is over")
        expected.check(valkey.client, diary, "q")
        if not point.is_reached.is_set():
            break
    assert number > FEWEST_POINTS
    assert_nothing_stranded(valkey.client)
    assert worker.family() == family
    assert "job_lease_lost" not in worker.log_text()


# Between a failure and the start of what runs nevertheless, RQ has two transactions.
@pytest.mark.parametrize("case", [case for case in CASES if case != "failure"])
def test_the_worker_is_killed_at_every_request_in_turn(
    case: str, valkey: ValkeyServer, start_worker: StartWorker, diary: Diary
) -> None:
    """One worker for each request; another one settles what they leave."""
    expectations, queues = [], []
    with ExitStack() as stack:
        for number in count(1):
            name = f"kill{number}"
            proxy = stack.enter_context(CuttingProxy(valkey.port))
            worker = start_worker(
                name, url=proxy.url, queues=[name], constants={**SHORT_LEASE, **NO_BEAT}
            )
            wait_until(lambda p=proxy: p.seen["BLMOVE"] >= 1, 10, what="it waits for jobs")
            point = proxy.halt(RQ, number, BEFORE)
            expected = CASES[case](Queue(name, connection=valkey.client), diary, name)
            wait_until(
                lambda p=point, e=expected: p.is_reached.is_set() or e.is_there(valkey.client),
                GOES_ON_S,
                what="the worker has come to the point",
            )
            worker.signal_all(signal.SIGKILL)
            worker.wait_for_exit()
            expectations.append(expected)
            queues.append(name)
            if not point.is_reached.is_set():
                break
        assert len(queues) > FEWEST_POINTS
        start_worker("heir", queues=queues, constants=SHORT_LEASE)
        for name, expected in zip(queues, expectations, strict=True):
            wait_until(
                lambda e=expected: e.is_there(valkey.client),
                GOES_ON_S,
                what=f"{name} is {expected.statuses}",
            )
            wait_until(
                lambda n=name: valkey.client.zcard(f"rq:wip:{n}") == 0, GOES_ON_S, what="it is over"
            )
            expected.check(valkey.client, diary, name, ran_twice=True)
        for name in queues:
            assert_nothing_stranded(valkey.client, name)
