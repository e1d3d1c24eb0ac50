"""The lease of a cycle: renewed while its process lives, so that a dead one can be told from a slow one."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from app_srvc.errors import LedgerUnavailableError
from app_srvc.logs import get_logger
from app_srvc.robots import store
from app_srvc.runtime import Runtime

LEASE_S = 9.0
RENEW_EVERY_S = 3.0

log = get_logger(__name__)


@contextmanager
def kept_lease(runtime: Runtime, cycle_key: tuple[str, int, int], owner: str) -> Iterator[None]:
    """Renew the lease every 3 s from a thread until the block ends.

    A renewal that fails is tried again; whether the cycle may still write is not decided here but by
    the fence in each of its transactions.
    """
    is_over = threading.Event()
    thread = threading.Thread(
        target=_renew, args=(runtime, cycle_key, owner, is_over), name="cycle-lease", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(timeout=RENEW_EVERY_S)


def _renew(
    runtime: Runtime, cycle_key: tuple[str, int, int], owner: str, is_over: threading.Event
) -> None:
    while not is_over.wait(RENEW_EVERY_S):
        try:
            with runtime.database.write() as session:
                until = runtime.database.now(session) + timedelta(seconds=LEASE_S)
                if not store.renew_lease(session, cycle_key, owner, until):
                    return
        except LedgerUnavailableError as error:
            log.warning(
                "cycle_lease_not_renewed",
                robot=cycle_key[0],
                cycle=cycle_key[2],
                cause=error.message,
            )
