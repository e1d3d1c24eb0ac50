"""A nursery of lease workers, made of {url, queues, name, children, worker_class}; see `nursery`."""

from typing import Any

from redis import Redis
from rq.utils import import_attribute

import app_srvc.workers.lease_worker
import tests.samples.lease_jobs
from tests.samples.nursery import serve

IMPORTED_FOR_ALL = (app_srvc.workers.lease_worker, tests.samples.lease_jobs)


def be_a_worker(parts: dict[str, Any]) -> None:
    worker_class = import_attribute(parts["worker_class"])
    worker_class(
        parts["queues"],
        name=parts["name"],
        connection=Redis.from_url(parts["url"]),
        children=parts["children"],
    ).work()


if __name__ == "__main__":
    serve(be_a_worker)
