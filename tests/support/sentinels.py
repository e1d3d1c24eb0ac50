"""A Redis as a cluster runs it: a master, a replica, and three Sentinels that agree by two."""

from contextlib import ExitStack
from pathlib import Path
from typing import Self

from redis.exceptions import RedisError, ResponseError

from tests.support.redis_users import (
    REPLICATION_FILE,
    USERS_FILE,
    acl_file,
    read_users,
    refusals,
)
from tests.support.servers import SentinelServer, ValkeyServer
from tests.support.waiting import wait_until

PASSWORD = "of-all-in-this-test"


class SentinelRedis:
    """Two Valkeys and three Sentinels, all real processes, each with a user of its own in Redis.

    The test's own clients are the default user, who may do everything.
    """

    def __init__(self, folder: Path, *, down_after_ms: int = 1500) -> None:
        users = read_users(REPLICATION_FILE)
        file = acl_file(folder, USERS_FILE, REPLICATION_FILE, default=f"on >{PASSWORD} ~* &* +@all")
        same = self._same = {
            "aclfile": str(file),
            "masteruser": users["replica"].name,
            "masterauth": users["replica"].password,
            "repl-diskless-sync-delay": "0",
        }
        self.first = ValkeyServer(folder / "first", user="default", password=PASSWORD, options=same)
        self.second = ValkeyServer(
            folder / "second",
            user="default",
            password=PASSWORD,
            options={**same, "replicaof": f"127.0.0.1 {self.first.port}"},
        )
        self.sentinels = [
            SentinelServer(
                folder / f"sentinel{number}",
                self.first,
                quorum=2,
                down_after_ms=down_after_ms,
                master_user=users["sentinel"].name,
                master_password=users["sentinel"].password,
            )
            for number in range(3)
        ]
        self._stack = ExitStack()

    def url(self, role: str) -> str:
        user = read_users()[role]
        places = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{user.name}:{user.password}@{places}/{SentinelServer.service}/0"

    def refusals(self) -> list[dict[str, str]]:
        """What the two have refused, and to whom."""
        return [*refusals(self.first.client), *refusals(self.second.client)]

    def is_master(self, server: ValkeyServer) -> bool:
        """Whether this Valkey is the master, and all Sentinels say so."""
        named = {sentinel.client.sentinel_masters()["app"]["port"] for sentinel in self.sentinels}
        return named == {server.port} and server.client.info("replication")["role"] == "master"

    def bring_first_back(self) -> None:
        """Start the first Valkey again, as the replica of the second, and have the Sentinels see it."""
        self.first = ValkeyServer(
            self.first.folder,
            user="default",
            password=PASSWORD,
            port=self.first.port,
            options={**self._same, "replicaof": f"127.0.0.1 {self.second.port}"},
        )
        self._stack.enter_context(self.first)
        wait_until(lambda: _is_linked(self.first), 30, what="the first Valkey follows the second")

    def switch(self) -> bool:
        """Ask a Sentinel to make the replica the master, both being well; False if it won't yet."""
        try:
            return bool(self.sentinels[0].client.sentinel_failover(SentinelServer.service))
        except ResponseError:
            return False

    def cut_replica(self) -> None:
        """The replica gets no more of what is written."""
        self.second.client.config_set("masterauth", "another")
        self.first.client.execute_command("CLIENT", "KILL", "TYPE", "replica")
        wait_until(
            lambda: self.second.client.info("replication")["master_link_status"] == "down", 10
        )

    def __enter__(self) -> Self:
        self._stack.enter_context(self.first)
        self._stack.enter_context(self.second)
        wait_until(lambda: _is_linked(self.second), 30, what="the replica follows")
        for sentinel in self.sentinels:
            self._stack.enter_context(sentinel)
        for sentinel in self.sentinels:
            wait_until(lambda s=sentinel: self._knows_all(s), 30, what="a Sentinel knows all")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @staticmethod
    def _knows_all(sentinel: SentinelServer) -> bool:
        try:
            state = sentinel.client.sentinel_masters()[SentinelServer.service]
        except RedisError:
            return False
        return bool(state["num-slaves"] == 1 and state["num-other-sentinels"] == 2)


def _is_linked(replica: ValkeyServer) -> bool:
    return bool(replica.client.info("replication").get("master_link_status") == "up")
