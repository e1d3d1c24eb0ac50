"""What a registration must look like."""

from typing import Any

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app_srvc.registration.schemas import Registration

GOOD: dict[str, Any] = {
    "first_name": "Олена",
    "last_name": "O'Коваль",
    "login": "okoval",
    "email": "olena@example.org",
    "phone": "+380 44 123-45-67",
}


def test_a_good_registration_is_normalised() -> None:
    made = Registration.model_validate(
        {**GOOD, "email": "Olena.K@Example.ORG", "first_name": " Oл "}
    )
    assert made.email == "Olena.K@example.org"
    assert made.phone == "+380441234567"
    assert made.first_name == "Oл"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("first_name", ""),
        ("first_name", "x" * 36),
        ("first_name", "a\x00b"),
        ("first_name", "a\nb"),
        ("first_name", "\ud800"),
        ("first_name", 5),
        ("first_name", None),
        ("last_name", "   "),
        ("login", "x"),
        ("login", "with space"),
        ("login", "a" * 36),
        ("email", "nobody"),
        ("email", "a@b"),
        ("email", "a@@example.org"),
        ("email", "a..b@example.org"),
        ("email", "a@exa mple.org"),
        ("email", "a@example.org\n.evil"),
        ("email", ["a@example.org"]),
        ("phone", "0441234567"),
        ("phone", "+380"),
        ("phone", "call me"),
        ("phone", 380441234567),
    ],
)
def test_what_is_wrong_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        Registration.model_validate({**GOOD, field: value})
    assert [error["loc"] for error in caught.value.errors()] == [(field,)]


@given(
    local=st.text("abcXYZ019._+-'\"@ é", max_size=12) | st.text("ab", min_size=62, max_size=66),
    domain=st.sampled_from(
        ["example.org", "EXAMPLE.org", "пошта.укр", "a", "a.b", "-x.org", "x..org", "", "[1.2.3.4]"]
    ),
)
def test_the_quick_way_to_check_an_address_agrees_with_the_library(local: str, domain: str) -> None:
    address = f"{local}@{domain}"
    try:
        expected = validate_email(address.strip(), check_deliverability=False).normalized
    except EmailNotValidError:
        expected = None
    try:
        found = Registration.model_validate({**GOOD, "email": address}).email
    except ValidationError:
        found = None
    assert found == expected
