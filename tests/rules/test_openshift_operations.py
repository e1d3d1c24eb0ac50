"""Looking into what runs, changing how many pods there are, going back, and moving the tables first."""

import json
import re

import pytest

from tests.support.manifests import APPLICATION
from tests.support.openshift_scripts import DEPLOYMENTS, StandIn
from tests.support.stand_in_cluster import REVISION, TRIGGERS
from tests.support.stand_in_oc import changes

FIRST, SECOND = "registry/app-srvc@sha256:1", "registry/app-srvc@sha256:2"


def images(oc: StandIn) -> set[str]:
    return {oc.image_of(part) for part in APPLICATION}


# --- logs ---------------------------------------------------------------------------------------


def test_logs_show_every_pod_of_every_part_and_change_nothing(deployed: StandIn) -> None:
    done = deployed.in_project("logs")
    assert done.status == 0, done.errors
    for name in DEPLOYMENTS:
        assert f"the last line of pod/{name}-pod0\n" in done.output
    assert "the last line of pod/web-pod1\n" in done.output
    assert not any(changes(call) for call in deployed.calls)
    assert all(
        "--all-containers --prefix --tail=100" in call for call in deployed.matching(" logs ")
    )


def test_logs_of_one_part_as_far_back_as_is_asked(deployed: StandIn) -> None:
    done = deployed.in_project("logs", "--tail", "5", "--since", "15m", "dbworker")
    assert done.output == "the last line of pod/dbworker-pod0\n"
    assert len(deployed.matching("--tail=5 --since=15m")) == 1


def test_logs_of_what_crashed_are_those_before_its_restart(deployed: StandIn) -> None:
    deployed.cluster.stuck = {"dbworker"}
    done = deployed.in_project("logs", "--previous", "dbworker")
    assert (done.status, done.output) == (0, "the last line of pod/dbworker-pod0 before\n")


def test_logs_say_which_pod_has_none_to_show_and_still_show_the_others(deployed: StandIn) -> None:
    done = deployed.in_project("logs", "web", "dbworker", fail="logs pod/web-pod0")
    assert done.status == 1
    assert "the last line of pod/dbworker-pod0" in done.output
    assert "No logs could be had of: web-pod0." in done.errors


def test_logs_of_a_part_without_pods_are_an_error(deployed: StandIn) -> None:
    deployed.in_project("scale", "--replicas", "0", "dbworker")
    done = deployed.in_project("logs", "web", "dbworker")
    assert done.status == 1
    assert done.errors == "No pods: dbworker.\n"


def test_following_the_logs_is_one_call_for_all_pods(deployed: StandIn) -> None:
    done = deployed.in_project("logs", "--follow", "web", "dbworker")
    assert done.status == 0, done.errors
    assert set(done.output.split()) >= {"[pod/web-pod0]", "[pod/web-pod1]", "[pod/dbworker-pod0]"}
    assert len(deployed.matching("--follow --ignore-errors")) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tail", "many"], "--tail needs a number, got 'many'"),
        (["--follow", "--previous"], "nothing to --follow"),
        (["secrets"], "There is no part 'secrets' here"),
    ],
)
def test_logs_refuse_what_makes_no_sense(
    deployed: StandIn, arguments: list[str], message: str
) -> None:
    done = deployed.in_project("logs", *arguments)
    assert done.status == 2
    assert message in done.errors
    assert deployed.calls == []


# --- scale --------------------------------------------------------------------------------------


def test_scaling_sets_the_pods_of_web_and_workers_and_waits_for_them(deployed: StandIn) -> None:
    done = deployed.in_project("scale", "--replicas", "3", "--timeout", "2m")
    assert done.status == 0, done.errors
    assert {deployed.replicas_of(part) for part in APPLICATION} == {3}
    assert deployed.replicas_of("redis") == 1
    assert len(deployed.matching("rollout status .* --timeout 2m")) == len(APPLICATION)


def test_scaling_twice_is_scaling_once(deployed: StandIn) -> None:
    deployed.in_project("scale", "--replicas", "3", "todoworker")
    before = deployed.objects
    assert deployed.in_project("scale", "--replicas", "3", "todoworker").status == 0
    assert deployed.objects == before


def test_deploying_keeps_the_number_of_pods_that_was_scaled(deployed: StandIn) -> None:
    deployed.in_project("scale", "--replicas", "7", "todoworker")
    deployed.in_project("scale", "--replicas", "0", "dbworker")
    done = deployed.deploy("--build")
    assert done.status == 0, done.errors
    assert (deployed.replicas_of("todoworker"), deployed.replicas_of("dbworker")) == (7, 0)
    assert "dbworker: scaled to no pods" in done.output
    deployed.deploy("-p", "REPLICAS=2", "todoworker")
    assert deployed.replicas_of("todoworker") == 2


def test_pods_that_do_not_come_up_are_explained(deployed: StandIn) -> None:
    deployed.cluster.stuck = {"todoworker"}
    done = deployed.in_project("scale", "--replicas", "3", "web", "todoworker")
    assert done.status == 1
    assert "todoworker-pod2  Running, app: CrashLoopBackOff" in done.errors
    assert "Not running: todoworker." in done.errors


def test_scaling_what_an_autoscaler_scales_is_said(deployed: StandIn) -> None:
    deployed.deploy("autoscaling-hpa")
    done = deployed.in_project("scale", "--replicas", "3", "todoworker")
    assert done.status == 0
    assert "todoworker: the HorizontalPodAutoscaler todoworker also sets" in done.errors


def test_keda_brings_back_what_was_scaled_to_nothing(deployed: StandIn) -> None:
    deployed.deploy("autoscaling-hpa")
    scaler = deployed.cluster.objects["horizontalpodautoscaler/dbworker"]
    # As KEDA names the one that it makes for a ScaledObject.
    scaler["metadata"]["name"] = "keda-hpa-dbworker"
    done = deployed.in_project("scale", "--replicas", "0", "dbworker")
    assert done.status == 0
    assert "KEDA also sets its number of pods" in done.errors
    assert "annotate scaledobject dbworker autoscaling.keda.sh/paused-replicas=0" in done.errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "equired: --replicas"),
        (["--replicas", "-1"], "--replicas"),
        (["--replicas", "two"], "--replicas needs a number from 0 up, got 'two'"),
        (["--replicas", "2", "redis"], "redis has its data on one volume, and cannot have 2 pods"),
        (["--replicas", "2", "migrate"], "There is no part 'migrate' here"),
        (["--replicas", "2", "--timeout", "5"], "--timeout needs a time"),
    ],
)
def test_scaling_refuses_what_would_do_harm(
    deployed: StandIn, arguments: list[str], message: str
) -> None:
    done = deployed.in_project("scale", *arguments)
    assert done.status == 2
    assert message in done.errors
    assert deployed.calls == []


def test_nothing_is_scaled_if_one_part_is_not_there(deployed: StandIn) -> None:
    deployed.in_project("delete", "dbworker")
    done = deployed.in_project("scale", "--replicas", "3")
    assert done.status == 1
    assert "Not deployed: dbworker. Nothing was scaled." in done.errors
    assert deployed.replicas_of("web") == 2


# --- rollback -----------------------------------------------------------------------------------


@pytest.fixture
def released(deployed: StandIn) -> StandIn:
    """A cluster on which a second release runs."""
    assert deployed.deploy("--build").status == 0
    assert images(deployed) == {SECOND}
    return deployed


def test_rolling_back_brings_the_former_image_and_stays_there(released: StandIn) -> None:
    done = released.in_project("rollback", "--timeout", "2m")
    assert done.status == 0, done.errors
    assert images(released) == {FIRST}
    assert len(released.matching("rollout status .* --timeout 2m")) == len(APPLICATION)
    released.cluster.build("app-srvc")
    assert images(released) == {FIRST}, "a new image must not undo what was rolled back"


def test_rolling_back_again_goes_neither_further_nor_forth(released: StandIn) -> None:
    released.deploy("--build")
    assert released.in_project("rollback").status == 0
    before = released.objects
    done = released.in_project("rollback")
    assert done.status == 0, done.errors
    assert "web: is back already" in done.output
    assert released.objects == before
    assert images(released) == {SECOND}


def test_rolling_back_one_part_leaves_the_others(released: StandIn) -> None:
    assert released.in_project("rollback", "dbworker").status == 0
    assert released.image_of("dbworker") == FIRST
    assert released.image_of("web") == SECOND


def test_deploying_takes_up_again_what_was_rolled_back_and_that_can_be_rolled_back(
    released: StandIn,
) -> None:
    released.in_project("rollback")
    assert released.deploy("--build").status == 0
    assert images(released) == {"registry/app-srvc@sha256:3"}
    assert released.in_project("rollback").status == 0
    assert images(released) == {FIRST}


def test_a_revision_that_is_named_is_gone_back_to_once(released: StandIn) -> None:
    released.deploy("--build")
    listed = released.in_project("rollback", "--list", "web")
    assert re.findall(r"^  (\d).*app-srvc@sha256:(\d)", listed.output, re.MULTILINE) == [
        ("1", "1"),
        ("2", "2"),
        ("3", "3"),
    ]
    assert "(present)" in listed.output.splitlines()[-1]
    assert not any(changes(call) for call in released.calls)
    for _ in range(2):
        assert released.in_project("rollback", "--to-revision", "1", "web").status == 0
        assert released.image_of("web") == FIRST
    done = released.in_project("rollback", "--to-revision", "9", "web")
    assert done.status == 1
    assert "web: there is no revision 9; --list shows them." in done.errors


@pytest.mark.parametrize("arguments", [["--to-revision", "1"], ["--to-revision", "x", "web"]])
def test_a_revision_is_of_one_part(released: StandIn, arguments: list[str]) -> None:
    done = released.in_project("rollback", *arguments)
    assert done.status == 2
    assert "--to-revision needs a number, and one part that is named" in done.errors


def test_without_a_former_revision_nothing_is_changed(deployed: StandIn) -> None:
    for arguments in ([], ["web"]):
        done = deployed.in_project("rollback", *arguments)
        assert done.status == 1
        assert "Nothing was changed." in done.errors
        assert not any(changes(call) for call in deployed.calls)


def test_a_part_that_is_new_stays_when_all_are_rolled_back(released: StandIn) -> None:
    released.in_project("delete", "dbworker")
    released.deploy("dbworker")
    done = released.in_project("rollback")
    assert done.status == 0, done.errors
    assert "dbworker: there is no former revision; left as it is" in done.output
    assert released.image_of("dbworker") == SECOND
    assert released.image_of("web") == FIRST


def test_a_rollback_that_does_not_come_up_is_explained(released: StandIn) -> None:
    released.cluster.stuck = {"web"}
    done = released.in_project("rollback", "--timeout", "90s")
    assert done.status == 1
    assert "web: did not come up within 90s." in done.errors
    assert "the last line of pod/web-pod0 before" in done.errors
    assert "Not running: web." in done.errors


# --- the migration ------------------------------------------------------------------------------


def test_the_tables_move_before_anything_runs_the_new_image(deployed: StandIn) -> None:
    seen: list[set[str]] = []
    settle = deployed.cluster.settle

    def watch() -> None:
        settle()
        if not any("status" in item for key, item in jobs(deployed) if item["is_new"]):
            seen.append(images(deployed))

    def jobs(oc: StandIn) -> list[tuple[str, dict]]:  # type: ignore[type-arg]
        return [
            (key, {**item, "is_new": key not in before})
            for key, item in oc.cluster.objects.items()
            if key.startswith("job/")
        ]

    before = set(deployed.cluster.objects)
    deployed.cluster.settle = watch  # type: ignore[method-assign]
    assert deployed.deploy("--build").status == 0
    assert seen
    assert all(one == {FIRST} for one in seen)
    assert images(deployed) == {SECOND}
    ((_, job),) = [(key, job) for key, job in jobs(deployed) if job["is_new"]]
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == SECOND
    for part in APPLICATION:
        assert not json.loads(deployed.annotations_of(part)[TRIGGERS])[0]["paused"]
        assert "app-srvc/held" not in deployed.annotations_of(part)
        assert deployed.variables_of(part)["DB_UPGRADE_AT_START"] == "false"


def test_a_migration_that_fails_shows_its_log_and_stops_the_release(deployed: StandIn) -> None:
    deployed.cluster.job_ending = "Failed"
    done = deployed.deploy("--build")
    assert done.status == 1
    assert "migrate: failed." in done.errors
    assert "the last line of pod/migrate-" in done.errors
    assert images(deployed) == {FIRST}
    after = deployed.lines.index(next(call for call in deployed.matching("get job migrate-")))
    assert not any(changes(call) for call in deployed.calls[after:])
    status = deployed.in_project("status")
    assert re.search(r"^migrate +failed$", status.output, re.MULTILINE)
    assert "keeps its image until the migration has run" in status.output
    deployed.cluster.job_ending = "Complete"
    assert deployed.deploy().status == 0
    assert images(deployed) == {SECOND}


def test_a_migration_that_does_not_end_in_time_is_explained(deployed: StandIn) -> None:
    deployed.cluster.job_ending = None
    done = deployed.deploy("--build", "--timeout", "1s")
    assert done.status == 1
    assert "migrate: did not end within 1s." in done.errors
    assert images(deployed) == {FIRST}
    again = deployed.deploy("--timeout", "1s")
    assert again.status == 1
    assert "still runs after 1s. Nothing was started beside it." in again.errors
    assert deployed.matching("delete job|apply") == deployed.matching("apply")
    deployed.cluster.job_ending = "Complete"
    deployed.cluster.settle()
    assert deployed.deploy().status == 0
    assert images(deployed) == {SECOND}


def test_the_job_of_the_former_release_goes(deployed: StandIn) -> None:
    for _ in range(2):
        assert deployed.deploy("migrate").status == 0
    assert len([key for key in deployed.objects if key.startswith("job/")]) == 1


def test_parts_that_are_not_named_take_the_new_image_once_the_tables_have_moved(
    deployed: StandIn,
) -> None:
    assert deployed.deploy("--build", "migrate").status == 0
    assert images(deployed) == {SECOND}
    assert deployed.annotations_of("web")[REVISION] == "2"
