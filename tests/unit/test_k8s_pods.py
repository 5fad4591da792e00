"""The pods of deploy/k8s: times of CronJobs, commands, settings, ports, and permissions."""

from __future__ import annotations

import itertools
import json
import re
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from deploy.write_pods import SETTINGS
from irt_assets.common.job_names import NIGHTLY_JOB
from irt_assets.servers import SERVERS
from jobs.plans import PLANS, Plan
from resources.serving.service_manager import service_address
from resources.settings import Settings, known_names
from tests.helpers.written_commands import fault_of_irt
from tests.unit.kubernetes_files import CRON_JOBS, K8S, PODS, Pod, containers, documents, names, objects, pods

ROOT = K8S.parents[1]
USER = 10001
OF_THE_R_SERVICE = re.compile(r"R_IRT_\w+")
ZONES = {"Etc/UTC": "UTC"}


# CronJobs


def command(pod: Pod) -> list[str]:
    return list(pod.spec["containers"][0]["args"])


def cron_jobs_of(job: str) -> list[str]:
    return [name for name in CRON_JOBS if command(PODS[name])[:3] == ["irt", "job", job]]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.job)
def test_every_schedule_has_a_cron_job_at_its_time(plan: Plan) -> None:
    found = cron_jobs_of(plan.documents_name)
    (active,) = [name for name in found if not CRON_JOBS[name]["spec"]["suspend"]]
    assert set(found) - {active} == ({"mirt-calibrate"} if plan.job == NIGHTLY_JOB else set())
    for name in found:
        spec = CRON_JOBS[name]["spec"]
        assert ZONES.get(spec["timeZone"], spec["timeZone"]) == plan.zone
        # If a change of clocks skips the hour, the next hour is used, see below.
        assert spec["schedule"].replace(" 2,3 ", " 2 ") == plan.cron


def test_cron_jobs_exist_only_for_schedules_and_the_backup() -> None:
    planned = {name for plan in PLANS for name in cron_jobs_of(plan.documents_name)}
    assert set(CRON_JOBS) - planned == {"irt-backup"}
    assert CRON_JOBS["irt-backup"]["spec"]["suspend"]


def fires(schedule: str, zone: str, begin: datetime, days: int) -> list[datetime]:
    """Return the times at which a CronJob with minutes and hours alone fires, by the rules of robfig/cron."""
    minute, hours = int(schedule.split()[0]), {int(hour) for hour in schedule.split()[1].split(",")}
    assert schedule.split()[2:] == ["*", "*", "*"]
    every = (begin + timedelta(minutes=passed) for passed in range(days * 24 * 60))
    local = ((time, time.astimezone(ZoneInfo(zone))) for time in every)
    return [time for time, local_time in local if local_time.minute == minute and local_time.hour in hours]


@pytest.mark.parametrize(
    ("begin", "hours"),
    [
        ("2027-03-12", [7, 7, 7, 6]),  # 14 March 2027 has no 02:00 in New York, and its 03:00 is 07:00 UTC
        ("2027-11-05", [6, 6, 7, 7]),  # 7 November 2027 has 01:00 twice
        ("2028-03-10", [7, 7, 7, 6]),
    ],
)
def test_invariants_are_checked_every_night_if_clocks_change(begin: str, hours: list[int]) -> None:
    spec = CRON_JOBS["invariants"]["spec"]
    times = fires(spec["schedule"], spec["timeZone"], datetime.fromisoformat(f"{begin}T00:00:00+00:00"), 4)
    first = [min(group) for _, group in itertools.groupby(times, key=lambda time: time.date())]
    assert [time.hour for time in first] == hours
    assert all(time.date() == (first[0] + timedelta(days=day)).date() for day, time in enumerate(first))


def test_cron_jobs_except_the_invariants_are_in_utc() -> None:
    assert {spec["timeZone"] for name in CRON_JOBS if name != "invariants" for spec in [CRON_JOBS[name]["spec"]]} == {
        "Etc/UTC"
    }


def test_cron_jobs_differ_only_in_name_schedule_command_and_deadline() -> None:
    """Every file can be applied alone, so the common part is repeated in all files."""

    def common(cron_job: dict[str, Any]) -> str:
        found = json.loads(json.dumps(cron_job))
        spec = found["spec"]
        job, pod = spec["jobTemplate"]["spec"], spec["jobTemplate"]["spec"]["template"]["spec"]
        for owner, own in (
            (found["metadata"], ["name"]),
            (spec, ["schedule", "timeZone", "suspend", "startingDeadlineSeconds"]),
        ):
            for name in own:
                owner.pop(name)
        job.pop("activeDeadlineSeconds")
        (container,) = pod["containers"]
        container.pop("args")
        container["env"] = [one for one in container["env"] if one["name"] != "IRT_RUN_KEY"]
        pod["volumes"] = [{**one, "emptyDir": sorted(one["emptyDir"])} for one in pod["volumes"]]
        return json.dumps(found, sort_keys=True).replace(cron_job["metadata"]["name"], "NAME")

    assert len({common(one) for one in CRON_JOBS.values()}) == 1
    (any_one, *_) = CRON_JOBS.values()
    spec = any_one["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    late = {name: one["spec"]["startingDeadlineSeconds"] / 3600 for name, one in CRON_JOBS.items()}
    assert late.pop("generate-weekly-report") == 48
    assert set(late.values()) == {1}
    job = spec["jobTemplate"]["spec"]
    assert job["backoffLimit"] == 3
    (final, disrupted) = job["podFailurePolicy"]["rules"]
    assert (final["action"], final["onExitCodes"]["values"]) == ("FailJob", [1, 3])  # a retry would not help
    assert final["onExitCodes"]["containerName"] == job["template"]["spec"]["containers"][0]["name"]
    assert disrupted["action"] == "Ignore"
    assert spec["jobTemplate"]["spec"]["template"]["spec"]["restartPolicy"] == "Never"


@pytest.mark.parametrize("name", CRON_JOBS)
def test_cron_job_has_its_label_and_a_key_that_prevents_a_second_run(name: str) -> None:
    template = CRON_JOBS[name]["spec"]["jobTemplate"]
    for labels in (CRON_JOBS[name]["metadata"]["labels"], template["metadata"]["labels"], PODS[name].labels):
        assert labels["cronjob"] == name
    (container,) = PODS[name].containers
    keys = [one["valueFrom"]["fieldRef"]["fieldPath"] for one in container["env"] if one["name"] == "IRT_RUN_KEY"]
    assert keys == (["metadata.labels['batch.kubernetes.io/job-name']"] if "job" in container["args"] else [])


# Commands of pods


def test_every_command_of_a_container_is_accepted_by_irt() -> None:
    servers = set()
    for location, container in containers():
        words = container.get("args", [])
        if words[:2] == ["sh", "-c"]:
            words = re.fullmatch(r"until (.*); do sleep \d+; done", words[2])[1].split()  # type: ignore[index]
        if container["image"] == "irt-assets":
            assert (words[0], fault_of_irt(words[1:])) == ("irt", ""), location
            servers |= {words[2]} if words[1] == "run" else set()
        probes = [container[kind]["exec"]["command"] for kind in PROBES if "exec" in container.get(kind, {})]
        for probe in probes:
            assert (probe[:3], fault_of_irt(probe[1:])) == (["irt", "health", "--probe"], ""), location
    assert servers == set(SERVERS)


def environment(container: dict[str, Any]) -> dict[str, Any]:
    (settings,) = [one["data"] for one in objects("ConfigMap") if one["metadata"]["name"] == "irt-settings"]
    return {**settings, **{one["name"]: one.get("value") for one in container.get("env", [])}}


def test_every_environment_variable_is_a_setting() -> None:
    known = known_names()
    for location, container in containers():
        given = environment(container)
        if container["image"] == "r-irt-plumber":
            given = {name for name in given if not OF_THE_R_SERVICE.fullmatch(name)} - {*environment({})}
        assert set(given) <= known, location


def test_every_container_with_the_database_reads_all_settings_of_the_installation() -> None:
    """In a database with two installations, only IRT_DB_SCHEMA in irt-config distinguishes them."""
    shared = yaml.safe_load(SETTINGS)
    for location, container in containers():
        if "DATABASE_URL" in environment(container):
            assert container["envFrom"][: len(shared)] == shared, location


def test_pods_that_pull_or_run_commands_contain_the_file_of_sources() -> None:
    """Covers the code server, which pulls, and the daemon's pod, in which people pull and erase learners."""
    mounted = {
        name
        for name, pod in PODS.items()
        for container in pod.spec["containers"]
        for mount in container["volumeMounts"]
        if mount["name"] == "sources" and mount["mountPath"] == "/etc/irt"
    }
    assert mounted == {"irt-code-server", "dagster-daemon"}


PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
COMMAND_CPU_S = 1.1
"""CPU seconds of a probe that is a command of `irt`. On a busy node the pod gets only the CPU that it requests."""
CPU = re.compile(r"(\d+)m")
PACKAGES = {
    "theta-api": "theta_api",
    "exporter": "exporter",
    "dashboard": "dashboard",
    "jwt-verifier": "jwt_verifier",
}


@pytest.mark.parametrize(
    "pod", [pod for pod in pods() if pod.spec.get("containers")[0].get("ports")], ids=lambda p: p.name
)
def test_ports_and_probed_paths_are_served_by_the_code(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    container = pod.spec["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    given = environment(container)
    probes = [container[kind]["httpGet"] for kind in PROBES if "httpGet" in container.get(kind, {})]
    if container["name"] == "r-service":
        assert set(ports.values()) == {8000}
        source = (ROOT / "services" / "r_irt" / "plumber.R").read_text()
    elif container["name"] == "code-server":
        assert given["IRT_CODE_SERVER"] == f"irt-code-server:{ports['grpc']}"
        assert {container[kind]["grpc"]["port"] for kind in PROBES if kind in container} == {ports["grpc"]}
        return
    elif container["name"] == "webserver":
        assert ports == {"http": Settings(_env_file=None).irt_ui_port}
        return
    else:
        package = PACKAGES[container["name"]]
        for name, value in given.items():
            if value is not None:
                monkeypatch.setenv(name, value)
        address = service_address(package, Settings(_env_file=None))
        listening = int(address.rpartition(":")[2])
        assert listening in ports.values()
        metrics = int(given.get("PROMETHEUS_METRICS_PORT", 0))
        assert set(ports.values()) <= {listening, metrics}
        assert {ports.get(page["port"]) for page in probes} == {listening}
        assert given.get("IRT_THETA_HOST", "") == "0.0.0.0" or container["args"][-2:] == ["--host", "0.0.0.0"]
        source = "".join(path.read_text() for path in (ROOT / "services" / package).glob("*.py"))
    assert probes
    for page in probes:
        assert re.search(rf'["\s]{page["path"]}["\s]', source), page


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_servers_have_probes_with_sufficient_timeouts(pod: Pod) -> None:
    if pod.name in names("Deployment"):
        container = pod.spec["containers"][0]
        assert {"startupProbe", "readinessProbe"} <= set(container)
        # Only a process that does not serve its own page has certainly hung. A missing database must not restart pods.
        assert "exec" not in container.get("livenessProbe", {})
        granted = CPU.fullmatch(container["resources"]["requests"]["cpu"])
        for probe in (container[kind] for kind in PROBES if "exec" in container.get(kind, {})):
            assert granted is not None
            assert probe["timeoutSeconds"] * int(granted[1]) / 1000 > 3 * COMMAND_CPU_S


def test_daemon_runs_in_a_single_pod() -> None:
    (daemon,) = [one for one in objects("Deployment") if one["metadata"]["name"] == "dagster-daemon"]
    assert daemon["spec"]["replicas"] == 1
    assert daemon["spec"]["strategy"] == {"type": "Recreate"}
    assert PODS["dagster-daemon"].spec["containers"][0]["name"] == "daemon"


def test_daemon_pod_has_volumes_large_enough_for_runs() -> None:
    sizes = {
        one["name"]: one["emptyDir"]["sizeLimit"] for one in PODS["dagster-daemon"].spec["volumes"] if "emptyDir" in one
    }
    assert sizes == {"home": "20Gi", "cache": "4Gi", "tmp": "10Gi"}


# Security


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_pods_meet_the_restricted_security_standard_and_are_read_only(pod: Pod) -> None:
    """Pods meet Kubernetes' Pod Security Standard "restricted", and write only to their volumes."""
    spec = pod.spec
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert spec["enableServiceLinks"] is False  # otherwise the Service irt-code-server sets IRT_CODE_SERVER_…
    written = [volume for volume in spec["volumes"] if "secret" not in volume]
    assert all(set(volume) == {"name", "emptyDir"} and volume["emptyDir"]["sizeLimit"] for volume in written)
    writable = {volume["name"] for volume in written}
    for container in pod.containers:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")} == writable
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
        assert not any("hostPort" in port for port in container.get("ports", []))


@pytest.mark.parametrize(
    ("image", "file"), [("irt-assets", "Dockerfile"), ("r-irt-plumber", "r-service.Dockerfile")], ids=["platform", "R"]
)
def test_folders_for_home_and_caches_of_an_image_are_mounted(image: str, file: str) -> None:
    """The image's Dockerfile sets the folders of home and caches, and the user."""
    text = (ROOT / "deploy" / "docker" / file).read_text()
    assert re.findall(r"^USER (.*)$", text, re.M) == [f"{USER}:{USER}"]
    written = set(re.findall(r"(/(?:var|tmp)[\w/]*)", " ".join(re.findall(r"^(?:ENV +| +)\w+=(\S+)", text, re.M))))
    assert written
    for location, container in containers():
        if container["image"] == image:
            mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
            assert all(any(f"{path}/".startswith(f"{one}/") for one in mounted) for path in written), location


def test_only_pods_that_start_runs_have_a_service_account_token() -> None:
    trusted = {pod.name for pod in PODS.values() if pod.spec["automountServiceAccountToken"]}
    assert trusted == {"dagster-daemon", "dagster-webserver"}
    accounts = {pod.name for pod in PODS.values() if "serviceAccountName" in pod.spec}
    assert accounts == trusted
    (account,) = objects("ServiceAccount")
    assert account["automountServiceAccountToken"] is False
    assert names("ClusterRole") == set()
    (role,) = objects("Role")
    allowed = {
        (group, resource, verb)
        for rule in role["rules"]
        for group, resource, verb in itertools.product(rule["apiGroups"], rule["resources"], rule["verbs"])
    }
    assert allowed == {
        *(("batch", "jobs", verb) for verb in ("create", "list", "delete")),
        ("batch", "jobs/status", "get"),
        *(("", "pods", verb) for verb in ("list", "delete")),
        ("", "pods/log", "get"),
        ("", "events", "list"),
    }


def test_overlays_set_the_image_of_runs_to_the_image_of_the_code_server() -> None:
    """Kustomize replaces names and tags of images only in containers."""
    for overlay in (K8S / "overlays").iterdir():
        (kustomization,) = documents(overlay / "kustomization.yaml")
        assert kustomization["transformers"] == ["../../run-image"]
    (transformer,) = documents(K8S / "run-image" / "run-image.yaml")
    (replacement,) = transformer["replacements"]
    (target,) = replacement["targets"]
    assert replacement["source"]["name"] == target["select"]["name"] == "irt-code-server"
    (container,) = PODS["irt-code-server"].spec["containers"]
    here = f"spec.template.spec.containers.[name={container['name']}]"
    assert replacement["source"]["fieldPath"] == f"{here}.image"
    assert target["fieldPaths"] == [f"{here}.env.[name=DAGSTER_CURRENT_IMAGE].value"]
    assert {"name": "DAGSTER_CURRENT_IMAGE", "value": container["image"]} in container["env"]


def test_pod_of_a_run_uses_the_entry_point_of_the_image() -> None:
    (settings,) = [one["data"] for one in objects("ConfigMap") if one["metadata"]["name"] == "irt-settings"]
    launcher = yaml.safe_load(settings["IRT_RUN_LAUNCHER_CONFIG"])
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", (ROOT / "deploy/docker/Dockerfile").read_text(), re.M)
    command = launcher["run_k8s_config"]["container_config"]["command"]
    assert command == [*json.loads(entry), "irt", "run", "worker"]
    assert launcher["service_account_name"] in names("ServiceAccount")
