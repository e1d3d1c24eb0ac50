"""Ways in which users, and tools that watch their jobs, put code of their own around RQ's steps.

Each is called with the arguments of a worker's class, and returns a worker. All of them note what passes.
"""

from functools import partial, wraps
from typing import Any

from rq import Queue, Worker
from rq.job import Job

from app_srvc.workers import LeaseWorker
from tests.samples.rq_tasks import note


class HookedWorker(LeaseWorker):
    """A class of a user's own."""

    def perform_job(self, job: Job, queue: Queue) -> bool:
        note("perform_job", job.id)
        return bool(super().perform_job(job, queue))


class HandlingWorker(LeaseWorker):
    def handle_exception(self, job: Job, *error: Any) -> None:
        note("handle_exception", job.id)
        super().handle_exception(job, *error)


class Proxy:
    """Stands for a function and looks like it in all, as those of the package wrapt do."""

    def __init__(self, function: Any, name: str) -> None:
        self.__dict__.update(_function=function, _name=name)

    @property
    def __class__(self) -> Any:
        return type(self._function)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_function"], name)

    def __get__(self, it: Any, owner: type) -> Any:
        return partial(self, it)

    def __call__(self, it: Any, *arguments: Any, **named: Any) -> Any:
        note(self._name, it.id if isinstance(it, Job) else arguments[0].id)
        return self._function(it, *arguments, **named)


def _wrapped(function: Any, name: str) -> Any:
    proxy = Proxy(function, name)

    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        return proxy(*arguments, **named)

    return call


def _patched(owner: type, name: str, wrapper: Any, /, *arguments: Any, **named: Any) -> LeaseWorker:
    setattr(owner, name, wrapper(getattr(owner, name), name))
    return LeaseWorker(*arguments, **named)


wrapped_perform_job = partial(_patched, Worker, "perform_job", _wrapped)
wrapped_handle_job_success = partial(_patched, Worker, "handle_job_success", _wrapped)
wrapped_perform = partial(_patched, Job, "perform", _wrapped)
proxied_execute = partial(_patched, Job, "_execute", Proxy)
proxied_perform_job = partial(_patched, Worker, "perform_job", Proxy)
