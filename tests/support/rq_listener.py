"""A server that hears the webhooks of jobs."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class Listener:
    """Answers every request, and remembers it."""

    def __init__(self) -> None:
        self._requests: list[tuple[str, str, dict[str, Any]]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def heard(self, prefix: str) -> list[tuple[str, str, dict[str, Any]]]:
        """Method, path behind the prefix, and body of each request; times are left out."""
        return [
            (method, path.removeprefix(prefix), body)
            for method, path, body in self._requests
            if path.startswith(prefix)
        ]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        requests = self._requests

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                body = json.loads(self.rfile.read(length)) if length else {}
                for name in ("enqueued_at", "ended_at"):
                    body.update({name: "<time>"} if body.get(name) else {})
                if body.get("exc_info"):
                    body["exc_info"] = body["exc_info"].strip().splitlines()[-1]
                requests.append((self.command, self.path, body))
                self.send_response(204)
                self.end_headers()

            do_POST = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                """Nobody wants to read of each."""

        return Handler
