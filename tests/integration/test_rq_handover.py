"""LeaseWorker and RQ's own workers on the same queues: what one begins, the other may end."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rq import Callback, Repeat, Retry

from tests.samples import rq_tasks as tasks
from tests.support.rq_trial import OURS, SIMPLE, STOCK, Site, Trial

# Who works on which site, one after the other.
RELAYS = {STOCK: (STOCK, STOCK), SIMPLE: (STOCK, OURS), OURS: (OURS, STOCK)}


def tried_again(site: Site) -> None:
    site.enqueue(tasks.fail_at_first, 1, retry=Retry(max=2, interval=30))


def asking_for_a_retry(site: Site) -> None:
    site.enqueue(tasks.ask_for_a_retry, 1, interval=30)


def repeated(site: Site) -> None:
    site.enqueue(tasks.note_itself, repeat=Repeat(times=1, interval=30))


def with_dependents(site: Site) -> None:
    job = site.enqueue(tasks.note_itself)
    job = site.enqueue(tasks.note_itself, id="b", depends_on=job)
    site.enqueue(tasks.note_itself, id="c", depends_on=job, on_success=Callback(tasks.note_success))


def failed_and_requeued(site: Site) -> None:
    if not site.redis.exists("rq:job:a"):
        site.enqueue(tasks.fail_at_first, 1, failure_ttl=60)
    else:
        site.job().requeue()


@pytest.mark.parametrize(
    "enqueue", [tried_again, asking_for_a_retry, repeated, with_dependents, failed_and_requeued]
)
def test_a_job_goes_from_one_worker_to_the_other(
    trial: Trial, enqueue: Callable[[Site], None]
) -> None:
    """Each takes one step of what the job is to go through."""
    trial.each(enqueue)
    for turn in range(2):
        for kind, workers in RELAYS.items():
            work = {"with_scheduler": True, **({"max_jobs": 1} if turn == 0 else {})}
            trial.start(kind, worker=workers[turn], work=work)
            trial.wait(kind)
        trial.each(failed_and_requeued if enqueue is failed_and_requeued and not turn else make_due)
    assert trial.compare()["rq:worker:<worker>"]["state"] == "idle"


def make_due(site: Site) -> None:
    site.make_due()


def test_what_a_dead_worker_of_rq_had_in_hand_is_run_by_ours(trial: Trial) -> None:
    trial.take_part(OURS)
    site = trial.ours
    site.enqueue(tasks.sleep_at_first, 20)
    trial.start(OURS, worker=STOCK, name="dead")
    site.wait_for_note("begun")
    trial.kill(OURS)
    site.end_leases()
    trial.start(OURS)
    trial.wait(OURS)
    assert (site.status(), site.notes()) == ("finished", ["begun", "begun"])
    assert list(site.redis.scan_iter("rq:wip:*")) == []


@pytest.mark.parametrize(
    ("retry", "status"), [(None, "failed"), (Retry(max=1), "finished")], ids=["", "retry"]
)
def test_what_our_dead_worker_had_in_hand_is_ended_by_rq(
    trial: Trial, retry: Retry | None, status: str
) -> None:
    """RQ's way: it fails, unless it may be tried again."""
    trial.take_part(OURS)
    site = trial.ours
    site.enqueue(tasks.sleep_at_first, 20, retry=retry)
    trial.start(OURS, name="dead")
    site.wait_for_note("begun")
    trial.kill(OURS)
    site.end_leases()
    trial.start(OURS, worker=STOCK)
    trial.wait(OURS)
    assert site.status() == status
    assert list(site.redis.scan_iter("rq:wip:*")) == []


# --- the command line -----------------------------------------------------------------------------


def command_line(site: Site, *words: str) -> str:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "rq"), *words, "--url", site.url],
        env={tasks.URL_NAME: site.url, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


WORKER_OPTIONS = [
    "--burst", "--with-scheduler", "--max-jobs", "4", "--results-ttl", "100",
    "--serializer", "rq.serializers.JSONSerializer", "--job-class", "tests.samples.rq_tasks.NamedJob",
    "--exception-handler", "tests.samples.rq_tasks.note_error", "--dequeue-strategy", "round_robin",
]  # fmt: skip


def test_rq_worker_runs_ours_with_the_options_of_its_own(trial: Trial) -> None:
    trial.take_part(STOCK, OURS, serializer="json")

    def run(site: Site) -> None:
        for queue in ("x", "y"):
            for number in range(3):
                site.queue(queue).enqueue(tasks.note, queue, number, job_id=f"{queue}{number}")
        site.queue("y").enqueue(tasks.fail, job_id="bad", at_front=True)
        words = ["worker", "--name", site.worker_name, *WORKER_OPTIONS, "x", "y"]
        if site.kind == OURS:
            words += ["--worker-class", "app_srvc.workers.LeaseWorker"]
        command_line(site, *words)

    trial.each(run)
    assert trial.compare()["notes"] == ["x 0", "handler 1: bad no", "x 1", "y 0"]


def test_a_pool_of_rq_runs_ours(trial: Trial) -> None:
    trial.take_part(OURS)
    trial.enqueue(tasks.note_itself)
    words = ["--burst", "--num-workers", "1", "--worker-class", "app_srvc.workers.LeaseWorker"]
    command_line(trial.ours, "worker-pool", *words, "default")
    assert (trial.ours.status(), trial.ours.notes()) == ("finished", ["ran a"])


def test_rq_info_knows_what_ours_does(trial: Trial) -> None:
    trial.take_part(OURS)
    trial.enqueue(tasks.sleep, 20)
    trial.start(OURS)
    trial.ours.wait_for_note("begun")
    text = command_line(trial.ours, "info", "--raw")
    assert "worker" in text and trial.ours.worker_name in text and "busy" in text
    trial.kill(OURS)
