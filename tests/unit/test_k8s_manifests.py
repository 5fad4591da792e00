"""The files of deploy/k8s: consistency with each other, with the code, with the page, and with documented names.

Their pods are tested in `test_k8s_pods`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from resources.settings import known_names
from tests.helpers.written_commands import fault_of_irt
from tests.unit.kubernetes_files import (
    CONTAINERS,
    CRON,
    CRON_JOBS,
    K8S,
    PODS,
    containers,
    documents,
    kustomizations,
    names,
    objects,
    resources,
    selects,
)

ROOT = K8S.parents[1]
DOCS = ROOT / "docs" / "how-to" / "deploy-kubernetes.md"
DOCUMENTED = {
    "CronJob": {
        "calibrate-irt-nightly",
        "mirt-calibrate",
        "aggregate-features-daily",
        "compute-daily-kpis",
        "generate-weekly-report",
        "detect-inactivity",
    },
    "Deployment": {"r-irt-plumber"},
    "Service": {"r-irt-plumber"},
    "ServiceMonitor": {"seedtest-cronjobs"},
    "ExternalSecret": {"seedtest-db-credentials", "r-irt-credentials", "aws-s3-credentials"},
}
"""Names of objects in the documents of the previous platform, by kind."""


def test_kustomizations_list_every_file_of_their_folder_and_no_missing_file() -> None:
    for folder in kustomizations():
        (kustomization,) = documents(folder / "kustomization.yaml")
        named = {folder / name for part in ("resources", "components") for name in kustomization.get(part, [])}
        named |= {folder / patch["path"] for patch in kustomization.get("patches", []) if "path" in patch}
        assert all(path.exists() for path in named), folder
        assert {path for path in named if path.is_file()} == {*folder.glob("*.yaml")} - {folder / "kustomization.yaml"}
    built = {path.resolve() for folder in kustomizations() for path in resources(folder) if path.is_dir()}
    assert built == {K8S / "base"}


def test_objects_have_the_names_of_the_documents() -> None:
    for kind, expected in DOCUMENTED.items():
        assert expected <= names(kind)
    (api,) = [one for one in objects("Service") if one["metadata"]["name"] == "irt-theta-api"]
    assert [(port["name"], port["port"]) for port in api["spec"]["ports"]] == [("http", 80), ("metrics", 9090)]
    (r_service,) = [one for one in objects("Service") if one["metadata"]["name"] == "r-irt-plumber"]
    assert [port["port"] for port in r_service["spec"]["ports"]] == [80]
    assert PODS["r-irt-plumber"].labels["app"] == "r-irt-plumber"
    assert (CRON / "calibrate-irt.yaml").is_file()
    for name in DOCUMENTED["CronJob"] - {"calibrate-irt-nightly"}:
        assert (CRON / f"{name}.yaml").is_file()


def test_theta_api_has_the_documents_name_only_with_the_component_seedtest_api() -> None:
    """An exam API in the same namespace may have this name and label, and `kubectl apply` would overwrite it."""
    plain = yaml.safe_dump([one for one in objects() if one["kind"] != "ServiceMonitor"])
    assert "app: seedtest-api" not in plain
    assert "name: seedtest-api" not in plain
    folder = K8S / "components" / "seedtest-api"
    (component,) = documents(folder / "kustomization.yaml")
    for patch in component["patches"]:
        target, (operations,) = patch["target"], documents(folder / patch["path"])
        (patched,) = [one for one in objects(target["kind"]) if one["metadata"]["name"] == target["name"]]
        for operation in operations:
            assert operation["value"] == "seedtest-api"
            assert value_at(patched, operation["path"]) == target["name"]
    for overlay in (K8S / "overlays").iterdir():
        (kustomization,) = documents(overlay / "kustomization.yaml")
        taken = {Path(name).name for name in kustomization["components"]}
        assert "seedtest-api" not in taken
        assert ("own-namespace" in taken) == (overlay.name == "dev")


def value_at(one: Any, path: str) -> Any:
    for key in path.strip("/").split("/"):
        one = one[key]
    return one


def made_by_hand(kind: str) -> dict[str, set[str]]:
    """Return the Secrets or ConfigMaps that the page's commands create, with their keys."""
    text = DOCS.read_text().replace("\\\n", " ")
    commands = re.findall(rf"create {kind} (\S+)((?: +--from-literal=\S+)+)", text)
    found: dict[str, set[str]] = {}
    for name, literals in commands:
        found.setdefault(name, set()).update(re.findall(r"--from-literal=(\w+)=", literals))
    return found


def test_every_secret_and_its_keys_are_created_by_the_page_and_as_external_secrets() -> None:
    by_hand = made_by_hand("secret generic")
    stored = {
        one["spec"]["target"]["name"]: {item["secretKey"] for item in one["spec"]["data"]}
        for one in objects("ExternalSecret")
    }
    for location, container in containers():
        for source in container.get("envFrom", []):
            if "secretRef" in source:
                assert source["secretRef"]["name"] in by_hand, location
                assert source["secretRef"]["optional"] is True, location
        references = [
            one["valueFrom"]["secretKeyRef"]
            for one in container.get("env", [])
            if "valueFrom" in one and "secretKeyRef" in one["valueFrom"]
        ]
        for reference in references:
            for made in (by_hand, stored):
                assert reference["key"] in made[reference["name"]], location
    assert {name: by_hand[name] for name in stored} == stored


def test_every_config_map_is_created_by_a_file_or_the_page() -> None:
    known = set(made_by_hand("configmap")) | names("ConfigMap")
    used = {
        source["configMapRef"]["name"]
        for _, one in containers()
        for source in one.get("envFrom", [])
        if "configMapRef" in source
    }
    assert used <= known
    for keys in (*made_by_hand("configmap").values(), *made_by_hand("secret generic").values()):
        assert keys <= known_names() | {"token", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"}


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


def test_pods_accept_no_traffic_by_default_and_only_our_pods_reach_the_code_server() -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in objects("NetworkPolicy")}
    closed = policies["irt-nobody-enters"]
    assert "ingress" not in closed
    assert all(selects(closed["podSelector"], pod.labels) for pod in PODS.values())
    (rule,) = policies["irt-code-server"]["ingress"]
    (who,) = rule["from"]
    let_in = {name for name, pod in PODS.items() if selects(who["podSelector"], pod.labels)}
    assert let_in == {"dagster-daemon", "dagster-webserver", "shiny-dashboard", *CRON_JOBS}


def test_only_pods_and_namespaces_with_the_label_reach_the_theta_api() -> None:
    (policy,) = [one["spec"] for one in objects("NetworkPolicy") if one["metadata"]["name"] == "irt-theta-api"]
    labelled = {"matchLabels": {"irt-assets/asks": "theta"}}
    (rule,) = policy["ingress"]
    assert rule["from"] == [{"podSelector": labelled}, {"namespaceSelector": labelled}]


# Monitoring


def test_prometheus_rule_object_equals_the_rules_file() -> None:
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
    assert found == {"irt-theta-api", "irt-exporter", "shiny-dashboard", "jwt-verifier"}
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
    """Require a kubectl whose kustomize supports components."""
    found = shutil.which("kubectl")
    require(found is not None, "kubectl 1.21 or newer")
    done = subprocess.run(["kubectl", "version", "--client", "-o", "json"], capture_output=True, text=True, check=True)
    require(int(json.loads(done.stdout)["clientVersion"]["minor"].rstrip("+")) >= 21, "kubectl 1.21 or newer")


@pytest.mark.long
@pytest.mark.usefixtures("kubectl")
@pytest.mark.parametrize(("overlay", "schedules"), [("seedtest", "external"), ("dev", "stopped")])
def test_overlay_builds_with_its_namespace_settings_and_images(overlay: str, schedules: str) -> None:
    built = kustomize(K8S / "overlays" / overlay)
    (namespace,) = {one["metadata"]["namespace"] for one in built if one["kind"] != "Namespace"}
    own = [one["metadata"] for one in built if one["kind"] == "Namespace"]
    assert [one["name"] for one in own] == ([] if overlay == "seedtest" else [namespace])
    assert all(one["labels"]["pod-security.kubernetes.io/enforce"] == "restricted" for one in own)
    (settings,) = [one["data"] for one in built if one["kind"] == "ConfigMap"]
    assert settings["IRT_SCHEDULES"] == schedules
    assert settings["IRT_CODE_SERVER"]
    (server,) = [one for one in built if one["metadata"]["name"] == "irt-code-server" and one["kind"] == "Deployment"]
    (container,) = server["spec"]["template"]["spec"]["containers"]
    assert container["image"].startswith("irt-assets:")
    assert {"name": "DAGSTER_CURRENT_IMAGE", "value": container["image"]} in container["env"]
    (binding,) = [one for one in built if one["kind"] == "RoleBinding"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "irt-runs", "namespace": namespace}]
    assert ("CronJob" in {one["kind"] for one in built}) == (overlay == "seedtest")
    assert "shiny-dashboard" in {one["metadata"]["name"] for one in built if one["kind"] == "Deployment"}


@pytest.mark.long
@pytest.mark.usefixtures("kubectl")
def test_all_components_build_together(tmp_path: Path) -> None:
    relative = os.path.relpath(K8S, tmp_path)
    (overlay,) = documents(K8S / "overlays" / "seedtest" / "kustomization.yaml")
    taken = {(K8S / "overlays" / "seedtest" / name).resolve() for name in overlay["components"]}
    more = [folder for folder in kustomizations() if folder.parent == K8S / "components" and folder not in taken]
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{relative}/overlays/seedtest"],
        "components": [f"{relative}/components/{folder.name}" for folder in more],
        "namespace": "seedtest",
        "images": overlay["images"],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    built = kustomize(tmp_path)
    assert len(built) == len(objects())
    (api,) = [one for one in built if (one["kind"], one["metadata"]["name"]) == ("Deployment", "seedtest-api")]
    assert "replicas" not in api["spec"]  # the autoscaler's
    (autoscaler,) = [one for one in built if one["kind"] == "HorizontalPodAutoscaler"]
    assert autoscaler["spec"]["scaleTargetRef"]["name"] == "seedtest-api"
    labels = api["spec"]["template"]["metadata"]["labels"]
    assert labels["app"] == "seedtest-api"
    assert selects(api["spec"]["selector"], labels)
    documented = [one for one in built if one["metadata"].get("labels", {}).get("app") == "seedtest-api"]
    services = {one["metadata"]["name"]: one["spec"] for one in documented if one["kind"] == "Service"}
    assert services.keys() == {"seedtest-api", "irt-exporter"}
    assert all("metrics" in {port["name"] for port in one["ports"]} for one in services.values())
    assert selects({"matchLabels": services["seedtest-api"]["selector"]}, labels)
    (namespace,) = [one["metadata"]["name"] for one in built if one["kind"] == "Namespace"]
    assert namespace == "seedtest"
    (ui,) = [one for one in built if (one["kind"], one["metadata"]["name"]) == ("Deployment", "dagster-webserver")]
    (container,) = ui["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"][-1] == {"configMapRef": {"name": "irt-login"}}
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


def test_commands_of_the_page_refer_to_existing_files_objects_and_commands() -> None:
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


def test_page_lists_every_deployment_with_its_memory_and_every_cron_job() -> None:
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
def test_kustomization_on_the_page_uses_images_of_its_registry(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", DOCS.read_text(), re.M | re.S)
    relative = os.path.relpath(ROOT, tmp_path)
    (tmp_path / "kustomization.yaml").write_text(block.replace("../irt-assets/", f"{relative}/"))
    built = kustomize(tmp_path)
    assert "PrometheusRule" in {one["kind"] for one in built}
    images = set(re.findall(r'"image": "([^"]+)"', json.dumps(built)))
    assert len(images) == 1
    assert images.pop().startswith("registry.example.org/irt-assets:")


def test_every_command_of_the_reference_is_run_by_the_cluster_tests() -> None:
    page = (ROOT / "docs/reference/kubernetes-commands.md").read_text("utf-8")
    typed = (ROOT / "tests/deploy/test_kubernetes.py").read_text("utf-8")
    sections = [each for each in page.split("\n## ")[1:] if "```bash" in each]
    assert len(sections) > 10
    found = re.findall(r'(?:site|platform)\.type\(\s*"([^"]+)"', typed)
    assert set(found) == {each.partition("\n")[0] for each in sections}
