"""What RQ's tools show of running LeaseWorkers, beside what is true: every figure of every tool.

Nothing changes while these tests look: two jobs are held, and all that could run has run.
"""

import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import rq

from tests.support.browser import Watched, open_browser
from tests.support.rq_half_way import VALUES, HalfWay, go_half_way
from tests.support.rq_stage import Monitors, Stage
from tests.support.rq_tools import Info, comes_to, expect, parse_info
from tests.support.servers import ValkeyServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.xdist_group("rq_tools")

BEGUN, ENDED = ("started", "finished", "failed"), ("finished", "failed")
# As the page of the queues has them, after the name.
PAGE_COLUMNS = ("queued", "deferred", "scheduled", "started", "finished", "failed", "canceled")


@pytest.fixture(scope="module")
def half_way(
    valkey_server: ValkeyServer, monitors: Monitors, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HalfWay]:
    valkey_server.restore()
    valkey_server.client.flushall()
    with Stage(valkey_server, tmp_path_factory.mktemp("half_way"), monitors) as stage:
        world = go_half_way(stage)
        expect([stage.dashboard], world.facts)
        yield world


def test_every_figure_of_every_tool_is_true(half_way: HalfWay) -> None:
    stage = half_way.stage
    expect([*stage.monitors, stage.info, Info(stage.rq)], half_way.facts)


def test_the_ages_and_versions_of_workers_are_true(half_way: HalfWay) -> None:
    workers = half_way.stage.dashboard.workers()
    assert len(workers) == 3
    for name, worker in workers.items():
        born, seen = (
            parsedate_to_datetime(worker[key]) for key in ("birth_date", "last_heartbeat")
        )
        assert int(half_way.began) <= born.timestamp() <= half_way.held_since, name
        assert time.time() - 5 < seen.timestamp() <= time.time(), name
        assert (worker["version"], worker["python_version"]) == (rq.__version__, sys.version), name


def test_working_times_are_of_jobs_that_have_ended(half_way: HalfWay) -> None:
    times = half_way.stage.exporter.working_times()
    assert times[half_way.held] == 0
    assert 0.3 <= times[half_way.free] <= time.time() - half_way.began
    assert 0 < times["single"] < 0.3
    workers = half_way.stage.dashboard.workers()
    assert {name: each["total_working_time"] for name, each in workers.items()} == times


def test_the_dashboard_lists_the_jobs_that_are_in_each_state(half_way: HalfWay) -> None:
    dashboard = half_way.stage.dashboard
    for queue in half_way.facts.queues:
        for state in dashboard.queue_fields:
            ids = {job.id for job in half_way.jobs.get((queue, state), [])}
            listed = dashboard.jobs(queue, state)
            assert set(listed) == ids, (queue, state)
            for id in ids:
                _check_times(half_way.began, listed[id], state)
                # rq-dashboard 0.9 has no page of a job that depends on another: it decodes text.
                if state != "deferred":
                    page = dashboard.job(id)
                    _check_times(half_way.began, page, state)
                    assert (page["origin"], page["status"]) == (queue, state)


def _check_times(began: float, job: dict[str, Any], state: str) -> None:
    """A job was made, enqueued, started and ended in this order, as far as it has come."""
    names = ("created_at", "enqueued_at", "started_at", "ended_at")
    times = {name: datetime.fromisoformat(job[name]).timestamp() for name in names if job.get(name)}
    assert ("started_at" in times, "ended_at" in times) == (state in BEGUN, state in ENDED)
    assert began < min(times.values()) and max(times.values()) < time.time()
    if state == "started":
        # When its claim was sent, which may have reached Redis only after the job.
        del times["started_at"]
    assert sorted(times.values()) == list(times.values())


def test_results_and_failures_can_be_read(half_way: HalfWay) -> None:
    dashboard = half_way.stage.dashboard
    for name, value in VALUES.items():
        assert dashboard.job(half_way.named[name].id)["result"] == value
        assert half_way.named[name].return_value(refresh=True) == value
    failure = dashboard.job(half_way.named["failed"].id)
    assert failure["exc_info"].startswith("Traceback (most recent call last):")
    assert failure["exc_info"].endswith("ValueError: no such luck\n")
    assert failure["result"] is None


def test_rq_info_of_some_queues_of_workers_only_and_by_queue(half_way: HalfWay) -> None:
    rq, (queues, workers) = half_way.stage.rq, half_way.facts.shown_by(half_way.stage.info)
    pair = {name: workers[name] for name in ("pair", "pair-2")}

    some = rq("info", "--raw", "high", "spare")
    nothing = dict.fromkeys(queues["high"], 0)
    assert parse_info(some) == ({"high": queues["high"], "spare": nothing}, workers)
    assert parse_info(rq("info", "high")) == ({"high": queues["high"]}, pair)
    assert parse_info(rq("info", "--only-queues")) == (queues, {})
    only_workers = rq("info", "-W")
    assert parse_info(only_workers) == ({}, workers)
    assert only_workers[-1] == "3 workers, 3 queues"
    by_queue = rq("info", "-W", "--by-queue", "high", "other", "nobody")
    assert {" ".join(line.split()) for line in by_queue} == {
        "high: pair (busy), pair-2 (busy)",
        "other: single (idle)",
        "nobody: –",
        "3 workers, 3 queues",
    }


def test_the_pages_of_the_dashboard_show_it_in_a_browser(half_way: HalfWay) -> None:
    dashboard, named = half_way.stage.dashboard, half_way.named
    queues = {
        name: [str(getattr(each, state)) for state in PAGE_COLUMNS]
        for name, each in half_way.facts.queues.items()
    }
    workers = {
        half_way.held: [named["first"].get_call_string(), "high, low"],
        half_way.free: [named["second"].get_call_string(), "high, low"],
        "single": ["idle", "other, spare"],
    }
    with open_browser() as browser, browser.new_context() as context:
        watched = Watched(context, dashboard.base_url)
        watched.open("/")
        comes_to(_rows(watched, "queues"), queues)
        watched.open("/0/view/workers")
        comes_to(_rows(watched, "workers"), workers)
        watched.open("/0/view/jobs/high/failed/8/asc/1")
        comes_to(lambda: list(_rows(watched, "jobs")()), [named["failed"].description])
        page = watched.open(f"/0/view/job/{named['failed'].id}")
        wait_until(lambda: "ValueError: no such luck" in page.locator("body").inner_text())


def _rows(watched: Watched, table: str) -> Callable[[], dict[str, list[str]]]:
    """Reads a table of a page: the first line of each row's first cell, and the other cells."""

    def read() -> dict[str, list[str]]:
        rows = watched.page.locator(f"table#{table} tbody tr").all()
        texts = [each.locator("td").all_inner_texts() for each in rows]
        return {first.split("\n")[0]: [text.strip() for text in rest] for first, *rest in texts}

    return read
