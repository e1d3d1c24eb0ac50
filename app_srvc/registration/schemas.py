"""What a registration must look like."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any

import phonenumbers
from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

# The original's form field names, and ours.
FORM_FIELDS: Mapping[str, str] = {
    "szFirstName": "first_name",
    "szLastName": "last_name",
    "szLogin": "login",
    "szEmail": "email",
    "szPhone": "phone",
}


# The dot-atom of RFC 5321, section 4.1.2, without the characters that are rare and need a closer look.
PLAIN_LOCAL_PART = re.compile(r"(?=.{1,64}$)[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*")


def _printable(text: str) -> str:
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ValueError("must not contain control characters")
    return text


def _email(text: str) -> str:
    """The address as RFC 5321 has it: the domain in lower case, the local part as it came.

    Most local parts are plain, and most domains come again: those are looked up, not worked out.
    """
    local, _, domain = text.rpartition("@")
    if PLAIN_LOCAL_PART.fullmatch(local):
        return f"{local}@{_domain(domain)}"
    return _validated(text)


@lru_cache(maxsize=4096)
def _domain(name: str) -> str:
    """The domain of an address in its normal form. Raises ValueError if it can't be one."""
    return _validated(f"a@{name}").rpartition("@")[2]


def _validated(address: str) -> str:
    try:
        return validate_email(address, check_deliverability=False).normalized
    except EmailNotValidError as error:
        raise ValueError("must be an e-mail address, such as name@example.org") from error


def _phone(text: str) -> str:
    """The number in E.164 form: a plus sign, the country and the number, no spaces."""
    try:
        number = phonenumbers.parse(text, None)
    except phonenumbers.NumberParseException as error:
        raise ValueError(
            "must be a phone number with its country, such as +380441234567"
        ) from error
    if not phonenumbers.is_possible_number(number):
        raise ValueError("must be a phone number with its country, such as +380441234567")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=35, strict=True),
    AfterValidator(_printable),
]
Login = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True,
        min_length=2,
        max_length=35,
        pattern=r"^[A-Za-z0-9._@-]+$",
        strict=True,
    ),
]
Email = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=254, strict=True),
    AfterValidator(_email),
]
Phone = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=32, strict=True),
    AfterValidator(_phone),
]


class Registration(BaseModel):
    """A person who wants to be a user: names of 1 to 35 characters, a login, an e-mail and a phone."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    first_name: Name
    last_name: Name
    login: Login
    email: Email
    phone: Phone


def from_form(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The payload for a form or a JSON body that uses the original's field names."""
    return {ours: fields[theirs] for theirs, ours in FORM_FIELDS.items() if theirs in fields}
