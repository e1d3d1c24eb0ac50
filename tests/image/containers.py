"""Programs of the image, run as a restricted pod would run them, without a container engine."""

import json
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Image:
    """An image whose files are mounted at `root`."""

    root: Path
    environment: Mapping[str, str]
    entry_point: tuple[str, ...]
    folder: str
    labels: Mapping[str, str]

    @classmethod
    def from_description(cls, root: Path, description: Path) -> "Image":
        """`description` is what `buildah inspect --type image` printed."""
        config: dict[str, Any] = json.loads(description.read_text())["OCIv1"]["config"]
        pairs = (entry.partition("=") for entry in config["Env"])
        return cls(
            root=root,
            environment={name: value for name, _, value in pairs},
            entry_point=tuple(config["Entrypoint"]),
            folder=config["WorkingDir"],
            labels=config["Labels"],
        )


class Container:
    """One program of the image. It shares the network of the test, which is a private one."""

    def __init__(
        self,
        image: Image,
        folder: Path,
        *,
        name: str,
        user: int,
        hosts: Path,
        environment: Mapping[str, str],
        command: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.user = user
        self.environment = environment
        self._log = folder / f"{name}.log"
        variables = {**image.environment, **environment}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *("unshare", "--mount", "--pid", "--ipc", "--uts", "--fork"),
                    *(str(HERE / "enter.sh"), str(image.root), str(hosts), str(user), image.folder),
                    *(f"{key}={value}" for key, value in variables.items()),
                    *(*image.entry_point, *command),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """The number of its process 1, as it is called outside."""
        own = self._process.pid
        (child,) = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        return int(child)

    @property
    def status(self) -> dict[str, str]:
        """What the kernel says about its process 1: ids, capabilities, and so on."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}

    @property
    def command_line(self) -> list[str]:
        return Path(f"/proc/{self.pid}/cmdline").read_text().rstrip("\0").split("\0")

    def wait(self, timeout_s: float) -> int:
        """Wait for the end; the exit status."""
        return self._process.wait(timeout_s)

    def stop(self, timeout_s: float) -> int:
        """Do what a cluster does first: send SIGTERM to process 1. The exit status."""
        os.kill(self.pid, signal.SIGTERM)
        return self.wait(timeout_s)

    def kill(self) -> None:
        """End it and everything in it. Process 1 itself: it outlives the one that waits for it."""
        if self.is_running:
            os.kill(self.pid, signal.SIGKILL)
            self._process.wait()
