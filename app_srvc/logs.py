"""Logs: events with fields, one line each, on standard error.

`get_logger(__name__).info("job_finished", job_id=…, duration_s=…)`: the event is a stable name in
the past tense, and everything else is a field. What holds for a whole request or job (its id, the
robot, the cycle) is bound once, with `log_context`, and stands in every line inside.
"""

import json
import logging
import re
import sys
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from app_srvc.settings import Settings

MASK = "***"
_PLAIN = (bool, int, float, type(None))

# Libraries that bring handlers of their own, which would write past the renderer.
_WITH_OWN_HANDLERS = ("rq", "rq.worker", "rq.scheduler", "gunicorn.error")

_SECRET_NAME = re.compile(r"passw|token|secret|authorization|psw|cookie", re.IGNORECASE)
# As far as the last @ of the word: a password that was not quoted may itself hold / and @.
_URL_CREDENTIALS = re.compile(r"(://)[^\s\"']*@")
_URL_SECRET_OPTION = re.compile(
    r"([?&][^=&\s]*(?:passw|token|secret|psw)[^=&\s]*=)[^&\s\"']*", re.I
)
_BEARER = re.compile(r"\b(Bearer|Basic) +\S+", re.IGNORECASE)


def get_logger(name: str) -> FilteringBoundLogger:
    """Return the logger of a module. It is cheap to keep, and configured when it is first used."""
    logger: FilteringBoundLogger = structlog.get_logger(name)
    return logger


def log_context(**fields: object) -> AbstractContextManager[None]:
    """Put fields into every line that this thread or greenlet writes inside the `with` block."""
    return structlog.contextvars.bound_contextvars(**fields)


def configure_logs(settings: Settings) -> None:
    """Set up this process's logs, those of the libraries too, which are heard from WARNING on.

    Call it once, as early as there are settings; a logger that has been used keeps the set-up it
    was used with.
    """
    renderer = _renderer(settings)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            *_COMMON,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        logger_factory=_StandardError,
        cache_logger_on_first_use=True,
    )
    _route_standard_logging(renderer)


def mask_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Take passwords, tokens and the like out of an event, by field name and by shape of text."""
    # Most fields are short text without a mark of a secret: this loop is what a line costs.
    for name, value in event.items():
        if _is_secret_name(name):
            event[name] = MASK
        elif type(value) is str:
            if "://" in value or "earer " in value or "asic " in value:
                event[name] = mask_text(value)
        elif not isinstance(value, _PLAIN) and not name.startswith("_"):
            event[name] = _masked(name, value)
    return event


_COMMON: tuple[Processor, ...] = (
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
    # After the tracebacks have become text: the message of an error may quote a URL.
    mask_secrets,
)


def _masked(name: str, value: Any) -> Any:
    if _is_secret_name(name):
        return MASK
    if isinstance(value, dict):
        return {str(key): _masked(str(key), inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked("", inner) for inner in value]
    # Anything else, such as an exception, is written as its text.
    return value if isinstance(value, _PLAIN) else mask_text(str(value))


def mask_text(text: str) -> str:
    """Take credentials out of the URLs and headers that a text quotes."""
    text = _URL_CREDENTIALS.sub(rf"\1{MASK}@", text)
    text = _URL_SECRET_OPTION.sub(rf"\1{MASK}", text)
    return _BEARER.sub(rf"\1 {MASK}", text)


@lru_cache(maxsize=1024)
def _is_secret_name(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def _renderer(settings: Settings) -> Processor:
    on_terminal = sys.stderr.isatty()
    if settings.log_format == "json" or (settings.log_format == "auto" and not on_terminal):
        return _as_json
    return structlog.dev.ConsoleRenderer(
        colors=on_terminal, exception_formatter=structlog.dev.plain_traceback
    )


def _as_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    first = {name: event.pop(name) for name in ("timestamp", "level", "event")}
    return _encode({**first, **event})


_encode = json.JSONEncoder(default=str).encode  # made once: json.dumps makes one for each call


class _StandardError:
    """Writes a line in one piece, so that lines of threads and processes do not mix."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def msg(self, line: str) -> None:
        # Looked up each time: a process that forks, or a test, may have put another in its place.
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    debug = info = warning = error = critical = exception = msg


def _route_standard_logging(renderer: Processor) -> None:
    handler = _StandardErrorHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.contextvars.merge_contextvars,
                structlog.stdlib.add_log_level,
                *_COMMON,
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one, _StandardErrorHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in _WITH_OWN_HANDLERS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(logging.WARNING)
        logger.propagate = True


class _StandardErrorHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            _StandardError().msg(self.format(record))
        except Exception:
            self.handleError(record)
