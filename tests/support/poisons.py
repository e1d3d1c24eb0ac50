"""Whatever may stand in Redis, or be done by a job, that a worker has to live with.

Each function plants one thing and says how it is to end: an `End`.
"""

import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from redis import Redis
from rq import Callback, Queue

from tests.support.lease_workers import JOBS, Diary

TOKEN = "0" * 32


@dataclass(frozen=True)
class End:
    """The status of the job `id`, "" if it is not a job; a part of its error, and of the log."""

    id: str = "poison"
    status: str = "failed"
    error: str = ""
    log: str = ""


@dataclass(frozen=True)
class Ground:
    """Where to plant."""

    redis: Redis
    queue: Queue
    diary: Diary
    url: str

    def job(self, name: str, *arguments: Any, **more: Any) -> None:
        """Enqueue a job of one of the tests' functions."""
        self.queue.enqueue(f"{JOBS}.{name}", args=arguments, job_id="poison", **more)

    def good_job(self, **more: Any) -> None:
        self.job("work", str(self.diary.path), "poison", **more)

    def bad_job(self, **more: Any) -> None:
        self.job("fail", str(self.diary.path), "poison", **more)

    def change(self, **fields: Any) -> None:
        self.redis.hset("rq:job:poison", mapping=fields)


Poison = Callable[[Ground], End]


# --- entries and hashes ---------------------------------------------------------------------------


def data_that_is_garbage(ground: Ground) -> End:
    ground.good_job()
    ground.change(data=b"\x80\xff garbage")
    return End(error="Error")


def compressed_data_that_is_garbage(ground: Ground) -> End:
    ground.good_job()
    ground.change(data=zlib.compress(b"garbage"))
    return End(error="Error")


def illegal_id(ground: Ground) -> End:
    ground.redis.rpush("rq:queue:q", b"no id/\xff\n", "", "x" * 300)
    return End(id="", log="bad_id")


def missing_hash(ground: Ground) -> End:
    ground.redis.rpush("rq:queue:q", "poison")
    return End(status="", log="no_job")


def string_in_place_of_a_hash(ground: Ground) -> End:
    ground.good_job()
    ground.redis.set("rq:job:poison", "text")
    return End(id="", log="no_job")


def hash_without_data(ground: Ground) -> End:
    ground.good_job()
    ground.redis.hdel("rq:job:poison", "data")
    return End(status="queued", log="no_job")


def unknown_status(ground: Ground) -> End:
    ground.good_job()
    ground.change(status="strange")
    return End(status="strange", log="unknown_status")


def timeout_that_is_no_number(ground: Ground) -> End:
    ground.good_job()
    ground.change(timeout="abc")
    return End(error="abc")


def result_life_that_is_no_number(ground: Ground) -> End:
    ground.good_job()
    ground.change(result_ttl="abc")
    return End(error="abc")


def failure_life_that_is_no_number(ground: Ground) -> End:
    ground.bad_job()
    ground.change(failure_ttl="abc")
    return End(error="as always")


def worker_key_of_a_wrong_type(ground: Ground) -> End:
    """A worker writes its key when it starts; this happens later."""
    ground.job("spoil", ground.url, "rq:worker:w")
    return End(status="finished")


def result_life_beyond_what_redis_can_count(ground: Ground) -> End:
    ground.good_job()
    ground.change(result_ttl=str(10**18))
    return End(status="finished")


def rescues_that_are_no_number(ground: Ground) -> End:
    ground.good_job()
    ground.change(rescues="abc")
    return End(status="finished")


def lost_job_with_rescues_that_are_no_number(ground: Ground) -> End:
    ground.good_job()
    ground.redis.lrem("rq:queue:q", 1, "poison")
    ground.change(status="started", rescues="abc")
    ground.redis.zadd("rq:wip:q", {f"poison:{TOKEN}": time.time() - 1})
    return End(status="finished")


def garbage_in_hand(ground: Ground) -> End:
    entries = (b"garbage", b"no:such", b"\xff\xfe:\xff", b":", b"")
    ground.redis.zadd("rq:wip:q", dict.fromkeys(entries, time.time() - 1))
    return End(id="")


def executions_of_a_wrong_type(ground: Ground) -> End:
    ground.good_job()
    ground.change(status="started")
    ground.redis.set("rq:executions:poison", "text")
    return End(status="finished")


def executions_of_a_wrong_type_for_rq_s_own_code(ground: Ground) -> End:
    ground.good_job(on_success=Callback(f"{JOBS}.note_success"))
    ground.redis.set("rq:executions:poison", "text")
    return End(status="finished")


def results_of_a_wrong_type(ground: Ground) -> End:
    ground.good_job()
    ground.redis.set("rq:results:poison", "text")
    return End(status="finished")


def scheduled_entry_without_a_hash(ground: Ground) -> End:
    ground.redis.zadd("rq:scheduled:q", {"nobody": time.time() - 1, b"\xff": 0})
    return End(id="", log="scheduled_without_job")


# --- functions and callbacks ----------------------------------------------------------------------


def function_that_cannot_be_imported(ground: Ground) -> End:
    ground.job("no_such_function")
    return End(error="no_such_function")


def module_that_cannot_be_imported(ground: Ground) -> End:
    ground.queue.enqueue("no.such.module", job_id="poison")
    return End(error="no")


def success_callback_that_raises(ground: Ground) -> End:
    ground.good_job(on_success=Callback(f"{JOBS}.raise_in_callback"))
    return End(error="in the callback")


def success_callback_that_cannot_be_imported(ground: Ground) -> End:
    ground.good_job(on_success=Callback(f"{JOBS}.no_such_callback"))
    return End(error="no_such_callback")


def failure_callback_that_raises(ground: Ground) -> End:
    ground.bad_job(on_failure=Callback(f"{JOBS}.raise_in_callback"))
    return End(error="in the callback")


def failure_callback_that_cannot_be_imported(ground: Ground) -> End:
    ground.bad_job(on_failure=Callback(f"{JOBS}.no_such_callback"))
    return End(error="no_such_callback")


def deep_recursion(ground: Ground) -> End:
    ground.job("recurse")
    return End(error="RecursionError")


def hash_that_its_job_spoils(ground: Ground) -> End:
    ground.job("spoil", ground.url, "rq:job:poison")
    return End(id="")


def leaving(ground: Ground) -> End:
    ground.job("leave", 0)
    return End(error="SystemExit")


# --- what its process does not survive ------------------------------------------------------------


def crash(ground: Ground) -> End:
    ground.job("crash")
    return End(error="poison", log="signal=11")


def killing_its_process(ground: Ground) -> End:
    ground.job("kill_own_process")
    return End(error="poison", log="signal=9")


def _leaving_at_once(status: int) -> Poison:
    def plant(ground: Ground) -> End:
        ground.job("leave_at_once", status)
        return End(error="poison")

    return plant


def killing_its_process_with_a_callback(ground: Ground) -> End:
    ground.job("kill_own_process", on_failure=Callback(f"{JOBS}.note_nothing"))
    return End(error="poison")


def ignoring_every_limit(ground: Ground) -> End:
    ground.job("ignore_every_limit", job_timeout=1)
    return End(error="killed", log="job_ignores_its_limit")


def ignoring_the_limit_once(ground: Ground) -> End:
    ground.job("ignore_the_limit_once", 0.2, job_timeout=1)
    return End(status="finished")


def obeying_the_limit(ground: Ground) -> End:
    ground.job("work", str(ground.diary.path), "poison", 10.0, job_timeout=1)
    return End(error="JobTimeoutException")


POISONS: Mapping[str, Poison] = {
    **{
        poison.__name__: poison
        for poison in (
            data_that_is_garbage,
            compressed_data_that_is_garbage,
            illegal_id,
            missing_hash,
            string_in_place_of_a_hash,
            hash_without_data,
            unknown_status,
            timeout_that_is_no_number,
            result_life_that_is_no_number,
            failure_life_that_is_no_number,
            worker_key_of_a_wrong_type,
            result_life_beyond_what_redis_can_count,
            rescues_that_are_no_number,
            lost_job_with_rescues_that_are_no_number,
            garbage_in_hand,
            executions_of_a_wrong_type,
            executions_of_a_wrong_type_for_rq_s_own_code,
            results_of_a_wrong_type,
            scheduled_entry_without_a_hash,
            function_that_cannot_be_imported,
            module_that_cannot_be_imported,
            success_callback_that_raises,
            success_callback_that_cannot_be_imported,
            failure_callback_that_raises,
            failure_callback_that_cannot_be_imported,
            deep_recursion,
            hash_that_its_job_spoils,
            leaving,
            crash,
            killing_its_process,
            killing_its_process_with_a_callback,
            ignoring_every_limit,
            ignoring_the_limit_once,
            obeying_the_limit,
        )
    },
    # 0 is how a child says that it is done, and 3 that it is worn out.
    **{f"leaving_at_once_with_{status}": _leaving_at_once(status) for status in (0, 1, 3)},
}
