"""The templates render to objects that a cluster would take, and agree with the image and its settings."""

import json
import re
import subprocess
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner
from gunicorn.config import GracefulTimeout
from redis import AuthenticationError, Redis
from redis import ConnectionError as RedisConnectionError
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import make_url

from app_srvc.cli import cli
from app_srvc.container import choose_start
from app_srvc.embedded import bundled_server
from app_srvc.health import MIGRATION_S
from app_srvc.kinds import KINDS
from app_srvc.settings import Settings
from app_srvc.settings_rules import Part
from tests.support.manifests import (
    APPLICATION,
    BESIDES,
    PARTS,
    PROJECT,
    ROOT,
    TEMPLATES,
    WORKERS,
    container_of,
    environment_in_cluster,
    pod_of,
    render,
    required_of,
    secret_values,
    template_of,
    the,
)
from tests.support.oc_process import Object, TemplateError, process, read_template
from tests.support.openshift_schemas import TEMPLATE, TRIGGERS
from tests.support.servers import free_port
from tests.support.validity import assert_valid
from tests.support.waiting import wait_until

FILES = sorted(TEMPLATES.glob("*.yaml"))
SECRET_NAME = re.compile(r"PSW|PASSWORD|TOKEN|SECRET|_KEY$|AUTH|REDIS_URL|DATABASE_URL")
PLACEHOLDER = re.compile(r"\$\{\{?([A-Za-z0-9_]+)\}?\}")
# What a worker takes to stop with nothing in hand: measured below 2 s, and room for a slow machine.
WORKER_STOPS_WITHIN_S = 20
GUNICORN_STOPS_WITHIN_S = GracefulTimeout.default

# The original's templates, and what each took.
WORKLOAD_PARAMETERS = {
    "NAMESPACE",
    "DATABASE_SERVICE_NAME",
    "APP_SERVICE_NAME",
    "APP_NAME",
    "GIT_BRANCH",
    "GIT_URL",
    "DOCKER_PTH",
}
ORIGINAL_PARAMETERS = {
    "web": WORKLOAD_PARAMETERS | {"ROUTENAME", "HOSTNAME", "PORTNUMBER"},
    "worker": WORKLOAD_PARAMETERS | {"WORKER_RUNNER"},
}

part_of = pytest.mark.parametrize("part", PARTS)
any_template = pytest.mark.parametrize("part", [*PARTS, *BESIDES])
application_part = pytest.mark.parametrize("part", APPLICATION)
WITH_PODS = [part for part in (*PARTS, "migrate") if part != "secrets"]
with_pods = pytest.mark.parametrize("part", WITH_PODS)
serving = pytest.mark.parametrize("part", [part for part in WITH_PODS if part != "migrate"])
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


SERVERS = ("redis", "postgresql")


def kind_of_part(part: str) -> Part:
    return "web" if part == "web" else "worker"


# --- the templates themselves -------------------------------------------------------------------


@each_file
def test_every_template_belongs_to_a_part(file: Path) -> None:
    assert file in {template_of(part) for part in (*PARTS, *BESIDES)}


@each_file
def test_every_template_is_one_that_a_cluster_would_take(file: Path) -> None:
    jsonschema.validate(read_template(file), TEMPLATE)


@each_file
def test_every_parameter_is_described_and_used(file: Path) -> None:
    template = read_template(file)
    used = {match[1] for match in PLACEHOLDER.finditer(json.dumps(template["objects"]))}
    names = [parameter["name"] for parameter in template["parameters"]]
    assert len(names) == len(set(names))
    assert used <= set(names), "a placeholder without a parameter stays as it stands"
    assert set(names) - used <= set(PLACEHOLDER.findall(json.dumps(template["labels"])))
    for parameter in template["parameters"]:
        assert parameter["displayName"] and parameter["description"].endswith("."), parameter


@pytest.mark.parametrize("name", ["web", "worker"])
def test_the_parameters_of_the_original_go_on_working(name: str) -> None:
    parameters = read_template(TEMPLATES / f"{name}.yaml")["parameters"]
    assert ORIGINAL_PARAMETERS[name] <= {parameter["name"] for parameter in parameters}


@any_template
def test_nothing_but_the_required_parameters_must_be_given(part: str) -> None:
    assert render(part)
    for name in required_of(part):
        with pytest.raises(TemplateError, match=f"parameter {name} is required"):
            render(part, **{name: ""})


def test_a_parameter_of_the_same_name_says_the_same_in_every_template() -> None:
    defaults: dict[str, set[str]] = {}
    for file in FILES:
        for parameter in read_template(file)["parameters"]:
            defaults.setdefault(parameter["name"], set()).add(parameter.get("value", ""))
    of_one_part = {"APP_SERVICE_NAME", "MEMORY_LIMIT", "VOLUME_CAPACITY", "REPLICAS", "GIT_URL"}
    assert {name for name, values in defaults.items() if len(values) > 1} <= of_one_part


def test_secrets_are_new_each_time_and_long() -> None:
    first, second = secret_values(), secret_values()
    for key in ("redis-password", "database-password", "secret-key", "api-token"):
        assert first[key] != second[key]
        assert len(first[key]) >= 32
    assert first["redis.conf"] == f"requirepass {first['redis-password']}\n"


# --- what they become ---------------------------------------------------------------------------


@any_template
def test_every_object_is_one_that_a_cluster_would_take(part: str) -> None:
    for item in render(part):
        assert_valid(item)


@any_template
def test_every_object_is_in_the_project_and_can_be_found_by_its_part(part: str) -> None:
    for item in render(part, APP_NAME="mine"):
        assert item["metadata"]["namespace"] == PROJECT
        labels = item["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "mine"
        assert labels["app.kubernetes.io/instance"] == "mine"
        assert labels["app.kubernetes.io/managed-by"] == "openshift-template"
        assert labels["app.kubernetes.io/name"] == (part if part in SERVERS else "app-srvc")
        if not part.startswith("autoscaling"):
            is_image = item["kind"] in ("BuildConfig", "ImageStream")
            assert labels["app.kubernetes.io/component"] == ("image" if is_image else part)


@serving
def test_selectors_find_the_pods_of_their_own_part_only(part: str) -> None:
    objects = render(part)
    pod = pod_of(part)
    selectors = [the("Deployment", objects)["spec"]["selector"]["matchLabels"]]
    selectors += [item["spec"]["selector"] for item in objects if item["kind"] == "Service"]
    for item in objects:
        if item["kind"] == "PodDisruptionBudget":
            selectors.append(item["spec"]["selector"]["matchLabels"])
        if item["kind"] == "NetworkPolicy":
            selectors.append(item["spec"]["podSelector"]["matchLabels"])
    for constraint in pod["spec"].get("topologySpreadConstraints", []):
        selectors.append(constraint["labelSelector"]["matchLabels"])
    for selector in selectors:
        assert selector.items() <= pod["metadata"]["labels"].items()
        for other in set(WITH_PODS) - {part}:
            assert not selector.items() <= pod_of(other)["metadata"]["labels"].items()


@serving
def test_ports_are_named_where_they_are_used(part: str) -> None:
    objects = render(part)
    ports = {port["name"]: port["containerPort"] for port in container_of(part)["ports"]}
    for service in [item for item in objects if item["kind"] == "Service"]:
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= set(ports)
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        check = container_of(part)[probe]
        action = check.get("httpGet") or check.get("tcpSocket")
        assert action is None or action["port"] in ports


def test_the_route_leads_to_the_service_and_its_port_can_be_chosen() -> None:
    objects = render("web", HOSTNAME="www.example.org", PORTNUMBER="9090", ROUTENAME="front")
    route, service = the("Route", objects), the("Service", objects)
    assert route["metadata"]["name"] == "front"
    assert route["spec"]["host"] == "www.example.org"
    assert route["spec"]["to"]["name"] == service["metadata"]["name"]
    assert route["spec"]["port"]["targetPort"] == service["spec"]["ports"][0]["name"]
    assert service["spec"]["ports"][0]["port"] == 9090
    container = container_of("web", PORTNUMBER="9090")
    assert container["ports"][0]["containerPort"] == 9090
    assert {"name": "PORT", "value": "9090"} in container["env"]


def test_hosts_have_the_names_of_the_services_whatever_they_are_called() -> None:
    names = {"REDIS_SERVICE_NAME": "my-redis", "DATABASE_SERVICE_NAME": "my-db"}
    redis = the("Service", render("redis", REDIS_SERVICE_NAME="my-redis"))
    postgresql = the("Service", render("postgresql", DATABASE_SERVICE_NAME="my-db"))
    for part in APPLICATION:
        variables = environment_in_cluster(part, secret_values(), **names)
        assert variables["RDS_HOST"] == redis["metadata"]["name"] == "my-redis"
        assert variables["PG_HOST"] == postgresql["metadata"]["name"] == "my-db"
        assert int(variables["RDS_PORT"]) == redis["spec"]["ports"][0]["port"]
        assert int(variables["PG_PORT"]) == postgresql["spec"]["ports"][0]["port"]


@with_pods
def test_volumes_are_there_and_each_is_mounted(part: str) -> None:
    objects, spec = render(part), pod_of(part)["spec"]
    mounted = {mount["name"] for mount in spec["containers"][0]["volumeMounts"]}
    assert mounted == {volume["name"] for volume in spec["volumes"]}
    for volume in spec["volumes"]:
        if "persistentVolumeClaim" in volume:
            claim = the("PersistentVolumeClaim", objects)
            assert claim["metadata"]["name"] == volume["persistentVolumeClaim"]["claimName"]
        if "configMap" in volume:
            # That of the authorities is for a Redis and a PostgreSQL elsewhere.
            if volume["configMap"].get("optional", False):
                continue
            name = the("ConfigMap", objects)["metadata"]["name"]
            assert name == volume["configMap"]["name"]
        if "secret" in volume:
            assert {item["key"] for item in volume["secret"]["items"]} <= set(secret_values())


def test_the_append_only_file_of_redis_is_on_the_volume() -> None:
    configuration = the("ConfigMap", render("redis"))["data"]["valkey.conf"].splitlines()
    assert {"appendonly yes", "dir /data", "maxmemory-policy noeviction"} <= set(configuration)
    mounts = {mount["name"]: mount["mountPath"] for mount in container_of("redis")["volumeMounts"]}
    assert mounts["data"] == "/data"


def test_a_real_server_starts_with_the_configuration_of_redis(tmp_path: Path) -> None:
    text = the("ConfigMap", render("redis"))["data"]["valkey.conf"]
    values = secret_values()
    (tmp_path / "redis.conf").write_text(values["redis.conf"])
    (tmp_path / "data").mkdir()
    port = free_port()
    for old, new in (
        ("/etc/valkey-secret/redis.conf", f"{tmp_path}/redis.conf"),
        ("dir /data", f"dir {tmp_path}/data"),
        ("port 6379", f"port {port}"),
        ("bind * -::*", "bind 127.0.0.1"),
    ):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "valkey.conf").write_text(text)
    with subprocess.Popen(
        [str(bundled_server()), str(tmp_path / "valkey.conf")], stdout=subprocess.DEVNULL
    ) as server:
        client = Redis(port=port, password=values["redis-password"], retry=Retry(NoBackoff(), 0))
        try:
            wait_until(lambda: answers(client), 30, what="Valkey answers")
            options = client.config_get("appendonly", "maxmemory", "maxmemory-policy")
            with pytest.raises(AuthenticationError):
                Redis(port=port).ping()
        finally:
            client.close()
            server.terminate()
    assert options["appendonly"] == "yes"
    assert options["maxmemory-policy"] == "noeviction"
    limit = container_of("redis")["resources"]["limits"]["memory"]
    # Rewriting the file may take as much again.
    assert 2 * int(options["maxmemory"]) <= int(limit.removesuffix("Mi")) * 1024 * 1024


def answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisConnectionError:
        return False


# --- security, probes, resources ----------------------------------------------------------------


@with_pods
def test_no_secret_stands_in_clear(part: str) -> None:
    known = secret_values()
    for entry in container_of(part)["env"]:
        if SECRET_NAME.search(entry["name"]):
            reference = entry["valueFrom"]["secretKeyRef"]
            assert reference["key"] in known
            assert reference["name"] == the("Secret", render("secrets"))["metadata"]["name"]


@with_pods
def test_pods_have_no_rights_that_they_do_not_need(part: str) -> None:
    spec = pod_of(part)["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    context = spec["containers"][0]["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    # The image of PostgreSQL writes its own configuration at start.
    assert context.get("readOnlyRootFilesystem", False) is (part != "postgresql")


@with_pods
def test_pods_say_what_they_need_and_how_long_they_take_to_stop(part: str) -> None:
    spec = pod_of(part)["spec"]
    resources = spec["containers"][0]["resources"]
    assert set(resources["requests"]) == set(resources["limits"]) == {"cpu", "memory"}
    assert spec["terminationGracePeriodSeconds"] >= 30


@application_part
def test_a_part_may_wait_as_long_to_start_as_a_migration_may_take(part: str) -> None:
    probe = container_of(part)["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= MIGRATION_S


@application_part
def test_a_drained_node_takes_one_pod_of_a_part_at_a_time(part: str) -> None:
    budget = the("PodDisruptionBudget", render(part))["spec"]
    # With one pod too, and with one that never gets ready, a node can be emptied.
    assert budget["maxUnavailable"] == 1 and "minAvailable" not in budget
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


@application_part
def test_pods_are_spread_over_hosts_and_zones_and_start_where_there_is_but_one(part: str) -> None:
    constraints = pod_of(part)["spec"]["topologySpreadConstraints"]
    assert [one["topologyKey"] for one in constraints] == [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    ]
    assert {one["whenUnsatisfiable"] for one in constraints} == {"ScheduleAnyway"}


def test_a_worker_has_time_to_finish_its_longest_job_and_to_stop() -> None:
    longest_s: dict[str, int] = {}
    for kind in KINDS.values():
        longest_s[kind.queue] = max(longest_s.get(kind.queue, 0), kind.timeout_s)
    queue_of = {
        worker: re.search(r'"(rdsq_\w+)"', (ROOT / f"{worker}.py").read_text())
        for worker in WORKERS
    }
    for worker, found in queue_of.items():
        assert found is not None, f"{worker}.py names no queue"
        # A cycle of a robot has no kind: one that is cut off goes on elsewhere from its last page.
        needed_s = longest_s.get(found[1], 0) + WORKER_STOPS_WITHIN_S
        given_s = pod_of(worker)["spec"]["terminationGracePeriodSeconds"]
        assert given_s >= needed_s, f"{worker}: GRACE_PERIOD_S must be {needed_s} or more"


def test_the_web_part_has_time_for_the_routers_and_for_the_requests_in_hand() -> None:
    spec = pod_of("web")["spec"]
    program, flag, code = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert (program, flag) == ("/opt/app-srvc/bin/python", "-c"), (
        "the image may have no other program"
    )
    sleep = re.fullmatch(r"import time; time\.sleep\((\d+)\)", code)
    assert sleep is not None
    needed_s = int(sleep[1]) + GUNICORN_STOPS_WITHIN_S
    assert spec["terminationGracePeriodSeconds"] > needed_s


@application_part
def test_the_probes_ask_the_paths_of_the_service(part: str) -> None:
    container = container_of(part)
    variables = environment_in_cluster(part, secret_values())
    port = container["ports"][0]
    assert str(port["containerPort"]) == variables["PORT" if part == "web" else "HEALTH_PORT"]
    for probe, path in (
        ("startupProbe", "/health/started"),
        ("livenessProbe", "/health/live"),
        ("readinessProbe", "/health/ready"),
    ):
        assert container[probe]["httpGet"] == {"path": path, "port": port["name"]}
    # A probe from the node reaches the pod's own address, not its loopback.
    assert variables["HOST"] == "0.0.0.0"


# --- the image and the settings -----------------------------------------------------------------


def test_the_migration_runs_the_command_of_the_image_once_and_asks_for_nothing_else() -> None:
    job = the("Job", render("migrate", RELEASE="r7"))
    assert job["metadata"]["name"] == "migrate-r7"
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    command = container_of("migrate")["args"]
    assert command[0] == "app-srvc"
    assert CliRunner().invoke(cli, [*command[1:], "--help"]).exit_code == 0
    first, second = (the("Job", render("migrate"))["metadata"]["name"] for _ in range(2))
    assert first != second, "a Job cannot be changed, so each release has one of its own"


@application_part
def test_who_has_a_job_for_migrations_tells_the_parts_to_wait_for_it(part: str) -> None:
    assert environment_in_cluster(part, secret_values())["DB_UPGRADE_AT_START"] == "true"
    variables = environment_in_cluster(part, secret_values(), DB_UPGRADE_AT_START="false")
    assert not Settings.from_env(variables, kind_of_part(part)).db_upgrade_at_start


@pytest.mark.parametrize("part", [*APPLICATION, "migrate"])
def test_addresses_in_the_secret_are_stronger_than_the_names_of_the_services(part: str) -> None:
    given = {
        "REDIS_URL": "rediss://app:secret@redis.example.org/0?ssl_ca_certs=/etc/app-srvc/ca/ca.crt",
        "DATABASE_URL": "postgresql://app:secret@db1,db2/tododb?target_session_attrs=read-write"
        "&sslmode=verify-full&sslrootcert=/etc/app-srvc/ca/ca.crt",
    }
    variables = environment_in_cluster(part, secret_values(**given))
    part_of_settings: Part = "cli" if part == "migrate" else kind_of_part(part)
    settings = Settings.from_env(variables, part_of_settings)
    assert settings.effective_redis_url is not None
    assert settings.effective_redis_url.get_secret_value() == given["REDIS_URL"]
    database = make_url(settings.effective_database_url.get_secret_value())
    assert database.query["host"] == ("db1:5432", "db2:5432")
    assert database.query["sslrootcert"] == "/etc/app-srvc/ca/ca.crt"
    mounts = {mount["name"]: mount for mount in container_of(part)["volumeMounts"]}
    assert mounts["ca"]["mountPath"] == "/etc/app-srvc/ca"


@application_part
def test_the_environment_has_only_settings_that_the_service_knows(part: str) -> None:
    known = {name.upper() for name in Settings.model_fields}
    assert set(environment_in_cluster(part, secret_values())) <= known


@application_part
def test_the_service_accepts_the_environment_that_it_would_get(part: str) -> None:
    variables = environment_in_cluster(part, secret_values())
    settings = Settings.from_env(variables, kind_of_part(part))
    assert settings.effective_redis_url is not None
    assert settings.effective_redis_url.get_secret_value().endswith("@redis:6379/0")
    assert settings.effective_database_url.get_secret_value().endswith("@postgresql:5432/tododb")


def test_one_worker_template_runs_every_script_that_there_is() -> None:
    scripts = {path.name for path in ROOT.glob("*worker.py")}
    assert scripts == {f"{worker}.py" for worker in WORKERS}
    description = {
        parameter["name"]: parameter["description"]
        for parameter in read_template(TEMPLATES / "worker.yaml")["parameters"]
    }["WORKER_RUNNER"]
    for worker in WORKERS:
        variables = environment_in_cluster(worker, secret_values())
        start = choose_start(variables, ROOT)
        assert Path(start.arguments[1]) == ROOT / f"{worker}.py"
        assert f"{worker}.py" in description


def test_the_number_of_processes_of_each_worker_can_be_chosen() -> None:
    names = {name.upper() for name in Settings.model_fields if name.endswith("_processes")}
    given = dict.fromkeys(names - {"WEB_PROCESSES"}, "7")
    variables = environment_in_cluster("todoworker", secret_values(), **given)
    assert given.items() <= variables.items()


@application_part
def test_a_new_image_of_the_stream_reaches_every_part(part: str) -> None:
    (web_stream,) = [item for item in render("web") if item["kind"] == "ImageStream"]
    deployment = the("Deployment", render(part))
    triggers = json.loads(deployment["metadata"]["annotations"]["image.openshift.io/triggers"])
    jsonschema.validate(triggers, TRIGGERS)
    (trigger,) = triggers
    name = web_stream["metadata"]["name"]
    assert trigger["from"] == {
        "kind": "ImageStreamTag",
        "name": f"{name}:latest",
        "namespace": PROJECT,
    }
    assert f'"{container_of(part)["name"]}"' in trigger["fieldPath"]
    assert trigger["paused"] is False
    assert the("BuildConfig", render("web"))["spec"]["output"]["to"]["name"] == f"{name}:latest"


@application_part
def test_an_image_from_elsewhere_is_kept(part: str) -> None:
    given = {"IMAGE": "registry.example.org/app-srvc:1", "TRIGGER_PAUSED": "true"}
    deployment = the("Deployment", render(part, **given))
    triggers = json.loads(deployment["metadata"]["annotations"]["image.openshift.io/triggers"])
    assert triggers[0]["paused"] is True
    assert container_of(part, **given)["image"] == given["IMAGE"]


def test_the_build_takes_the_source_secret_the_branch_and_the_dockerfile() -> None:
    given = {"SOURCE_SECRET": "mine", "GIT_BRANCH": "v1", "DOCKER_PTH": "docker/Dockerfile"}
    spec = the("BuildConfig", render("web", **given))["spec"]
    assert spec["source"]["sourceSecret"] == {"name": "mine"}
    assert spec["source"]["git"]["ref"] == "v1"
    assert spec["strategy"]["dockerStrategy"]["dockerfilePath"] == "docker/Dockerfile"


# --- the Dockerfile -----------------------------------------------------------------------------


def dockerfile(instruction: str) -> list[str]:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    return re.findall(rf"^{instruction} (.*)$", text, re.MULTILINE)


def test_the_image_is_made_of_what_is_let_into_its_build() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = {
        source
        for line in dockerfile("COPY")
        if not line.startswith("--from")
        for source in line.split()[:-1]
    }
    assert lines[1] == "*"
    assert copied == let_in
    assert {f"{worker}.py" for worker in WORKERS} <= copied
    assert all((ROOT / name).exists() for name in copied)


def test_the_same_base_image_is_the_default_everywhere() -> None:
    (default,) = {line for line in dockerfile("ARG") if line.startswith("BASE_IMAGE")}
    base = default.removeprefix("BASE_IMAGE=")
    build = the("BuildConfig", render("web"))["spec"]["strategy"]["dockerStrategy"]
    assert build["buildArgs"] == [{"name": "BASE_IMAGE", "value": base}]
    assert f"${{BASE_IMAGE:-{base}}}" in (ROOT / "compose.yaml").read_text()


def test_no_shell_stands_before_the_process_and_no_root_runs_it() -> None:
    assert [json.loads(line) for line in dockerfile("ENTRYPOINT")] == [
        ["/opt/app-srvc/bin/python", "-m", "app_srvc.container"]
    ]
    assert dockerfile("USER")[-1] == "1001"


def test_everything_that_is_installed_is_checked_by_its_hash() -> None:
    installs = [line for line in dockerfile("RUN") if "install" in line]
    commands = [
        command for line in installs for command in line.split("&&") if " install " in command
    ]
    assert len(commands) == 3
    for command in commands:
        assert "--require-hashes" in command or "--no-index" in command
    for name in ("requirements.txt", "requirements-build.txt"):
        pins = re.findall(
            r"^\S+==\S+.*(?:\n    --hash=.*)*", (ROOT / name).read_text(), re.MULTILINE
        )
        assert pins
        assert all("--hash=sha256:" in pin for pin in pins)


# --- the renderer: what these tests rest on -----------------------------------------------------


def write_template(folder: Path, item: str, *parameters: Object) -> Path:
    file = folder / "template.yaml"
    file.write_text(
        "apiVersion: template.openshift.io/v1\nkind: Template\n"
        f"parameters: {json.dumps(parameters)}\nobjects:\n  - metadata: {{name: x}}\n    {item}\n"
    )
    return file


def test_a_reference_in_text_stays_text_and_a_double_one_becomes_a_value(tmp_path: Path) -> None:
    item = "spec: {text: '${N}', number: '${{N}}', mixed: 'a-${{N}}', unknown: '${M}'}"
    file = write_template(tmp_path, item, {"name": "N", "value": "3"})
    (made,) = process(file, {})
    assert made["spec"] == {"text": "3", "number": 3, "mixed": "a-${{N}}", "unknown": "${M}"}


def test_a_namespace_that_is_no_parameter_is_taken_away(tmp_path: Path) -> None:
    file = tmp_path / "template.yaml"
    file.write_text(
        "apiVersion: template.openshift.io/v1\nkind: Template\nparameters: []\n"
        "objects: [{metadata: {name: x, namespace: fixed}}]\n"
    )
    (made,) = process(file, {})
    assert "namespace" not in made["metadata"]


def test_what_oc_refuses_is_refused(tmp_path: Path) -> None:
    file = write_template(tmp_path, "spec: {n: '${{N}}'}", {"name": "N", "required": True})
    with pytest.raises(TemplateError, match="unknown parameter name"):
        process(file, {"N": "1", "OTHER": "2"})
    with pytest.raises(TemplateError, match="is required"):
        process(file, {})
    with pytest.raises(TemplateError, match="not a JSON value"):
        process(file, {"N": "three"})


def test_a_generated_value_fits_its_expression(tmp_path: Path) -> None:
    generated = {"name": "N", "generate": "expression", "from": r"user-[a-c0-9]{40}[\d]{2}"}
    (made,) = process(write_template(tmp_path, "spec: {n: '${N}'}", generated), {})
    assert re.fullmatch(r"user-[a-c0-9]{40}\d{2}", made["spec"]["n"])
    (given,) = process(tmp_path / "template.yaml", {"N": "mine"})
    assert given["spec"]["n"] == "mine"
