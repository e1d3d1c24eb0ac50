"""Arrivals: a wait for jobs that survives links which die without a word."""

import os
from collections.abc import Iterator

import pytest
from redis import Redis

from app_srvc.workers.lease import arrivals
from app_srvc.workers.lease.arrivals import Arrivals
from app_srvc.workers.lease.link import own_client
from tests.support.cutting_proxy import BEFORE, CuttingProxy
from tests.support.servers import ValkeyServer
from tests.support.waiting import wait_until

KEY = "rq:queue:q"


@pytest.fixture
def wake() -> Iterator[int]:
    read, write = os.pipe()
    yield read
    os.close(read)
    os.close(write)


def test_a_link_on_which_redis_never_answers_is_given_up(
    valkey: ValkeyServer, wake: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis has to answer after a few seconds, if only that there is nothing."""
    monkeypatch.setattr(arrivals, "WAIT_S", 0.2)
    monkeypatch.setattr(arrivals, "SILENT_S", 0.3)
    with CuttingProxy(valkey.port) as proxy:
        point = proxy.halt("BLMOVE", 1, BEFORE)
        client = Redis.from_url(proxy.url)
        waiting = Arrivals(own_client(client), [KEY], wake)
        assert not waiting.wait(0.6)
        assert point.is_reached.is_set()
        valkey.client.rpush(KEY, "job")
        assert wait_until(lambda: waiting.wait(0.1))
        waiting.close()


def test_a_key_that_is_left_out_is_not_heard_of(valkey: ValkeyServer, wake: int) -> None:
    waiting = Arrivals(own_client(valkey.client), [KEY, "rq:queue:other"], wake)
    valkey.client.rpush(KEY, "job")
    assert not waiting.wait(0.2, but={KEY})
    assert waiting.wait(0.2)
    waiting.close()
