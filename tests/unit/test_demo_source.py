"""The demo source: a function of its anchor and of now."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app_srvc.robots.sources.demo import SHOWN_TODOS, DemoSource
from app_srvc.todos.schemas import Todo

ANCHOR = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return ANCHOR + timedelta(seconds=seconds)


def walk(now: datetime, page_size: int = 7) -> list[dict[str, Any]]:
    source = DemoSource(ANCHOR, page_size)
    page = source.fetch_page(None, now=now)
    records = list(page.records)
    while page.next_cursor is not None:
        assert len(page.records) == page_size
        page = source.fetch_page(page.next_cursor, now=now)
        records += page.records
    return records


def statuses(now: datetime) -> dict[int, str]:
    return {record["id"]: record["status"] for record in walk(now)}


@pytest.mark.parametrize(
    ("seconds", "count"), [(-3600, 20), (0, 20), (4.9, 20), (5, 21), (9.9, 21), (60, 32)]
)
def test_there_are_twenty_at_first_and_one_more_every_five_seconds(
    seconds: float, count: int
) -> None:
    assert [record["id"] for record in walk(at(seconds))] == list(range(1, count + 1))


def test_a_todo_is_completed_a_minute_after_it_appears() -> None:
    assert set(statuses(at(59.9)).values()) == {"pending"}
    assert {number for number, status in statuses(at(60)).items() if status == "completed"} == set(
        range(1, 21)
    )
    assert statuses(at(64.9))[21] == "pending"
    assert statuses(at(65))[21] == "completed"


def test_nothing_but_the_status_of_a_todo_ever_changes() -> None:
    before = {record["id"]: record for record in walk(at(30))}
    after = {record["id"]: record for record in walk(at(300))}

    for number, record in before.items():
        assert after[number] == {**record, "status": "completed"}


@given(st.integers(0, 90 * 86_400), st.integers(1, 200))
def test_a_walk_shows_each_todo_once_and_each_parses(seconds: int, page_size: int) -> None:
    records = walk(at(seconds), page_size)
    numbers = [record["id"] for record in records]

    newest = 20 + seconds // 5
    assert numbers == list(range(max(1, newest - SHOWN_TODOS + 1), newest + 1))
    todos = [Todo.model_validate(record) for record in records]
    assert all(todo.due_on is not None and todo.due_on > ANCHOR for todo in todos)


def test_two_sources_of_one_anchor_show_the_same() -> None:
    assert walk(at(1234)) == walk(at(1234))


def test_titles_and_users_are_mixed() -> None:
    records = walk(at(0), 100)

    assert len({record["title"] for record in records}) == 20
    assert len({record["user_id"] for record in records}) == 7


def test_a_todo_that_appears_during_a_walk_is_on_the_last_page() -> None:
    source = DemoSource(ANCHOR, 20)
    first = source.fetch_page(None, now=at(5))
    last = source.fetch_page(first.next_cursor, now=at(10))

    assert [record["id"] for record in last.records] == [21, 22]
    assert last.next_cursor is None


def test_a_walk_that_was_overtaken_goes_on_with_the_oldest_that_is_shown() -> None:
    source = DemoSource(ANCHOR, 10)
    first = source.fetch_page(None, now=at(0))
    later = source.fetch_page(first.next_cursor, now=at(5 * 5_000))

    assert later.records[0]["id"] == 5_020 - SHOWN_TODOS + 1


@pytest.mark.parametrize("cursor", ["", "demo:", "demo:x", "page:2:abc", "demo:0", "demo:-5"])
def test_a_cursor_of_another_source_starts_from_the_first_page(cursor: str) -> None:
    page = DemoSource(ANCHOR, 5).fetch_page(cursor, now=ANCHOR)

    assert [record["id"] for record in page.records] == [1, 2, 3, 4, 5]


def test_a_cursor_behind_the_end_is_an_empty_last_page() -> None:
    page = DemoSource(ANCHOR, 5).fetch_page("demo:999999999", now=ANCHOR)

    assert (page.records, page.next_cursor) == ([], None)
