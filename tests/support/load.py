"""Clients that submit work all the time while a test breaks something, and what they were told."""

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import requests
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine

from app_srvc.settings_values import sqlalchemy_url
from tests.support.waiting import wait_until

Submit = Callable[[str], requests.Response]


@dataclass(frozen=True, slots=True)
class Told:
    """What one submission was told. `status` is 0 where there was no answer, and `words` say why."""

    login: str
    status: int
    words: str
    retry_after: str | None
    began: float
    ended: float


class Load:
    """Registers people, one after the other in each of some threads, as long as its block lasts."""

    def __init__(self, submit: Submit, *, clients: int = 4, pause_s: float = 0.1) -> None:
        self._submit = submit
        self._pause_s = pause_s
        self._is_over = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number,)) for number in range(clients)
        ]
        self.told: list[Told] = []

    @property
    def accepted(self) -> set[str]:
        return {told.login for told in self.told if told.status == 202}

    @property
    def statuses(self) -> set[int]:
        return {told.status for told in self.told}

    @property
    def refused(self) -> list[Told]:
        return [told for told in self.told if told.status != 202]

    def wait_for(self, more: int, timeout_s: float = 30.0) -> None:
        """Wait until so many more were accepted."""
        goal = len(self.accepted) + more
        wait_until(lambda: len(self.accepted) >= goal, timeout_s, what=f"{more} more are accepted")

    def longest_gap_s(self, since: float = 0.0) -> float:
        """The longest time in which nobody was told that his work is accepted."""
        moments = [told.ended for told in self.told if told.status == 202]
        return _longest_gap([moment for moment in moments if moment >= since])

    def _run(self, client: int) -> None:
        number = 0
        while not self._is_over.is_set():
            login, began = f"c{client}n{number}", time.monotonic()
            try:
                answer = self._submit(login)
                status, words = answer.status_code, answer.text[:300]
                retry_after = answer.headers.get("Retry-After")
            except requests.RequestException as error:
                status, words, retry_after = 0, repr(error), None
            self.told.append(Told(login, status, words, retry_after, began, time.monotonic()))
            number += 1
            self._is_over.wait(self._pause_s)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(30)


class Ledger:
    """Looks into the ledger from outside, by its address as `DATABASE_URL` has it."""

    def __init__(self, url: str) -> None:
        self._engine: Engine = create_engine(sqlalchemy_url(url), pool_pre_ping=True)

    def logins(self) -> list[str]:
        """Who is registered; a login stands there as often as its effect is."""
        with self._engine.connect() as connection:
            return list(connection.execute(text("SELECT login FROM users")).scalars())

    def count(self, query: str) -> int:
        with self._engine.connect() as connection:
            return int(connection.execute(text(query)).scalar_one())

    def longest_gap_of_handling_s(self) -> float:
        """The longest time in which no registration was done, between the first and the last."""
        query = "SELECT extract(epoch FROM ended_at) FROM messages WHERE state = 'done'"
        query += " AND kind = 'registration'"
        with self._engine.connect() as connection:
            return _longest_gap([float(at) for at in connection.execute(text(query)).scalars()])

    def end_other_sessions(self) -> None:
        """Cut everybody else's connections to this database."""
        self.count(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    def close(self) -> None:
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _longest_gap(moments: list[float]) -> float:
    moments = sorted(moments)
    return max((b - a for a, b in itertools.pairwise(moments)), default=0.0)
