"""Deferred dispatch: what an action wants done in Redis is kept until its transaction is over.

A web process runs a transaction under a deadline, on SQLite in another thread, where the links to
Redis can't be used. The action does not know: it is given this in the dispatcher's place.
"""

from collections.abc import Callable, Sequence

from app_srvc.messages.dispatch import Dispatcher, JobSpec


class DeferredDispatch(Dispatcher):
    """Takes what an action would tell the dispatcher, and tells it when asked to.

    Only what needs no answer can be deferred; an action that wants one finds no link here.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._steps: list[Callable[[], object]] = []

    def try_dispatch(self, jobs: Sequence[JobSpec]) -> bool:
        self._steps.append(lambda: self._dispatcher.try_dispatch(jobs))
        return True

    def try_forget(self, jobs: Sequence[tuple[str, str]]) -> None:
        self._steps.append(lambda: self._dispatcher.try_forget(jobs))

    def try_forget_waiting(self, id: str, queue: str) -> None:
        self._steps.append(lambda: self._dispatcher.try_forget_waiting(id, queue))

    def carry_out(self) -> None:
        for step in self._steps:
            step()
