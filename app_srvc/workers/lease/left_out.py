"""What RQ's workers do, and `LeaseWorker` leaves out."""

from contextlib import suppress

from redis import Redis
from redis.exceptions import RedisError


class LeftOut:
    """Overrides for a subclass of `rq.Worker`."""

    def _set_connection(self, connection: Redis) -> Redis:
        """Leave the time-outs as they are: every process makes links of its own."""
        return connection

    def _set_ip_address(self, connection: Redis) -> None:
        """One question about this client; RQ lists all."""
        self.ip_address = "unknown"
        with suppress(RedisError):
            self.ip_address = str(connection.client_info().get("addr", "unknown"))

    def run_maintenance_tasks(self) -> None:
        """None: RQ's would fail the jobs that `rescue` saves."""

    def clean_registries(self) -> None:
        """None; see `run_maintenance_tasks`."""
