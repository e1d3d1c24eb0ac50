"""The slow walk over all messages to be done, for what a part of Redis has lost.

A pass of the relay trusts what it has once seen in this epoch. A lost write of a fail-over, an evicted
hash or a deleted list would stay unseen, so this walk compares every row with Redis, a page at a time.
"""

from app_srvc.logs import get_logger
from app_srvc.messages import store
from app_srvc.messages.dispatch import JobFact, Look
from app_srvc.messages.relay import Relay
from app_srvc.runtime import Runtime

PAGE = 1_000

log = get_logger(__name__)


class Sweep:
    """Walks the confirmed rows in order; the keeper calls `step` and rests in between."""

    def __init__(self, runtime: Runtime, relay: Relay) -> None:
        self._runtime = runtime
        self._relay = relay
        self._after_seq = 0
        self._up_to_seq = 0
        self._waiting: dict[str, set[int]] = {}

    def step(self) -> bool:
        """Compare the next page with Redis; True when the walk has come to its end.

        A row is a suspect when its job is gone, or is said to be queued and was not in its list when
        the walk began. Suspects are settled, which looks at each exactly.
        """
        if self._after_seq == 0:
            self._begin()
        epoch = self._relay.current_epoch()
        with self._runtime.database.read() as session:
            page = store.list_confirmed(
                session,
                epoch=epoch,
                after_seq=self._after_seq,
                up_to_seq=self._up_to_seq,
                limit=PAGE,
            )
        if not page:
            self._after_seq = 0
            self._waiting = {}
            return True
        self._after_seq = page[-1][0]
        _, facts = self._runtime.dispatcher.probe([(id, queue) for _, id, queue in page])
        suspects = [
            (id, queue)
            for (_, id, queue), fact in zip(page, facts, strict=True)
            if self._is_suspect(id, queue, fact)
        ]
        if suspects:
            self._settle(suspects)
        return False

    def _begin(self) -> None:
        with self._runtime.database.read() as session:
            self._up_to_seq = store.newest_seq(session)
        self._waiting = {}

    def _settle(self, suspects: list[tuple[str, str]]) -> None:
        """Look at the lists once more, since a job may have come back to its list, and settle the rest.

        The lists are read in pieces here; to look for each id inside Redis would block it for others.
        """
        for queue in {queue for _, queue in suspects}:
            self._waiting[queue] = self._runtime.dispatcher.waiting_ids(queue)
        missing = [id for id, queue in suspects if hash(id) not in self._waiting[queue]]
        if missing:
            relayed = self._relay.settle(missing, look=Look.ABSENT)
            log.info("sweep_settled", suspects=len(missing), relayed=relayed)

    def _is_suspect(self, id: str, queue: str, fact: JobFact) -> bool:
        if fact.status != "queued":
            return not fact.is_live
        if queue not in self._waiting:
            self._waiting[queue] = self._runtime.dispatcher.waiting_ids(queue)
        return hash(id) not in self._waiting[queue]
