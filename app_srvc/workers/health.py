"""Probes over HTTP for a process that serves nothing else: `/health/live`, `/ready` and `/started`."""

import json
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from app_srvc.logs import get_logger

REQUEST_TIMEOUT_S = 5.0

log = get_logger(__name__)

Check = Callable[[], Sequence[str]]


class HealthServer:
    """Answers probes in threads of its own. A check returns what is missing; nothing means good."""

    def __init__(self, host: str, port: int, checks: Mapping[str, Check]) -> None:
        self._server = _server_class(host)((host, port), _handler_class(dict(checks)))
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.2},
            name="health",
            daemon=True,
        )

    @property
    def port(self) -> int:
        port: int = self._server.server_address[1]
        return port

    def start(self) -> None:
        self._thread.start()
        log.debug("health_started", port=self.port)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _server_class(host: str) -> type[ThreadingHTTPServer]:
    class Server(ThreadingHTTPServer):
        daemon_threads = True
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        def server_bind(self) -> None:
            # HTTPServer's own would ask DNS for the host's full name, which can take seconds.
            TCPServer.server_bind(self)
            self.server_name, self.server_port = host, int(self.server_address[1])

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A caller that went away is not worth a line."""

    return Server


def _handler_class(checks: Mapping[str, Check]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_TIMEOUT_S
        server_version = "app-srvc"
        sys_version = ""

        def do_GET(self) -> None:
            check = checks.get(self.path.partition("?")[0].rstrip("/"))
            if check is None:
                self._answer(404, {"ok": False, "missing": []})
                return
            missing = list(check())
            self._answer(503 if missing else 200, {"ok": not missing, "missing": missing})

        do_HEAD = do_GET

        def _answer(self, status: int, body: Mapping[str, Any]) -> None:
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(text)

        def log_message(self, format: str, *args: Any) -> None:
            """Probes come every few seconds; nobody wants to read of each."""

    return Handler


class TimedCheck:
    """A check with a deadline, for what may hang: a database that is there but does not get on.

    One that hangs counts as failed, and is not asked again until it has ended.
    """

    def __init__(self, check: Callable[[], object], timeout_s: float) -> None:
        self._check = check
        self._timeout_s = timeout_s
        self._turn = threading.Lock()
        self._running: threading.Thread | None = None
        self._has_passed = False

    def passes(self) -> bool:
        """Whether the check ended in time and without an error."""
        with self._turn:
            if self._running is None or not self._running.is_alive():
                self._has_passed = False
                self._running = threading.Thread(target=self._run, name="check", daemon=True)
                self._running.start()
            self._running.join(self._timeout_s)
            return self._has_passed and not self._running.is_alive()

    def _run(self) -> None:
        try:
            self._check()
        except Exception as error:
            log.debug("check_failed", error_type=type(error).__name__)
        else:
            self._has_passed = True
