"""Probes: is the process alive, has it started, can it work. And the ledger's schema at the start."""

import threading
import time
from collections.abc import Sequence

from flask import Blueprint, Flask, Response, jsonify

from app_srvc.auth import open_to_all
from app_srvc.deadlines import LedgerCalls
from app_srvc.errors import BrokerUnavailableError, LedgerUnavailableError, SchemaBehindError
from app_srvc.logs import get_logger
from app_srvc.migrations import is_current, prepare_schema, schema_revision
from app_srvc.web import EXTENSION, Web, current_web

RETRY_S = 1.0
REMIND_AFTER_S = 30.0
MIGRATION_S = 600.0

blueprint = Blueprint("health", __name__)
log = get_logger(__name__)


@blueprint.get("/health/live")
@open_to_all
def live() -> Response:
    """The process answers, whatever else is away."""
    return jsonify(ok=True)


@blueprint.get("/health/started")
@open_to_all
def started() -> tuple[Response, int]:
    """The ledger's schema is the one that this program needs."""
    return _answer(missing_ledger(current_web()))


@blueprint.get("/health/ready")
@open_to_all
def ready() -> tuple[Response, int]:
    """Whether requests can be served, and what is missing.

    Without Redis they can: messages are accepted, and dispatched once it is back.
    """
    web = current_web()
    missing = missing_ledger(web)
    return _answer(missing, also_missing=missing_redis(web))


@blueprint.get("/api/health")
@open_to_all
def original_health() -> Response:
    return jsonify(ok=True, app_title=current_web().runtime.settings.app_title)


def missing_ledger(web: Web) -> list[str]:
    """`database` if it can't be reached, `schema` if it is not (yet) the one needed."""
    try:
        revision = web.call_ledger(lambda: schema_revision(web.runtime.database))
    except LedgerUnavailableError:
        return ["database"]
    return [] if is_current(revision) else ["schema"]


def missing_redis(web: Web) -> list[str]:
    try:
        web.broker.run(web.runtime.redis.ping, is_probe=True)
    except BrokerUnavailableError:
        return ["redis"]
    return []


def prepare_ledger_in_background(app: Flask) -> None:
    """Bring the schema up to date, or wait until it is, once the database is there.

    The web part serves meanwhile, and its probes say what is missing.
    """
    web: Web = app.extensions[EXTENSION]
    threading.Thread(target=_prepare_ledger, args=(web,), name="migrate", daemon=True).start()


def _prepare_ledger(web: Web) -> None:
    ledger = LedgerCalls(is_sqlite=web.runtime.database.is_sqlite, threads=1)
    reminded_at: float | None = None
    while True:
        try:
            behind = ledger.run(lambda: _look_or_upgrade(web), timeout_s=MIGRATION_S)
            if behind is None:
                if reminded_at is not None:
                    log.info("schema_found")
                return
            if reminded_at is None or time.monotonic() - reminded_at > REMIND_AFTER_S:
                reminded_at = time.monotonic()
                log.warning("schema_awaited", found=behind.found, needed=behind.needed)
        except LedgerUnavailableError:
            pass  # whoever made the call has logged it
        except Exception:
            # Another version may be at it; the probes go on saying that the schema is missing.
            log.exception("migration_failed")
        time.sleep(RETRY_S)


def _look_or_upgrade(web: Web) -> SchemaBehindError | None:
    """What is to be waited for, if the schema is somebody else's work; that is no outage."""
    try:
        may_upgrade = web.runtime.settings.db_upgrade_at_start
        prepare_schema(web.runtime.database, may_upgrade=may_upgrade)
    except SchemaBehindError as error:
        return error
    return None


def _answer(needed: Sequence[str], *, also_missing: Sequence[str] = ()) -> tuple[Response, int]:
    """503 if something that is needed is missing; what is missing besides is only named."""
    missing = [*needed, *also_missing]
    return jsonify(ok=not needed, missing=missing), 503 if needed else 200
