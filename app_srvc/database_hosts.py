"""Which of several hosts of PostgreSQL is asked first.

The driver asks them in the order of the address, each for two seconds at least. A first host whose machine
is gone without a word would cost every new connection that long, and a web request may not wait for so
long: none would ever get through to the second. So the host that was good last is asked first, and after
an attempt that failed, or was broken off, the next one.
"""

from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine import Dialect


class HostOrder:
    """Decides the order for one engine. Threads that meet here at worst ask a host in vain."""

    def __init__(self) -> None:
        self._first = 0

    def attach(self, engine: Engine) -> None:
        event.listen(engine, "do_connect", self._connect)

    def _connect(
        self, dialect: Dialect, _record: Any, arguments: Any, options: dict[str, Any]
    ) -> Any:
        hosts = str(options.get("host", "")).split(",")
        ports = str(options.get("port", "")).split(",")
        if len(hosts) < 2 or len(hosts) != len(ports):
            return None
        first = self._first
        turned = [(first + number) % len(hosts) for number in range(len(hosts))]
        options |= {
            "host": ",".join(hosts[number] for number in turned),
            "port": ",".join(ports[number] for number in turned),
        }
        try:
            connection: Any = dialect.connect(*arguments, **options)
        except BaseException:
            # Also a request's deadline, which is no Exception.
            self._first = (first + 1) % len(hosts)
            raise
        self._first = _place(connection, hosts, ports, first)
        return connection


def _place(connection: Any, hosts: list[str], ports: list[str], otherwise: int) -> int:
    """Where in the address the host stands that answered."""
    answered = (connection.info.host, str(connection.info.port))
    places = [
        number for number, each in enumerate(zip(hosts, ports, strict=True)) if each == answered
    ]
    return places[0] if places else otherwise
