"""Dagster's launcher for Kubernetes, changed so that runs survive while the API server does not respond.

The pod of a run is configured in deploy/k8s/base/irt-settings.yaml, its resources in `Settings.run_resources`.
"""

from dagster import DagsterRun
from dagster_k8s import K8sRunLauncher

from jobs.launching.launcher import WORKER_TAG
from resources.dagster_compat import CheckRunHealthResult, WorkerStatus

NO_JOB = "could not be found"
"""End of K8sRunLauncher's message if the API server responds that there is no such Job."""


class KubernetesRunLauncher(K8sRunLauncher):
    """K8sRunLauncher that reports a run as RUNNING if the API server does not respond or a command executes the run.

    `run_monitoring` fails a run under way unless its worker is RUNNING or SUCCESS. K8sRunLauncher returns UNKNOWN after
    one failed request, so a single poll without the API server would fail all runs. A run that a command executes has
    no Job. This class can go once Dagster does not fail runs whose worker is UNKNOWN, and no command executes runs.
    """

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        if WORKER_TAG in run.tags:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        health = super().check_run_worker_health(run)
        if health.status is WorkerStatus.UNKNOWN and not (health.msg or "").endswith(NO_JOB):
            return CheckRunHealthResult(WorkerStatus.RUNNING, health.msg)
        return health
