"""The service under the Redis users of deploy/redis/users.acl: each has what it needs, and no more."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from rq.command import send_stop_job_command

# Collected here too, and so run under these users.
from tests.acceptance.test_losses import (  # noqa: F401
    test_a_worker_killed_in_the_middle_of_a_job_loses_nothing,
    test_redis_is_emptied_and_then_lost_with_500_registrations_accepted,
)
from tests.support.load import Ledger
from tests.support.redis_users import USERS_FILE, Recorder, acl_file, read_users, refusals
from tests.support.rq_tools import Dashboard, Exporter, RqCommand, install_tools
from tests.support.servers import PostgresServer, ValkeyServer
from tests.support.service import Client, Parts, assert_balanced, run_command
from tests.support.waiting import wait_until

pytestmark = pytest.mark.xdist_group("rq_tools")

USERS = read_users()
QUEUE = "QUE_USRREG"


class Roles:
    """The service with a user of Redis for each role, and what each role has sent."""

    def __init__(self, folder: Path, valkey: ValkeyServer, database_url: str) -> None:
        self.redis = valkey.client
        self._stack = ExitStack()
        scripts: dict[str, str] = {}
        self.recorders = {name: Recorder(valkey.port, scripts) for name in USERS}
        self._folder, self._database_url = folder, database_url

    def url(self, role: str) -> str:
        return USERS[role].url(self.recorders[role].port)

    def __enter__(self) -> "Roles":
        # What the server knows of other tests nobody would tell it, and be recorded with, again.
        self.redis.script_flush()
        for recorder in self.recorders.values():
            self._stack.enter_context(recorder)
        self.parts = Parts(
            self._folder,
            self.url("web"),
            self._database_url,
            worker_redis_url=self.url("worker"),
            # A dashboard takes one whose life has ended off its queue, which no monitor may.
            JOB_RESULT_TTL_S="3600",
        )
        self._stack.enter_context(self.parts)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


@pytest.fixture(scope="module")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """In place of the usual one: with the users, and a default user for the test itself."""
    file = acl_file(tmp_path_factory.mktemp("acl"), USERS_FILE, default="on nopass ~* &* +@all")
    folder = tmp_path_factory.mktemp("valkey")
    with ValkeyServer(folder, options={"aclfile": str(file)}) as server:
        yield server


@pytest.fixture
def valkey(valkey_server: ValkeyServer) -> Iterator[ValkeyServer]:
    """Empty, and what Redis refuses to somebody meanwhile fails the test."""
    valkey_server.restore()
    valkey_server.client.flushall()
    valkey_server.client.acl_log_reset()
    yield valkey_server
    valkey_server.restore()
    assert refusals(valkey_server.client) == []


@pytest.fixture
def parts(tmp_path: Path, valkey: ValkeyServer, postgres_ledger_url: str) -> Iterator[Parts]:
    """For the tests that other modules run under the default user."""
    urls = {name: user.url(valkey.port) for name, user in USERS.items()}
    with Parts(
        tmp_path, urls["web"], postgres_ledger_url, worker_redis_url=urls["worker"]
    ) as running:
        yield running
        valkey.restore()


@pytest.fixture
def roles(tmp_path: Path, valkey: ValkeyServer, postgres_ledger_url: str) -> Iterator[Roles]:
    with Roles(tmp_path, valkey, postgres_ledger_url) as running:
        yield running


@pytest.fixture
def refusing(valkey_server: ValkeyServer) -> ValkeyServer:
    """For a test in which Redis is to refuse something."""
    valkey_server.restore()
    return valkey_server


@pytest.fixture
def ledger(postgres_ledger_url: str) -> Iterator[Ledger]:
    with Ledger(postgres_ledger_url) as ledger:
        yield ledger


@pytest.mark.timeout(240)
def test_each_role_uses_what_its_list_has_and_nothing_else(
    roles: Roles, valkey: ValkeyServer, ledger: Ledger, postgres: PostgresServer, tmp_path: Path
) -> None:
    parts = roles.parts
    _submit_and_look(parts, ledger)
    _lose_a_child(roles, ledger, postgres)
    _lose_the_database(roles, ledger, postgres)
    _lose_a_worker(parts, ledger)
    _leave_rubbish(roles)
    roles.redis.flushall()
    wait_until(lambda: _runs_another_cycle(parts), 40, what="the robot outlives an emptied Redis")
    _run_commands(parts)
    _watch(roles, tmp_path)
    assert parts.stop_robot().status_code == 200
    assert_balanced(parts)
    parts.stop()
    assert refusals(valkey.client) == []
    for name, recorder in roles.recorders.items():
        print(name, *sorted(recorder.used))
    for name, user in USERS.items():
        used = roles.recorders[name].used
        assert used - user.commands == set(), f"{name} uses what its list has not"
        assert user.commands - used == set(), f"the list of {name} has what it does not use"


# --- what nobody may do ---------------------------------------------------------------------------

EVERYBODY = pytest.mark.parametrize("name", USERS)


@EVERYBODY
@pytest.mark.parametrize(
    "words",
    [
        *(
            "FLUSHALL",
            "FLUSHDB",
            "CONFIG GET *",
            "CONFIG SET dir /tmp",
            "KEYS *",
            "SCAN 0",
            "MONITOR",
        ),
        *("SHUTDOWN NOSAVE", "SAVE", "REPLICAOF NO ONE", "CLIENT LIST", "SWAPDB 0 1"),
        *(
            "ACL LIST",
            "MODULE LIST",
            "SCRIPT FLUSH",
            "FUNCTION FLUSH",
            "RANDOMKEY",
            "EVAL return 0",
        ),
        *("GET other:key", "HGETALL other:key", "PUBLISH rq:pubsub:worker x", "SUBSCRIBE other"),
        *("RENAME rq:queues rq:other", "DUMP rq:queues", "WAIT 0 1"),
    ],
)
def test_what_no_role_may_do(refusing: ValkeyServer, name: str, words: str) -> None:
    with pytest.raises(NoPermissionError):
        _do(refusing, name, words)


@EVERYBODY
def test_nobody_may_debug(refusing: ValkeyServer, name: str) -> None:
    """Asked in another way, as servers refuse this one to everybody unless told otherwise."""
    answer = refusing.client.execute_command("ACL", "DRYRUN", name, "DEBUG", "SLEEP", "1")
    assert b"no permissions" in answer


def _do(valkey: ValkeyServer, name: str, words: str) -> None:
    with Redis.from_url(USERS[name].url(valkey.port)) as client:
        client.execute_command(*words.split(" "))


@pytest.mark.parametrize("name", ["web", "worker"])
@pytest.mark.parametrize(
    "script",
    [
        *("redis.call('FLUSHALL')", "redis.call('KEYS', '*')"),
        *("redis.call('SET', 'other:key', '1')", "redis.call('DEL', 'other:key')"),
    ],
)
def test_a_script_may_do_no_more_than_who_calls_it(
    refusing: ValkeyServer, name: str, script: str
) -> None:
    with Redis.from_url(USERS[name].url(refusing.port)) as client:
        digest = client.script_load(script)
        with pytest.raises(ResponseError, match="ACL failure"):
            client.evalsha(digest, 0)
    assert refusing.client.exists("other:key") == 0


@pytest.mark.parametrize(
    "words",
    [
        *("DEL rq:queues", "HSET rq:job:a status queued", "RPUSH rq:queue:QUE_ROBOT a"),
        *("ZADD rq:scheduled:QUE_ROBOT 1 a", "SADD app:queue:paused QUE_ROBOT", "SET app:a b"),
        *("ZREMRANGEBYSCORE rq:wip:QUE_ROBOT -inf +inf", "SCRIPT LOAD x", "EVALSHA x 0"),
        *("ZREMRANGEBYSCORE rq:scheduled:QUE_ROBOT -inf +inf", "LPOP rq:queue:QUE_ROBOT"),
        "EXPIRE rq:queues 1",
    ],
)
def test_a_monitor_changes_nothing(refusing: ValkeyServer, words: str) -> None:
    with pytest.raises(NoPermissionError):
        _do(refusing, "monitor", words)


@pytest.mark.parametrize(
    ("name", "channel"),
    [("worker", "rq:job:one"), ("web", "rq:pubsub:one"), ("monitor", "rq:pubsub:one")],
)
def test_only_a_worker_hears_commands_and_nothing_else(
    refusing: ValkeyServer, name: str, channel: str
) -> None:
    with pytest.raises(NoPermissionError):
        _do(refusing, name, f"SUBSCRIBE {channel}")


def test_a_server_that_is_given_the_file_lets_nobody_in_without_a_name(tmp_path: Path) -> None:
    file = acl_file(tmp_path, USERS_FILE)
    worker = USERS["worker"]
    with ValkeyServer(
        tmp_path / "v", user=worker.name, password=worker.password, options={"aclfile": str(file)}
    ) as server:
        assert server.client.ping()
        with Redis(port=server.port) as nobody, pytest.raises(AuthenticationError):
            nobody.ping()


# --- what everybody does --------------------------------------------------------------------------


def _submit_and_look(parts: Parts, ledger: Ledger) -> None:
    assert parts.start_robot(timedelta=1).status_code == 200
    ids = [parts.register(f"user{number}").json()["jobid"] for number in range(10)]
    assert parts.post("/api/sendmsg", {"any": "document"}).status_code == 200
    for path in (
        "/",
        "/admin/task",
        "/userlist/",
        "/health/ready",
        "/api/wstart",
        "/api/v1/messages",
    ):
        assert parts.get(path).status_code == 200, path
    for port in parts.health_ports.values():
        probe = Client(f"http://127.0.0.1:{port}")
        wait_until(probe.is_ready, 30, what="a worker is ready")
    wait_until(lambda: len(ledger.logins()) == 10, 30, what="all are registered")
    wait_until(lambda: len(parts.cycles()) >= 3, 30, what="the robot runs")
    assert parts.command("message", "replay", ids[0]).returncode == 0


def _hold_a_job(roles: Roles, postgres: PostgresServer, login: str) -> str:
    """A job that has started and cannot get on, since the database hangs. Its id."""
    assert roles.parts.command("queue", "pause", QUEUE).returncode == 0
    id: str = roles.parts.register(login).json()["jobid"]
    wait_until(lambda: roles.redis.exists(f"rq:job:{id}"), 10, what="the job is on its queue")
    postgres.pause()
    roles.redis.delete("app:queue:paused")
    wait_until(lambda: roles.redis.hget(f"rq:job:{id}", "status") == b"started", 20)
    return id


def _lose_a_child(roles: Roles, ledger: Ledger, postgres: PostgresServer) -> None:
    """A job is stopped by RQ's command, which kills the child that has it."""
    id = _hold_a_job(roles, postgres, "stopped")
    send_stop_job_command(roles.redis, id)
    log = roles.parts.workers["usrregworker"].log
    wait_until(lambda: "worker_child_ended" in log.read_text(), 20, what="the child is killed")
    postgres.resume()
    assert roles.parts.command("queue", "resume", QUEUE).returncode == 0
    wait_until(lambda: "stopped" in ledger.logins(), 40, what="its job is done after all")


def _lose_the_database(roles: Roles, ledger: Ledger, postgres: PostgresServer) -> None:
    _hold_a_job(roles, postgres, "handed-back")
    postgres.kill()
    postgres.start()
    wait_until(lambda: roles.parts.command("queue", "resume", QUEUE).returncode == 0, 20)
    wait_until(lambda: "handed-back" in ledger.logins(), 40, what="the job handed back is done")


def _lose_a_worker(parts: Parts, ledger: Ledger) -> None:
    worker = parts.workers["usrregworker"]
    logins = {f"late{number}" for number in range(20)}
    assert {parts.register(login).status_code for login in logins} == {202}
    worker.kill_group()
    worker.start()
    wait_until(lambda: logins <= set(ledger.logins()), 40, what="what the dead worker had is done")


def _leave_rubbish(roles: Roles) -> None:
    """What others left in Redis is cleared away: a stranger's job, one half-way, one cancelled."""
    redis = roles.redis
    redis.hset("rq:job:stranger", mapping={"data": b"x", "status": "queued", "origin": QUEUE})
    redis.rpush(f"rq:queue:{QUEUE}", "stranger")
    redis.rpush(f"rq:queue:{QUEUE}:intermediate", "half-way")
    redis.zadd(f"rq:wip:{QUEUE}", {"nobody:token": 1})
    redis.zadd(f"rq:scheduled:{QUEUE}", {"nowhere": 1})
    redis.zadd(f"rq:canceled:{QUEUE}", {"given-up": 1})
    redis.sadd("rq:workers", "rq:worker:dead")
    gone = (f"rq:queue:{QUEUE}", f"rq:queue:{QUEUE}:intermediate", f"rq:wip:{QUEUE}")
    wait_until(lambda: not redis.exists(*gone), 40, what="the rubbish is gone")


def _run_commands(parts: Parts) -> None:
    for words in ("queue list", "robot status todos", "message list", "doctor", "audit"):
        done = parts.command(*words.split())
        # Two settings of the tests' own PostgreSQL are what the doctor would not have.
        assert done.returncode == 0 or words == "doctor", (words, done.stdout, done.stderr)
        assert "NOPERM" not in done.stdout + done.stderr
        assert words != "doctor" or "FAIL  redis" not in done.stdout
    id = parts.register("to be cancelled").json().get("jobid")
    assert id is None
    assert parts.command("queue", "pause", QUEUE).returncode == 0
    id = parts.register("regretted").json()["jobid"]
    assert parts.command("message", "cancel", id).returncode == 0
    assert parts.command("queue", "resume", QUEUE).returncode == 0


def _watch(roles: Roles, folder: Path) -> None:
    """Everything that a monitor looks at, and all of it while there is something to see."""
    install_tools()
    parts, url = roles.parts, roles.url("monitor")
    variables = {**parts.variables, "REDIS_URL": url}
    done = run_command("queue", "list", **variables)
    assert done.returncode == 0 and QUEUE in done.stdout, done.stderr
    assert any(QUEUE in line for line in RqCommand(url)("info", "--raw"))
    with Dashboard(url, folder) as dashboard, Exporter(url, folder) as exporter:
        for site in (dashboard, exporter):
            site.wait_until_up()
        assert dashboard.look()[0][QUEUE] and exporter.look()[0][QUEUE]
        for registry in ("queued", "scheduled", "finished", "failed"):
            dashboard.jobs("QUE_ROBOT", registry)


def _runs_another_cycle(parts: Parts) -> bool:
    newest = parts.cycles()[-1]
    return bool(newest["number"] > 3)
