"""The fence: a transaction that ends a job is carried out only while the job is in hand."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import RedisError, WatchError

# For how long it is known that a transaction was carried out whose answer was lost: as long as `claim.lua`
# and `renew.lua` have it known what is in hand, since Redis may be away meanwhile.
MARK_LIFE_S = 86_400


class LeaseLostError(BaseException):
    """The job was given to somebody else; nothing was written. RQ's `except Exception` lets it pass."""


class OutageError(BaseException):
    """Redis did not answer, or refused to write. RQ's code would go on without what is not written."""


@dataclass(frozen=True, slots=True)
class Fence:
    """The job in hand: the key of its execution, and its entry in the started registry."""

    key: str
    entry: tuple[str, str]
    # What the transaction leaves behind.
    mark: str


class FencedPipeline(Pipeline):
    """A transaction that takes an execution away is carried out only while its lease stands.

    It leaves a mark, so that whoever asks again, as the answer was lost, knows that it was carried out.
    """

    fence: Fence | None = None
    marks: list[str]
    again: Callable[[], None] = staticmethod(lambda: None)

    is_ending = False

    def immediate_execute_command(self, *arguments: Any, **options: Any) -> Any:
        ask: Callable[..., Any] = super().immediate_execute_command
        with self._outages():
            return ask(*arguments, **options)

    @contextmanager
    def _outages(self) -> Iterator[None]:
        """While a job is ended, RQ's code is not to take an error for the end."""
        try:
            yield
        except WatchError:
            raise
        except RedisError as error:
            if not self.is_ending:
                raise
            raise OutageError from error

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        if self.fence is None or not self._takes_away(self.fence):
            with self._outages():
                return super().execute(raise_on_error)
        mark = self.fence.mark
        self.set(mark, 1, ex=MARK_LIFE_S)
        stack, is_watched = list(self.command_stack), self.watching
        while True:
            try:
                if self._is_done(self.fence, mark):
                    self.reset()
                    return []
                answers = super().execute(raise_on_error)[:-1]
                self.marks.append(mark)
                return answers
            except WatchError:
                # The parent has renewed the lease in between, or the link was lost.
                if is_watched:
                    # RQ builds it once more.
                    self.again()
                    raise
                self.command_stack = list(stack)
            except RedisError as error:
                # After a fail-over a new connection leads to the new master.
                if self.connection is not None:
                    self.connection.disconnect()
                self.reset()
                raise OutageError from error
            except BaseException:
                self.reset()
                raise

    def _is_done(self, fence: Fence, mark: str) -> bool:
        """False while the lease stands, True if this very transaction has been carried out."""
        ask: Callable[..., Any] = super().immediate_execute_command
        ask("WATCH", fence.key)
        if ask("EXISTS", fence.key) and ask("ZSCORE", *fence.entry) is not None:
            return False
        if not ask("EXISTS", mark):
            raise LeaseLostError
        return True

    def _takes_away(self, fence: Fence) -> bool:
        return any(
            arguments[0] == "DEL" and fence.key in arguments[1:]
            for arguments, _ in self.command_stack
        )


class FencedRedis(Redis):
    """A client whose pipelines mind a fence. `again` undoes what RQ did while it built one in vain.

    `marks` are those of transactions whose answers have come: nobody will ask for them.
    """

    fence: Fence | None = None
    # Whether RQ's last steps for a job are being taken.
    is_ending = False
    # The key of the job in hand.
    job: str | None = None
    again: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.marks: list[str] = []

    def persist(self, name: Any) -> Any:
        """The claim has done it for the job in hand; a Redis that refuses to is no failure of the job."""
        return True if name == self.job else super().persist(name)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        pipeline = FencedPipeline(
            self.connection_pool, self.response_callbacks, transaction, shard_hint
        )
        pipeline.fence, pipeline.again, pipeline.marks = self.fence, self.again, self.marks
        pipeline.is_ending = self.is_ending
        return pipeline
