"""The files of deploy/k8s: that they agree with each other, with the code, and with the names that people know."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from irt_assets.cli_servers import Server
from irt_assets.job_names import NIGHTLY_JOB
from jobs.plans import PLANS, Plan
from resources.service_manager import service_address
from resources.settings import Settings, names_read
from tests.unit.kubernetes_files import (
    CONTAINERS,
    CRON,
    K8S,
    Pod,
    documents,
    kustomizations,
    objects,
    pods,
    resources,
    selects,
)
from tests.written_commands import fault_of_irt

ROOT = K8S.parents[1]
DOCS = ROOT / "docs" / "deploy-kubernetes.md"
USER = 10001
CRON_JOBS = {one["metadata"]["name"]: one for one in objects("CronJob")}
PODS = {pod.name: pod for pod in pods()}
OF_THE_R_SERVICE = re.compile(r"R_IRT_\w+")
ZONES = {"Etc/UTC": "UTC"}
DOCUMENTED = {
    "CronJob": {
        "calibrate-irt-nightly",
        "mirt-calibrate",
        "aggregate-features-daily",
        "compute-daily-kpis",
        "generate-weekly-report",
        "detect-inactivity",
    },
    "Deployment": {"seedtest-api", "r-irt-plumber"},
    "Service": {"seedtest-api", "r-irt-plumber"},
    "ServiceMonitor": {"seedtest-cronjobs"},
    "ExternalSecret": {"seedtest-db-credentials", "r-irt-credentials", "aws-s3-credentials"},
}
"""Objects by the names that the documents of the platform before have for them."""


def names(kind: str) -> set[str]:
    return {one["metadata"]["name"] for one in objects(kind)}


def containers() -> Iterator[tuple[str, dict[str, Any]]]:
    for pod in PODS.values():
        for container in pod.containers:
            yield f"{pod.name}/{container['name']}", container


def test_every_file_is_named_where_it_belongs_and_no_other() -> None:
    for folder in kustomizations():
        (kustomization,) = documents(folder / "kustomization.yaml")
        named = {folder / name for part in ("resources", "components") for name in kustomization.get(part, [])}
        named |= {folder / patch["path"] for patch in kustomization.get("patches", []) if "path" in patch}
        assert all(path.exists() for path in named), folder
        assert {path for path in named if path.is_file()} == {*folder.glob("*.yaml")} - {folder / "kustomization.yaml"}
    built = {path.resolve() for folder in kustomizations() for path in resources(folder) if path.is_dir()}
    assert built == {K8S / "base"}


def test_the_names_that_people_know() -> None:
    for kind, wanted in DOCUMENTED.items():
        assert wanted <= names(kind)
    (api,) = [one for one in objects("Service") if one["metadata"]["name"] == "seedtest-api"]
    assert api["metadata"]["labels"]["app"] == "seedtest-api"
    assert [(port["name"], port["port"]) for port in api["spec"]["ports"]] == [("http", 80), ("metrics", 9090)]
    (r_service,) = [one for one in objects("Service") if one["metadata"]["name"] == "r-irt-plumber"]
    assert [port["port"] for port in r_service["spec"]["ports"]] == [80]
    for name in ("seedtest-api", "r-irt-plumber"):
        assert PODS[name].labels["app"] == name
    assert (CRON / "calibrate-irt.yaml").is_file()
    for name in DOCUMENTED["CronJob"] - {"calibrate-irt-nightly"}:
        assert (CRON / f"{name}.yaml").is_file()


# CronJobs


def command(pod: Pod) -> list[str]:
    return list(pod.spec["containers"][0]["args"])


def asks_for(job: str) -> list[str]:
    return [name for name in CRON_JOBS if command(PODS[name])[:3] == ["irt", "job", job]]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.job)
def test_every_schedule_has_a_cron_job_at_its_time(plan: Plan) -> None:
    found = asks_for(plan.job)
    (active,) = [name for name in found if not CRON_JOBS[name]["spec"]["suspend"]]
    assert set(found) - {active} == ({"mirt-calibrate"} if plan.job == NIGHTLY_JOB else set())
    for name in found:
        spec = CRON_JOBS[name]["spec"]
        assert ZONES.get(spec["timeZone"], spec["timeZone"]) == plan.zone
        # An hour that a change of clocks leaves out has a second chance, see below.
        assert spec["schedule"].replace(" 2,3 ", " 2 ") == plan.cron


def test_there_is_no_cron_job_for_anything_else() -> None:
    planned = {name for plan in PLANS for name in asks_for(plan.job)}
    assert set(CRON_JOBS) - planned == {"irt-backup"}
    assert CRON_JOBS["irt-backup"]["spec"]["suspend"]


def fires(schedule: str, zone: str, begin: datetime, days: int) -> list[datetime]:
    """When a CronJob with minutes and hours alone fires: at each time that exists and is named, as robfig/cron."""
    minute, hours = int(schedule.split()[0]), {int(hour) for hour in schedule.split()[1].split(",")}
    assert schedule.split()[2:] == ["*", "*", "*"]
    every = (begin + timedelta(minutes=passed) for passed in range(days * 24 * 60))
    local = ((time, time.astimezone(ZoneInfo(zone))) for time in every)
    return [time for time, there in local if there.minute == minute and there.hour in hours]


@pytest.mark.parametrize(
    ("begin", "hours"),
    [
        ("2027-03-12", [7, 7, 7, 6]),  # 14 March 2027 has no 02:00 in New York, and its 03:00 is 07:00 UTC
        ("2027-11-05", [6, 6, 7, 7]),  # 7 November 2027 has 01:00 twice
        ("2028-03-10", [7, 7, 7, 6]),
    ],
)
def test_the_invariants_are_looked_at_every_night_of_the_year(begin: str, hours: list[int]) -> None:
    spec = CRON_JOBS["invariants"]["spec"]
    times = fires(spec["schedule"], spec["timeZone"], datetime.fromisoformat(f"{begin}T00:00:00+00:00"), 4)
    first = [min(group) for _, group in itertools.groupby(times, key=lambda time: time.date())]
    assert [time.hour for time in first] == hours
    assert all(time.date() == (first[0] + timedelta(days=day)).date() for day, time in enumerate(first))


def test_the_other_cron_jobs_know_no_change_of_clocks() -> None:
    assert {spec["timeZone"] for name in CRON_JOBS if name != "invariants" for spec in [CRON_JOBS[name]["spec"]]} == {
        "Etc/UTC"
    }


def test_cron_jobs_differ_in_what_they_do_alone() -> None:
    """Each file applies alone, so it repeats what all have."""

    def common(cron_job: dict[str, Any]) -> str:
        found = json.loads(json.dumps(cron_job))
        spec = found["spec"]
        job, pod = spec["jobTemplate"]["spec"], spec["jobTemplate"]["spec"]["template"]["spec"]
        for owner, names in (
            (found["metadata"], ["name"]),
            (spec, ["schedule", "timeZone", "suspend", "startingDeadlineSeconds"]),
        ):
            for name in names:
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
    assert late.pop("monthly-calibration") == 240  # else a month waits for the next one's
    assert late.pop("generate-weekly-report") == 48
    assert set(late.values()) == {1}
    job = spec["jobTemplate"]["spec"]
    assert job["backoffLimit"] == 3
    (final, disrupted) = job["podFailurePolicy"]["rules"]
    assert (final["action"], final["onExitCodes"]["values"]) == ("FailJob", [1])  # the answer is no
    assert final["onExitCodes"]["containerName"] == job["template"]["spec"]["containers"][0]["name"]
    assert disrupted["action"] == "Ignore"
    assert spec["jobTemplate"]["spec"]["template"]["spec"]["restartPolicy"] == "Never"


@pytest.mark.parametrize("name", CRON_JOBS)
def test_a_cron_job_is_found_by_its_label_and_submits_once(name: str) -> None:
    template = CRON_JOBS[name]["spec"]["jobTemplate"]
    for labels in (CRON_JOBS[name]["metadata"]["labels"], template["metadata"]["labels"], PODS[name].labels):
        assert labels["cronjob"] == name
    (container,) = PODS[name].containers
    keys = [one["valueFrom"]["fieldRef"]["fieldPath"] for one in container["env"] if one["name"] == "IRT_RUN_KEY"]
    assert keys == (["metadata.labels['batch.kubernetes.io/job-name']"] if "job" in container["args"] else [])


# What pods run


def test_every_command_is_one_of_irt() -> None:
    servers = set()
    for where, container in containers():
        words = container.get("args", [])
        if words[:2] == ["sh", "-c"]:
            words = re.fullmatch(r"until (.*); do sleep \d+; done", words[2])[1].split()  # type: ignore[index]
        if container["image"] == "irt-assets":
            assert (words[0], fault_of_irt(words[1:])) == ("irt", ""), where
            servers |= {words[2]} if words[1] == "run" else set()
        probes = [container[kind]["exec"]["command"] for kind in PROBES if "exec" in container.get(kind, {})]
        for probe in probes:
            assert (probe[:3], fault_of_irt(probe[1:])) == (["irt", "health", "--probe"], ""), where
    assert servers == set(Server)


def environment(container: dict[str, Any]) -> dict[str, Any]:
    (settings,) = [one["data"] for one in objects("ConfigMap") if one["metadata"]["name"] == "irt-settings"]
    return {**settings, **{one["name"]: one.get("value") for one in container.get("env", [])}}


def test_every_variable_is_a_setting() -> None:
    known = names_read()
    for where, container in containers():
        given = environment(container)
        if container["image"] == "r-irt-plumber":
            given = {name for name in given if not OF_THE_R_SERVICE.fullmatch(name)} - {*environment({})}
        assert set(given) <= known, where


PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
PACKAGES = {
    "theta-api": "theta_api",
    "exporter": "exporter",
    "dashboard": "dashboard",
    "jwt-verifier": "jwt_verifier",
}


@pytest.mark.parametrize(
    "pod", [pod for pod in pods() if pod.spec.get("containers")[0].get("ports")], ids=lambda p: p.name
)
def test_ports_and_pages_are_those_of_the_code(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    container = pod.spec["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    given = environment(container)
    asked = [container[kind]["httpGet"] for kind in PROBES if "httpGet" in container.get(kind, {})]
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
        assert {ports.get(page["port"]) for page in asked} == {listening}
        assert given.get("IRT_THETA_HOST", "") == "0.0.0.0" or container["args"][-2:] == ["--host", "0.0.0.0"]
        source = "".join(path.read_text() for path in (ROOT / "services" / package).glob("*.py"))
    assert asked
    for page in asked:
        assert re.search(rf'["\s]{page["path"]}["\s]', source), page


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_what_serves_can_say_that_it_is_well(pod: Pod) -> None:
    if pod.name in names("Deployment"):
        container = pod.spec["containers"][0]
        assert {"startupProbe", "readinessProbe"} <= set(container)
        # A hang is certain where the process's own page is silent; a database that is away restarts nobody.
        assert "exec" not in container.get("livenessProbe", {})


def test_there_is_one_daemon() -> None:
    (daemon,) = [one for one in objects("Deployment") if one["metadata"]["name"] == "dagster-daemon"]
    assert daemon["spec"]["replicas"] == 1
    assert daemon["spec"]["strategy"] == {"type": "Recreate"}
    assert PODS["dagster-daemon"].spec["containers"][0]["name"] == "daemon"  # the pods of runs are copies of it


def test_a_run_finds_room_in_the_copy_of_the_daemon_s_pod() -> None:
    sizes = {one["name"]: one["emptyDir"]["sizeLimit"] for one in PODS["dagster-daemon"].spec["volumes"]}
    assert sizes == {"home": "20Gi", "cache": "4Gi", "tmp": "10Gi"}


# Security


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_pods_are_restricted(pod: Pod) -> None:
    """Kubernetes' Pod Security Standard "restricted", and more: nothing is written outside the volumes."""
    spec = pod.spec
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert spec["enableServiceLinks"] is False  # else the Service irt-code-server sets IRT_CODE_SERVER_…
    assert all(set(volume) == {"name", "emptyDir"} and volume["emptyDir"]["sizeLimit"] for volume in spec["volumes"])
    writable = {volume["name"] for volume in spec["volumes"]}
    for container in pod.containers:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {mount["name"] for mount in container["volumeMounts"]} == writable
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
        assert not any("hostPort" in port for port in container.get("ports", []))


@pytest.mark.parametrize(
    ("image", "file"), [("irt-assets", "Dockerfile"), ("r-irt-plumber", "r-service.Dockerfile")], ids=["platform", "R"]
)
def test_what_an_image_writes_to_is_mounted(image: str, file: str) -> None:
    """Its file says where home and caches are, and who it runs as."""
    text = (ROOT / "deploy" / "docker" / file).read_text()
    assert re.findall(r"^USER (.*)$", text, re.M) == [f"{USER}:{USER}"]
    written = set(re.findall(r"(/(?:var|tmp)[\w/]*)", " ".join(re.findall(r"^(?:ENV +| +)\w+=(\S+)", text, re.M))))
    assert written
    for where, container in containers():
        if container["image"] == image:
            mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
            assert all(any(f"{path}/".startswith(f"{one}/") for one in mounted) for path in written), where


def test_only_who_starts_runs_has_a_token() -> None:
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
        *(("batch", "jobs", verb) for verb in ("create", "get", "delete")),
        *(("", "pods", verb) for verb in ("get", "list")),
    }


def made_by_hand(kind: str) -> dict[str, set[str]]:
    """Secrets or ConfigMaps that the page tells to make, with their keys."""
    text = DOCS.read_text().replace("\\\n", " ")
    commands = re.findall(rf"create {kind} (\S+)((?: +--from-literal=\S+)+)", text)
    found: dict[str, set[str]] = {}
    for name, literals in commands:
        found.setdefault(name, set()).update(re.findall(r"--from-literal=(\w+)=", literals))
    return found


def test_every_secret_and_its_key_is_made_somewhere() -> None:
    by_hand = made_by_hand("secret generic")
    stored = {
        one["spec"]["target"]["name"]: {item["secretKey"] for item in one["spec"]["data"]}
        for one in objects("ExternalSecret")
    }
    for where, container in containers():
        for source in container.get("envFrom", []):
            if "secretRef" in source:
                assert source["secretRef"]["name"] in by_hand, where
                assert source["secretRef"]["optional"] is True, where
        references = [
            one["valueFrom"]["secretKeyRef"]
            for one in container.get("env", [])
            if "valueFrom" in one and "secretKeyRef" in one["valueFrom"]
        ]
        for reference in references:
            for made in (by_hand, stored):
                assert reference["key"] in made[reference["name"]], where
    assert {name: by_hand[name] for name in stored} == stored


def test_every_config_map_is_made_somewhere() -> None:
    known = set(made_by_hand("configmap")) | names("ConfigMap")
    used = {
        source["configMapRef"]["name"]
        for _, one in containers()
        for source in one.get("envFrom", [])
        if "configMapRef" in source
    }
    assert used <= known
    for keys in (*made_by_hand("configmap").values(), *made_by_hand("secret generic").values()):
        assert keys <= names_read() | {"token", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"}


# The network


def test_services_and_policies_reach_ports_that_exist() -> None:
    def ports_of(selector: dict[str, Any]) -> set[int | str]:
        selected = [pod for pod in PODS.values() if selects(selector, pod.labels)]
        assert selected, selector
        return {
            one[key]
            for pod in selected
            for port in pod.spec["containers"][0].get("ports", [])
            for one in [port]
            for key in ("name", "containerPort")
        }

    for service in objects("Service"):
        reached = ports_of({"matchLabels": service["spec"]["selector"]})
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= reached, service["metadata"]["name"]
    for policy in objects("NetworkPolicy"):
        reached = ports_of(policy["spec"]["podSelector"])
        opened = {port["port"] for rule in policy["spec"].get("ingress", []) for port in rule["ports"]}
        assert opened <= reached, policy["metadata"]["name"]
    for budget in objects("PodDisruptionBudget"):
        assert ports_of(budget["spec"]["selector"])


def test_every_pod_of_ours_is_closed_and_only_ours_reach_the_code_server() -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in objects("NetworkPolicy")}
    closed = policies["irt-nobody-enters"]
    assert "ingress" not in closed
    assert all(selects(closed["podSelector"], pod.labels) for pod in PODS.values())
    (rule,) = policies["irt-code-server"]["ingress"]
    (who,) = rule["from"]
    let_in = {name for name, pod in PODS.items() if selects(who["podSelector"], pod.labels)}
    assert let_in == {"dagster-daemon", "dagster-webserver", *CRON_JOBS}


# Monitoring


def test_the_rules_are_those_of_prometheus() -> None:
    (rule,) = objects("PrometheusRule")
    (source,) = documents(ROOT / "deploy" / "prometheus" / "rules.yml")
    assert rule["spec"] == source


def test_every_page_of_metrics_is_scraped() -> None:
    monitors = {one["metadata"]["name"]: one["spec"] for one in objects("ServiceMonitor")}
    found = set()
    for spec in monitors.values():
        (endpoint,) = spec["endpoints"]
        for service in objects("Service"):
            ports = {port["name"] for port in service["spec"]["ports"]}
            if selects(spec["selector"], service["metadata"]["labels"]):
                assert endpoint["port"] in ports
                found.add(service["metadata"]["name"])
    assert found == {"seedtest-api", "irt-exporter", "shiny-dashboard", "jwt-verifier"}
    assert monitors["seedtest-cronjobs"]["selector"] == {"matchLabels": {"app": "seedtest-api"}}
    assert monitors["seedtest-cronjobs"]["endpoints"][0]["honorLabels"] is True


# Built by kustomize


def kustomize(folder: Path) -> list[dict[str, Any]]:
    ran = subprocess.run(
        ["kubectl", "kustomize", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return list(yaml.load_all(ran.stdout, yaml.CSafeLoader))


@pytest.fixture
def kubectl(require: Callable[[bool, str], None]) -> None:
    """One whose kustomize knows components."""
    found = shutil.which("kubectl")
    require(found is not None, "kubectl 1.21 or newer")
    said = subprocess.run(["kubectl", "version", "--client", "-o", "json"], capture_output=True, text=True, check=True)
    require(int(json.loads(said.stdout)["clientVersion"]["minor"].rstrip("+")) >= 21, "kubectl 1.21 or newer")


@pytest.mark.long
@pytest.mark.usefixtures("kubectl")
@pytest.mark.parametrize(("overlay", "schedules"), [("seedtest", "external"), ("dev", "stopped")])
def test_an_overlay_is_whole(overlay: str, schedules: str) -> None:
    built = kustomize(K8S / "overlays" / overlay)
    (namespace,) = [one["metadata"] for one in built if one["kind"] == "Namespace"]
    assert namespace["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {one["metadata"].get("namespace", namespace["name"]) for one in built} == {namespace["name"]}
    (settings,) = [one["data"] for one in built if one["kind"] == "ConfigMap"]
    assert settings["IRT_SCHEDULES"] == schedules
    assert settings["IRT_CODE_SERVER"]
    (binding,) = [one for one in built if one["kind"] == "RoleBinding"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "irt-runs", "namespace": namespace["name"]}]
    assert ("CronJob" in {one["kind"] for one in built}) == (overlay == "seedtest")


@pytest.mark.long
@pytest.mark.usefixtures("kubectl")
def test_all_components_go_together(tmp_path: Path) -> None:
    there = os.path.relpath(K8S, tmp_path)
    (overlay,) = documents(K8S / "overlays" / "seedtest" / "kustomization.yaml")
    taken = {(K8S / "overlays" / "seedtest" / name).resolve() for name in overlay["components"]}
    more = [folder for folder in kustomizations() if folder.parent == K8S / "components" and folder not in taken]
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{there}/overlays/seedtest"],
        "components": [f"{there}/components/{folder.name}" for folder in more],
        "namespace": "seedtest",
        "images": overlay["images"],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    built = kustomize(tmp_path)
    assert len(built) == len(objects()) + 1  # the namespace
    (api,) = [one for one in built if (one["kind"], one["metadata"]["name"]) == ("Deployment", "seedtest-api")]
    assert "replicas" not in api["spec"]  # the autoscaler's
    (ui,) = [one for one in built if (one["kind"], one["metadata"]["name"]) == ("Deployment", "dagster-webserver")]
    (container,) = ui["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"][-1] == {"configMapRef": {"name": "irt-login"}}
    assert container["env"][-1] == {"name": "IRT_UI_ADDRESS", "value": "0.0.0.0"}
    images = {
        container["image"]
        for one in built
        if one["kind"] == "Deployment"
        for kind in CONTAINERS
        for container in one["spec"]["template"]["spec"].get(kind, [])
    }
    release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert images == {f"irt-assets:{release}", "r-irt-plumber"}


# The page


def commands_of_the_page() -> list[str]:
    blocks = re.findall(r"^```\w*\n(.*?)^```$", DOCS.read_text(), re.M | re.S)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line.split(" #")[0].strip() for line in lines if line.startswith("kubectl")]


def test_the_page_s_commands_name_what_there_is() -> None:
    objects_by_kind = {"deployment": names("Deployment"), "cronjob": names("CronJob"), "job": names("Job")}
    found = commands_of_the_page()
    assert len(found) > 20
    made = {words[-1] for words in map(str.split, found) if words[3:5] == ["create", "job"]}
    for line in found:
        for path in re.findall(r"-[fk] (deploy/\S+)", line):
            assert (ROOT / path).exists(), line
        for kind, name in re.findall(r"\b(deployment|cronjob|job)[/ ]([a-z][a-z0-9-]+)", line):
            assert name in objects_by_kind[kind] | made, line
        if " -- " in line:
            assert fault_of_irt(line.partition(" -- irt ")[2].split()) == "", line


def test_the_page_lists_every_deployment_with_its_memory_and_every_cron_job() -> None:
    text = DOCS.read_text()
    rows = {
        cells[1]: cells[-2]
        for line in text.splitlines()
        if len(cells := [cell.strip() for cell in line.split("|")]) > 3
    }
    for name in names("Deployment"):
        limit = PODS[name].spec["containers"][0]["resources"]["limits"]["memory"]
        assert rows[f"`{name}`"].replace(" ", "") == limit
    for path in CRON.glob("*.yaml"):
        if documents(path)[0]["kind"] == "CronJob":
            assert f"`{path.name}`" in text


@pytest.mark.long
@pytest.mark.usefixtures("kubectl")
def test_the_page_s_own_kustomization_takes_images_from_elsewhere(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", DOCS.read_text(), re.M | re.S)
    there = os.path.relpath(ROOT, tmp_path)
    (tmp_path / "kustomization.yaml").write_text(block.replace("../irt-assets/", f"{there}/"))
    built = kustomize(tmp_path)
    assert "PrometheusRule" in {one["kind"] for one in built}
    images = set(re.findall(r'"image": "([^"]+)"', json.dumps(built)))
    assert len(images) == 1
    assert images.pop().startswith("registry.example.org/irt-assets:")
