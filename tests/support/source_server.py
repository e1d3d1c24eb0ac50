"""A todo service on the loopback address that does as it is told, and badly when it is told so.

In the same process: `with SourceServer(todos(30)) as source: ... source.url`.
On its own: `python -m tests.support.source_server --port 9000 --records 30`; then the records and
faults are set over HTTP (`SourceControl` does that), so a test outside can change them meanwhile:

    PUT  /control/records   a JSON list, shown from then on
    PUT  /control/faults    a JSON list of faults (the fields of `Fault`); [] heals
    GET  /control/requests  what was asked so far, newest last
"""

import argparse
import gzip
import json
import signal
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import requests

from tests.support.source_state import Fault, FaultKind, SeenRequest, SourceState, todos

__all__ = ["PATH", "Fault", "SeenRequest", "SourceControl", "SourceServer", "todos"]

PATH = "/public/v2/todos"
DRIP_EVERY_S = 0.05
LARGEST_PAGE = 1_000


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Without this the answer's two writes wait for each other's acknowledgement, 40 ms a request.
    disable_nagle_algorithm = True
    server: "_Server"

    def do_GET(self) -> None:
        state = self.server.state
        address = urlsplit(self.path)
        if address.path == "/control/requests":
            return self._send_json([asdict(request) for request in state.requests])
        query = parse_qs(address.query, keep_blank_values=True)
        page, per_page = query.get("page", ["1"])[0], query.get("per_page", ["10"])[0]
        authorization = self.headers.get("Authorization")
        state.note(
            SeenRequest(self.path, page, per_page, authorization, self.headers.get("Host", ""))
        )
        if address.path != PATH:
            return self._send(404, b"{}")
        if state.token is not None and authorization != f"Bearer {state.token}":
            return self._send(401, b'{"message": "Authentication failed"}')
        number, size = max(1, int(page)), min(LARGEST_PAGE, max(1, int(per_page)))
        fault = state.take_fault(number)
        if fault is None:
            return self._send_page(number, size)
        return FAULTS[fault.kind](self, fault, number, size)

    def do_PUT(self) -> None:
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/control/records":
            self.server.state.set_records(given)
        elif self.path == "/control/faults":
            self.server.state.set_faults(*(Fault(**fields) for fields in given))
        else:
            return self._send(404, b"{}")
        return self._send_json({"ok": True})

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: tests read `requests`."""

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self._begin(status, length=len(body), **headers)
        self.wfile.write(body)

    def _begin(self, status: int, *, length: int | None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if length is None:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _send_json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode())

    def _page(self, number: int, size: int) -> tuple[bytes, dict[str, str]]:
        records = self.server.state.records
        body = json.dumps(records[(number - 1) * size : number * size]).encode()
        return body, {
            "X_Pagination_Total": str(len(records)),
            "X_Pagination_Pages": str(-(-len(records) // max(1, size))),
            "X_Pagination_Page": str(number),
            "X_Pagination_Limit": str(size),
        }

    def _send_page(self, number: int, size: int) -> None:
        body, headers = self._page(number, size)
        if "gzip" in self.headers.get("Accept-Encoding", "") and len(body) > 1024:
            body, headers["Content_Encoding"] = gzip.compress(body, 1), "gzip"
        self._send(200, body, **headers)

    def _status(self, fault: Fault, number: int, size: int) -> None:
        headers = {} if fault.retry_after is None else {"Retry_After": fault.retry_after}
        self._send(fault.status, fault.body.encode() or b'{"message": "fault"}', **headers)

    def _body(self, fault: Fault, number: int, size: int) -> None:
        self._send(200, fault.body.encode())

    def _truncated(self, fault: Fault, number: int, size: int) -> None:
        body, headers = self._page(number, size)
        self._begin(200, length=len(body), **headers)
        self.wfile.write(body[: len(body) // 2])
        self.close_connection = True

    def _hang_up(self, fault: Fault, number: int, size: int) -> None:
        self.close_connection = True

    def _slow(self, fault: Fault, number: int, size: int) -> None:
        if not self.server.state.stopping.wait(fault.seconds):
            self._send_page(number, size)

    def _drip_headers(self, fault: Fault, number: int, size: int) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        self._drip(iter(lambda: b"a", None))

    def _drip_body(self, fault: Fault, number: int, size: int) -> None:
        """Without a length, so that being cut off looks like the end of the body."""
        body, headers = self._page(number, size)
        self._begin(200, length=None, **headers)
        self._drip(bytes([byte]) for byte in body)

    def _drip(self, parts: Any) -> None:
        for part in parts:
            self.wfile.write(part)
            if self.server.state.stopping.wait(DRIP_EVERY_S):
                break
        self.close_connection = True

    def _endless(self, fault: Fault, number: int, size: int) -> None:
        self._begin(200, length=None)
        self.wfile.write(b"[0")
        while not self.server.state.stopping.is_set():
            self.wfile.write(b",0" * 32_768)

    def _zip_bomb(self, fault: Fault, number: int, size: int) -> None:
        """Compressed piece by piece: a client in this process has its memory measured."""
        packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
        pieces = [packer.compress(b" " * 65_536) for _ in range(fault.size // 65_536)]
        self._send(200, b"".join(pieces) + packer.flush(), Content_Encoding="gzip")

    def _bad_zip(self, fault: Fault, number: int, size: int) -> None:
        self._send(200, b"[] but not compressed", Content_Encoding="gzip")

    def _redirect(self, fault: Fault, number: int, size: int) -> None:
        self._send(302, b"", Location=fault.location)

    def _redirect_loop(self, fault: Fault, number: int, size: int) -> None:
        self._send(302, b"", Location=self.path)

    def _no_paging(self, fault: Fault, number: int, size: int) -> None:
        self._send_json(self.server.state.records)

    def _small_pages(self, fault: Fault, number: int, size: int) -> None:
        body, _ = self._page(number, fault.size)
        has_more = number * fault.size < len(self.server.state.records)
        link = {"Link": f'<{fault.location}>; rel="next"'} if has_more else {}
        self._send(200, body, **link)

    def _no_headers(self, fault: Fault, number: int, size: int) -> None:
        body, _ = self._page(number, size)
        self._send(200, body)


FAULTS: dict[FaultKind, Callable[[Handler, Fault, int, int], None]] = {
    "status": Handler._status,
    "body": Handler._body,
    "truncated": Handler._truncated,
    "hang_up": Handler._hang_up,
    "slow": Handler._slow,
    "drip_headers": Handler._drip_headers,
    "drip_body": Handler._drip_body,
    "endless": Handler._endless,
    "zip_bomb": Handler._zip_bomb,
    "bad_zip": Handler._bad_zip,
    "redirect": Handler._redirect,
    "redirect_loop": Handler._redirect_loop,
    "no_paging": Handler._no_paging,
    "small_pages": Handler._small_pages,
    "no_headers": Handler._no_headers,
}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, state: SourceState) -> None:
        self.state = state
        super().__init__((host, port), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gives up in the middle is what the faults are for."""


class SourceServer:
    """The service in a thread of this process."""

    def __init__(
        self,
        records: Sequence[Any] = (),
        *,
        token: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._state = SourceState(records, token)
        self._server = _Server(host, port, self._state)
        self.host = host
        self.port: int = self._server.server_address[1]
        self.url = f"http://{host}:{self.port}{PATH}"
        self.set_records = self._state.set_records
        self.set_faults = self._state.set_faults
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="source-server", daemon=True
        )

    @property
    def requests(self) -> list[SeenRequest]:
        """What was asked so far, newest last."""
        return self._state.requests

    def start(self) -> Self:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._state.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


class SourceControl:
    """Tells a server in another process what to do."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}/control"
        self.url = f"http://127.0.0.1:{port}{PATH}"

    def set_records(self, records: Sequence[Any]) -> None:
        self._put("records", list(records))

    def set_faults(self, *faults: Fault) -> None:
        self._put("faults", [asdict(fault) for fault in faults])

    @property
    def requests(self) -> list[SeenRequest]:
        answer = requests.get(f"{self._base}/requests", timeout=5)
        answer.raise_for_status()
        return [SeenRequest(**fields) for fields in answer.json()]

    def is_up(self) -> bool:
        try:
            return bool(requests.get(f"{self._base}/requests", timeout=1).ok)
        except requests.ConnectionError:
            return False

    def _put(self, what: str, value: Any) -> None:
        requests.put(f"{self._base}/{what}", json=value, timeout=30).raise_for_status()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--records", type=int, default=0, help="how many todos to begin with")
    parser.add_argument("--token", help="the bearer token to ask for")
    options = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with SourceServer(todos(options.records), token=options.token, port=options.port) as source:
        print(source.url, flush=True)
        ended.wait()


if __name__ == "__main__":
    main()
