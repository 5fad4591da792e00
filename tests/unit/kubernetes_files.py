"""The objects of deploy/k8s for tests: by file, by kind, and with their pods."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

K8S = Path(__file__).parents[2] / "deploy" / "k8s"
CRON = K8S / "components" / "cron"
PARTS = ("base", "components", "overlays")
CONTAINERS = ("initContainers", "containers")


@dataclass(frozen=True)
class Pod:
    """The pod of a Deployment, a Job or a CronJob. `name`: the name of that object."""

    name: str
    labels: dict[str, str]
    spec: dict[str, Any]

    @property
    def containers(self) -> list[dict[str, Any]]:
        return list(itertools.chain.from_iterable(self.spec.get(kind, []) for kind in CONTAINERS))


@cache
def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.load_all(path.read_text(), yaml.CSafeLoader) if document]


def objects(kind: str = "") -> list[dict[str, Any]]:
    """Return the objects in the files of base and components, without kustomize's own files and patches."""
    named = itertools.chain.from_iterable(
        resources(folder) for folder in kustomizations() if "base" in folder.parts or "components" in folder.parts
    )
    found = itertools.chain.from_iterable(documents(path) for path in named if path.is_file())
    return [one for one in found if kind in ("", one["kind"])]


def kustomizations() -> list[Path]:
    """The folders that kustomize builds."""
    return sorted(path.parent for path in K8S.rglob("kustomization.yaml"))


def resources(folder: Path) -> list[Path]:
    (kustomization,) = documents(folder / "kustomization.yaml")
    return [folder / name for name in kustomization.get("resources", [])]


def pods() -> list[Pod]:
    return [pod for one in objects() for pod in _pods(one)]


def _pods(one: dict[str, Any]) -> Iterator[Pod]:
    spec = one.get("spec", {})
    if one["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    if one["kind"] in ("CronJob", "Job", "Deployment"):
        template = spec["template"]
        yield Pod(one["metadata"]["name"], template["metadata"]["labels"], template["spec"])


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a selector of Kubernetes (matchLabels, matchExpressions with In) selects an object with these labels."""
    return all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items()) and all(
        labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", [])
    )


def names(kind: str) -> set[str]:
    return {one["metadata"]["name"] for one in objects(kind)}


def containers() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every container of every pod with its place, pod/container."""
    for pod in PODS.values():
        for container in pod.containers:
            yield f"{pod.name}/{container['name']}", container


PODS = {pod.name: pod for pod in pods()}
CRON_JOBS = {one["metadata"]["name"]: one for one in objects("CronJob")}
