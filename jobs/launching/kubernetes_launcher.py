"""Dagster's launcher for Kubernetes, under which runs live on while the API server does not answer.

What belongs here: which runs under way count as alive. What does not: a run's pod (the configuration of the launcher
in deploy/k8s/base/irt-settings.yaml), and how much it gets (see `Settings.run_resources`).
"""

from dagster import DagsterRun
from dagster_k8s import K8sRunLauncher

from jobs.launching.launcher import WORKER_TAG
from resources.dagster_compat import CheckRunHealthResult, WorkerStatus

NO_JOB = "could not be found"
"""How K8sRunLauncher ends its message if the API server answers that there is no such Job."""


class KubernetesRunLauncher(K8sRunLauncher):
    """K8sRunLauncher, but a run lives if the API server gives no answer, or if a command executes it and it has no Job.

    `run_monitoring` fails a run under way unless its worker is RUNNING or SUCCESS. K8sRunLauncher returns UNKNOWN at
    the first request that fails, so one poll without the API server would fail every run. The class can go once Dagster
    leaves runs alone whose worker is UNKNOWN, and once no command executes runs.
    """

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        if WORKER_TAG in run.tags:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        health = super().check_run_worker_health(run)
        if health.status is WorkerStatus.UNKNOWN and not (health.msg or "").endswith(NO_JOB):
            return CheckRunHealthResult(WorkerStatus.RUNNING, health.msg)
        return health
