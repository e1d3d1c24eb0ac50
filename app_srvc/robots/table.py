"""The table of robots. What is not in it cannot be started."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

DEFAULT_ROBOT = "todos"


@dataclass(frozen=True, slots=True)
class RobotDefinition:
    """A named poller: the kind that its records become, and what people should know about it."""

    name: str
    kind: str
    title: str


ROBOTS: Mapping[str, RobotDefinition] = MappingProxyType(
    {
        robot.name: robot
        for robot in (
            RobotDefinition(
                name=DEFAULT_ROBOT,
                kind="todo",
                title="Fetches todos from the source named by SOURCE_URL",
            ),
        )
    }
)
