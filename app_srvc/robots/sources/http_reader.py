"""One GET of a web service, within limits of time, size and redirects."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import urljoin, urlsplit

from requests import PreparedRequest, RequestException, Response, Session
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError

import app_srvc
from app_srvc.errors import AppError, SourcePageError, SourceUnavailableError
from app_srvc.robots.sources.deadline import DeadlineAdapter
from app_srvc.robots.sources.http_failures import explain_failure, explain_status, retry_after_s

MAX_REDIRECTS: Final = 5
# A page may take this many time-outs in all, however busy the service looks.
DEADLINE_TIMEOUTS: Final = 3

_CHUNK_BYTES = 64 * 1024


class BearerToken(AuthBase):
    """The token as a header, or no credentials at all.

    Either way requests looks into no `.netrc`, which would else win over the token.
    """

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


@dataclass(frozen=True, slots=True)
class Answer:
    """A body as it came, whole and decompressed, and what its headers say about paging.

    `last_page` is the text of `X-Pagination-Pages`.
    """

    body: bytes
    last_page: str | None
    has_next_link: bool


class HttpReader:
    """Reads from one web service, which `name` names in errors and which alone gets the token.

    The service may be silent for `timeout_s` and take three times that for an answer in all
    (looking up its name not counted). No more than `max_bytes` of a body are held, decompressed.

    Make it in the process that uses it, and use it from one thread: it keeps a connection.
    """

    def __init__(self, name: str, *, token: str | None, timeout_s: float, max_bytes: int) -> None:
        self._name = name
        self._auth = BearerToken(token)
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._adapter = DeadlineAdapter()
        self._session = Session()
        self._session.mount("http://", self._adapter)
        self._session.mount("https://", self._adapter)
        self._session.headers.update(
            {
                "Accept": "application/json",
                "Accept-Encoding": "gzip",
                "User-Agent": f"app-srvc/{app_srvc.__version__}",
            }
        )

    def close(self) -> None:
        self._session.close()

    def read(self, url: str, what: str, *, now: datetime) -> Answer:
        """Return what stands at the address. `what` names it in errors: "page 3".

        What requests raises has the whole address in its text, so it is told in our own words, and
        raised outside of the `except` so that no traceback shows the one behind it.

        Raises:
            SourceUnavailableError: There was no answer, or one that is not a body to read.
            SourcePageError: The body breaks off, or is too large.
        """
        limit_s = DEADLINE_TIMEOUTS * self._timeout_s
        outcome: Answer | AppError
        with self._adapter.deadline(limit_s) as deadline:
            try:
                with self._ask(url) as response:
                    outcome = self._take(response, what, now)
            except (SourceUnavailableError, SourcePageError) as error:
                outcome = error
            except (RequestException, HTTPError, OSError, ValueError) as error:
                outcome = explain_failure(error, self._name, what, self._timeout_s)
        # First: a socket that was shut looks like any failure, or like the end of a page.
        if deadline.is_over:
            raise SourceUnavailableError(
                f"{self._name} did not send {what} in full within {limit_s:g} s."
            )
        if isinstance(outcome, AppError):
            raise outcome
        return outcome

    def _ask(self, url: str) -> Response:
        """Ask, and ask again where a redirect points to.

        Once a redirect has left the host that the token is for, the token stays behind, also on a
        way back that the other host has chosen.
        """
        auth = self._auth
        for _ in range(MAX_REDIRECTS + 1):
            response = self._session.get(
                url, auth=auth, timeout=self._timeout_s, stream=True, allow_redirects=False
            )
            location = self._session.get_redirect_target(response)
            if location is None:
                return response
            response.close()
            target = urljoin(url, location)
            if urlsplit(target).scheme not in ("http", "https"):
                raise SourceUnavailableError(f"{self._name} redirects to something else than HTTP.")
            if self._session.should_strip_auth(url, target):  # type: ignore[no-untyped-call]
                auth = BearerToken(None)
            url = target
        raise SourceUnavailableError(f"{self._name} redirects more than {MAX_REDIRECTS} times.")

    def _take(self, response: Response, what: str, now: datetime) -> Answer:
        if not 200 <= response.status_code <= 299:
            raise SourceUnavailableError(
                explain_status(self._name, response.status_code),
                retry_after_s(response.headers.get("Retry-After"), now),
            )
        body = bytearray()
        for chunk in response.iter_content(_CHUNK_BYTES):
            body += chunk
            if len(body) > self._max_bytes:
                raise SourcePageError(
                    f"{self._name}: {what} is larger than {self._max_bytes} bytes."
                )
        return Answer(
            body=bytes(body),
            last_page=response.headers.get("X-Pagination-Pages"),
            has_next_link="next" in response.links,
        )
