"""The table of kinds: everything that this service can do. What is not in it never runs.

Schemas, handlers and effect counters are named by dotted path and imported when they are first
used, so the web process never imports what only a worker needs.
"""

import importlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from app_srvc.errors import UnknownKindError

USRREG = "rdsq_usrreg"
OUTMSG = "rdsq_outmsg"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and when a message is tried again.

    The wait before try n+1 is drawn from 0 to min(`max_delay_s`, `base_delay_s` * 2^(n-1)):
    exponential back-off with full jitter (M. Brooker, "Exponential Backoff And Jitter", AWS
    Architecture Blog, 2015).
    """

    max_tries: int = 5
    base_delay_s: float = 1.0
    max_delay_s: float = 300.0

    def delay_s(self, tries: int, draw: Callable[[float, float], float] = random.uniform) -> float:
        """Seconds to wait after `tries` failed tries."""
        return draw(0.0, min(self.max_delay_s, self.base_delay_s * 2.0 ** (tries - 1)))


@dataclass(frozen=True, slots=True)
class Kind:
    """One thing that the service can do.

    `queue` is the name of the setting that names the queue. `schema` is a pydantic model that every
    payload of this `version` fits. `handler` is `handle(payload, context) -> Effect`. `effects` is
    `count_effects(session) -> int`: how many effects of this kind carry a message's id, for the books.
    `key_field` is the payload's field that people search by. With `isolate`, each run has a process of
    its own: for work that may leak, crash or take memory without end.
    """

    name: str
    version: int
    queue: str
    schema: str
    handler: str
    effects: str
    key_field: str | None = None
    timeout_s: int = 60
    retry: RetryPolicy = RetryPolicy()
    isolate: bool = False


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            Kind(
                name="registration",
                version=1,
                queue=USRREG,
                schema="app_srvc.registration.schemas:Registration",
                handler="app_srvc.registration.handler:handle",
                effects="app_srvc.registration.store:count_effects",
                key_field="login",
            ),
            Kind(
                name="todo",
                version=1,
                queue=OUTMSG,
                schema="app_srvc.todos.schemas:Todo",
                handler="app_srvc.todos.handler:handle",
                effects="app_srvc.todos.store:count_effects",
                key_field="id",
            ),
            Kind(
                name="message",
                version=1,
                queue=OUTMSG,
                schema="app_srvc.inbox.schemas:Document",
                handler="app_srvc.inbox.handler:handle",
                effects="app_srvc.inbox.store:count_effects",
            ),
        )
    }
)


def find_kind(kinds: Mapping[str, Kind], name: str, version: int | None = None) -> Kind:
    """The row of a kind.

    Raises:
        UnknownKindError: This process does not know the kind, or knows only an older version of it.
    """
    kind = kinds.get(name)
    if kind is None or (version is not None and version > kind.version):
        raise UnknownKindError(f"This process does not know kind {name!r}, version {version}.")
    return kind


@cache
def load(path: str) -> Any:
    """The object that a row of the table names as `module:attribute`."""
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)
