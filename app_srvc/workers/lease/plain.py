"""A job as the fast path sees it: fields of its hash, and a `Job` object only for who asks for one.

`rq.get_current_job()` works inside such a job. The object that it returns reads the whole hash when
something of it is looked at, so a job that never asks pays nothing.
"""

import time
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from copy import copy
from types import FunctionType
from typing import Any

from redis import Redis
from rq.defaults import UNSERIALIZABLE_RETURN_VALUE_PAYLOAD
from rq.exceptions import DeserializationError
from rq.job import Job, _job_stack
from rq.utils import import_attribute

# A job as `claim.lua` returns it, by these places.
ID, DATA, TIMEOUT, RESULT_TTL, FAILURE_TTL, RESCUES, MORE, META = range(8)

# What a job may change of itself while it runs, so that its end is another one.
CHANGEABLE = (
    "description",
    "timeout",
    "ttl",
    "result_ttl",
    "failure_ttl",
    "retries_left",
    "retry_intervals",
    "repeats_left",
    "repeat_intervals",
    "webhooks",
    "group_id",
)

# What RQ's own code calls for every job, and the fast path does by itself.
WORKER_STEPS = (
    "perform_job",
    "prepare_job_execution",
    "handle_execution_ended",
    "handle_job_success",
    "handle_job_failure",
    "handle_job_retry",
    "handle_exception",
    "cleanup_execution",
)
JOB_STEPS = ("perform", "_execute")

RawJob = list[Any]


def does_more(job_class: type[Job]) -> bool:
    """Whether a class does something of RQ's in its own way, and has to be asked at each step."""
    classes = job_class.__mro__[: job_class.__mro__.index(Job)]
    names = {name for each in classes for name in vars(each) if not name.startswith("__")}
    return not names.isdisjoint(vars(Job))


def is_watched(worker_class: type, job_class: type[Job]) -> bool:
    """Whether somebody has code of their own in a step, which must not miss the plain jobs.

    It is in a subclass, or was put in place of RQ's function, as tools that watch jobs do.
    """
    steps = ((worker_class, WORKER_STEPS), (job_class, JOB_STEPS))
    return not all(
        _is_known(vars(each)[name])
        for whose, names in steps
        for each in whose.__mro__
        for name in names
        if name in vars(each)
    )


def _is_known(step: Any) -> bool:
    """Whether a step is RQ's or ours. A wrapper may look like what is in it, but for these two."""
    if type(step) is not FunctionType:
        return False
    return step.__globals__.get("__name__", "").partition(".")[0] in ("rq", "app_srvc")


class LazyJob(Job):
    """A job of which only the id is known; everything else is read when it is first looked at."""

    def __init__(self) -> None:
        """Nothing is set: the first look at an attribute that is not there makes the object whole."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_make" not in self.__dict__:
            raise AttributeError(name)
        self._be_whole()
        return getattr(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._be_whole()
        super().__setattr__(name, value)

    def _be_whole(self) -> None:
        make = self.__dict__.pop("_make", None)
        if make is not None:
            make(self)
            self.__dict__["_was"] = _state(self)

    @property
    def is_whole(self) -> bool:
        """Whether somebody has looked at it."""
        return "_was" in self.__dict__

    @property
    def has_changed(self) -> bool:
        """Whether somebody changed what RQ would save at the end."""
        return self.is_whole and self.__dict__["_was"] != _state(self)

    @property
    def id(self) -> str:
        return str(self._id)

    @id.setter
    def id(self, value: str) -> None:
        self._id = value


def _state(job: Job) -> list[Any]:
    return [copy(getattr(job, name)) for name in CHANGEABLE]


def lazy_job(
    job_class: type[Job],
    connection: Redis,
    serializer: Any,
    halted: Callable[[], AbstractContextManager[None]],
) -> Callable[[str], LazyJob]:
    """A maker of lazy jobs of a class. They are read inside `halted()`: it is no time of the job's."""
    lazy_class = LazyJob if job_class is Job else type("LazyJob", (LazyJob, job_class), {})

    def make_whole(job: Job) -> None:
        id = job.__dict__["_id"]
        job_class.__init__(job, id, connection=connection, serializer=serializer)
        with halted():
            job.refresh()

    def make(id: str) -> LazyJob:
        job: LazyJob = object.__new__(lazy_class)
        job.__dict__["_id"] = id
        job.__dict__["_make"] = make_whole
        return job

    return make


class CurrentJob:
    """What `rq.get_current_job()` returns in this process."""

    def __init__(self) -> None:
        self._frames: list[Any] = _job_stack.push(None)
        self._own = len(self._frames) - 1

    def set(self, job: Job | None) -> None:
        self._frames[self._own] = job


class Calls:
    """Turns job data into a function and its arguments, and remembers the functions."""

    def __init__(self, serializer: Any) -> None:
        self._loads = serializer.loads
        self._functions: dict[str, Callable[..., Any]] = {}

    def read(self, data: bytes) -> tuple[Callable[..., Any], Any, Any]:
        """The function, its arguments and its named arguments. Raises whatever is wrong with the data."""
        with suppress(zlib.error):
            data = zlib.decompress(data)
        try:
            name, instance, arguments, named = self._loads(data)
        except Exception as error:
            raise DeserializationError from error
        if instance is not None:
            return getattr(instance, name), arguments, named
        function = self._functions.get(name)
        if function is None:
            function = self._functions[name] = import_attribute(name)
        return function, arguments, named


def packed_result(serializer: Any, value: Any) -> bytes:
    """A result as RQ keeps it in its stream."""
    try:
        serialized = serializer.dumps(value)
    except BaseException:
        serialized = serializer.dumps(UNSERIALIZABLE_RETURN_VALUE_PAYLOAD)
    return b64encode(serialized)


def packed_error(text: str) -> bytes:
    """The text of an exception as RQ keeps it in its stream."""
    return b64encode(zlib.compress(text.encode("utf-8", "backslashreplace")))


def unpacked_result(serializer: Any, payload: Any) -> Any:
    """The value in a packed result; None for no result."""
    return serializer.loads(b64decode(payload)) if payload else None


def unpacked_error(payload: bytes) -> str:
    return zlib.decompress(b64decode(payload)).decode()


class Stamps:
    """Times as RQ writes them; the text of a second is made once."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def text(self, at: float) -> str:
        second = int(at)
        if second != self._second:
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
            self._second = second
        return f"{self._text}{int((at - second) * 1_000_000):06d}Z"
