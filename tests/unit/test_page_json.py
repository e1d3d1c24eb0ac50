"""From bytes to records: what is a page, and that numbers keep every digit."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app_srvc.robots.sources.page_json import MAX_DEPTH, NotAPageError, parse_records

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip


def refusal(body: bytes) -> str:
    with pytest.raises(NotAPageError) as caught:
        parse_records(body)
    return str(caught.value)


@given(st.lists(values))
def test_any_list_is_a_page(records: list[Any]) -> None:
    assert parse_records(json.dumps(records).encode()) == records


@given(st.binary(max_size=200))
def test_any_bytes_are_a_page_or_refused(body: bytes) -> None:
    try:
        assert isinstance(parse_records(body), list)
    except NotAPageError as error:
        assert str(error).startswith("is n")


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[", b'[{"id": 1}, {"id"', b"[1,]", b"[\xff]", b'["\xff"]', b"[1] x", b"['a']"],
)  # fmt: skip
def test_what_is_not_json_is_refused(body: bytes) -> None:
    assert refusal(body).startswith("is not JSON, or breaks off")


@pytest.mark.parametrize("body", [b"{}", b'{"todos": []}', b"null", b"5", b'"text"', b"true"])
def test_json_that_is_not_a_list_is_refused(body: bytes) -> None:
    assert refusal(body).startswith("is not a list of records")


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_constants_that_are_not_json_are_refused_by_name(constant: str) -> None:
    assert refusal(b'[{"id": %s}]' % constant.encode()) == f"is not JSON, since it holds {constant}"


@pytest.mark.parametrize("opening", [b"[", b'[{"a":'])
def test_a_depth_bomb_is_refused(opening: bytes) -> None:
    assert refusal(opening * 100_000).startswith("is nested too deep")


def test_depth_is_limited_far_from_where_recursion_ends() -> None:
    deepest = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH

    assert parse_records(deepest)
    assert refusal(b"[" + deepest + b"]") == f"is nested deeper than {MAX_DEPTH}"
    assert refusal(b"[" + b'{"a":' * 200 + b"1" + b"}" * 200 + b"]").startswith("is nested deeper")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("9007199254740993", 9007199254740993),
        ("-1180591620717411303424", -(2**70)),
        ("0.1", 0.1),
        ("1e3", 1000.0),
        ("-0.0", -0.0),
        ("0.12345678901234567890123", Decimal("0.12345678901234567890123")),
        ("9007199254740993.0", Decimal("9007199254740993.0")),
        ("1e999", Decimal("1e999")),
        ("1e-999", Decimal("1e-999")),
    ],
)
def test_numbers_keep_every_digit(text: str, value: Any) -> None:
    [number] = parse_records(f"[{text}]".encode())

    assert number == value and type(number) is type(value)


@pytest.mark.parametrize("text", ["9" * 5000, "1e99999999999999999999"])
def test_a_number_that_nothing_holds_makes_no_page(text: str) -> None:
    assert refusal(f"[{text}]".encode()).startswith("is not JSON")


def test_no_part_of_the_body_is_in_the_refusal() -> None:
    assert "secret" not in refusal(b'[{"secret": secret}]')
    assert "secret" not in refusal(b'["secret \xff"]')
