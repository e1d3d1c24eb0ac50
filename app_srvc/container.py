"""What an image starts: `python -m app_srvc.container`, whatever part it is to be.

`APP_FILE` names the script of a worker; without it gunicorn serves `APP_MODULE`. The program that
was chosen takes the place of this one, so it is process 1 and gets the signals itself.

`python -m app_srvc.container COMMAND…` runs a command of the image instead (`app-srvc doctor`), and
`python -m app_srvc.container --health` asks the part that runs beside it whether it is ready.
"""

import http.client
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from app_srvc.errors import ConfigurationError
from app_srvc.settings import Settings, environment

HEALTH_TIMEOUT_S = 3.0
ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # where to ask, not a binding


@dataclass(frozen=True)
class Start:
    """A program to become: its arguments, the first being the program, and its environment."""

    arguments: Sequence[str]
    variables: Mapping[str, str]


def choose_start(variables: Mapping[str, str], folder: Path) -> Start:
    """Return what this container is to run; `folder` holds the scripts that `APP_FILE` may name.

    Raises:
        ConfigurationError: `APP_FILE` names no script of the folder, or a setting is wrong.
    """
    settings = _settings(variables)
    if settings.app_file is None:
        return _web(settings, variables)
    return Start((sys.executable, str(_script(settings.app_file, folder))), variables)


def _settings(variables: Mapping[str, str]) -> Settings:
    is_worker = bool(variables.get("APP_FILE", "").strip())
    return Settings.from_env(variables, part="worker" if is_worker else "web")


def _script(name: str, folder: Path) -> Path:
    known = sorted(path.name for path in folder.glob("*.py"))
    if name not in known:
        raise ConfigurationError(
            [
                f"APP_FILE must be one of {', '.join(known)}, got {name!r}. "
                "Set it to the script of a worker, or remove it to run the web part."
            ]
        )
    return folder / name


def _web(settings: Settings, variables: Mapping[str, str]) -> Start:
    """Gunicorn, with our defaults before the arguments that were given, so that those win.

    `--bind` is the exception, as gunicorn adds up its addresses: ours is left out if there is one.
    """
    defaults = [
        "--worker-class=gevent",
        f"--workers={settings.web_processes}",
        "--no-control-socket",
    ]
    if len(settings.bind_hosts) == 1:
        defaults.append(f"--bind={_address(settings.host, settings.port)}")
    given = shlex.split(settings.gunicorn_cmd_args)
    module = settings.app_module
    application = module if ":" in module else f"{module}:application"
    return Start(
        (sys.executable, "-m", "gunicorn", application),
        {**variables, "GUNICORN_CMD_ARGS": shlex.join(defaults + given)},
    )


def is_ready(variables: Mapping[str, str]) -> bool:
    """Ask the part that runs in this container whether it is ready to work."""
    settings = _settings(variables)
    port = settings.health_port if settings.app_file else settings.port
    if port is None:
        return True
    host = ANY_HOST.get(settings.host, settings.host)
    connection = http.client.HTTPConnection(host, port, timeout=HEALTH_TIMEOUT_S)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def run_web() -> NoReturn:
    """Become gunicorn, which serves the web part as the settings say.

    Raises:
        ConfigurationError: A setting is wrong.
    """
    variables = environment()
    _become(_web(Settings.from_env(variables, part="web"), variables))


def _become(start: Start) -> NoReturn:
    os.execvpe(start.arguments[0], list(start.arguments), start.variables)  # noqa: S606  # no shell


def main(arguments: Sequence[str]) -> int:
    """Become the program; returns only what `--health` found, or 2 for a setting that is wrong."""
    variables = environment()
    try:
        if arguments == ["--health"]:
            return 0 if is_ready(variables) else 1
        start = Start(arguments, variables) if arguments else choose_start(variables, Path.cwd())
    except ConfigurationError as error:
        sys.stderr.write(f"{error.message}\n")
        return 2
    if shutil.which(start.arguments[0]) is None:
        sys.stderr.write(f"There is no command {start.arguments[0]!r} in this image.\n")
        return 127
    _become(start)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
