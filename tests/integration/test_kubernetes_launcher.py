"""Runs as Jobs of a cluster whose API server comes and goes: none fails of it, none is made twice, none is forgotten.

The client, Dagster's queue and its monitor are the real ones; the API server is one that keeps what it is sent.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import kubernetes.config.kube_config
import pytest
import yaml

from irt_assets.common.environment import CONFIGURATION, VARIANTS
from irt_assets.common.run_progress import to_be_repeated
from jobs.launching import kubernetes_launcher
from jobs.launching.launcher import own_worker_tags
from jobs.watching.stuck_runs import fail_lost_runs
from resources.dagster_compat import WorkerStatus, watch_starting_runs
from resources.settings import RUN_KINDS, get_settings
from tests.helpers.dagster_private import (
    GrpcServerCodeLocationOrigin,
    QueuedRunCoordinatorDaemon,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
    create_run_for_test,
    run_monitoring,
)
from tests.integration.api_server import NAMESPACE, ApiServer

pytestmark = pytest.mark.ci

JOB = "monthly_calibration"
DAEMON = "dagster-daemon-5f7d-abcde"
OUTAGE_S, BETWEEN_POLLS_S = 120, 5
TOKEN_MOUNT = {"name": "kube-api-access-q9x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
OWN_POD: dict[str, Any] = {
    "metadata": {"name": DAEMON, "labels": {"app": "dagster-daemon"}},
    "status": {"phase": "Running"},
    "spec": {
        "serviceAccountName": "irt-runs",
        "automountServiceAccountToken": True,
        "nodeName": "node-7",
        "terminationGracePeriodSeconds": 90,
        "nodeSelector": {"pool": "runs"},
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "initContainers": [{"name": "schema", "image": "irt-assets:7"}],
        "containers": [
            {
                "name": "daemon",
                "image": "irt-assets:7",
                "imagePullPolicy": "IfNotPresent",
                "args": ["irt", "run", "daemon"],
                "ports": [{"containerPort": 9465}],
                "readinessProbe": {"exec": {"command": ["irt", "health"]}},
                "envFrom": [{"configMapRef": {"name": "irt-settings", "optional": True}}],
                "env": [
                    {
                        "name": "DATABASE_URL",
                        "valueFrom": {"secretKeyRef": {"name": "seedtest-db-credentials", "key": "DATABASE_URL"}},
                    },
                    {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                ],
                "resources": {"requests": {"memory": "512Mi"}, "limits": {"memory": "2Gi"}},
                "securityContext": {"readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [{"name": "home", "mountPath": "/var/lib/irt"}, TOKEN_MOUNT],
            },
            {"name": "sidecar", "image": "other"},
        ],
        "volumes": [
            {"name": "home", "emptyDir": {"sizeLimit": "20Gi"}},
            {"name": TOKEN_MOUNT["name"], "projected": {"sources": []}},
        ],
    },
}


@dataclass
class Cluster:
    """A daemon's queue and monitor, on an instance of their own, and the API server."""

    api: ApiServer
    instance: dg.DagsterInstance
    queue: QueuedRunCoordinatorDaemon
    clock: float = 1.8e9

    def create_request_context(self, source: object = None) -> None:
        """The launcher needs no code server."""

    def queued(self, **tags: str) -> str:
        code = GrpcServerCodeLocationOrigin(host="irt-code-server", port=4266, location_name="irt_assets")
        origin = RemoteJobOrigin(RemoteRepositoryOrigin(code, "__repository__"), JOB)
        run = create_run_for_test(self.instance, job_name=JOB, tags=tags, remote_job_origin=origin)
        self.instance.report_dagster_event(dg.DagsterEvent.job_enqueue(run), run_id=run.run_id)
        return run.run_id

    def launched(self, **tags: str) -> str:
        run_id = self.queued(**tags)
        self.dequeue()
        assert self.status(run_id) is dg.DagsterRunStatus.STARTING
        return run_id

    def started(self, **tags: str) -> str:
        run_id = self.launched(**tags)
        run = self.instance.get_run_by_id(run_id)
        self.api.run_pod(self.job(run_id))
        self.instance.report_dagster_event(dg.DagsterEvent("PIPELINE_START", run.job_name), run_id=run_id)
        assert self.status(run_id) is dg.DagsterRunStatus.STARTED
        return run_id

    def dequeue(self) -> None:
        """One look of the daemon's queue, a poll later than the last."""
        self.clock += BETWEEN_POLLS_S + 0.1
        list(self.queue.run_iteration(self, fixed_iteration_time=self.clock))  # type: ignore[arg-type]

    def monitor(self) -> None:
        """One look of the daemon's monitor."""
        errors = [*run_monitoring.execute_run_monitoring_iteration(self, logging.getLogger("monitor"))]  # type: ignore[arg-type]
        assert not any(errors), errors

    def status(self, run_id: str) -> dg.DagsterRunStatus:
        return self.instance.get_run_by_id(run_id).status

    def dequeued(self, run_id: str) -> dg.DagsterRunStatus:
        """The run's status after a look of the queue."""
        self.dequeue()
        return self.status(run_id)

    def monitored(self, run_id: str) -> dg.DagsterRunStatus:
        """The run's status after a look of the monitor."""
        self.monitor()
        return self.status(run_id)

    def failure(self, run_id: str) -> str:
        """What a run that failed says."""
        assert self.status(run_id) is dg.DagsterRunStatus.FAILURE
        return self.says(run_id)

    def job(self, run_id: str) -> str:
        return f"dagster-run-{run_id}"

    def says(self, run_id: str) -> str:
        return "\n".join(
            f"{event.get_dagster_event().message} {getattr(event.get_dagster_event().event_specific_data, 'error', '')}"
            for event in self.instance.all_logs(run_id)
        )


@pytest.fixture
def api() -> Iterator[ApiServer]:
    server = ApiServer(pods={DAEMON: OWN_POD})
    server.start()
    yield server
    server.stop()


@pytest.fixture
def cluster(api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setattr(
        kubernetes.config.kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(api.kubeconfig(tmp_path / "kubeconfig"))
    )
    monkeypatch.setenv("POD_NAME", DAEMON)
    monkeypatch.setenv("POD_NAMESPACE", NAMESPACE)
    monkeypatch.setenv("IRT_RUN_RESOURCES", "monthly=4/16Gi")
    monkeypatch.setattr(run_monitoring, "monitor_starting_run", run_monitoring.monitor_starting_run)
    watch_starting_runs()
    stated = yaml.safe_load(VARIANTS.read_bytes())["kubernetes"]
    queue = {"module": "dagster", "class": "QueuedRunCoordinator", **stated["run_coordinator"]}
    queue["config"] = queue["config"] | {"user_code_failure_retry_delay": BETWEEN_POLLS_S}
    parts = {
        "run_launcher": stated["run_launcher"],
        "run_coordinator": queue,
        "run_monitoring": {"enabled": True, **stated["run_monitoring"]},
        "run_retries": yaml.safe_load(CONFIGURATION.read_bytes())["run_retries"],
    }
    with dg.instance_for_test(parts) as instance:
        yield Cluster(api, instance, QueuedRunCoordinatorDaemon(interval_seconds=1))


# -- the Job ------------------------------------------------------------------------------------------
def test_a_run_s_pod_is_like_the_daemon_s_with_what_its_kind_of_run_gets(cluster: Cluster) -> None:
    run_id = cluster.launched(**{"irt/kind": "monthly", dg.MAX_RUNTIME_SECONDS_TAG: "86400"})
    job = cluster.api.jobs[cluster.job(run_id)]
    assert job["spec"]["backoffLimit"] == 0
    assert 86_400 < job["spec"]["activeDeadlineSeconds"] < 86_400 + 3_600
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    own = OWN_POD["spec"]["containers"][0]
    for name in ("image", "imagePullPolicy", "env", "envFrom", "securityContext"):
        assert container[name] == own[name], name
    assert container["args"] == ["irt", "run", "worker", run_id]
    assert container["resources"] == {"requests": {"cpu": "4", "memory": "16Gi"}, "limits": {"memory": "16Gi"}}
    assert container["volumeMounts"] == own["volumeMounts"][:1]
    assert not {"readinessProbe", "ports", "command"} & container.keys()
    for name in ("securityContext", "nodeSelector", "serviceAccountName", "terminationGracePeriodSeconds"):
        assert pod[name] == OWN_POD["spec"][name], name
    assert (pod["volumes"], pod["restartPolicy"]) == (OWN_POD["spec"]["volumes"][:1], "Never")
    assert pod["automountServiceAccountToken"] is False, "a run asks the API server for nothing"
    assert not {"nodeName", "initContainers"} & pod.keys()
    for labels in (job["metadata"]["labels"], job["spec"]["template"]["metadata"]["labels"]):
        assert (labels["dagster/run-id"], labels["irt/kind"]) == (run_id, "monthly")
        assert labels["app.kubernetes.io/name"] == "irt-assets"
        assert labels["app.kubernetes.io/component"] == "run-worker"


def test_who_launches_a_run_chooses_its_resources_and_nothing_else_of_its_pod(cluster: Cluster) -> None:
    plain = cluster.api.jobs[cluster.job(cluster.launched(**{"irt/kind": "daily"}))]["spec"]["template"]["spec"]
    wanted = {
        "container_config": {
            "resources": {"limits": {"memory": "64Gi"}},
            "image": "theirs",
            "env": [{"name": "DATABASE_URL", "value": "theirs"}],
            "env_from": [{"secret_ref": {"name": "not-theirs"}}],
            "security_context": {"privileged": True},
        },
        "pod_spec_config": {
            "node_name": "big",
            "service_account_name": "not-theirs",
            "automount_service_account_token": True,
        },
        "job_spec_config": {"active_deadline_seconds": 1},
    }
    run_id = cluster.launched(**{"irt/kind": "daily", "dagster-k8s/config": json.dumps(wanted)})
    job = cluster.api.jobs[cluster.job(run_id)]["spec"]
    pod = job["template"]["spec"]
    (container,), (usual,) = pod.pop("containers"), plain.pop("containers")
    assert container.pop("resources") == {"requests": {"cpu": "1", "memory": "4Gi"}, "limits": {"memory": "64Gi"}}
    assert usual.pop("resources") == {"requests": {"cpu": "1", "memory": "4Gi"}, "limits": {"memory": "4Gi"}}
    for one in (container, usual):
        one.pop("name")
        one.pop("args")
        one["env"] = [variable for variable in one["env"] if "RUN" not in variable["name"]]
    assert container == usual
    assert pod == plain
    assert job["activeDeadlineSeconds"] > 1
    assert "1 CPU, 64Gi of memory" in cluster.says(run_id)


def test_every_kind_of_run_has_a_size(cluster: Cluster) -> None:
    from jobs.jobs import DAILY, MONTHLY, UPKEEP
    from jobs.launching.run_sizes import KIND_TAG, SIZES

    assert tuple(sorted(SIZES)) == tuple(sorted(RUN_KINDS))
    assert {tags[KIND_TAG] for tags in (DAILY, MONTHLY, UPKEEP)} <= SIZES.keys()


# -- an API server that is away -----------------------------------------------------------------------
def test_a_run_that_is_launched_during_an_outage_waits_in_the_queue(cluster: Cluster) -> None:
    run_id = cluster.queued()
    with cluster.api.away():
        for _ in range(OUTAGE_S // BETWEEN_POLLS_S):
            assert cluster.dequeued(run_id) is dg.DagsterRunStatus.QUEUED
    assert (cluster.dequeued(run_id), [*cluster.api.jobs]) == (dg.DagsterRunStatus.STARTING, [cluster.job(run_id)])
    assert "API server does not answer" in cluster.says(run_id)


def test_an_outage_is_told_once_when_it_begins_and_once_when_it_is_over(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    """However many runs wait, and however often the daemon asks."""
    cluster.started()
    waiting = [cluster.queued(), cluster.queued()]
    caplog.set_level(logging.INFO)
    for _ in range(2):
        caplog.clear()
        with cluster.api.away():
            for _ in range(OUTAGE_S // BETWEEN_POLLS_S):
                cluster.dequeue()
                cluster.monitor()
        cluster.monitor()
        cluster.monitor()
        (begins, ends) = (record for record in caplog.records if "API server" in record.getMessage())
        assert begins.levelno == logging.WARNING
        assert "Connection refused" in begins.getMessage()
        assert re.fullmatch(r"The cluster's API server answers again, after \d+ s\.", ends.getMessage())
        assert [record.getMessage() for record in caplog.records if record.exc_info] == []
    assert all("Traceback" not in cluster.says(run_id) and "File " not in cluster.says(run_id) for run_id in waiting)


def test_another_error_of_the_queue_is_logged_with_its_stack(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kubernetes_launcher.KubernetesRunLauncher, "_job", lambda *_: 1 / 0)
    assert cluster.dequeued(cluster.queued()) is dg.DagsterRunStatus.FAILURE
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("status", [401, 429, 500, 503])
def test_a_run_that_is_launched_while_the_api_server_starts_waits_too(cluster: Cluster, status: int) -> None:
    run_id = cluster.queued()
    cluster.api.answers = status
    assert cluster.dequeued(run_id) is dg.DagsterRunStatus.QUEUED
    cluster.api.answers = 0
    assert cluster.dequeued(run_id) is dg.DagsterRunStatus.STARTING


def test_a_job_that_was_made_though_the_answer_was_lost_is_not_made_twice(cluster: Cluster) -> None:
    cluster.launched()  # the daemon's pod is known from here on
    run_id = cluster.queued()
    cluster.api.loses_answers = True
    assert cluster.dequeued(run_id) is dg.DagsterRunStatus.QUEUED
    assert cluster.job(run_id) in cluster.api.jobs
    cluster.api.loses_answers = False
    assert (cluster.dequeued(run_id), len(cluster.api.jobs)) == (dg.DagsterRunStatus.STARTING, 2)


def test_a_job_of_that_name_that_is_another_run_s_is_left_alone(cluster: Cluster) -> None:
    another = cluster.launched()
    run_id = cluster.queued()
    cluster.api.jobs[cluster.job(run_id)] = cluster.api.jobs[cluster.job(another)]
    cluster.dequeue()
    assert "is of another run: delete it" in cluster.failure(run_id)


def test_what_the_cluster_refuses_fails_with_its_reason(cluster: Cluster) -> None:
    run_id = cluster.queued()
    cluster.api.answers = 403
    cluster.dequeue()
    assert "the cluster does not let us make the Job of a run: 403" in cluster.failure(run_id)


def test_runs_go_on_through_an_outage(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    going, starting = cluster.started(), cluster.launched()
    with cluster.api.away():
        for _ in range(OUTAGE_S // BETWEEN_POLLS_S):
            cluster.monitor()
    for answer in (401, 403, 429, 500, 503):
        cluster.api.answers = answer
        cluster.monitor()
    cluster.api.answers = 0
    cluster.api.loses_answers = True
    cluster.monitor()
    cluster.api.loses_answers = False
    cluster.monitor()
    assert (cluster.status(going), cluster.status(starting)) == (
        dg.DagsterRunStatus.STARTED,
        dg.DagsterRunStatus.STARTING,
    )


def test_a_run_is_cancelled_during_an_outage_by_its_status_alone(cluster: Cluster) -> None:
    run_id = cluster.started()
    with cluster.api.away():
        assert cluster.instance.run_launcher.terminate(run_id)
        assert cluster.instance.run_launcher.terminate(run_id)
    assert cluster.status(run_id) is dg.DagsterRunStatus.CANCELING, "its worker reads that"
    assert "its worker ends when it sees the run's status" in cluster.says(run_id)


# -- what has become of runs --------------------------------------------------------------------------
@pytest.mark.parametrize("stage", ["launched", "started"])
def test_a_job_that_was_deleted_fails_its_run_at_once(cluster: Cluster, stage: str) -> None:
    run_id = getattr(cluster, stage)()
    cluster.api.pods.pop(f"{cluster.job(run_id)}-x7k2p", None)
    del cluster.api.jobs[cluster.job(run_id)]
    cluster.monitor()
    assert "is gone: somebody deleted it" in cluster.failure(run_id)


def test_a_repeat_lives_until_its_own_job_is_made(cluster: Cluster) -> None:
    """Dagster gives it the tags of the run that died, and it is looked at before it is queued."""
    first = cluster.instance.get_run_by_id(cluster.launched())
    repeat = create_run_for_test(cluster.instance, job_name=JOB, tags=dict(first.tags))
    assert cluster.instance.run_launcher.check_starting_run(repeat).status is WorkerStatus.RUNNING  # type: ignore[attr-defined]


def test_a_run_whose_job_a_dead_daemon_had_not_made_fails_at_once(cluster: Cluster) -> None:
    run_id = cluster.queued()
    cluster.instance.report_dagster_event(dg.DagsterEvent("PIPELINE_STARTING", JOB), run_id=run_id)
    assert cluster.monitored(run_id) is dg.DagsterRunStatus.STARTING, "this daemon is about to make it"
    cluster.instance.run_launcher.began = time.time() + 1  # type: ignore[attr-defined]
    cluster.monitor()
    assert "the daemon died before it was made" in cluster.failure(run_id)


@pytest.mark.parametrize("stage", ["launched", "started"])
@pytest.mark.parametrize("noticed", [True, False], ids=["controller saw it", "controller is away"])
def test_a_pod_that_has_ended_fails_its_run_at_once(cluster: Cluster, stage: str, noticed: bool) -> None:
    run_id = getattr(cluster, stage)()
    cluster.api.end_pod(cluster.job(run_id), 137, "Error", "the run's process was ended by SIGKILL")
    if noticed:
        cluster.api.jobs[cluster.job(run_id)]["status"] = {"failed": 1}
    cluster.monitor()
    assert "ended with exit code 137 (Error): the run's process was ended by SIGKILL" in cluster.failure(run_id)
    assert [record.dagster_run.run_id for record in to_be_repeated(cluster.instance)] == [run_id]


def test_a_pod_that_is_gone_without_a_trace_fails_its_run(cluster: Cluster) -> None:
    """Somebody deleted it: the Job's controller counts it as failed, and makes no other."""
    run_id = cluster.started()
    cluster.api.pods.pop(f"{cluster.job(run_id)}-x7k2p")
    assert cluster.monitored(run_id) is dg.DagsterRunStatus.STARTED, "a pod may not be there yet"
    failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "limit reached"}
    cluster.api.jobs[cluster.job(run_id)]["status"] = {"failed": 1, "conditions": [failed]}
    assert cluster.monitored(run_id) is dg.DagsterRunStatus.FAILURE


def test_a_run_that_needed_too_much_memory_says_so(cluster: Cluster) -> None:
    run_id = cluster.started(**{"irt/kind": "monthly"})
    cluster.api.end_pod(cluster.job(run_id), 137, "OOMKilled")
    cluster.monitor()
    assert "needed more memory than 16Gi: give its kind of run more (IRT_RUN_RESOURCES)" in cluster.says(run_id)


def test_a_run_that_does_not_start_fails_in_the_end_and_says_what_it_waited_for(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = cluster.launched()
    no_node = [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes have enough memory"}]
    cluster.api.run_pod(cluster.job(run_id), "Pending", conditions=no_node)
    began = time.time()
    monkeypatch.setattr(run_monitoring, "get_current_timestamp", lambda: began + 600)
    assert cluster.monitored(run_id) is dg.DagsterRunStatus.STARTING
    monkeypatch.setattr(run_monitoring, "get_current_timestamp", lambda: began + 1_000)
    cluster.monitor()
    assert "has no node: 0/3 nodes have enough memory" in cluster.failure(run_id)


def test_a_run_that_a_process_executes_itself_has_no_job_and_lives(cluster: Cluster) -> None:
    run_id = cluster.started(**own_worker_tags())
    cluster.api.jobs.clear()
    assert cluster.monitored(run_id) is dg.DagsterRunStatus.STARTED


def test_cancelling_deletes_the_job_and_what_is_cancelled_twice_is_cancelled(cluster: Cluster) -> None:
    run_id = cluster.started()
    launcher = cluster.instance.run_launcher
    assert launcher.terminate(run_id)
    assert cluster.job(run_id) not in cluster.api.jobs
    assert cluster.status(run_id) is dg.DagsterRunStatus.CANCELING, "the worker has its last words"
    assert launcher.terminate(run_id)
    assert cluster.status(run_id) is dg.DagsterRunStatus.CANCELED, "no worker is left to say it"
    assert not launcher.terminate(run_id)


# -- who may ask --------------------------------------------------------------------------------------
def test_a_pod_that_may_not_ask_the_api_server_still_knows_the_instance(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_id = cluster.started()
    monkeypatch.setattr(kubernetes.config.kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    asked = len(cluster.api.requests)
    launcher = kubernetes_launcher.KubernetesRunLauncher()
    launcher.register_instance(cluster.instance)
    assert fail_lost_runs(cluster.instance) == []
    assert launcher.terminate(run_id)
    assert (cluster.status(run_id), len(cluster.api.requests)) == (dg.DagsterRunStatus.CANCELING, asked)


def test_without_the_downward_api_a_run_fails_with_what_to_set(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POD_NAME")
    get_settings.cache_clear()
    run_id = cluster.queued()
    cluster.dequeue()
    assert "POD_NAME is not set: set it by the downward API" in cluster.failure(run_id)


def test_an_api_server_that_accepts_and_says_nothing_is_away(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = cluster.started()
    monkeypatch.setattr(kubernetes_launcher, "PATIENCE_S", (0.2, 0.2))
    monkeypatch.setattr(ApiServer, "answer", lambda *_: time.sleep(1) or (200, {}))
    assert cluster.monitored(run_id) is dg.DagsterRunStatus.STARTED
