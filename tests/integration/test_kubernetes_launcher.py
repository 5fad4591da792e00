"""Runs as Jobs of a cluster: their pods, their outcomes, and an API server with outages.

The client, Dagster's queue and its monitor are the real ones; the API server is a stub that stores requests.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import dagster_k8s.client
import pytest
import yaml
from dagster_k8s import K8sRunLauncher
from pydantic import SecretStr

from irt_assets.common.environment import CONFIGURATION, configuration
from irt_assets.common.run_progress import runs_to_repeat
from jobs.launching.kubernetes_launcher import KubernetesRunLauncher
from jobs.launching.launcher import own_worker_tags
from jobs.watching.stuck_runs import fail_lost_runs
from resources.settings import RUN_SIZES, Settings
from tests.helpers.dagster_private import (
    GrpcServerCodeLocationOrigin,
    QueuedRunCoordinatorDaemon,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
    create_run_for_test,
    freeze_time,
    run_monitoring,
)
from tests.integration.api_server import NAMESPACE, ApiServer
from tests.unit.kubernetes_files import PODS, objects

pytestmark = pytest.mark.ci

JOB = "monthly_calibration"
IMAGE = "irt-assets:7"
POLLS = 5
RESOURCES = {"container_config": {"resources": {"requests": {"cpu": "4"}, "limits": {"memory": "64Gi"}}}}


@dg.job
def monthly_calibration() -> None:
    """A stub of our job, of which no pod runs."""


@dataclass
class Cluster:
    """A daemon's queue and monitor on a separate instance, and the API server."""

    api: ApiServer
    instance: dg.DagsterInstance
    queue: QueuedRunCoordinatorDaemon

    def create_request_context(self, source: object = None) -> None:
        """The launcher needs no code server."""

    def queue_run(self, **tags: str) -> str:
        code = GrpcServerCodeLocationOrigin(host="irt-code-server", port=4266, location_name="irt_assets")
        remote = RemoteJobOrigin(RemoteRepositoryOrigin(code, "__repository__"), JOB)
        origin = dg.reconstructable(monthly_calibration).get_python_origin()
        origin = origin._replace(repository_origin=origin.repository_origin._replace(container_image=IMAGE))
        run = create_run_for_test(
            self.instance, job_name=JOB, tags=tags, remote_job_origin=remote, job_code_origin=origin
        )
        self.instance.report_dagster_event(dg.DagsterEvent.job_enqueue(run), run_id=run.run_id)
        return run.run_id

    def launch_run(self, **tags: str) -> str:
        run_id = self.queue_run(**tags)
        assert self.status_after_dequeue(run_id) is dg.DagsterRunStatus.STARTING, self.log_text(run_id)
        return run_id

    def start_run(self, **tags: str) -> str:
        run_id = self.launch_run(**tags)
        self.api.run_pod(self.job(run_id))
        self.instance.report_dagster_event(dg.DagsterEvent("PIPELINE_START", JOB), run_id=run_id)
        assert self.status(run_id) is dg.DagsterRunStatus.STARTED
        return run_id

    def status_after_dequeue(self, run_id: str) -> dg.DagsterRunStatus:
        """The run's status after a poll by the daemon's queue."""
        list(self.queue.run_iteration(self))  # type: ignore[arg-type]
        return self.status(run_id)

    def status_after_monitoring(self, run_id: str) -> dg.DagsterRunStatus:
        """The run's status after a poll by the daemon's monitor."""
        errors = [*run_monitoring.execute_run_monitoring_iteration(self, logging.getLogger("monitor"))]  # type: ignore[arg-type]
        assert not any(errors), errors
        return self.status(run_id)

    def status(self, run_id: str) -> dg.DagsterRunStatus:
        return self.instance.get_run_by_id(run_id).status

    def job(self, run_id: str) -> str:
        return f"dagster-run-{run_id}"

    def pod(self, run_id: str) -> dict[str, Any]:
        return self.api.jobs[self.job(run_id)]["spec"]["template"]["spec"]

    def log_text(self, run_id: str) -> str:
        return "\n".join(
            f"{event.get_dagster_event().message} {getattr(event.get_dagster_event().event_specific_data, 'error', '')}"
            for event in self.instance.all_logs(run_id)
        )

    def runs_to_repeat(self) -> list[str]:
        return [record.dagster_run.run_id for record in runs_to_repeat(self.instance)]


@pytest.fixture
def api() -> Iterator[ApiServer]:
    server = ApiServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def kubeconfig(api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Kubeconfig of the API server, without the ten seconds that Dagster's client waits between attempts."""
    monkeypatch.setattr(dagster_k8s.client.time, "sleep", lambda _: None)
    monkeypatch.setenv("POD_NAMESPACE", NAMESPACE)
    return api.kubeconfig(tmp_path / "kubeconfig")


def parts(kubeconfig: Path) -> dict[str, Any]:
    """The parts of the instance's configuration that concern runs, as deploy/k8s/base configures them."""
    (chosen,) = [one["data"] for one in objects("ConfigMap") if one["metadata"]["name"] == "irt-settings"]
    url = SecretStr("postgresql://db.example/assess")
    settings = Settings(
        database_url=url,
        irt_run_launcher=chosen["IRT_RUN_LAUNCHER"],
        irt_run_launcher_config=chosen["IRT_RUN_LAUNCHER_CONFIG"],
        _env_file=None,
    )
    made = yaml.safe_load(configuration(settings))
    made["run_launcher"]["config"] |= {"load_incluster_config": False, "kubeconfig_file": str(kubeconfig)}
    made["run_coordinator"] = {"module": "dagster", "class": "QueuedRunCoordinator"}
    expected = ("run_launcher", "run_coordinator", "run_monitoring")
    return {name: made[name] for name in expected} | {
        "run_retries": yaml.safe_load(CONFIGURATION.read_bytes())["run_retries"]
    }


@pytest.fixture
def cluster(api: ApiServer, kubeconfig: Path) -> Iterator[Cluster]:
    with dg.instance_for_test(parts(kubeconfig)) as instance:
        yield Cluster(api, instance, QueuedRunCoordinatorDaemon(interval_seconds=1))


# -- the Job ------------------------------------------------------------------------------------------
def test_pod_of_a_run_equals_the_daemons_pod_without_its_token(cluster: Cluster) -> None:
    run_id = cluster.launch_run(**{"dagster-k8s/config": json.dumps(RESOURCES)})
    job, pod, daemon = cluster.api.jobs[cluster.job(run_id)], cluster.pod(run_id), PODS["dagster-daemon"].spec
    (container,), (own,) = pod.pop("containers"), daemon["containers"]
    differ = {"name", "args", "resources", "startupProbe", "readinessProbe", "command", "image"}
    assert (
        {each["name"] for each in container.pop("env")} - {"DAGSTER_RUN_JOB_NAME", "DAGSTER_HOME"},
        {name: container[name] for name in container.keys() - differ},
        container["image"],
        container["args"][-3:-1],
    ) == (
        {each["name"] for each in own["env"]},
        {name: own[name] for name in own.keys() - differ - {"env"}},
        IMAGE,  # the code server's: see test_k8s_manifests
        ["api", "execute_run"],
    )
    assert container["resources"] == {
        "requests": {"cpu": "4", "memory": "8Gi"},
        "limits": {"memory": "64Gi"},
    }
    here = {"restartPolicy", "imagePullSecrets"}
    kinds = {"containers", "initContainers"}
    assert pod.pop("automountServiceAccountToken") is False, "a run asks the API server for nothing"
    assert daemon["automountServiceAccountToken"] is True
    assert ({name: pod[name] for name in pod.keys() - here}, pod["restartPolicy"], job["spec"]["backoffLimit"]) == (
        {name: daemon[name] for name in daemon.keys() - kinds - {"automountServiceAccountToken"}},
        "Never",
        0,
    )
    for labels in (job["metadata"]["labels"], job["spec"]["template"]["metadata"]["labels"]):
        assert (labels["dagster/run-id"], labels["app.kubernetes.io/name"], labels["app.kubernetes.io/component"]) == (
            run_id,
            "irt-assets",
            "run-worker",
        )


def test_run_without_a_size_has_the_default_size(cluster: Cluster) -> None:
    (container,) = cluster.pod(cluster.launch_run())["containers"]
    cpu, memory = RUN_SIZES["other"]
    assert container["resources"] == {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}}


@pytest.mark.parametrize(
    "expected",
    [
        {"container_config": {"image": "theirs"}},
        {"container_config": {"env": [{"name": "DATABASE_URL", "value": "theirs"}]}},
        {"pod_spec_config": {"service_account_name": "not-theirs"}},
        {"pod_spec_config": {"automount_service_account_token": True}},
        {"job_spec_config": {"active_deadline_seconds": 1}},
    ],
)
def test_launch_request_can_set_only_the_resources_of_its_pod(cluster: Cluster, expected: dict[str, Any]) -> None:
    run_id = cluster.queue_run(**{"dagster-k8s/config": json.dumps(expected)})
    assert cluster.status_after_dequeue(run_id) is dg.DagsterRunStatus.FAILURE
    ((part, fields),) = expected.items()
    assert f"violated the allowed list: {part}.{next(iter(fields))}" in cluster.log_text(run_id)
    assert not cluster.api.jobs


# -- unreachable API server ---------------------------------------------------------------------------
@pytest.mark.parametrize("launcher", [KubernetesRunLauncher, K8sRunLauncher], ids=["ours", "Dagster's"])
def test_runs_continue_without_the_api_server_under_our_launcher_and_fail_under_dagsters(
    api: ApiServer, kubeconfig: Path, launcher: type[K8sRunLauncher]
) -> None:
    """If they also continue under Dagster's launcher, ours is no longer needed."""
    made = parts(kubeconfig)
    made["run_launcher"] |= {"module": launcher.__module__, "class": launcher.__name__}
    with dg.instance_for_test(made) as instance:
        cluster = Cluster(api, instance, QueuedRunCoordinatorDaemon(interval_seconds=1))
        run_id = cluster.start_run()
        with api.outage():
            after_a_poll = cluster.status_after_monitoring(run_id)
            if launcher is K8sRunLauncher:
                assert after_a_poll is dg.DagsterRunStatus.FAILURE
                assert "UNKNOWN" in cluster.log_text(run_id)
                return
            assert {after_a_poll, *(cluster.status_after_monitoring(run_id) for _ in range(POLLS))} == {
                dg.DagsterRunStatus.STARTED
            }
        for answer in (401, 403, 429, 500, 503):
            api.answers = answer
            assert cluster.status_after_monitoring(run_id) is dg.DagsterRunStatus.STARTED, answer
        api.answers = 0
        api.loses_answers = True
        assert cluster.status_after_monitoring(run_id) is dg.DagsterRunStatus.STARTED
        api.loses_answers = False
        assert cluster.status_after_monitoring(run_id) is dg.DagsterRunStatus.STARTED


def test_run_launched_without_the_api_server_fails_and_is_repeated(cluster: Cluster) -> None:
    run_id = cluster.queue_run()
    with cluster.api.outage():
        assert cluster.status_after_dequeue(run_id) is dg.DagsterRunStatus.FAILURE
    assert cluster.runs_to_repeat() == [run_id]


def test_run_fails_and_is_repeated_if_the_response_to_its_job_was_lost(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pod of the created Job executes no step, as its run has ended."""
    run_id = cluster.queue_run()
    cluster.api.loses_answers = True
    monkeypatch.setattr(dagster_k8s.client.time, "sleep", lambda _: setattr(cluster.api, "loses_answers", False))
    assert (cluster.status_after_dequeue(run_id), cluster.runs_to_repeat()) == (dg.DagsterRunStatus.FAILURE, [run_id])


# -- outcomes of runs ---------------------------------------------------------------------------------
def test_run_whose_job_was_deleted_fails_immediately(cluster: Cluster) -> None:
    run_id = cluster.start_run()
    del cluster.api.jobs[cluster.job(run_id)]
    assert (
        cluster.status_after_monitoring(run_id),
        "could not be found" in cluster.log_text(run_id),
        cluster.runs_to_repeat(),
    ) == (
        dg.DagsterRunStatus.FAILURE,
        True,
        [run_id],
    )


def test_run_whose_pod_has_ended_fails_with_the_reason(cluster: Cluster) -> None:
    run_id = cluster.start_run()
    cluster.api.end_pod(cluster.job(run_id), 137, "OOMKilled")
    cluster.api.jobs[cluster.job(run_id)]["status"] = {"failed": 1}
    assert (
        cluster.status_after_monitoring(run_id),
        "OOMKilled" in cluster.log_text(run_id),
        cluster.runs_to_repeat(),
    ) == (
        dg.DagsterRunStatus.FAILURE,
        True,
        [run_id],
    )


def test_run_that_does_not_start_fails_after_the_timeout_and_names_its_pod(cluster: Cluster) -> None:
    run_id = cluster.launch_run()
    no_node = [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes have enough memory"}]
    cluster.api.run_pod(cluster.job(run_id), "Pending", conditions=no_node)
    now = datetime.now(UTC)
    with freeze_time(now + timedelta(seconds=600)):
        assert cluster.status_after_monitoring(run_id) is dg.DagsterRunStatus.STARTING
    with freeze_time(now + timedelta(seconds=1000)):
        assert cluster.status_after_monitoring(run_id) is dg.DagsterRunStatus.FAILURE
    assert "Run timed out" in cluster.log_text(run_id)
    assert cluster.job(run_id) in cluster.log_text(run_id)


def test_run_executed_by_a_command_continues_without_a_job(cluster: Cluster) -> None:
    run_id = cluster.start_run(**own_worker_tags())
    cluster.api.jobs.clear()
    assert cluster.status_after_monitoring(run_id) is dg.DagsterRunStatus.STARTED


def test_cancelling_deletes_job_and_pod(cluster: Cluster) -> None:
    run_id = cluster.start_run()
    assert (
        cluster.instance.run_launcher.terminate(run_id),
        cluster.api.jobs,
        cluster.api.pods,
        cluster.status(run_id),
    ) == (True, {}, {}, dg.DagsterRunStatus.CANCELING), "the worker has its last words"


def test_instance_can_be_opened_without_a_token(kubeconfig: Path, tmp_path: Path) -> None:
    """Most processes of a cluster must not call the API server and create no launcher."""
    with dg.instance_for_test(parts(tmp_path / "none")) as instance:
        assert (fail_lost_runs(instance), instance.get_runs()) == ([], [])
