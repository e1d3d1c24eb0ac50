"""The keeper: the housekeeping threads of a worker's parent.

Each step runs in a thread of its own, so that a slow one delays no other. Any number of keepers may
run: every step may be repeated, and a pass is taken by `SET app:keeper:<step> NX PX`, so that one at a
time pays for it.
"""

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

from redis import Redis
from redis.exceptions import RedisError

from app_srvc.errors import AppError, BrokerUnavailableError
from app_srvc.logs import get_logger
from app_srvc.messages.pauses import restore_pauses
from app_srvc.messages.relay import Relay
from app_srvc.messages.retention import add_up_receipts, purge_ended, purge_idempotency_keys
from app_srvc.messages.sweep import Sweep
from app_srvc.robots.watchdog import Watchdog
from app_srvc.runtime import Runtime
from app_srvc.workers.lease.housekeeping import LATE_AFTER_S
from app_srvc.workers.outage import Outage
from app_srvc.workers.promoter import Promoter
from app_srvc.workers.rescue import Rescue
from app_srvc.workers.trim import Trimmer

# A pass is reserved for a little less than the interval: the holder's own next turn is never too early.
RESERVED = 0.9
SWEEP_STEP_S = 0.25
SWEEP_REST_S = 30.0
# Longer than it rests. Several walks at once would each be slower, and each know all waiting jobs.
SWEEP_HOLD_S = 40.0
# The ledger is tidied in batches; while there is more to do, the next one comes soon.
TIDY_SOON_S = 1.0

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do again and again. `run` returns how long to rest, or None for the interval.

    `on_outage` is called before the first turn after Redis was away, or this process was held up: what
    Redis says of who lives may be old. An outage may be no error: a client that tries again by itself
    only takes long. A step with `hold_s` remembers where it was, so it stays with the keeper that has it,
    until that has been silent for so long.
    """

    name: str
    interval_s: float
    run: Callable[[], float | None]
    first_after_s: float = 0.0
    on_outage: Callable[[], None] = lambda: None
    hold_s: float = 0.0


class Keeper:
    """Runs steps until it is stopped. A step that fails is logged, rests up to 2 s, and goes on."""

    def __init__(self, client: Redis, steps: Sequence[Step]) -> None:
        self._client = client
        self._token = uuid4().hex.encode()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._keep, args=(step,), name=f"keeper-{step.name}", daemon=True
            )
            for step in steps
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()
        log.info("keeper_started", steps=len(self._threads))

    def stop(self, timeout_s: float = 2.0) -> None:
        """Let steps end what they do; one that takes longer is left to the end of the process."""
        self._stop.set()
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, until - time.monotonic()))

    def is_alive(self) -> bool:
        return all(thread.is_alive() for thread in self._threads)

    def _keep(self, step: Step) -> None:
        outage = Outage("keeper_step", step=step.name)
        rest_s = step.first_after_s
        due_at = time.monotonic() + rest_s
        while not self._stop.wait(rest_s):
            began = time.monotonic()
            try:
                rest_s = self._turn(step, due_at)
                outage.over()
            except (RedisError, BrokerUnavailableError) as error:
                # However soon the next turn is, it comes too late for what this one was to see.
                rest_s, began = outage.failed(error), -math.inf
            except (AppError, OSError) as error:
                rest_s = outage.failed(error)
            except Exception as error:
                # A mistake of ours must not end the housekeeping of everything else.
                log.exception("keeper_step_broke", step=step.name)
                rest_s = max(step.interval_s, outage.failed(error))
            # From the beginning: a turn during which Redis was away makes the next one late.
            due_at = began + rest_s

    def _turn(self, step: Step, due_at: float) -> float:
        is_ours = self._reserve(step)
        if time.monotonic() - due_at > LATE_AFTER_S:
            step.on_outage()
        if not is_ours:
            return step.interval_s
        rest_s = step.run()
        return step.interval_s if rest_s is None else rest_s

    def _reserve(self, step: Step) -> bool:
        key, reserved_s = f"app:keeper:{step.name}", step.hold_s or step.interval_s * RESERVED
        is_held = step.hold_s > 0 and self._client.get(key) == self._token
        reserved_ms = max(1, int(reserved_s * 1000))
        return bool(self._client.set(key, self._token, nx=not is_held, px=reserved_ms))


def make_keeper(runtime: Runtime) -> Keeper:
    """The keeper of this service, with every step that it needs."""
    return Keeper(runtime.redis, make_steps(runtime))


def make_steps(runtime: Runtime) -> list[Step]:
    settings, queues = runtime.settings, runtime.settings.queue_names
    relay, watchdog = Relay(runtime), Watchdog(runtime)
    sweep = Sweep(runtime, relay)
    promoter = Promoter(runtime.redis, queues)
    rescue = Rescue(
        runtime.redis,
        queues,
        life_s=settings.job_failure_ttl_s,
        settle_messages=relay.settle,
        settle_cycles=watchdog.run_pass,
    )
    trimmer = Trimmer(
        runtime.redis,
        queues,
        cancelled_life_s=settings.job_failure_ttl_s,
        forget=runtime.dispatcher.forget,
    )

    def sweep_on() -> float:
        return SWEEP_REST_S if sweep.step() else SWEEP_STEP_S

    def tidy_ledger() -> float | None:
        now = datetime.now(UTC)
        batches = purge_ended(runtime, now), add_up_receipts(runtime, now)
        purge_idempotency_keys(runtime, now)
        return TIDY_SOON_S if any(batches) else None

    return [
        Step("promote", 0.1, _always(promoter.promote)),
        Step("rescue", 1.0, _always(rescue.run_pass), on_outage=rescue.on_outage),
        Step("pauses", 1.0, _always(partial(restore_pauses, runtime))),
        Step("relay", 1.0, _always(relay.run_pass)),
        Step("watchdog", 2.0, _always(watchdog.run_pass)),
        Step("sweep", SWEEP_STEP_S, sweep_on, first_after_s=SWEEP_REST_S, hold_s=SWEEP_HOLD_S),
        Step("trim", 60.0, _always(trimmer.run_pass), first_after_s=10.0),
        Step("retention", 60.0, tidy_ledger, first_after_s=10.0),
    ]


def _always(run: Callable[[], object]) -> Callable[[], None]:
    """A step that rests for its interval, whatever it found."""

    def run_and_rest() -> None:
        run()

    return run_and_rest
