"""What a service's refusal says, and how long it asks us to wait."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app_srvc.robots.sources.http_failures import (
    MAX_RETRY_AFTER_S,
    explain_status,
    retry_after_s,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        ("0", 0.0),
        ("30", 30.0),
        (" 30 ", 30.0),
        ("86401", MAX_RETRY_AFTER_S),
        ("9" * 5000, MAX_RETRY_AFTER_S),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        ("Sunday, 01-Mar-26 12:01:30 GMT", 90.0),
        ("Sun Mar  1 12:01:30 2026", 90.0),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0.0),
        (format_datetime(NOW + timedelta(days=9), usegmt=True), MAX_RETRY_AFTER_S),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("²", None),
        ("Sun, 99 Mar 2026 12:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_at_most_a_day(
    header: str | None, wait_s: float | None
) -> None:
    assert retry_after_s(header, NOW) == wait_s


@given(st.text(max_size=60))
def test_no_retry_after_is_a_surprise(header: str) -> None:
    wait_s = retry_after_s(header, NOW)

    assert wait_s is None or 0 <= wait_s <= MAX_RETRY_AFTER_S


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "todos answered 401 Unauthorized. Check SOURCE_TOKEN."),
        (403, "todos answered 403 Forbidden. Check SOURCE_TOKEN."),
        (404, "todos answered 404 Not Found. Check SOURCE_URL."),
        (503, "todos answered 503 Service Unavailable."),
        (599, "todos answered 599."),
    ],
)
def test_a_status_is_told_with_what_to_do(status: int, sentence: str) -> None:
    assert explain_status("todos", status) == sentence
