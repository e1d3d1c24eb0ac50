"""Two of everything, each restarted in turn under load: nobody is refused, nothing is lost."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.balancer import Balancer
from tests.support.load import Ledger, Load
from tests.support.servers import ValkeyServer
from tests.support.service import START_S, Client, Part, Parts, assert_balanced
from tests.support.waiting import holds_for, wait_until

# What a cluster leaves a part between taking it from its Service and SIGTERM: `preStop`.
PRE_STOP_S = 0.5


@pytest.fixture
def twins(
    tmp_path: Path, valkey: ValkeyServer, postgres_ledger_url: str
) -> Iterator[tuple[Parts, Parts]]:
    """Two of every part, on one Redis and one ledger."""
    with ExitStack() as stack:
        pair = []
        for name in ("a", "b"):
            folder = tmp_path / name
            folder.mkdir()
            parts = Parts(folder, valkey.url, postgres_ledger_url, WEB_PROCESSES="1")
            pair.append(stack.enter_context(parts))
        yield pair[0], pair[1]


@pytest.mark.timeout(300)
def test_each_part_is_restarted_in_turn_under_load(
    twins: tuple[Parts, Parts], postgres_ledger_url: str
) -> None:
    ports = [int(parts.variables["PORT"]) for parts in twins]
    with Balancer(*ports) as balancer, Ledger(postgres_ledger_url) as ledger:
        client = Client(balancer.url)
        assert client.start_robot(timedelta=1).status_code == 200
        with Load(client.register) as load:
            wait_until(lambda: len(client.cycles()) >= 2, 30, what="the robot runs")
            began = time.monotonic()
            for parts in twins:
                _restart_web(parts, balancer)
            web_s = time.monotonic() - began
            for name in Parts.SCRIPTS:
                for parts in twins:
                    _restart_worker(parts.workers[name])
            workers_s = time.monotonic() - began - web_s
            newest = client.cycles()[-1]["number"]
            wait_until(lambda: client.cycles()[-1]["number"] > newest + 1, 30)
            load.wait_for(20)
        assert load.statuses == {202}, load.refused[:5]
        wait_until(lambda: load.accepted <= set(ledger.logins()), 60, what="all are registered")
        assert Counter(ledger.logins()) == Counter(load.accepted)
        assert ledger.count("SELECT count(*) FROM message_tries") == 0
        numbers = [cycle["number"] for cycle in client.cycles()]
        assert numbers == list(range(1, len(numbers) + 1))
        assert_balanced(twins[0])
        print(
            f"{len(load.accepted)} accepted, none refused; two web parts restarted in {web_s:.1f} s, "
            f"eight workers in {workers_s:.1f} s. Longest gap of acceptance "
            f"{load.longest_gap_s():.2f} s, of handling {ledger.longest_gap_of_handling_s():.2f} s"
        )


def _restart_web(parts: Parts, balancer: Balancer) -> None:
    """As a cluster does: out of the Service, a moment, SIGTERM, the next one, ready, into the Service."""
    port = int(parts.variables["PORT"])
    balancer.take_out(port)
    holds_for(lambda: True, PRE_STOP_S)
    assert parts.web.stop() == 0
    parts.web.start()
    wait_until(parts.is_ready, START_S, what="the web part is ready again")
    balancer.put_in(port)


def _restart_worker(worker: Part) -> None:
    starts = worker.log.read_text().count("worker_started")
    assert worker.stop() == 0
    worker.start()
    wait_until(
        lambda: worker.log.read_text().count("worker_started") > starts,
        START_S,
        what=f"{worker.name} has started again",
    )
