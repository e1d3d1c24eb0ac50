"""Links to Redis, against real servers, networks that misbehave, and RQ's own worker."""

import copy
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from redis import ConnectionPool, Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from rq import Queue
from rq.connections import get_connection_kwargs, parse_connection
from rq.serializers import JSONSerializer

from app_srvc import broker
from app_srvc.broker import Caller, RetryFor, make_redis
from tests.support.deadline import TooLateError, deadline
from tests.support.network import (
    Certificate,
    SilentServer,
    address_that_swallows_connections,
    make_certificate,
    relay_to,
)
from tests.support.servers import SentinelServer, ValkeyServer, free_port
from tests.support.waiting import wait_until

BOTH = pytest.mark.parametrize("caller", ["web", "worker"])
Connect = Callable[[str, Caller], Redis]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Make clients that are closed at the end of the test."""
    clients: list[Redis] = []

    def make(url: str, caller: Caller) -> Redis:
        clients.append(make_redis(url, caller=caller))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def seconds_until_it_fails(client: Redis, kind: type[RedisError]) -> float:
    began = time.monotonic()
    with pytest.raises(kind):
        client.get("key")
    return time.monotonic() - began


# --- kinds of address ---------------------------------------------------------------------------


@BOTH
def test_a_plain_address_gives_bytes_as_rq_needs_them(
    valkey: ValkeyServer, connect: Connect, caller: Caller
) -> None:
    client = connect(valkey.url, caller)
    client.set("key", "value")
    assert client.get("key") == b"value"


def test_a_password_is_sent_and_a_wrong_one_is_an_error(tmp_path: Path, connect: Connect) -> None:
    with ValkeyServer(tmp_path / "v", password="p") as server:
        assert connect(server.url, "web").ping()
        with pytest.raises(AuthenticationError):
            connect(server.url.replace(":p@", ":q@"), "web").ping()


def test_a_unix_socket_and_its_database_are_used(tmp_path: Path, connect: Connect) -> None:
    socket_path = tmp_path / "v.sock"
    with ValkeyServer(tmp_path / "v", options={"unixsocket": str(socket_path)}) as server:
        connect(f"unix://{socket_path}?db=3", "web").set("key", "value")
        assert Redis.from_url(f"redis://127.0.0.1:{server.port}/3").get("key") == b"value"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def test_tls_is_used_when_the_certificate_is_from_the_authority_that_was_named(
    valkey: ValkeyServer, certificate: Certificate, connect: Connect
) -> None:
    with relay_to(valkey.port, certificate=certificate) as port:
        client = connect(f"rediss://localhost:{port}/0?ssl_ca_certs={certificate.file}", "web")
        client.set("key", "value")
        assert client.get("key") == b"value"
        client.close()
    assert valkey.client.get("key") == b"value"


def test_tls_refuses_a_stranger_s_certificate_and_one_for_another_host(
    valkey: ValkeyServer, certificate: Certificate, connect: Connect
) -> None:
    with relay_to(valkey.port, certificate=certificate) as port:
        with pytest.raises(RedisConnectionError, match="certificate verify failed"):
            connect(f"rediss://localhost:{port}/0", "web").ping()
        named = f"?ssl_ca_certs={certificate.file}"
        with pytest.raises(RedisConnectionError, match="IP address mismatch"):
            connect(f"rediss://127.0.0.1:{port}/0{named}", "web").ping()


def test_an_option_of_the_address_cannot_turn_the_check_of_certificates_off(
    valkey: ValkeyServer, certificate: Certificate, connect: Connect
) -> None:
    with relay_to(valkey.port, certificate=certificate) as port:
        url = f"rediss://localhost:{port}/0?ssl_cert_reqs=none&ssl_check_hostname=false"
        with pytest.raises(RedisConnectionError, match="certificate verify failed"):
            connect(url, "web").ping()


def test_a_sentinel_is_asked_for_the_master_and_a_failover_is_followed(
    tmp_path: Path, connect: Connect
) -> None:
    master = ValkeyServer(tmp_path / "master", password="p")
    replica_options = {
        "replicaof": f"127.0.0.1 {master.port}",
        "masterauth": "p",
        "repl-diskless-sync-delay": "0",
    }
    with (
        master,
        ValkeyServer(tmp_path / "replica", password="p", options=replica_options) as replica,
        SentinelServer(tmp_path / "sentinel", master) as sentinel,
    ):
        nobody = free_port()
        url = (
            f"redis+sentinel://:p@127.0.0.1:{nobody},127.0.0.1:{sentinel.port}/{sentinel.service}/1"
        )
        client = connect(url, "worker")
        client.set("key", "value")
        wait_until(lambda: is_replicated(replica), 10, what="the replica has the key")
        wait_until(
            lambda: sentinel.client.sentinel_masters()[sentinel.service]["num-slaves"],
            15,
            what="the Sentinel knows the replica",
        )
        master.kill()
        assert client.get("key") == b"value"
        assert client.set("key", "after the failover")
        assert replica.client.info("replication")["role"] == "master"


def test_a_sentinel_that_never_says_a_word_is_asked_last_after_a_deadline(
    valkey: ValkeyServer, tmp_path: Path, connect: Connect
) -> None:
    with SilentServer() as silent, SentinelServer(tmp_path / "sentinel", valkey) as sentinel:
        places = f"127.0.0.1:{silent.port},127.0.0.1:{sentinel.port}"
        client = connect(f"redis+sentinel://{places}/{sentinel.service}/0", "web")
        with pytest.raises(TooLateError), deadline(0.3):
            client.ping()
        assert client.ping()
        client.connection_pool.disconnect()
        assert client.ping()
        assert len(silent.connections) == 1


def test_threads_that_look_for_the_master_at_once_forget_no_sentinel(
    valkey: ValkeyServer, tmp_path: Path, connect: Connect
) -> None:
    with SentinelServer(tmp_path / "sentinel", valkey) as sentinel:
        places = f"127.0.0.1:{free_port()},127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}"
        client = connect(f"redis+sentinel://{places}/{sentinel.service}/0", "worker")
        known = client.connection_pool.sentinel_manager.sentinels
        before = [id(each) for each in known]
        with ThreadPoolExecutor(16) as threads:
            for _ in range(5):
                client.connection_pool.disconnect()
                assert all(threads.map(lambda _: client.ping(), range(16)))
        assert [id(each) for each in known] == before


def is_replicated(replica: ValkeyServer) -> bool:
    with Redis(port=replica.port, db=1, password="p") as client:
        return client.get("key") == b"value"


# --- a web request never waits long -------------------------------------------------------------


def test_a_web_client_fails_at_once_where_nobody_listens(connect: Connect) -> None:
    client = connect(f"redis://127.0.0.1:{free_port()}", "web")
    assert seconds_until_it_fails(client, RedisConnectionError) < 0.8


def test_a_web_client_waits_half_a_second_for_a_connection_that_is_swallowed(
    connect: Connect,
) -> None:
    with address_that_swallows_connections() as port:
        client = connect(f"redis://127.0.0.1:{port}", "web")
        assert 0.4 < seconds_until_it_fails(client, RedisTimeoutError) < 1.3


def test_a_web_client_does_not_ask_a_silent_server_twice(connect: Connect) -> None:
    with SilentServer() as server:
        client = connect(f"redis://127.0.0.1:{server.port}", "web")
        assert 0.9 < seconds_until_it_fails(client, RedisTimeoutError) < 1.9
        assert len(server.connections) == 1


def test_a_web_client_waits_about_a_second_for_a_server_that_hangs(
    valkey: ValkeyServer, connect: Connect
) -> None:
    client = connect(valkey.url, "web")
    client.ping()
    valkey.pause()
    assert 0.9 < seconds_until_it_fails(client, RedisTimeoutError) < 1.9
    valkey.resume()
    assert client.ping(), "the client is of use again when the server is"


def test_a_web_client_tries_once_more_when_its_link_was_cut(
    valkey: ValkeyServer, connect: Connect
) -> None:
    client = connect(valkey.url, "web")
    client.ping()
    valkey.stop()
    valkey.start()
    assert client.ping()


def test_a_web_client_tries_a_command_once_more_when_the_link_breaks_under_it(
    valkey: ValkeyServer, connect: Connect
) -> None:
    with relay_to(valkey.port, cut_first=1) as port:
        assert connect(f"redis://127.0.0.1:{port}", "web").ping()
    with relay_to(valkey.port, cut_first=1000) as port:
        client = connect(f"redis://127.0.0.1:{port}", "web")
        assert seconds_until_it_fails(client, RedisConnectionError) < 0.9


def test_web_requests_take_turns_and_open_no_more_than_the_pool_s_links(
    valkey: ValkeyServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine so many threads may need more than the half second of a real request.
    monkeypatch.setattr(broker, "WEB_POOL_WAIT_S", 20)
    client = connect(f"{valkey.url}?client_name=taking-turns", "web")

    def ask(number: int) -> object:
        if number < 200:
            # Keep the link for a moment, so that all threads want one at the same time.
            client.blpop(["nothing"], timeout=0.1)
        return client.echo(str(number))

    with ThreadPoolExecutor(200) as threads:
        answers = list(threads.map(ask, range(2000)))
    assert answers == [str(n).encode() for n in range(2000)]
    # By their name: what ended just before may not be gone from the list yet.
    links = [link for link in valkey.client.client_list() if link["name"] == "taking-turns"]
    assert 1 < len(links) <= broker.MAX_CONNECTIONS


# --- a worker goes on ---------------------------------------------------------------------------


def test_a_worker_client_outlives_a_restart_of_redis(
    valkey: ValkeyServer, connect: Connect
) -> None:
    client = connect(valkey.url, "worker")
    client.ping()
    valkey.kill()
    starter = threading.Timer(1.5, valkey.start)
    starter.start()
    began = time.monotonic()
    assert client.ping()
    assert 1.0 < time.monotonic() - began < 5.0
    starter.join()


def test_a_worker_client_waits_on_an_empty_queue_without_an_error(
    valkey: ValkeyServer, connect: Connect
) -> None:
    client = connect(valkey.url, "worker")
    assert client.blpop(["queue"], timeout=2) is None
    assert broker.WORKER_SOCKET_TIMEOUT_S > 15


def test_a_loop_client_fails_at_once_so_that_its_loop_notices_signals(
    valkey: ValkeyServer, connect: Connect
) -> None:
    client = connect(valkey.url, "loop")
    assert client.blpop(["queue"], timeout=1) is None
    valkey.stop()
    assert seconds_until_it_fails(client, RedisConnectionError) < 0.9
    valkey.start()
    assert client.ping()


def test_a_retry_ends_when_its_time_is_over_however_deep_it_is_nested() -> None:
    retry = RetryFor(0.4, ConstantBackoff(0.05))
    failures: list[Exception] = []

    def connect_in_vain() -> None:
        raise RedisConnectionError("away")

    def command() -> None:
        retry.call_with_retry(connect_in_vain, failures.append)

    began = time.monotonic()
    with pytest.raises(RedisConnectionError):
        retry.call_with_retry(command, failures.append)
    assert 0.3 < time.monotonic() - began < 0.9
    assert len(failures) > 5


def test_a_retry_tells_of_the_last_failure_too_so_that_the_link_is_dropped() -> None:
    failures: list[tuple[Exception, int]] = []

    def fail() -> None:
        raise RedisTimeoutError("slow")

    with pytest.raises(RedisTimeoutError):
        RetryFor(0, ConstantBackoff(0)).call_with_retry(
            fail, lambda error, count: failures.append((error, count)), with_failure_count=True
        )
    assert [count for _, count in failures] == [1]


def test_an_error_of_the_command_is_not_tried_again(valkey: ValkeyServer, connect: Connect) -> None:
    client = connect(valkey.url, "worker")
    began = time.monotonic()
    with pytest.raises(RedisError, match="unknown command"):
        client.execute_command("NO-SUCH-COMMAND")
    assert time.monotonic() - began < 1


# --- RQ and forks -------------------------------------------------------------------------------


def test_a_retry_is_the_same_after_the_copies_that_redis_py_and_rq_make() -> None:
    retry = RetryFor(20, ConstantBackoff(1))
    for twin in (copy.deepcopy(retry), pickle.loads(pickle.dumps(retry))):
        assert twin == retry and hash(twin) == hash(retry)
    assert retry != RetryFor(21, ConstantBackoff(1))
    assert retry != RetryFor(20, ConstantBackoff(2))


@BOTH
def test_the_link_that_rq_rebuilds_in_a_child_keeps_retries_and_time_outs(
    valkey: ValkeyServer, connect: Connect, caller: Caller
) -> None:
    client = connect(valkey.url, caller)
    _, connection_class, options = parse_connection(client)
    options = pickle.loads(pickle.dumps(options))
    with Redis.from_pool(ConnectionPool(connection_class=connection_class, **options)) as twin:
        assert twin.ping()
        assert get_connection_kwargs(twin) == get_connection_kwargs(client)
        connection = twin.connection_pool.get_connection()
        assert connection.retry == get_connection_kwargs(client)["retry"]
        twin.connection_pool.release(connection)


FORKING = """
import os, sys
from app_srvc.broker import make_redis

client = make_redis(sys.argv[1], caller=sys.argv[2])
client.ping()
child = os.fork()
me = "child" if child == 0 else "parent"
wrong = sum(client.echo(f"{me} {n}") != f"{me} {n}".encode() for n in range(2000))
if child == 0:
    os._exit(wrong > 0)
assert wrong == 0, "an answer of the child came to the parent"
assert os.waitpid(child, 0)[1] == 0, "an answer of the parent came to the child"
assert client.ping()
"""


@BOTH
def test_parent_and_child_of_a_fork_may_both_go_on_with_the_client(
    valkey: ValkeyServer, caller: Caller
) -> None:
    run_python(FORKING, valkey.url, caller)


RQ_WORKER = """
import sys
from rq import Queue, Worker
from rq.serializers import JSONSerializer
from app_srvc.broker import make_redis

client = make_redis(sys.argv[1], caller="worker")
queue = Queue("queue", connection=client, serializer=JSONSerializer)
Worker([queue], connection=client, serializer=JSONSerializer, worker_ttl=20).work()
"""


def test_rq_s_own_worker_with_its_forks_outlives_a_restart_of_redis(
    valkey: ValkeyServer, connect: Connect
) -> None:
    queue = Queue("queue", connection=connect(valkey.url, "web"), serializer=JSONSerializer)
    worker = subprocess.Popen(
        [sys.executable, "-c", RQ_WORKER, valkey.url], stdout=subprocess.DEVNULL
    )
    try:
        before = queue.enqueue("operator.add", 1, 2)
        wait_until(lambda: before.return_value() == 3, 15, what="the first job is done")
        valkey.kill()
        wait_until(lambda: worker.poll() is None, 1)
        valkey.start()
        after = queue.enqueue("operator.add", 3, 4)
        wait_until(lambda: after.return_value() == 7, 15, what="the job after the restart is done")
        assert worker.poll() is None
    finally:
        worker.terminate()
        assert worker.wait(20) == 0, "SIGTERM ends it in order"


def run_python(program: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr
