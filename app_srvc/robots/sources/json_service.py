"""A JSON web service with numbered pages, such as gorest's `/public/v2/todos`."""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit, urlunsplit

from app_srvc.errors import ConfigurationError, SourcePageError
from app_srvc.robots.sources.base import Page
from app_srvc.robots.sources.http_reader import Answer, HttpReader
from app_srvc.robots.sources.page_json import NotAPageError, parse_records

_PAGING = ("page", "per_page")
_CURSOR = re.compile(r"page:([0-9]{1,9}):([0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class Place:
    """A page's number, and the digest of the page before it."""

    number: int = 1
    digest_before: str | None = None

    @classmethod
    def at(cls, cursor: str | None) -> "Place":
        match = _CURSOR.fullmatch(cursor or "")
        return cls(int(match[1]), match[2]) if match else cls()

    def cursor_of_next(self, digest: str) -> str:
        return f"page:{self.number + 1}:{digest}"


class JsonService:
    """Pages of a JSON list, asked for with `?page=N&per_page=M`.

    The walk ends at an empty page, at a page with fewer records than were asked for, at the page
    that `X-Pagination-Pages` calls the last, and at a page that repeats the one before it: a
    service that does not know pages shows the same list for ever. A shorter page with a
    `Link: rel=next` goes on, since the service has a smaller limit of its own; the link itself is
    not followed.

    Limits of time and size are those of `HttpReader`, and so is whose process and thread it is for.
    """

    def __init__(
        self, url: str, *, token: str | None, timeout_s: float, page_size: int, max_bytes: int
    ) -> None:
        parts = _checked(url)
        self.name = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
        self._url = parts
        self._page_size = page_size
        self._reader = HttpReader(self.name, token=token, timeout_s=timeout_s, max_bytes=max_bytes)

    def fetch_page(self, cursor: str | None, *, now: datetime) -> Page:
        """Return the page at the cursor; `now` turns a Retry-After date into seconds.

        No error's text holds the token, the query or what the source sent.
        """
        place = Place.at(cursor)
        what = f"page {place.number}"
        answer = self._reader.read(self._page_url(place.number), what, now=now)
        digest = hashlib.sha256(answer.body).hexdigest()[:32]
        if digest == place.digest_before:
            return Page([], None)
        try:
            records = parse_records(answer.body)
        except NotAPageError as error:
            # Without the cause: the parser's error carries the whole body.
            raise SourcePageError(f"{self.name}: {what} {error}.") from None
        is_last = self._is_last(place.number, len(records), answer)
        return Page(records, None if is_last else place.cursor_of_next(digest))

    def close(self) -> None:
        self._reader.close()

    def _is_last(self, number: int, count: int, answer: Answer) -> bool:
        if count == 0:
            return True
        if re.fullmatch("[0-9]{1,9}", answer.last_page or ""):
            return number >= int(answer.last_page or "")
        return count < self._page_size and not answer.has_next_link

    def _page_url(self, number: int) -> str:
        paging = zip(_PAGING, (number, self._page_size), strict=True)
        query = urlencode([*parse_qsl(self._url.query, keep_blank_values=True), *paging])
        return urlunsplit(self._url._replace(query=query))


def _checked(url: str) -> SplitResult:
    """The address without a fragment and without paging of its own, which would win over ours."""
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or "@" in parts.netloc:
        # What was got is not shown: it may hold a password.
        raise ConfigurationError(
            [
                "SOURCE_URL must begin with http:// or https:// and have a host and no user or "
                "password. Correct it; a token goes into SOURCE_TOKEN."
            ]
        )
    own = [
        (name, value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
        if name not in _PAGING
    ]
    return parts._replace(query=urlencode(own), fragment="")
