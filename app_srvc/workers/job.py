"""The job as this service reads it: JSON of a known form, or refused.

RQ's own `Job` unpickles what the sender says, inflates what is compressed without a limit, imports
functions and callbacks by name, and sends web hooks to any address. Whoever can write to Redis could
use each of these. Here a hash is only read: nothing in it is unpickled, imported, called or sent, and
what does not fit is refused with a reason, so that no entry can end a worker or its housekeeping.
"""

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Never, TypeVar

from redis import Redis
from rq.exceptions import DeserializationError
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.utils import utcparse

from app_srvc.errors import AppError
from app_srvc.workers.pickled import pickled_function

MAX_FIELD_BYTES = 16 * 1024
MAX_DATA_BYTES = 64 * 1024
MAX_ARGUMENTS = 8
MAX_TEXT_CHARS = 200
MAX_TIMEOUT_S = 86_400
DEFAULT_TIMEOUT_S = 60

T = TypeVar("T")


class JobRefusedError(AppError):
    """The job is not one that this service may run."""


class UnfitFieldError(ValueError):
    """A field of a job is not of our form. The text quotes nothing of the field but a function's name."""


class AppJob(Job):
    """A job hash, read with suspicion.

    `refusal` is the reason why the job must not run, or None. Reading never raises: not on garbage,
    not on a bomb. The job has no function of its own; the worker looks its name up in its table.
    """

    def __init__(
        self, id: str | None = None, connection: Redis | None = None, serializer: Any = None
    ) -> None:
        # Whatever serializer a caller names, and RQ's default is pickle, only JSON is ever read.
        super().__init__(id, connection, JSONSerializer)
        self.refusal: str | None = None

    def restore(self, raw_data: Mapping[Any, Any]) -> None:
        """Take over what stands in the hash, as far as it can be used."""
        fields = _Fields(raw_data)
        self.origin = fields.read("origin", _text) or ""
        self.description = fields.read("description", _text)
        self.worker_name = fields.read("worker_name", _text)
        self.created_at = fields.read("created_at", _time) or datetime.now(UTC)
        self.enqueued_at = fields.read("enqueued_at", _time)
        self.started_at = fields.read("started_at", _time)
        self.ended_at = fields.read("ended_at", _time)
        self.last_heartbeat = fields.read("last_heartbeat", _time)
        self.timeout = fields.read("timeout", _timeout)
        self.result_ttl = fields.read("result_ttl", int)
        self.failure_ttl = fields.read("failure_ttl", int)
        self._status = fields.read("status", _status) or JobStatus.CREATED
        self.meta = fields.read("meta", _meta) or {}
        call = fields.read("data", _call)
        if call is None and fields.problem is None:
            fields.problem = "data: missing"
        self.refusal = fields.problem
        self._instance, self._kwargs = None, {}
        if call is not None:
            self._func_name, self._args = call
            self._data = json.dumps([*call[:1], None, list(call[1]), {}]).encode()

    def restore_meta(self, raw: Any) -> None:
        """Take over what stands in the hash as `meta`, as far as it can be used."""
        self.meta = _Fields({"meta": raw}).read("meta", _meta) or {}

    @property
    def run_timeout_s(self) -> int:
        return int(self.timeout or DEFAULT_TIMEOUT_S)

    @property
    def tries(self) -> int:
        """How many tries the ledger had counted when the job was dispatched; -1 if the job can't say."""
        counted = self.meta.get("try")
        return counted if type(counted) is int else -1

    # --- what RQ would do with a job, and this service does not -----------------------------------

    def _deserialize_data(self) -> Never:
        raise DeserializationError(self.refusal or "data: not read yet")

    def get_meta(self, refresh: bool = True) -> dict[str, Any]:
        return self.meta

    @property
    def func(self) -> Never:
        raise JobRefusedError("A job names its task; only a worker's table has the function.")

    def perform(self) -> Never:
        raise JobRefusedError("A job does not run by itself; a worker runs its task.")

    @property
    def success_callback(self) -> None:
        return None

    @property
    def failure_callback(self) -> None:
        return None

    @property
    def stopped_callback(self) -> None:
        return None

    @property
    def result(self) -> None:
        return None

    def latest_result(self, timeout: int = 0) -> None:
        """Results are in the ledger; what RQ's tools find in Redis is not trusted here."""

    def results(self) -> list[Any]:
        return []


class _Fields:
    """Reads the fields of a hash one by one, and keeps the first problem."""

    def __init__(self, raw: Mapping[Any, Any]) -> None:
        self._raw = {_key(name): value for name, value in raw.items()}
        self.problem: str | None = None

    def read(self, name: str, parse: Callable[[bytes], T]) -> T | None:
        value = self._raw.get(name)
        if value in (None, b"", ""):
            return None
        raw = value.encode() if isinstance(value, str) else bytes(value)
        try:
            if len(raw) > MAX_FIELD_BYTES:
                raise UnfitFieldError(f"larger than {MAX_FIELD_BYTES} bytes")
            return parse(raw)
        except RecursionError:
            self.problem = self.problem or f"{name}: nested too deep"
        except (ValueError, OverflowError, zlib.error) as error:
            self.problem = self.problem or f"{name}: {_words(error)}"
        return None


def _key(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def _words(error: Exception) -> str:
    """Our own words as they are; of a parser's, which may quote the value, their type only."""
    return str(error) if isinstance(error, UnfitFieldError) else type(error).__name__


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _time(raw: bytes) -> datetime:
    return utcparse(raw.decode("ascii"))


def _timeout(raw: bytes) -> int:
    seconds = int(raw)
    if not 1 <= seconds <= MAX_TIMEOUT_S:
        raise UnfitFieldError(f"not from 1 to {MAX_TIMEOUT_S} seconds")
    return seconds


def _status(raw: bytes) -> JobStatus:
    return JobStatus(raw.decode("ascii"))


def _meta(raw: bytes) -> dict[str, Any]:
    meta = json.loads(raw.decode("utf-8"))
    if not isinstance(meta, dict):
        raise UnfitFieldError("not an object")
    return meta


def _call(raw: bytes) -> tuple[str, tuple[str | int, ...]]:
    """The name and the arguments in a job's data: `[name, null, [arguments], {}]`."""
    try:
        parts = json.loads(_inflated(raw).decode("utf-8"))
    except ValueError:
        name = pickled_function(raw)
        if name is None:
            raise
        raise UnfitFieldError(f"pickled, calls {name}") from None
    if not isinstance(parts, list) or len(parts) != 4:
        raise UnfitFieldError("not a call")
    name, instance, arguments, named = parts
    if not isinstance(name, str) or len(name) > MAX_TEXT_CHARS:
        raise UnfitFieldError("not a name")
    if instance is not None or named != {} or not _are_plain(arguments):
        raise UnfitFieldError("not plain arguments")
    return name, tuple(arguments)


def _are_plain(arguments: Any) -> bool:
    return (
        isinstance(arguments, list)
        and len(arguments) <= MAX_ARGUMENTS
        and all(_is_plain(argument) for argument in arguments)
    )


def _is_plain(argument: Any) -> bool:
    if isinstance(argument, str):
        return len(argument) <= MAX_TEXT_CHARS
    return type(argument) is int and abs(argument) < 2**63


def _inflated(raw: bytes) -> bytes:
    """The data of RQ's own writers is compressed, ours is not; a bomb is not followed to its end."""
    inflator = zlib.decompressobj()
    try:
        data = inflator.decompress(raw, MAX_DATA_BYTES + 1)
    except zlib.error:
        return raw
    if len(data) > MAX_DATA_BYTES:
        raise UnfitFieldError(f"larger than {MAX_DATA_BYTES} bytes when inflated")
    return data


def arguments_fit(arguments: Sequence[object], *types: type) -> bool:
    """Whether arguments have the given types, one for one."""
    return len(arguments) == len(types) and all(
        type(argument) is kind for argument, kind in zip(arguments, types, strict=True)
    )
