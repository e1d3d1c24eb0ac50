"""AppJob: reads what stands in Redis with suspicion. Stock RQ writes some of it, to be sure of the form."""

import base64
import json
import pickle
import tracemalloc
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rq.exceptions import DeserializationError
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.serializers import JSONSerializer

from app_srvc.messages.dispatch import PROCESS_TASK, JobSpec
from app_srvc.messages.ids import new_message_id
from app_srvc.workers.job import MAX_DATA_BYTES, MAX_FIELD_BYTES, AppJob, JobRefusedError
from app_srvc.workers.tasks import accepts_cycle, accepts_message
from tests.support.servers import ValkeyServer
from tests.support.worlds import open_world

GOOD_DATA = json.dumps(["a.task", None, ["one", 2], {}]).encode()


class Bomb:
    """Pickled, it writes a file when it is read."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._file,)


def write_job(valkey: ValkeyServer, job_id: str = "a-job", **fields: Any) -> None:
    fields = {"data": GOOD_DATA, "status": "queued", "meta": '{"try": 1}', **fields}
    valkey.client.hset(f"rq:job:{job_id}", mapping=fields)


def read_job(valkey: ValkeyServer, job_id: str = "a-job") -> AppJob:
    job = AppJob.fetch(job_id, connection=valkey.client)
    assert isinstance(job, AppJob)
    return job


def test_a_job_of_the_dispatcher_is_read(valkey: ValkeyServer, sqlite_ledger_url: str) -> None:
    runtime = open_world(valkey.url, sqlite_ledger_url)
    message_id = new_message_id()
    spec = JobSpec(message_id, "QUE_TASKS", PROCESS_TASK, (message_id,), 2, 30)
    assert runtime.dispatcher.dispatch([spec]) == 1
    job = read_job(valkey, message_id)
    assert job.refusal is None
    assert (job.func_name, job.args, job.kwargs) == (PROCESS_TASK, (message_id,), {})
    assert (job.tries, job.run_timeout_s, job.origin) == (2, 30, "QUE_TASKS")
    assert job.get_status() is JobStatus.QUEUED
    runtime.close()


def test_a_job_of_the_dispatcher_is_read_by_stock_rq(
    valkey: ValkeyServer, sqlite_ledger_url: str
) -> None:
    runtime = open_world(valkey.url, sqlite_ledger_url)
    message_id = new_message_id()
    runtime.dispatcher.dispatch(
        [JobSpec(message_id, "QUE_TASKS", PROCESS_TASK, (message_id,), 0, 30)]
    )
    queue = Queue("QUE_TASKS", connection=valkey.client, serializer=JSONSerializer)
    (job,) = queue.get_jobs()
    assert (job.id, job.func_name, list(job.args)) == (message_id, PROCESS_TASK, [message_id])
    assert (job.timeout, job.meta, job.description) == (
        30,
        {"try": 0},
        f"process_message({message_id})",
    )
    runtime.close()


def test_compressed_data_of_stock_rq_is_read(valkey: ValkeyServer) -> None:
    queue = Queue("q", connection=valkey.client, serializer=JSONSerializer)
    queue.enqueue("a.task", "one", 2, job_id="a-job")
    job = read_job(valkey)
    assert (job.refusal, job.func_name, job.args) == (None, "a.task", ("one", 2))


@pytest.mark.parametrize("field", ["data", "meta", "result", "exc_info"])
@pytest.mark.parametrize("is_compressed", [False, True])
def test_a_pickle_is_never_read(
    valkey: ValkeyServer, tmp_path: Path, field: str, is_compressed: bool
) -> None:
    mark = tmp_path / "unpickled"
    raw = pickle.dumps(Bomb(mark))
    write_job(valkey, **{field: zlib.compress(raw) if is_compressed else raw})
    # A serializer that a caller names, pickle by RQ's default, is not used either.
    job = AppJob.fetch("a-job", connection=valkey.client, serializer="pickle")
    assert job.serializer is JSONSerializer
    job.get_meta()
    assert (job.return_value(), job.result) == (None, None)
    assert job.results() == []
    assert (job.refusal is None) == (field in ("result", "exc_info"))
    assert not mark.exists()


def test_a_pickle_in_the_results_is_never_read(valkey: ValkeyServer, tmp_path: Path) -> None:
    mark = tmp_path / "unpickled"
    write_job(valkey)
    value = base64.b64encode(pickle.dumps(Bomb(mark))).decode()
    valkey.client.xadd("rq:results:a-job", {"type": 1, "return_value": value})
    assert read_job(valkey).return_value() is None
    assert not mark.exists()


def test_the_pickle_of_these_tests_does_explode(valkey: ValkeyServer, tmp_path: Path) -> None:
    """So that the tests above can fail: stock RQ falls for it."""
    mark = tmp_path / "unpickled"
    write_job(valkey, meta=pickle.dumps(Bomb(mark)))
    Job.fetch("a-job", connection=valkey.client)
    assert mark.exists()


def test_a_compressed_bomb_is_not_followed_to_its_end(valkey: ValkeyServer) -> None:
    # 12 MB are the most that fit into a field when they are compressed.
    write_job(valkey, data=zlib.compress(b"\0" * 12_000_000, 9))
    tracemalloc.start()
    job = read_job(valkey)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert job.refusal == f"data: larger than {MAX_DATA_BYTES} bytes when inflated"
    assert peak < 2_000_000


def test_data_as_large_as_allowed_is_read_and_no_larger(valkey: ValkeyServer) -> None:
    def padded(size: int) -> bytes:
        return GOOD_DATA + b" " * (size - len(GOOD_DATA))

    write_job(valkey, data=padded(MAX_FIELD_BYTES))
    assert read_job(valkey).refusal is None
    write_job(valkey, data=padded(MAX_FIELD_BYTES + 1))
    assert read_job(valkey).refusal == f"data: larger than {MAX_FIELD_BYTES} bytes"
    write_job(valkey, data=zlib.compress(padded(MAX_DATA_BYTES)))
    assert read_job(valkey).refusal is None
    write_job(valkey, data=zlib.compress(padded(MAX_DATA_BYTES + 1)))
    assert read_job(valkey).refusal == f"data: larger than {MAX_DATA_BYTES} bytes when inflated"


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"data": b""}, "data: missing"),
        ({"data": b"\xff\xfe"}, "data: UnicodeDecodeError"),
        ({"data": b"not json"}, "data: JSONDecodeError"),
        ({"data": b"[" * 16_000}, "data: nested too deep"),
        ({"data": b'{"a": 1}'}, "data: not a call"),
        ({"data": b'["a", null, []]'}, "data: not a call"),
        ({"data": b"[1, null, [], {}]"}, "data: not a name"),
        ({"data": b'["a", {"x": 1}, [], {}]'}, "data: not plain arguments"),
        ({"data": b'["a", null, [], {"shell": true}]'}, "data: not plain arguments"),
        ({"data": b'["a", null, [{"x": 1}], {}]'}, "data: not plain arguments"),
        ({"data": b'["a", null, [true], {}]'}, "data: not plain arguments"),
        ({"data": b'["a", null, [1e999], {}]'}, "data: not plain arguments"),
        ({"data": b'["a", null, [9223372036854775808], {}]'}, "data: not plain arguments"),
        ({"data": json.dumps(["a", None, ["x" * 201], {}])}, "data: not plain arguments"),
        ({"data": json.dumps(["a", None, ["x"] * 9, {}])}, "data: not plain arguments"),
        ({"status": "weird"}, "status: ValueError"),
        ({"status": b"\xff"}, "status: UnicodeDecodeError"),
        ({"timeout": "abc"}, "timeout: ValueError"),
        ({"timeout": "-1"}, "timeout: not from 1 to 86400 seconds"),
        ({"timeout": "99999999999"}, "timeout: not from 1 to 86400 seconds"),
        ({"created_at": "yesterday"}, "created_at: ValueError"),
        ({"started_at": b"\xff"}, "started_at: UnicodeDecodeError"),
        ({"result_ttl": "soon"}, "result_ttl: ValueError"),
        ({"meta": "[]"}, "meta: not an object"),
        ({"meta": b"\x80\x04."}, "meta: UnicodeDecodeError"),
        ({"description": "x" * (MAX_FIELD_BYTES + 1)}, "description: larger than 16384 bytes"),
    ],
)
def test_garbage_is_refused_with_a_reason(
    valkey: ValkeyServer, fields: Mapping[str, Any], refusal: str
) -> None:
    write_job(valkey, **fields)
    assert read_job(valkey).refusal == refusal


def test_a_refused_job_has_no_call(valkey: ValkeyServer) -> None:
    write_job(valkey, data=b"not json")
    job = read_job(valkey)
    with pytest.raises(DeserializationError):
        _ = job.func_name


def test_a_job_runs_nothing_by_itself(valkey: ValkeyServer, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    write_job(
        valkey,
        data=json.dumps(["os.system", None, [f"touch {mark}"], {}]),
        success_callback_name="os.abort",
        failure_callback_name="os.abort",
        stopped_callback_name="os.abort",
        webhooks=json.dumps([{"url": "http://127.0.0.1:9/", "job_status": "finished"}]),
    )
    job = read_job(valkey)
    assert (job.success_callback, job.failure_callback, job.stopped_callback) == (None, None, None)
    assert job.webhooks == []
    for run in (lambda: job.func, job.perform):
        with pytest.raises(JobRefusedError):
            run()
    assert not mark.exists()


def test_tries_that_are_no_number_are_unknown(valkey: ValkeyServer) -> None:
    for meta, tries in (('{"try": 3}', 3), ('{"try": "3"}', -1), ('{"try": true}', -1), ("{}", -1)):
        write_job(valkey, meta=meta)
        assert read_job(valkey).tries == tries


@pytest.mark.parametrize(
    ("arguments", "is_accepted"),
    [
        ((new_message_id(),), True),
        ((new_message_id().upper(),), False),
        ((new_message_id(), "x"), False),
        ((7,), False),
        (("../../etc/passwd",), False),
        ((), False),
    ],
)
def test_the_message_task_takes_one_message_id(
    arguments: tuple[object, ...], is_accepted: bool
) -> None:
    assert accepts_message(arguments) is is_accepted


@pytest.mark.parametrize(
    ("arguments", "is_accepted"),
    [
        (("todos", 1, 0), True),
        (("todos", "1", 0), False),
        (("todos", 1, -1), False),
        (("todos", True, 1), False),
        (("Todos!", 1, 1), False),
        (("todos", 1), False),
    ],
)
def test_the_cycle_task_takes_a_robot_and_two_numbers(
    arguments: tuple[object, ...], is_accepted: bool
) -> None:
    assert accepts_cycle(arguments) is is_accepted


def test_a_missing_job_is_told_from_a_bad_one(valkey: ValkeyServer) -> None:
    write_job(valkey, "bad", data=b"not json")
    bad, missing = AppJob.fetch_many(["bad", "missing"], connection=valkey.client)
    assert missing is None
    assert isinstance(bad, AppJob)
    assert bad.refusal == "data: JSONDecodeError"
