"""Brings the prototype's users into ours: each row becomes a message that is done, and its user.

A row is written whole or not at all: its dedupe key (`legacy:<iduser>`), its message, the receipt of
its batch and its user are one transaction, so the books balance at every moment, and a run that was
interrupted is made complete by the next one. Rows are not sent through the queue: their time and their
status are kept, and whoever runs the import learns at once which rows cannot come.

A row that our schema refuses, or whose login has a user already, is told and leaves nothing behind:
once it is mended in the prototype's table, the next run brings it in. Of rows with one login the first
one, by `iduser`, is taken.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

import phonenumbers
from pydantic import BaseModel
from sqlalchemy import exc as sa_exc
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from app_srvc.errors import AppError, InvalidValueError
from app_srvc.kinds import find_kind
from app_srvc.logs import get_logger
from app_srvc.messages.accept import (
    Accepted,
    Draft,
    content_digest,
    insert_drafts,
    validate_payload,
)
from app_srvc.messages.model import DedupeKey
from app_srvc.registration.legacy_source import LegacyRow, LegacySource
from app_srvc.registration.model import User
from app_srvc.runtime import Runtime

KIND = "registration"
CORRELATION_ID = "legacy-import"
PAGE = 500
# Somebody may register a login between our look and our write; the next look sees it.
TRIES_OF_PAGE = 5

# For our field names, the prototype's columns.
NAMES = {
    "first_name": "firstname",
    "last_name": "lastname",
    "login": "login",
    "email": "email",
    "phone": "phone",
}
REFUSED, CHANGED = "refused", "changed"
OPEN = "O"

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Finding:
    """A row that a person should look at. Says nothing personal.

    `what` is `refused`, or `changed`: it was imported before, and is another one now.
    """

    iduser: int
    what: str
    column: str
    problem: str


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the rows; the four others add up to `read`."""

    read: int = 0
    imported: int = 0
    already_there: int = 0
    changed: int = 0
    refused: int = 0

    def plus(self, other: "Counts") -> "Counts":
        return Counts(
            self.read + other.read,
            self.imported + other.imported,
            self.already_there + other.already_there,
            self.changed + other.changed,
            self.refused + other.refused,
        )


@dataclass(frozen=True, slots=True)
class Options:
    """How to read the prototype's table.

    `phone_region` is the country (`UA`) of numbers that were written without one; None refuses them.
    With `is_dry_run` nothing is written.
    """

    zone: tzinfo = UTC
    phone_region: str | None = None
    is_dry_run: bool = False


class LegacyImport:
    """One run. `counts` says what became of the rows so far, also after an error."""

    def __init__(self, runtime: Runtime, options: Options, tell: Callable[[Finding], None]) -> None:
        self._runtime = runtime
        self._options = options
        self._tell = tell
        self._kind = find_kind(runtime.kinds, KIND)
        # In a dry run nothing is written, so the logins of pages before are kept, 8 bytes of each.
        self._logins_before: set[int] = set()
        self.counts = Counts()

    def run(self) -> None:
        """Import every row that can come.

        Raises:
            LegacySourceError: The prototype's table cannot be read.
            LedgerUnavailableError: The ledger cannot be written. What was imported stays.
        """
        url = self._runtime.settings.effective_legacy_url.get_secret_value()
        source = LegacySource(url, zone=self._options.zone)
        try:
            source.check()
            for page in source.pages(PAGE):
                self._take(page)
        finally:
            source.close()
            counts = self.counts
            log.info(
                "legacy_users_imported",
                dry_run=self._options.is_dry_run,
                read=counts.read,
                imported=counts.imported,
                already_there=counts.already_there,
                changed=counts.changed,
                refused=counts.refused,
            )

    # --- a page -----------------------------------------------------------------------------------

    def _take(self, page: Sequence[LegacyRow]) -> None:
        for left in reversed(range(TRIES_OF_PAGE)):
            try:
                findings, imported = self._write(page)
                break
            except sa_exc.IntegrityError:
                if not left:
                    raise
        refused = sum(finding.what == REFUSED for finding in findings)
        changed = len(findings) - refused
        already = len(page) - imported - len(findings)
        self.counts = self.counts.plus(Counts(len(page), imported, already, changed, refused))
        for finding in findings:
            self._tell(finding)

    def _write(self, page: Sequence[LegacyRow]) -> tuple[list[Finding], int]:
        """The findings of a page, and how many of its rows are new users."""
        database = self._runtime.database
        is_dry_run = self._options.is_dry_run
        with database.snapshot() if is_dry_run else database.write() as session:
            findings, fresh = self._sort(session, page)
            if is_dry_run:
                self._logins_before.update(hash(one.login) for one in fresh)
                return findings, len(fresh)
            now = datetime.now(UTC)
            answers = insert_drafts(
                database, session, [one.draft for one in fresh], now=now, are_done=True
            )
            users = [
                one.user_row(answer.message_id, now)
                for one, answer in zip(fresh, answers, strict=True)
                if isinstance(answer, Accepted) and not answer.is_duplicate
            ]
            if users:
                session.execute(insert(User), users)
        # Another run may have been quicker with some.
        findings += [
            _changed(one.row)
            for one, answer in zip(fresh, answers, strict=True)
            if isinstance(answer, AppError)
        ]
        return findings, len(users)

    def _sort(
        self, session: Session, page: Sequence[LegacyRow]
    ) -> tuple[list[Finding], list["_Newcomer"]]:
        """What is wrong with rows of a page, and those that are new."""
        known = _known_digests(session, page)
        findings: list[Finding] = []
        valid: list[_Newcomer] = []
        for row in page:
            if (digest := known.get(_dedupe(row))) is not None:
                findings += [] if digest == _digest(row) else [_changed(row)]
                continue
            try:
                valid.append(self._check(row))
            except InvalidValueError as error:
                findings.append(Finding(row.iduser, REFUSED, error.field, error.problem))
        taken = _taken_logins(session, [one.login for one in valid])
        fresh: list[_Newcomer] = []
        for one in valid:
            if one.login in taken or hash(one.login) in self._logins_before:
                findings.append(Finding(one.row.iduser, REFUSED, "login", "has a user already"))
                continue
            taken.add(one.login)
            fresh.append(one)
        return findings, fresh

    def _check(self, row: LegacyRow) -> "_Newcomer":
        fields = {ours: getattr(row, theirs) for ours, theirs in NAMES.items()}
        fields["phone"] = self._with_country(row.phone)
        missing = [NAMES[name] for name, value in fields.items() if value is None]
        if missing:
            raise InvalidValueError(missing[0], "is empty")
        payload = validate_payload(self._kind, fields, names=NAMES)
        values = payload.model_dump()
        draft = Draft(
            kind=self._kind,
            queue=self._runtime.queue_of(self._kind),
            payload=payload.model_dump_json(),
            key=values["login"],
            dedupe=_dedupe(row),
            digest=_digest(row),
            correlation_id=CORRELATION_ID,
        )
        return _Newcomer(row, draft, payload)

    def _with_country(self, phone: str | None) -> str | None:
        """The number with its country, if it can be one of the region; else as it came."""
        region = self._options.phone_region
        if phone is None or region is None:
            return phone
        try:
            number = phonenumbers.parse(phone, region)
        except phonenumbers.NumberParseException:
            return phone
        return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


@dataclass(frozen=True, slots=True)
class _Newcomer:
    """A row that may come in."""

    row: LegacyRow
    draft: Draft
    payload: BaseModel

    @property
    def login(self) -> str:
        return self.draft.key or ""

    def user_row(self, message_id: str, now: datetime) -> dict[str, Any]:
        return {
            **self.payload.model_dump(),
            "status": (self.row.status or "").strip() or OPEN,
            "created_at": self.row.made_at or now,
            "message_id": message_id,
        }


def _dedupe(row: LegacyRow) -> str:
    return f"legacy:{row.iduser}"


def _digest(row: LegacyRow) -> str:
    """Of what a person may have changed in the prototype since."""
    fields = [row.firstname, row.lastname, row.login, row.email, row.phone, row.status]
    return content_digest(json.dumps(fields))


def _changed(row: LegacyRow) -> Finding:
    return Finding(row.iduser, CHANGED, "", "was imported, and was changed there afterwards")


def _known_digests(session: Session, page: Sequence[LegacyRow]) -> dict[str, str]:
    query = select(DedupeKey.dedupe, DedupeKey.digest).where(
        DedupeKey.kind == KIND, DedupeKey.dedupe.in_([_dedupe(row) for row in page])
    )
    return {row.dedupe: row.digest for row in session.execute(query)}


def _taken_logins(session: Session, logins: Sequence[str]) -> set[str]:
    return set(session.execute(select(User.login).where(User.login.in_(logins))).scalars())
