"""POST of a registration as JSON, beside a bare Flask route and beside Flask with plain RQ.

All under gunicorn with two gevent workers, driven by wrk (Debian's package `wrk`) at 8 and at 32
connections, in turns, so that a machine that gets slower gets slower for all.
"""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from app_srvc.messages.model import Message
from benchmarks.servers import servers
from tests.support.servers import free_port
from tests.support.service import Part
from tests.support.waiting import wait_until
from tests.support.worlds import open_world

WRK_SCRIPT = Path(__file__).with_name("post.wrk.lua")
CONNECTIONS = (8, 32)
SECONDS = 5
ROUNDS = 3
APPS = {
    "bare Flask": "benchmarks.reference_apps:bare()",
    "Flask with rq": "benchmarks.reference_apps:plain_rq()",
    "app-srvc, SQLite": "app_srvc.webapp:application",
    "app-srvc, PostgreSQL": "app_srvc.webapp:application",
}


def run() -> Iterator[dict[str, Any]]:
    if shutil.which("wrk") is None:
        raise SystemExit("This benchmark needs wrk: apt-get install wrk")
    with tempfile.TemporaryDirectory() as name, servers(Path(name)) as (valkey, postgres):
        folder = Path(name)
        urls = {
            "app-srvc, SQLite": f"sqlite:///{folder}/post.db",
            "app-srvc, PostgreSQL": postgres.url(postgres.new_database()),
        }
        for url in urls.values():
            open_world(valkey.url, url).close()
        parts = {
            app: _start(folder, number, app, valkey.url, urls.get(app, ""))
            for number, app in enumerate(APPS)
        }
        try:
            yield from _measure_all(parts)
            for app, url in urls.items():
                yield _count(app, valkey.url, url)
        finally:
            for part, _ in parts.values():
                part.stop()


def _start(
    folder: Path, number: int, app: str, redis_url: str, database_url: str
) -> tuple[Part, int]:
    port = free_port()
    argv = [sys.executable, "-m", "gunicorn", APPS[app], "--worker-class=gevent", "--workers=2"]
    argv += [f"--bind=127.0.0.1:{port}", "--no-control-socket"]
    variables = {"REDIS_URL": redis_url, "SECRET_KEY": "benchmark-secret-key"}
    if database_url:
        variables["DATABASE_URL"] = database_url
    part = Part(f"web{number}", argv, folder, **variables).start()
    wait_until(lambda: _answers(port), 30, what=f"{app} answers")
    return part, port


def _answers(port: int) -> bool:
    return (
        subprocess.run(
            ["wrk", "-t1", "-c1", "-d1s", f"http://127.0.0.1:{port}/"], capture_output=True
        ).returncode
        == 0
    )


def _measure_all(parts: dict[str, tuple[Part, int]]) -> Iterator[dict[str, Any]]:
    for connections in CONNECTIONS:
        rounds: dict[str, list[dict[str, Any]]] = {app: [] for app in APPS}
        for _ in range(ROUNDS):
            for app, (_, port) in parts.items():
                rounds[app].append(_wrk(port, connections))
        bare = _rate(rounds["bare Flask"])
        plain = _rate(rounds["Flask with rq"])
        for app, results in rounds.items():
            rate = _rate(results)
            yield {
                "benchmark": "post",
                "app": app,
                "connections": connections,
                "requests_per_s": round(rate),
                "of_bare": round(rate / bare, 2),
                "of_flask_with_rq": round(rate / plain, 2),
                "p50_ms": round(statistics.median(r["p50_us"] for r in results) / 1000, 1),
                "p99_ms": round(statistics.median(r["p99_us"] for r in results) / 1000, 1),
                "errors": sum(result["errors"] for result in results),
            }


def _wrk(port: int, connections: int) -> dict[str, Any]:
    done = subprocess.run(
        [
            "wrk",
            "-t2",
            f"-c{connections}",
            f"-d{SECONDS}s",
            "-s",
            str(WRK_SCRIPT),
            f"http://127.0.0.1:{port}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _rate(results: list[dict[str, Any]]) -> float:
    return statistics.median(result["requests"] / result["duration_us"] * 1e6 for result in results)


def _count(app: str, redis_url: str, database_url: str) -> dict[str, Any]:
    """Every request that was answered is a row."""
    world = open_world(redis_url, database_url)
    with world.database.read() as session:
        rows = session.execute(select(func.count()).select_from(Message)).scalar_one()
    world.close()
    return {"benchmark": "post", "app": app, "rows_in_ledger": rows}
