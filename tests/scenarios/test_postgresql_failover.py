"""The PostgreSQL that takes writes dies, and its standby is promoted: what was acknowledged stays."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.load import Ledger, Load
from tests.support.network import address_that_swallows_connections
from tests.support.postgres_pair import PostgresPair
from tests.support.servers import PostgresServer, ValkeyServer
from tests.support.service import Parts, assert_balanced
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def pair() -> Iterator[PostgresPair]:
    with PostgresPair() as running:
        yield running


@pytest.mark.timeout(240)
def test_the_primary_is_killed_under_load_and_its_standby_promoted(
    tmp_path: Path, valkey: ValkeyServer, pair: PostgresPair
) -> None:
    url = pair.url(pair.primary.new_database())
    with Ledger(url) as ledger, Parts(tmp_path, valkey.url, url) as parts:
        assert parts.start_robot(timedelta=1).status_code == 200
        with Load(parts.register) as load:
            wait_until(lambda: len(parts.cycles()) >= 2, 30, what="the robot runs")
            load.wait_for(20)
            before = parts.robot()["last_cycle"]["number"]
            pair.primary.kill()
            killed_at = time.monotonic()
            # Long enough for everybody to learn that nobody takes writes.
            wait_until(lambda: len(load.refused) >= 40, 30, what="submissions are refused")
            assert pair.standby.is_read_only()
            pair.standby.promote()
            promoted_at = time.monotonic()
            load.wait_for(40, timeout_s=40)
            wait_until(lambda: _newest_cycle(ledger) > before + 1, 40, what="the robot goes on")
            robot_s = time.monotonic() - promoted_at
        assert load.statuses == {202, 503}, load.refused[:5]
        assert all(told.retry_after for told in load.refused)
        wait_until(lambda: load.accepted <= set(ledger.logins()), 60, what="all are registered")
        logins = Counter(ledger.logins())
        assert set(logins.values()) == {1}
        # Who was told 503 cannot know: his registration may be there too, as the words say.
        assert set(logins) <= {told.login for told in load.told}
        numbers = [cycle["number"] for cycle in parts.cycles()]
        assert numbers == sorted(set(numbers))
        assert_balanced(parts)
        accepted_at = [told.ended for told in load.told if told.status == 202]
        again_s = min(at for at in accepted_at if at > promoted_at) - promoted_at
        slowest_s = max(told.ended - told.began for told in load.refused)
        print(
            f"{len(load.accepted)} accepted, {len(load.refused)} told 503 with Retry-After, after "
            f"{slowest_s:.2f} s at most. The standby was promoted {promoted_at - killed_at:.1f} s "
            f"after the kill; accepted again {again_s:.2f} s later, two more cycles "
            f"{robot_s:.1f} s later. Longest gap of acceptance {load.longest_gap_s():.2f} s, of "
            f"handling {ledger.longest_gap_of_handling_s():.2f} s"
        )


def test_a_first_host_that_swallows_connections_keeps_nobody_from_the_second(
    tmp_path: Path, valkey: ValkeyServer, postgres: PostgresServer
) -> None:
    """As a machine that is gone without a word: connecting to it neither succeeds nor fails."""
    database = postgres.new_database()
    with address_that_swallows_connections() as gone:
        hosts = f"127.0.0.1:{gone},127.0.0.1:{postgres.port}"
        url = f"{postgres.tcp_url(database, hosts=hosts)}?target_session_attrs=read-write"
        with Parts(tmp_path, valkey.url, url) as parts:
            with Ledger(postgres.url(database)) as ledger:
                # As when the primary was there and is gone: everybody needs new connections.
                ledger.end_other_sessions()
                began = time.monotonic()
                with Load(parts.register) as load:
                    load.wait_for(20, timeout_s=20)
                print(f"accepted, and twenty of it after {time.monotonic() - began:.1f} s")
                assert load.statuses <= {202, 503}, load.refused[:5]
                # A second for each web process to learn which host to leave alone, and its turn.
                assert len(load.refused) <= 16, load.refused[:5]
                wait_until(lambda: load.accepted <= set(ledger.logins()), 60, what="all are there")
            assert_balanced(parts)


def _newest_cycle(ledger: Ledger) -> int:
    return ledger.count("SELECT coalesce(max(number), 0) FROM cycles")
