"""The tree holds itself to its layout: imports point down, and some things are done in one place only."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "app_srvc"

# A module may import from its own line and from the lines below it. Folders without a row of their
# own get the line of the file's name.
LINE_OF_FILE = {
    "settings.py": 0,
    "settings_rules.py": 0,
    "settings_table.py": 0,
    "settings_values.py": 0,
    "settings_doc.py": 0,
    "errors.py": 0,
    "times.py": 0,
    "__init__.py": 0,
    "model.py": 1,
    "store.py": 1,
    "handler.py": 2,
    "schemas.py": 2,
    "api.py": 3,
    "views.py": 3,
}
LINE_OF_MODULE = {
    "broker": 1,
    "embedded": 1,
    "database": 1,
    "database_hosts": 1,
    "logs": 1,
    "metrics": 1,
    "auth": 1,
    "deadlines": 1,
    "forking": 1,
    "supervisor": 1,
    "terminal": 1,
    "migrations": 1,
    "messages.dispatch": 1,
    "messages.ids": 1,
    "messages.handling": 1,
    "robots.table": 1,
    "robots.sources": 2,
    "kinds": 2,
    "runtime": 2,
    "messages": 2,
    "robots": 2,
    "robots.legacy_api": 3,
    "console": 3,
    "http_errors": 3,
    "openapi": 3,
    "bodies": 3,
    "gate": 3,
    "health": 3,
    "pages": 3,
    "presentation": 3,
    "web": 3,
    "registration.legacy_import": 2,
    "registration.legacy_source": 1,
    "registration.progress": 2,
    "app": 4,
    "cli": 4,
    "cli_db": 4,
    "cli_output": 4,
    "cli_runtime": 4,
    "up": 4,
    "container": 4,
    "doctor": 4,
    "workers": 4,
    "webapp": 5,
    "gunicorn_conf": 5,
}
SERVICES = ("registration", "todos", "inbox")
# `kinds` names handlers by dotted path, so what it stands on never imports a service.
FLASK_LINES = (3, 4, 5)
RQ_PLACES = ("messages/dispatch.py", "robots/", "workers/", "console/")


def modules() -> Iterator[Path]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if "versions" not in path.parts:
            yield path


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def line_of(path: Path) -> int:
    """The line of the layout that a module stands on."""
    name = name_of(path)
    for known in sorted(LINE_OF_MODULE, key=len, reverse=True):
        is_exact = name == known
        if is_exact or (name.startswith(known + ".") and path.name not in LINE_OF_FILE):
            return LINE_OF_MODULE[known]
    if path.name in LINE_OF_FILE:
        return LINE_OF_FILE[path.name]
    pytest.fail(f"{path.relative_to(ROOT)} has no place in the layout; give it a line in this test")


def imported(path: Path) -> set[str]:
    """Full names of everything that a module imports, at any depth of its code."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def own_imports(path: Path) -> set[Path]:
    """The files of this package that a module imports."""
    files: set[Path] = set()
    for name in imported(path):
        if name.split(".")[0] != "app_srvc" or name == "app_srvc":
            continue
        place = PACKAGE.joinpath(*name.split(".")[1:])
        if place.with_suffix(".py").is_file():
            files.add(place.with_suffix(".py"))
    return files


@pytest.mark.parametrize("path", list(modules()), ids=name_of)
def test_imports_point_down(path: Path) -> None:
    here = line_of(path)
    too_high = {
        str(other.relative_to(PACKAGE)): line_of(other)
        for other in own_imports(path)
        if line_of(other) > here
    }
    assert not too_high, f"{path.relative_to(PACKAGE)} stands on line {here}"


@pytest.mark.parametrize("path", list(modules()), ids=name_of)
def test_flask_is_for_the_web_only(path: Path) -> None:
    uses_flask = any(
        name.split(".")[0] in ("flask", "flask_wtf", "werkzeug") for name in imported(path)
    )
    assert not uses_flask or line_of(path) in FLASK_LINES


@pytest.mark.parametrize("path", list(modules()), ids=name_of)
def test_rq_is_known_in_few_places(path: Path) -> None:
    uses_rq = any(name.split(".")[0] == "rq" for name in imported(path))
    place = path.relative_to(PACKAGE).as_posix()
    assert not uses_rq or place.startswith(RQ_PLACES)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_imports_no_other_service(service: str) -> None:
    for path in (PACKAGE / service).rglob("*.py"):
        others = {f"app_srvc.{other}" for other in SERVICES if other != service}
        wrong = {name for name in imported(path) if ".".join(name.split(".")[:2]) in others}
        assert not wrong, path


def test_a_service_is_known_by_the_tables_and_the_app_only() -> None:
    """Delete a service folder, and only these complain: the app, the table of kinds, its migration."""
    may_know = {"app", "migrations"}
    for path in modules():
        name = name_of(path)
        if name.split(".")[0] in (*SERVICES, *may_know):
            continue
        services = {f"app_srvc.{service}" for service in SERVICES}
        wrong = {item for item in imported(path) if ".".join(item.split(".")[:2]) in services}
        assert not wrong, name


def test_the_environment_is_read_in_one_place() -> None:
    for path in modules():
        if path.name != "settings.py":
            assert "environ" not in _names(path), path
            assert "getenv" not in _names(path), path


def test_redis_clients_are_made_in_one_place() -> None:
    makers = {
        "Redis",
        "StrictRedis",
        "from_url",
        "Sentinel",
        "ConnectionPool",
        "BlockingConnectionPool",
    }
    for path in modules():
        # The link of a lease worker copies a client that it was given, and knows no settings.
        if path.name in ("broker.py", "embedded.py") or path.parts[-2:] == ("lease", "link.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
                called = called or (node.func.id if isinstance(node.func, ast.Name) else "")
                assert called not in makers, f"{path}:{node.lineno}"


def test_no_file_is_a_drawer() -> None:
    drawers = {"utils", "helpers", "common", "misc"}
    for path in modules():
        assert not drawers & set(path.relative_to(PACKAGE).with_suffix("").parts), path


def test_nothing_is_printed() -> None:
    for path in modules():
        calls = [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
        ]
        names = [node.func.id for node in calls if isinstance(node.func, ast.Name)]
        assert "print" not in names, path


def test_no_module_is_longer_than_it_may_be() -> None:
    """300 lines; a longer one says at its top why it is one piece."""
    for path in modules():
        text = path.read_text()
        head = text[:600].lower()
        assert len(text.splitlines()) <= 300 or "one piece" in head, path


def test_importing_the_app_opens_and_starts_nothing() -> None:
    code = (
        "import socket, threading, subprocess, os\n"
        "def refuse(*a, **k): raise SystemExit('a socket was opened')\n"
        "socket.socket.connect = refuse\n"
        "before = dict(os.environ); os.environ.clear()\n"
        "import app_srvc.app, app_srvc.cli, app_srvc.workers.pool\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_entry_scripts_are_short() -> None:
    for name in ("usrregworker.py", "dbworker.py", "todoworker.py", "taskworker.py"):
        lines = (ROOT / name).read_text().splitlines()
        assert len(lines) < 15, name


def _names(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return names | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
