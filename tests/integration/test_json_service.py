"""The JSON web service as a source, against a real server that does well and badly.

Longer than other files, so that all the ways in which a service can fail stand in one place.
"""

import subprocess
import sys
import time
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from app_srvc.errors import AppError, SourcePageError, SourceUnavailableError
from app_srvc.robots.sources.base import Page
from app_srvc.robots.sources.json_service import JsonService
from tests.support.servers import free_port
from tests.support.source_server import PATH, Fault, SourceControl, SourceServer, todos
from tests.support.waiting import wait_until

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TOKEN = "hidden-token"
Opener = Callable[..., JsonService]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[SourceServer]:
    with SourceServer(todos(10)) as running:
        yield running


@pytest.fixture
def other_server() -> Iterator[SourceServer]:
    """Another host, as far as a token is concerned: another port is another origin."""
    with SourceServer(todos(3, first=900)) as running:
        yield running


@pytest.fixture
def open_service() -> Iterator[Opener]:
    opened: list[JsonService] = []

    def open_one(url: str, **changes: Any) -> JsonService:
        limits = {"token": None, "timeout_s": 5.0, "page_size": 4, "max_bytes": 100_000}
        opened.append(JsonService(url, **{**limits, **changes}))
        return opened[-1]

    yield open_one
    for service in opened:
        service.close()


def walk(service: JsonService, limit: int = 20) -> list[Page]:
    pages = [service.fetch_page(None, now=NOW)]
    while (cursor := pages[-1].next_cursor) is not None:
        assert len(pages) < limit, "the walk does not end"
        pages.append(service.fetch_page(cursor, now=NOW))
    return pages


def sizes(pages: list[Page]) -> list[int]:
    return [len(page.records) for page in pages]


def failure(service: JsonService, kind: type[AppError]) -> AppError:
    with pytest.raises(AppError) as caught:
        service.fetch_page(None, now=NOW)
    assert type(caught.value) is kind, caught.value
    return caught.value


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


# Paging


def test_a_walk_shows_every_record_once_and_in_order(
    server: SourceServer, open_service: Opener
) -> None:
    pages = walk(open_service(server.url))

    assert [record for page in pages for record in page.records] == todos(10)
    assert [(seen.page, seen.per_page) for seen in server.requests] == [
        ("1", "4"),
        ("2", "4"),
        ("3", "4"),
    ]


def test_a_large_page_comes_compressed_and_whole(
    server: SourceServer, open_service: Opener
) -> None:
    server.set_records(todos(300))

    assert walk(open_service(server.url, page_size=500))[0].records == todos(300)


def test_the_number_of_pages_that_the_service_tells_saves_the_last_request(
    server: SourceServer, open_service: Opener
) -> None:
    server.set_records(todos(8))

    assert sizes(walk(open_service(server.url))) == [4, 4]
    assert len(server.requests) == 2


def test_without_that_number_a_full_page_is_followed_by_an_empty_one(
    server: SourceServer, open_service: Opener
) -> None:
    server.set_records(todos(8))
    server.set_faults(Fault("no_headers"))

    assert sizes(walk(open_service(server.url))) == [4, 4, 0]


def test_without_that_number_a_short_page_is_the_last(
    server: SourceServer, open_service: Opener
) -> None:
    server.set_faults(Fault("no_headers"))

    assert sizes(walk(open_service(server.url))) == [4, 4, 2]


def test_a_service_with_no_records_is_one_empty_page(
    server: SourceServer, open_service: Opener
) -> None:
    server.set_records([])

    assert walk(open_service(server.url)) == [Page([], None)]


def test_a_service_with_a_smaller_limit_is_walked_to_its_end_and_its_links_are_not_followed(
    server: SourceServer, other_server: SourceServer, open_service: Opener
) -> None:
    server.set_faults(Fault("small_pages", size=3, location=other_server.url))

    pages = walk(open_service(server.url, token=TOKEN))

    assert [record for page in pages for record in page.records] == todos(10)
    assert other_server.requests == []


def test_an_empty_page_ends_the_walk_even_if_the_service_says_that_there_is_more(
    server: SourceServer, open_service: Opener
) -> None:
    server.set_faults(Fault("small_pages", size=0, location=server.url))

    assert sizes(walk(open_service(server.url))) == [0]


def test_a_service_that_does_not_know_pages_is_read_once_and_the_walk_ends(
    server: SourceServer, open_service: Opener
) -> None:
    server.set_faults(Fault("no_paging"))

    assert sizes(walk(open_service(server.url))) == [10, 0]


def test_a_walk_goes_on_from_a_cursor_in_another_process_life(
    server: SourceServer, open_service: Opener
) -> None:
    cursor = open_service(server.url).fetch_page(None, now=NOW).next_cursor
    second = open_service(server.url).fetch_page(cursor, now=NOW)

    assert [record["id"] for record in second.records] == [5, 6, 7, 8]


@pytest.mark.parametrize("cursor", ["", "5", "demo:5", "page:x:y", "page:2:", "page:2:abc"])
def test_a_cursor_of_another_source_starts_from_the_first_page(
    server: SourceServer, open_service: Opener, cursor: str
) -> None:
    page = open_service(server.url).fetch_page(cursor, now=NOW)

    assert page.records[0]["id"] == 1


def test_the_query_of_the_address_is_kept_and_its_paging_is_replaced(
    server: SourceServer, open_service: Opener
) -> None:
    url = f"{server.url}?page=9&per_page=1&user=5&api_key=a%26b&empty=#part"

    assert sizes(walk(open_service(url))) == [4, 4, 2]
    assert server.requests[1].path == f"{PATH}?user=5&api_key=a%26b&empty=&page=2&per_page=4"


def test_records_are_handed_on_as_they_are_whatever_they_hold(
    server: SourceServer, open_service: Opener
) -> None:
    odd: list[Any] = [None, 5, "nul \0", {"id": 2**70, "title": "\ud800"}, [[]], {}]
    server.set_records(odd)

    assert walk(open_service(server.url, page_size=10))[0].records == odd


# Who gets the token


def test_the_token_goes_with_every_request_and_a_wrong_one_is_told_without_it(
    open_service: Opener,
) -> None:
    with SourceServer(todos(10), token=TOKEN) as server:
        assert sizes(walk(open_service(server.url, token=TOKEN))) == [4, 4, 2]
        assert {seen.authorization for seen in server.requests} == {f"Bearer {TOKEN}"}

        wrong = failure(open_service(server.url, token="wrong-one"), SourceUnavailableError)
        without = failure(open_service(server.url), SourceUnavailableError)

    assert wrong.message == without.message
    assert wrong.message.endswith("answered 401 Unauthorized. Check SOURCE_TOKEN.")


def test_a_netrc_file_neither_replaces_the_token_nor_adds_credentials(
    server: SourceServer,
    open_service: Opener,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password something\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))

    open_service(server.url, token=TOKEN).fetch_page(None, now=NOW)
    open_service(server.url).fetch_page(None, now=NOW)

    assert [seen.authorization for seen in server.requests] == [f"Bearer {TOKEN}", None]


def test_a_redirect_on_the_same_host_keeps_the_token(
    server: SourceServer, open_service: Opener
) -> None:
    moved = f"{PATH}?page=2&per_page=4&moved=1"
    server.set_faults(Fault("redirect", page=1, times=1, location=moved))

    page = open_service(server.url, token=TOKEN).fetch_page(None, now=NOW)

    assert page.records[0]["id"] == 5
    assert server.requests[1].authorization == f"Bearer {TOKEN}"


def test_a_redirect_to_another_host_is_followed_without_the_token(
    server: SourceServer, other_server: SourceServer, open_service: Opener
) -> None:
    server.set_faults(Fault("redirect", location=other_server.url))

    page = open_service(server.url, token=TOKEN).fetch_page(None, now=NOW)

    assert [record["id"] for record in page.records] == [900, 901, 902]
    assert [seen.authorization for seen in other_server.requests] == [None]


def test_the_token_stays_behind_when_the_other_host_redirects_to_itself(
    server: SourceServer, other_server: SourceServer, open_service: Opener
) -> None:
    server.set_faults(Fault("redirect", location=other_server.url))
    other_server.set_faults(Fault("redirect", times=1, location=PATH))

    open_service(server.url, token=TOKEN).fetch_page(None, now=NOW)

    assert [seen.authorization for seen in other_server.requests] == [None, None]


def test_the_token_stays_behind_when_the_other_host_sends_us_back(
    server: SourceServer, other_server: SourceServer, open_service: Opener
) -> None:
    server.set_faults(Fault("redirect", times=1, location=other_server.url))
    other_server.set_faults(Fault("redirect", location=f"{server.url}?delete=all"))

    open_service(server.url, token=TOKEN).fetch_page(None, now=NOW)

    assert [seen.authorization for seen in server.requests] == [f"Bearer {TOKEN}", None]


def test_redirects_without_end_are_given_up(server: SourceServer, open_service: Opener) -> None:
    server.set_faults(Fault("redirect_loop"))

    error = failure(open_service(server.url), SourceUnavailableError)

    assert error.message.endswith("redirects more than 5 times.")
    assert len(server.requests) == 6


@pytest.mark.parametrize(
    "location", ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://[::1", "http://", "//"]
)
def test_a_redirect_to_nowhere_is_an_unavailable_source(
    server: SourceServer, open_service: Opener, location: str
) -> None:
    server.set_faults(Fault("redirect", location=location))

    failure(open_service(server.url), SourceUnavailableError)


# Refusals


@pytest.mark.parametrize("status", [304, 400, 401, 403, 404, 429, 500, 502, 503, 599])
def test_a_refusal_is_an_unavailable_source_and_heals(
    server: SourceServer, open_service: Opener, status: int
) -> None:
    server.set_faults(Fault("status", times=1, status=status))
    service = open_service(server.url)

    assert f"{service.name} answered {status}" in failure(service, SourceUnavailableError).message
    assert len(service.fetch_page(None, now=NOW).records) == 4


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [("17", 17.0), (format_datetime(NOW + timedelta(minutes=2), usegmt=True), 120.0), (None, None)],
)
@pytest.mark.parametrize("status", [429, 503])
def test_the_wait_that_a_refusal_asks_for_is_handed_on(
    server: SourceServer,
    open_service: Opener,
    status: int,
    header: str | None,
    wait_s: float | None,
) -> None:
    server.set_faults(Fault("status", status=status, retry_after=header))

    error = failure(open_service(server.url), SourceUnavailableError)

    assert isinstance(error, SourceUnavailableError) and error.retry_after_s == wait_s


def test_a_refused_connection_is_an_unavailable_source(open_service: Opener) -> None:
    service = open_service(f"http://127.0.0.1:{free_port()}/todos")

    message = failure(service, SourceUnavailableError).message

    assert message == f"{service.name} refused the connection."


def test_a_service_that_hangs_up_is_an_unavailable_source(
    server: SourceServer, open_service: Opener
) -> None:
    server.set_faults(Fault("hang_up"))

    failure(open_service(server.url), SourceUnavailableError)


def test_a_service_without_the_tls_that_it_should_have_is_an_unavailable_source(
    server: SourceServer, open_service: Opener
) -> None:
    url = server.url.replace("http:", "https:")

    assert "could not be trusted" in failure(open_service(url), SourceUnavailableError).message


# Time


def test_a_silent_service_is_left_after_the_time_out(
    server: SourceServer, open_service: Opener
) -> None:
    server.set_faults(Fault("slow", seconds=30))

    with at_most(1.5):
        error = failure(open_service(server.url, timeout_s=0.3), SourceUnavailableError)
    assert error.message.endswith("was silent for 0.3 s.")


def test_a_slow_service_within_the_time_out_is_waited_for(
    server: SourceServer, open_service: Opener
) -> None:
    server.set_faults(Fault("slow", seconds=0.3))

    assert len(open_service(server.url).fetch_page(None, now=NOW).records) == 4


@pytest.mark.parametrize("kind", ["drip_headers", "drip_body"])
@pytest.mark.parametrize("through_proxy", [False, True])
def test_a_page_that_drips_is_left_at_the_deadline_and_the_next_one_is_read(
    server: SourceServer,
    open_service: Opener,
    monkeypatch: pytest.MonkeyPatch,
    kind: Any,
    through_proxy: bool,
) -> None:
    url = server.url
    if through_proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
        url = f"http://todos.example.test{PATH}"
    server.set_faults(Fault(kind, times=1))
    service = open_service(url, timeout_s=0.3)

    with at_most(2.5):
        error = failure(service, SourceUnavailableError)

    assert error.message.endswith("did not send page 1 in full within 0.9 s.")
    assert len(service.fetch_page(None, now=NOW).records) == 4
    assert server.requests[-1].host == url.split("/")[2]


# Size and shape


@pytest.mark.parametrize(
    "fault", [Fault("endless"), Fault("zip_bomb", size=50_000_000), Fault("body", body=" " * 100_001)]
)  # fmt: skip
def test_no_more_than_the_limit_is_held_of_a_page_that_is_too_large(
    server: SourceServer, open_service: Opener, fault: Fault
) -> None:
    server.set_faults(fault)
    service = open_service(server.url)

    tracemalloc.start()
    try:
        error = failure(service, SourcePageError)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert error.message.endswith("page 1 is larger than 100000 bytes.")
    assert peak_bytes < 5_000_000


def test_a_page_of_just_the_limit_is_read(server: SourceServer, open_service: Opener) -> None:
    server.set_faults(Fault("body", body="[]".ljust(100_000)))

    assert open_service(server.url).fetch_page(None, now=NOW) == Page([], None)


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (Fault("truncated"), "breaks off"),
        (Fault("bad_zip"), "is not compressed as it says"),
        (Fault("body", body='[{"id": 1}, {"id'), "is not JSON, or breaks off"),
        (Fault("body", body="<html>secret</html>"), "is not JSON"),
        (Fault("body", body=""), "is not JSON"),
        (Fault("body", body='{"data": []}'), "is not a list of records"),
        (Fault("body", body='[{"id": NaN}]'), "it holds NaN"),
        (Fault("body", body="[" * 90_000), "is nested too deep"),
    ],
)
def test_a_page_that_does_not_parse_says_which_and_why(
    server: SourceServer, open_service: Opener, fault: Fault, problem: str
) -> None:
    server.set_faults(fault)
    service = open_service(server.url)

    message = failure(service, SourcePageError).message

    assert message.startswith(f"{service.name}: page 1 ") and problem in message
    assert "secret" not in message


# Secrets


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", status=500),
        Fault("status", status=401),
        Fault("hang_up"),
        Fault("slow", seconds=30),
        Fault("drip_body"),
        Fault("truncated"),
        Fault("bad_zip"),
        Fault("body", body="no page"),
        Fault("redirect_loop"),
        Fault("redirect", location="http://127.0.0.1:1/?api_key=hidden-key"),
        Fault("redirect", location="http://[hidden-key"),
    ],
)
def test_no_failure_shows_the_token_or_the_query_not_even_in_its_traceback(
    server: SourceServer, open_service: Opener, fault: Fault
) -> None:
    server.set_faults(fault)
    service = open_service(f"{server.url}?api_key=hidden-key", token=TOKEN, timeout_s=0.3)

    with pytest.raises(AppError) as caught:
        service.fetch_page(None, now=NOW)

    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + service.name
    assert "hidden" not in told
    assert server.requests[0].authorization == f"Bearer {TOKEN}"


# The server of these tests, as a process of its own


def test_the_server_runs_as_a_process_and_is_told_what_to_do_over_http(
    open_service: Opener,
) -> None:
    port = free_port()
    command = [sys.executable, "-m", "tests.support.source_server", "--port", str(port)]
    control = SourceControl(port)
    with subprocess.Popen([*command, "--records", "6", "--token", TOKEN]) as process:
        try:
            wait_until(control.is_up, 20, what="the source server answers")
            service = open_service(control.url, token=TOKEN)
            assert sizes(walk(service)) == [4, 2]
            control.set_records(todos(9))
            control.set_faults(Fault("status", page=2, times=1, status=503, retry_after="3"))
            cursor = service.fetch_page(None, now=NOW).next_cursor
            with pytest.raises(SourceUnavailableError) as caught:
                service.fetch_page(cursor, now=NOW)
            assert caught.value.retry_after_s == 3
            assert len(service.fetch_page(cursor, now=NOW).records) == 4
            assert [seen.page for seen in control.requests] == ["1", "2", "1", "2", "2"]
        finally:
            process.terminate()
    assert process.returncode == 0
