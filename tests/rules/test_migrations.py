"""Migrations only add, so that the release before goes on working; each has a number and a note."""

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import sqlalchemy as sa

from app_srvc import __version__
from app_srvc.migrations import VERSIONS
from tests.support.migration_rules import load_migration, not_additions

ROOT = Path(__file__).parents[2]
PATHS = sorted(VERSIONS.glob("[0-9]*_*.py"))
NOTE = re.compile(r"^\| `(\d{4})` \| (\d+\.\d+\.\d+) \| .+ \| .+ \|$", re.MULTILINE)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_migration_only_adds(path: Path) -> None:
    """What a later release drops is dropped here first, with a word on why nobody needs it any more."""
    module = load_migration(path)
    assert not_additions(module.upgrade, module) == []


def test_revisions_are_numbered_one_by_one() -> None:
    """A program tells a newer schema from an older one by comparing these texts."""
    modules = [load_migration(path) for path in PATHS]
    numbers = [f"{number:04d}" for number in range(1, len(PATHS) + 1)]
    assert [module.revision for module in modules] == numbers
    assert [module.down_revision for module in modules] == [None, *numbers[:-1]]
    assert [path.name[:4] for path in PATHS] == numbers


def test_every_migration_has_a_note_for_whoever_upgrades() -> None:
    notes = NOTE.findall((ROOT / "docs" / "upgrading.md").read_text())
    assert [revision for revision, _ in notes] == [path.name[:4] for path in PATHS]
    assert all(_numbers(release) <= _numbers(__version__) for _, release in notes)


def _numbers(release: str) -> list[int]:
    return [int(part) for part in release.split(".")]


def _upgrades(module: ModuleType) -> dict[str, Callable[[], None]]:
    """Upgrades that do harm, each in one way, in the words of a migration."""

    def table(column: sa.Column[object]) -> Callable[[], None]:
        return lambda: module.op.add_column("users", column)

    return {
        "drop_column": lambda: module.op.drop_column("users", "phone"),
        "drop_table": lambda: module.op.drop_table("users"),
        "rename_table": lambda: module.op.rename_table("users", "people"),
        "alter_column": lambda: module.op.alter_column("users", "phone", nullable=False),
        "execute": lambda: module.op.execute("DELETE FROM users"),
        "batch": lambda: module.op.batch_alter_table("users"),
        "constraint": lambda: module.op.create_check_constraint("c", "users", "1 = 1"),
        "unique_index": lambda: module.op.create_index("i", "users", ["phone"], unique=True),
        "must_have_a_value": table(sa.Column("new", sa.String(5), nullable=False)),
        "refers": table(sa.Column("new", sa.Integer, sa.ForeignKey("users.id"))),
        "unique_column": table(sa.Column("new", sa.String(5), unique=True)),
    }


@pytest.mark.parametrize("name", _upgrades(ModuleType("none")))
def test_what_the_release_before_would_not_survive_is_found(name: str) -> None:
    module = ModuleType("a_migration")
    assert len(not_additions(_upgrades(module)[name], module)) == 1


def test_what_only_adds_is_let_through() -> None:
    module = ModuleType("a_migration")

    def upgrade() -> None:
        op = module.op
        op.create_table("new", sa.Column("id", sa.Integer, primary_key=True))
        op.create_index("new_id", "new", ["id"], unique=True)
        op.create_index("users_phone", "users", ["phone"])
        op.add_column("users", sa.Column("note", sa.String(5)))
        op.add_column("users", sa.Column("flag", sa.Boolean, nullable=False, server_default="0"))

    assert not_additions(upgrade, module) == []
