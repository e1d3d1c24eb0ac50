"""What a scaler of workers is told about a queue."""

import time
from typing import Any

from redis import Redis

from app_srvc.messages.pauses import pause_queue, resume_queue
from tests.support.leases import claim_one, expire
from tests.support.servers import ValkeyServer
from tests.support.web import WebWorld

QUEUE = "QUE_USRREG"
NOTHING = {"queue": QUEUE, "waiting": 0, "running": 0, "backlog": 0, "oldest_age_s": 0.0}


def load_of(web: WebWorld) -> dict[str, Any]:
    answer = web.client.get(f"/api/v1/queues/{QUEUE}/load")
    assert answer.status_code == 200
    load: dict[str, Any] = answer.get_json()
    return load


def backdate(redis: Redis, id: str, stamp: str) -> None:
    redis.hset(f"rq:job:{id}", "enqueued_at", stamp)


def test_what_waits_and_what_runs_is_to_be_done(plain_web: WebWorld, valkey: ValkeyServer) -> None:
    web, redis = plain_web, valkey.client
    assert load_of(web) == NOTHING
    for login in ("olena", "iryna", "petro"):
        web.register(login)
    assert {**load_of(web), "oldest_age_s": 0} == {
        **NOTHING,
        "waiting": 3,
        "backlog": 3,
        "oldest_age_s": 0,
    }
    claim_one(redis, QUEUE)
    load = load_of(web)
    assert (load["waiting"], load["running"], load["backlog"]) == (2, 1, 3)


def test_one_whose_worker_died_is_still_to_be_done(
    plain_web: WebWorld, valkey: ValkeyServer
) -> None:
    plain_web.register("olena")
    expire(valkey.client, QUEUE, claim_one(valkey.client, QUEUE))
    assert load_of(plain_web)["backlog"] == 1


def test_the_age_is_that_of_the_next_job(plain_web: WebWorld, valkey: ValkeyServer) -> None:
    first, _ = plain_web.register("olena"), plain_web.register("iryna")
    began = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(began - 90))
    backdate(valkey.client, first, stamp)
    assert 89 <= load_of(plain_web)["oldest_age_s"] <= 92 + time.time() - began
    claim_one(valkey.client, QUEUE)
    assert load_of(plain_web)["oldest_age_s"] < 60
    for strange in ("soon", "2026-11-21", "2999-01-01T00:00:00.000000Z"):
        plain_web.register(f"login{len(strange)}")
        backdate(valkey.client, valkey.client.lindex(f"rq:queue:{QUEUE}", 0).decode(), strange)
        assert load_of(plain_web)["oldest_age_s"] == 0.0


def test_a_paused_queue_asks_for_no_workers(plain_web: WebWorld, valkey: ValkeyServer) -> None:
    for login in ("olena", "iryna"):
        plain_web.register(login)
    claim_one(valkey.client, QUEUE)
    pause_queue(plain_web.runtime, QUEUE)
    assert load_of(plain_web) == {**NOTHING, "waiting": 1, "running": 1, "backlog": 1}
    resume_queue(plain_web.runtime, QUEUE)
    assert load_of(plain_web)["backlog"] == 2


def test_what_is_not_known_is_no_zero(plain_web: WebWorld, valkey: ValkeyServer) -> None:
    valkey.stop()
    answer = plain_web.client.get(f"/api/v1/queues/{QUEUE}/load")
    assert answer.status_code == 503
    assert answer.get_json()["code"] == "BrokerUnavailable"
    assert int(answer.headers["Retry-After"]) > 0
