"""The image at work: every part of it, as a restricted pod would run it, spoken to from outside.

Not collected with the other tests, since it needs root, debootstrap and buildah: `make image-test`
builds the image and runs this. The tests build on each other and run in this order.
"""

import os
import struct
from pathlib import Path

import pytest

from app_srvc import __version__
from tests.image.containers import Container, Image
from tests.image.installation import Installation
from tests.image.servers import TODO_COUNT
from tests.support.manifests import APPLICATION, ROOT, pod_of
from tests.support.waiting import wait_until

PYTHON = "/opt/app-srvc/bin/python"
PACKAGE = ROOT / "app_srvc"
each_part = pytest.mark.parametrize("part", APPLICATION)


def files_below(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


# --- what is in it ------------------------------------------------------------------------------


def test_the_image_has_every_file_of_the_package(image: Image) -> None:
    (installed,) = image.root.glob("opt/app-srvc/lib/python3.*/site-packages/app_srvc")
    assert files_below(installed) == files_below(PACKAGE)


def test_the_image_has_what_runs_and_not_what_builds_or_tests(image: Image) -> None:
    programs = {path.name for path in image.root.glob("opt/app-srvc/bin/*")}
    assert {"app-srvc", "gunicorn", "python"} <= programs
    assert not {"pip", "pytest", "uv"} & programs
    assert not [path for name in ("gcc", "cc") for path in image.root.glob(f"usr/bin/{name}*")]
    assert files_below(image.root / "opt/app-root/src") == {
        f"{part}.py" for part in APPLICATION if part != "web"
    }


def test_python_in_the_image_is_compiled_beforehand(image: Image) -> None:
    """Nothing can be written there, so a file that is newer than its compiled form costs each start."""
    (installed,) = image.root.glob("opt/app-srvc/lib/python3.*/site-packages")
    sources = list(installed.glob("app_srvc/**/*.py")) + list(installed.glob("flask/**/*.py"))
    assert len(sources) > 100
    for source in sources:
        (compiled,) = source.parent.glob(f"__pycache__/{source.stem}.cpython-*.pyc")
        made_from = struct.unpack("<I", compiled.read_bytes()[8:12])[0]
        assert made_from == int(source.stat().st_mtime), source


def test_the_image_says_which_version_it_is(image: Image) -> None:
    assert image.labels["org.opencontainers.image.version"] == __version__
    assert image.labels["org.opencontainers.image.revision"]


# --- how it runs --------------------------------------------------------------------------------


@each_part
def test_a_part_is_process_one_itself_and_no_shell_stands_before_it(
    installation: Installation, part: str
) -> None:
    container = installation.containers[part]
    assert container.status["NSpid"].split()[1:] == ["1"]
    assert container.command_line[0] == PYTHON
    expected = "gunicorn" if part == "web" else f"/opt/app-root/src/{part}.py"
    assert expected in container.command_line


@each_part
def test_a_part_runs_under_a_user_id_that_the_image_does_not_know_and_without_rights(
    installation: Installation, part: str
) -> None:
    container = installation.containers[part]
    status = container.status
    known = (installation.image.root / "etc/passwd").read_text()
    assert str(container.user) not in known
    assert set(status["Uid"].split()) == {str(container.user)}
    assert set(status["Gid"].split()) == {"0"}
    assert status["Groups"] in ("", "0")
    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[capabilities], 16) == 0
    assert status["NoNewPrivs"] == "1"


@pytest.mark.parametrize(
    ("path", "answer"),
    [("/opt/app-srvc/x", "Read-only file system"), ("/tmp/x", "written")],
)
def test_only_tmp_can_be_written_to(
    installation: Installation, tmp_path: Path, path: str, answer: str
) -> None:
    program = f"try: open({path!r}, 'w'); print('written')\nexcept OSError as error: print(error)"
    assert answer in run_beside(installation, tmp_path, (PYTHON, "-c", program))


def run_beside(installation: Installation, folder: Path, command: tuple[str, ...]) -> str:
    """Run a command in a container of its own, with the web part's environment; what it wrote."""
    hosts = folder / "hosts"
    hosts.write_text("127.0.0.1 localhost redis postgresql\n")
    web = installation.containers["web"]
    container = Container(
        installation.image,
        folder,
        name="beside",
        user=web.user,
        hosts=hosts,
        environment=web.environment,
        command=command,
    )
    status = container.wait(30)
    return f"{container.log}exit status {status}"


@each_part
def test_the_health_check_of_the_image_finds_a_part_healthy(
    installation: Installation, tmp_path: Path, part: str
) -> None:
    container = installation.containers[part]
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost redis postgresql\n")
    check = Container(
        installation.image,
        tmp_path,
        name="health",
        user=container.user,
        hosts=hosts,
        environment=container.environment,
        command=("--health",),
    )
    assert check.wait(30) == 0, check.log


def test_the_command_line_works_in_the_image(installation: Installation, tmp_path: Path) -> None:
    output = run_beside(installation, tmp_path, ("app-srvc", "--version"))
    assert __version__ in output and "exit status 0" in output


# --- what it does -------------------------------------------------------------------------------


def test_the_web_part_answers_everybody_about_its_health(installation: Installation) -> None:
    answer = installation.get("/api/health", is_authorised=False)
    assert answer.status_code == 200
    assert answer.json()["ok"] is True


def test_pages_come_with_their_styles(installation: Installation) -> None:
    page = installation.get("/userreg/", is_authorised=False)
    assert page.status_code == 200
    assert "szLogin" in page.text
    assert "/static/" in page.text


def test_what_is_not_public_needs_the_token(installation: Installation) -> None:
    assert installation.get("/userlist/", is_authorised=False).status_code == 401
    assert installation.post("/api/wstart", {}, is_authorised=False).status_code == 401


def test_a_registration_is_accepted_and_done(installation: Installation) -> None:
    fields = {
        "szFirstName": "Iryna",
        "szLastName": "Koval",
        "szLogin": "ikoval",
        "szEmail": "iryna@example.org",
        "szPhone": "+380501234567",
    }
    answer = installation.post("/userregres/", fields)
    assert answer.status_code == 202, answer.text
    status_url = answer.json()["status_url"]
    wait_until(lambda: installation.get(status_url).json()["state"] == "done", 10)
    assert "ikoval" in installation.get("/userlist/").text


def test_the_robot_fetches_and_its_records_are_handled(installation: Installation) -> None:
    start = {"timedelta": 1, "records": 20, "msg": "start regular job", "rplstatus": "START"}
    answer = installation.post("/api/wstart", start)
    assert answer.status_code == 200, answer.text

    def cycles_done() -> list[int]:
        cycles = installation.get("/api/v1/robots/todos/cycles").json()["items"]
        return [cycle["done"] for cycle in cycles if cycle["state"] == "done" and cycle["balanced"]]

    wait_until(lambda: TODO_COUNT in cycles_done() and len(cycles_done()) > 1, 30)
    assert "Image todo 7" in installation.get("/todos/").text
    assert installation.post("/api/wstop", None).json() == {"ok": True}


def test_the_books_balance(installation: Installation, tmp_path: Path) -> None:
    output = run_beside(installation, tmp_path, ("app-srvc", "audit"))
    assert output.endswith("exit status 0"), output


def test_a_task_worker_has_nothing_to_do_yet_and_waits(installation: Installation) -> None:
    assert installation.is_ready("taskworker")


# --- how it ends --------------------------------------------------------------------------------


@each_part
def test_a_part_stops_in_order_when_it_is_told_to(installation: Installation, part: str) -> None:
    container = installation.containers[part]
    assert container.is_running, container.log
    allowed_s = pod_of(part)["spec"]["terminationGracePeriodSeconds"]
    assert container.stop(allowed_s) == 0, container.log
    assert "Traceback" not in container.log


def test_a_wrong_setting_ends_the_start_with_a_sentence(
    installation: Installation, tmp_path: Path
) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n")
    variables = installation.containers["dbworker"].environment
    container = Container(
        installation.image,
        tmp_path,
        name="wrong",
        user=os.getpid() + 1_000_000,
        hosts=hosts,
        environment={**variables, "APP_FILE": "noworker.py", "RDS_PORT": "many"},
    )
    assert container.wait(30) == 2
    assert "RDS_PORT must be a number" in container.log
    assert "Traceback" not in container.log
