"""The fence: a transaction that ends a job is carried out only while the job is in hand."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import ConnectionError as LinkError
from redis.exceptions import TimeoutError as SilenceError
from redis.exceptions import WatchError


class LeaseLostError(BaseException):
    """The job was given to somebody else; nothing was written. RQ's `except Exception` lets it pass."""


class OutageError(BaseException):
    """Redis did not answer; nobody knows whether the job was ended. RQ's code lets it pass."""


@dataclass(frozen=True, slots=True)
class Fence:
    """The job in hand: the key of its execution, and its entry in the started registry."""

    key: str
    entry: tuple[str, str]


class FencedPipeline(Pipeline):
    """A transaction that takes an execution away is carried out only while its lease stands."""

    fence: Fence | None = None
    again: Callable[[], None] = staticmethod(lambda: None)

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        if self.fence is None or not self._takes_away(self.fence):
            return super().execute(raise_on_error)
        stack, is_watched = list(self.command_stack), self.watching
        while True:
            try:
                self._check(self.fence)
                return super().execute(raise_on_error)
            except WatchError:
                # The parent has renewed the lease in between.
                if is_watched:
                    # RQ builds it once more.
                    self.again()
                    raise
                self.command_stack = list(stack)
            except (LinkError, SilenceError) as error:
                self.reset()
                raise OutageError from error
            except BaseException:
                self.reset()
                raise

    def _check(self, fence: Fence) -> None:
        ask: Callable[..., Any] = self.immediate_execute_command
        ask("WATCH", fence.key)
        if not ask("EXISTS", fence.key) or ask("ZSCORE", *fence.entry) is None:
            raise LeaseLostError

    def _takes_away(self, fence: Fence) -> bool:
        return any(
            arguments[0] == "DEL" and fence.key in arguments[1:]
            for arguments, _ in self.command_stack
        )


class FencedRedis(Redis):
    """A client whose pipelines mind a fence. `again` undoes what RQ did while it built one in vain."""

    fence: Fence | None = None
    again: Callable[[], None] = staticmethod(lambda: None)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        pipeline = FencedPipeline(
            self.connection_pool, self.response_callbacks, transaction, shard_hint
        )
        pipeline.fence, pipeline.again = self.fence, self.again
        return pipeline
