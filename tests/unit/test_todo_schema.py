"""What is a todo and what is not."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app_srvc.todos.schemas import MAX_ID, Todo

GOOD: dict[str, Any] = {
    "id": 7,
    "user_id": 3,
    "title": "Sign the contract",
    "due_on": "2026-05-01T00:00:00.000+05:30",
    "status": "pending",
}

titles = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=1000
)
offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(
    min_value=datetime(3, 1, 1), max_value=datetime(9997, 12, 31), timezones=offsets
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


def fields_at_fault(record: dict[str, Any]) -> set[str]:
    with pytest.raises(ValidationError) as caught:
        Todo.model_validate(record)
    return {str(problem["loc"][0]) for problem in caught.value.errors()}


def test_a_record_of_gorest_is_a_todo_with_its_time_in_utc() -> None:
    todo = Todo.model_validate(GOOD)

    assert todo.model_dump() == {**GOOD, "due_on": datetime(2026, 4, 30, 18, 30, tzinfo=UTC)}
    assert todo.due_on is not None and todo.due_on.utcoffset() == timedelta(0)


def test_a_todo_may_have_no_due_date() -> None:
    assert Todo.model_validate({**GOOD, "due_on": None}).due_on is None


def test_fields_that_are_not_known_are_ignored() -> None:
    record = {**GOOD, "updated_by": {"name": "x"}, "due_time": float("nan")}

    assert Todo.model_validate(record) == Todo.model_validate(GOOD)


@pytest.mark.parametrize("field", list(GOOD))
def test_every_field_must_be_there(field: str) -> None:
    record = {name: value for name, value in GOOD.items() if name != field}

    assert fields_at_fault(record) == {field}


@pytest.mark.parametrize("field", ["id", "user_id"])
@pytest.mark.parametrize(
    "value",
    [0, -1, True, False, 1.0, "1", None, float("nan"), float("inf"), MAX_ID + 1, [1], {"id": 1}],
)
def test_an_id_is_a_positive_whole_number_that_a_column_holds(field: str, value: Any) -> None:
    assert fields_at_fault({**GOOD, field: value}) == {field}


@pytest.mark.parametrize(
    "value", ["", "x" * 1001, "nul \0 inside", "half \ud800 a pair", 5, None, True, ["title"], b"t"]
)
def test_a_title_is_text_that_a_column_holds(value: Any) -> None:
    assert fields_at_fault({**GOOD, "title": value}) == {"title"}


@pytest.mark.parametrize("value", ["done", "Pending", "", None, True, 1, ["pending"]])
def test_a_status_is_one_of_two_words(value: Any) -> None:
    assert fields_at_fault({**GOOD, "status": value}) == {"status"}


@pytest.mark.parametrize(
    "value",
    [
        "2026-05-01",
        "2026-05-01T00:00:00",
        "2026-02-30T00:00:00Z",
        "1700000000",
        1_700_000_000,
        1.7e9,
        True,
        float("nan"),
        "",
        "tomorrow",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "10000-01-01T00:00:00Z",
        ["2026-05-01T00:00:00Z"],
    ],
)
def test_a_due_date_is_a_moment_with_its_offset_and_never_a_number(value: Any) -> None:
    assert fields_at_fault({**GOOD, "due_on": value}) == {"due_on"}


@given(st.integers(1, MAX_ID), st.integers(1, MAX_ID), titles, st.none() | moments)
def test_a_todo_survives_the_ledger(
    number: int, user: int, title: str, due_on: datetime | None
) -> None:
    record = {
        "id": number,
        "user_id": user,
        "title": title,
        "due_on": due_on.isoformat() if due_on else None,
        "status": "completed",
    }
    todo = Todo.model_validate(record)

    assert Todo.model_validate_json(todo.model_dump_json()) == todo
    assert (todo.id, todo.user_id, todo.title, todo.due_on) == (number, user, title, due_on)


@given(moments)
def test_one_moment_written_in_two_ways_is_one_content(moment: datetime) -> None:
    here = Todo.model_validate({**GOOD, "due_on": moment.isoformat()})
    there = Todo.model_validate({**GOOD, "due_on": moment.astimezone(UTC).isoformat()})

    assert here.model_dump_json() == there.model_dump_json()


@given(st.sampled_from(list(GOOD)), anything)
def test_whatever_stands_in_a_field_is_taken_as_it_is_or_refused(field: str, value: Any) -> None:
    try:
        todo = Todo.model_validate({**GOOD, field: value})
    except ValidationError:
        return
    kept = json.loads(todo.model_dump_json())[field]
    assert kept == value and type(kept) is type(value)
