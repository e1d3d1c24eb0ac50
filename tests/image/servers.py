"""The servers beside the image: Redis as the template configures it, PostgreSQL, and a source of todos."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any

from app_srvc.embedded import bundled_server
from tests.support.manifests import render, the
from tests.support.servers import ValkeyServer

TODO_COUNT = 12


class ClusterValkey(ValkeyServer):
    """Valkey with the configuration and the secret of the templates, from files like its pod's."""

    def __init__(self, folder: Path, secrets: dict[str, str]) -> None:
        super().__init__(folder, password=secrets["redis-password"], port=6379)
        self._included = secrets["redis.conf"]

    def _launch(self) -> Popen[bytes]:
        self.folder.mkdir(parents=True, exist_ok=True)
        configuration = the("ConfigMap", render("redis"))["data"]["valkey.conf"]
        file, secret = self.folder / "valkey.conf", self.folder / "redis.conf"
        secret.write_text(self._included)
        file.write_text(
            configuration.replace("/etc/valkey-secret/redis.conf", str(secret)).replace(
                "dir /data", f"dir {self.folder}"
            )
        )
        with (self.folder / "server.log").open("ab") as log:
            return Popen([str(bundled_server()), str(file)], stdin=DEVNULL, stdout=log, stderr=log)


@contextmanager
def source_of_todos() -> Iterator[int]:
    """A web service with a fixed number of todos, in pages, on a port of its own."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Todos) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


class _Todos(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        is_first = "page=1" in self.path or "page=" not in self.path
        numbers = range(1, TODO_COUNT + 1) if is_first else ()
        body = json.dumps([_todo(number) for number in numbers]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: Any) -> None:
        """Nothing to say."""


def _todo(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "user_id": 1,
        "title": f"Image todo {number}",
        "due_on": "2030-01-01T00:00:00.000+00:00",
        "status": "pending",
    }
