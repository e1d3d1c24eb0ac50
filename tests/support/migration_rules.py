"""What a migration would do, and whether the release before could go on working after it."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import sqlalchemy as sa

Call = tuple[str, tuple[Any, ...], dict[str, Any]]


class Recorder:
    """Stands in for `alembic.op`: writes down what is asked of it."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        def record(*arguments: Any, **named: Any) -> None:
            self.calls.append((name, arguments, named))

        return record


def load_migration(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"migration_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def not_additions(upgrade: Callable[[], None], module: ModuleType) -> list[str]:
    """Each operation of an upgrade that the release before might not survive, and why."""
    recorder = Recorder()
    module.op = recorder  # type: ignore[attr-defined]
    upgrade()
    made: set[str] = set()
    problems: list[str] = []
    for name, arguments, named in recorder.calls:
        if name == "create_table":
            made.add(arguments[0])
        elif name == "create_index":
            if named.get("unique") and arguments[1] not in made:
                problems.append(f"unique index {arguments[0]} on a table that is there already")
        elif name == "add_column":
            problems += _column_problems(*arguments)
        else:
            problems.append(f"{name} does not only add")
    return problems


def _column_problems(table: str, column: sa.Column[Any]) -> list[str]:
    where = f"column {column.name} of {table}"
    problems = []
    if not column.nullable and column.server_default is None:
        problems.append(f"{where} must have a value, which the release before does not give")
    if column.unique or column.foreign_keys:
        problems.append(f"{where} forbids what the release before may write")
    return problems
