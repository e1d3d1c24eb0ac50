"""What the service's POST is measured beside: the least that Flask can do, and Flask with plain RQ."""

import os

from flask import Flask, jsonify, request
from redis import Redis
from rq import Queue


def bare() -> Flask:
    """Reference 1: parse the body and answer."""
    app = Flask("bare")

    @app.post("/userregres/")
    def register():  # type: ignore[no-untyped-def]
        body = request.get_json()
        return jsonify(ok=True, jobid=body["szLogin"], queue="QUE_USRREG"), 202

    return app


def plain_rq() -> Flask:
    """Reference 2: parse the body, put a job on an RQ queue, answer. No database; not durable."""
    app = Flask("plain_rq")
    queue = Queue("QUE_BENCH", connection=Redis.from_url(os.environ["REDIS_URL"]))

    @app.post("/userregres/")
    def register():  # type: ignore[no-untyped-def]
        job = queue.enqueue("benchmarks.reference_apps.never", request.get_json())
        return jsonify(ok=True, jobid=job.id, queue="QUE_BENCH"), 202

    return app


def never(fields: dict[str, str]) -> None:
    """The job of reference 2; no worker runs during the measurement."""
