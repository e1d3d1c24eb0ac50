"""Calls of `oc`, each of which is a named step."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import Any, Dict

from errors import StoppedError

Object = Dict[str, Any]


def say(text: str) -> None:
    # At once, since oc writes to the same terminal.
    print(text, flush=True)


def warn(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Oc:
    """`oc` in one project. What it writes to its error output goes to the user as it is."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._program = ""

    @property
    def program(self) -> str:
        if not self._program:
            found = shutil.which("oc")
            if found is None:
                raise StoppedError(
                    "The program oc is needed. Install it, and log in with 'oc login'."
                )
            self._program = found
        return self._program

    @property
    def namespace(self) -> str:
        """The project that was named, or the one that `oc` is in."""
        if not self._namespace:
            done = subprocess.run([self.program, "project", "-q"], stdout=subprocess.PIPE)
            self._namespace = done.stdout.decode("utf-8", "replace").strip()
            if done.returncode or not self._namespace:
                raise StoppedError(
                    "No project is chosen. Log in with 'oc login', or name one with --namespace."
                )
        return self._namespace

    def read(self, step: str, *words: str) -> str:
        """Return what `oc` answers. A cluster that does not answer is an error, never a "no"."""
        done = self._run(words, captured=True)
        if done.returncode:
            raise StoppedError(_failure(step, words, done.returncode))
        return str(done.stdout.decode("utf-8", "replace"))

    def attempt(self, *words: str) -> str | None:
        """Return what `oc` answers, or None if the call fails; for what is good to know, not needed."""
        done = self._run(words, captured=True)
        return None if done.returncode else str(done.stdout.decode("utf-8", "replace"))

    def read_object(self, step: str, *words: str) -> Object | None:
        """Return one object, or None where `--ignore-not-found` found none."""
        text = self.read(step, *words, "-o", "json")
        return dict(_parsed(step, text)) if text.strip() else None

    def read_objects(self, step: str, *words: str) -> list[Object]:
        text = self.read(step, *words, "-o", "json")
        return list(_parsed(step, text)["items"]) if text.strip() else []

    def change(self, step: str, *words: str, stdin: str = "") -> None:
        """Make a change, with what `oc` says on the terminal."""
        code = self._run(words, stdin=stdin).returncode
        if code:
            raise StoppedError(_failure(step, words, code))

    def succeeds(self, *words: str) -> bool:
        """Whether a call that only looks went well, with what `oc` says on the terminal."""
        return bool(self._run(words).returncode == 0)

    def tell(self, *words: str) -> None:
        """Show what helps to understand a failure, on the error output; no answer is no error."""
        subprocess.run(self._line(words), stdin=subprocess.DEVNULL, stdout=sys.stderr)

    def process(self, step: str, file: str, parameters: dict[str, str], lines: str) -> list[Object]:
        """Return the objects of a template; `lines` are of the form of `oc process --param-file`."""
        words = ["process", "--local", "-f", file]
        for name, value in parameters.items():
            words += ["-p", f"{name}={value}"]
        if lines:
            words.append("--param-file=-")
        done = subprocess.run([self.program, *words], input=lines.encode(), stdout=subprocess.PIPE)
        if done.returncode:
            raise StoppedError(_failure(step, words, done.returncode))
        return list(_parsed(step, done.stdout.decode("utf-8", "replace"))["items"])

    def _run(self, words: Any, *, stdin: str = "", captured: bool = False) -> Any:
        return subprocess.run(
            self._line(words),
            input=stdin.encode(),
            stdout=subprocess.PIPE if captured else None,
        )

    def _line(self, words: Any) -> list[str]:
        return [self.program, "--namespace", self.namespace, *words]


def _parsed(step: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise StoppedError(f"{step} failed: oc did not answer in JSON.") from error


def as_list(items: list[Object]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def _failure(step: str, words: Any, code: int) -> str:
    # Its first word only: values of parameters may be secret.
    return (
        f"{step} failed: 'oc {words[0]}' ended with {code}, and what it said is above."
        " Nothing after it was done. The same command can be run again."
    )
