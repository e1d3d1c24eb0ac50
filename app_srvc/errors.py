"""Every error that crosses a module border, in one tree.

An error's docstring is its default message: it names the situation, not the layer that noticed it.
"""

from collections.abc import Sequence


class AppError(Exception):
    """Something went wrong."""

    def __init__(self, message: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        super().__init__(self.message)


class ConfigurationError(AppError):
    """The settings are not usable.

    `problems` has one sentence for each setting that is wrong: what was expected, what was found
    (never a secret), and what to do about it.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class LedgerUnavailableError(AppError):
    """The database cannot be reached now; nothing was promised."""


class SchemaBehindError(LedgerUnavailableError):
    """The database's schema is older than this program needs."""

    def __init__(self, found: str | None, needed: str) -> None:
        self.found = found
        self.needed = needed
        super().__init__(
            f"The database's schema is at revision {found or 'none'}, and {needed} is needed: "
            "waiting for `app-srvc db upgrade`."
        )


class BrokerUnavailableError(AppError):
    """Redis cannot be reached now."""


class InvalidValueError(AppError):
    """A value that came in is missing or out of range.

    `field` is the name the caller used; `code` is `NoKey` for a missing value, else
    `OutOfRangeValue`.
    """

    def __init__(self, field: str, problem: str, code: str = "OutOfRangeValue") -> None:
        self.field = field
        self.problem = problem
        self.code = code
        super().__init__(f"{field}: {problem}")


class MalformedBodyError(AppError):
    """The body of the request cannot be parsed."""


class UnsupportedMediaTypeError(AppError):
    """The content type of the request is not one that this address takes."""


class UnknownKindError(AppError):
    """There is no kind of message of that name and version in this process."""


class UnknownQueueError(AppError):
    """There is no queue of that name."""


class UnknownMessageError(AppError):
    """There is no message of that id."""


class MessageStateError(AppError):
    """The message is not in a state in which that can be done."""


class IdempotencyConflictError(AppError):
    """The same idempotency key was used before with another body."""


class PermanentError(AppError):
    """Raised by a handler: the message cannot succeed, however often it is tried.

    `reason` is a stable word for programs (`login_taken`); the message is for people.
    """

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class UnknownRobotError(AppError):
    """There is no robot of that name."""


class RobotAlreadyRunningError(AppError):
    """The robot is running already; nothing was changed."""


class SourceUnavailableError(AppError):
    """The source of a robot cannot be reached, or refuses to answer now.

    `retry_after_s` is what the source asked for, in seconds, if it did.
    """

    def __init__(self, message: str | None = None, retry_after_s: float | None = None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class SourcePageError(AppError):
    """The source answered with a page that does not parse."""


class FenceLostError(AppError):
    """Another process owns this piece of work now; nothing was written."""


class DataDirInUseError(AppError):
    """Another app-srvc already runs on this data folder."""


class EmbeddedServerError(AppError):
    """The embedded Valkey cannot be started."""


class PortInUseError(AppError):
    """The port of the web part is in use already."""
