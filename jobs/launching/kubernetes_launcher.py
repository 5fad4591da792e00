"""The run launcher of a cluster: each run is a Job, whose pod is a copy of the one that launches it.

What belongs here: making a run's Job, whether it lives, how it is ended, all while the API server may be away. What
does not: what the pod does (see `runs.run_worker`), how much it gets (see `run_sizes`), how often the daemon asks
and what it does with the answer (`run_monitoring`).

If the API server does not answer, nothing is known about runs: those under way count as alive, those to be launched are
queued again, and a cancelled one ends itself, as its worker reads its status.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import psutil
from dagster import DagsterInstance, DagsterRun
from dagster_k8s.client import PatchedApiClient
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import (
    DagsterK8sJobConfig,
    UserDefinedDagsterK8sConfig,
    construct_dagster_k8s_job,
    get_job_name_from_run_id,
    get_user_defined_k8s_config,
)
from dagster_k8s.launcher import K8sRunLauncher
from dagster_k8s.utils import load_kubernetes_config
from kubernetes import client
from kubernetes.client.rest import ApiException
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError

from jobs.launching.api_server import ApiServerAway, Outage, error_text, translate_errors
from jobs.launching.launcher import WORKER_TAG
from jobs.launching.run_sizes import KIND_TAG, RunSize, size_of
from resources.dagster_compat import (
    HIDDEN_TAG_PREFIX,
    CheckRunHealthResult,
    ConfigurableClassData,
    EngineEventData,
    LaunchRunContext,
    RunLauncher,
    WorkerStatus,
    tell_in_a_sentence,
)
from resources.failures import PermanentFailure
from resources.serving import logs
from resources.settings import Settings, get_settings

PRODUCT = "irt-assets"
JOB_TAG = f"{HIDDEN_TAG_PREFIX}irt_run_job"
"""Run tag, hidden in the UI: the name of the run's Job, as soon as it is known to be there."""
TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
TOKEN_VOLUME = "kube-api-access-"  # noqa: S105 - the name of a volume
PATIENCE_S = (5.0, 10.0)
"""Timeouts in seconds: to connect, and for an answer."""
NOT_FOUND, CONFLICT = 404, 409
ENDED = ("Succeeded", "Failed")
UNTIL_STARTED_S = 1_200
"""Until a node and the image are there; the Job's deadline counts from its creation."""
OF_ITS_CONTAINER = ("image", "image_pull_policy", "env", "env_from", "volume_mounts", "security_context", "working_dir")
OF_ITS_POD = (
    "affinity",
    "dns_config",
    "dns_policy",
    "enable_service_links",
    "host_aliases",
    "image_pull_secrets",
    "node_selector",
    "priority_class_name",
    "runtime_class_name",
    "security_context",
    "service_account_name",
    "termination_grace_period_seconds",
    "tolerations",
    "topology_spread_constraints",
    "volumes",
)


class KubernetesRunLauncher(K8sRunLauncher):
    """Dagster's launcher for Kubernetes, made for an API server that comes and goes.

    It connects when it first has to: of the processes that know the instance, daemon and webserver alone may.
    """

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        RunLauncher.__init__(self)  # type: ignore[arg-type]
        self._inst_data = inst_data
        self._outage = Outage()
        self.began = psutil.Process().create_time()

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: object) -> Self:  # noqa: ARG003
        return cls(inst_data)

    def register_instance(self, instance: DagsterInstance) -> None:
        """The first of our code that runs in the daemon and the webserver: it sets up their logs."""
        logs.configure()
        tell_in_a_sentence(ApiServerAway)
        super().register_instance(instance)

    @property
    def supports_resume_run(self) -> bool:
        """A run whose pod was killed is repeated, as any other."""
        return False

    @property
    def supports_run_worker_crash_recovery(self) -> bool:
        return False

    # -- starting --------------------------------------------------------------------------------
    def launch_run(self, context: LaunchRunContext) -> None:
        """Make the run's Job, or find that it is made. Raises ApiServerAway, and PermanentFailure where it is refused.

        Whether a request that was not answered made the Job shows when it is made again: by its name there is one.
        """
        run, size = context.dagster_run, size_of(context.dagster_run, self._settings)
        with translate_errors("make the Job of a run"):
            body = self._job(run, size)
            name = body.metadata.name
            try:
                self._ask(self._batch.create_namespaced_job, self._namespace, body)
            except ApiException as error:
                if error.status != CONFLICT:
                    raise
                self._require_job_of(run, name)
        self._instance.add_run_tags(run.run_id, {JOB_TAG: name})
        given = body.spec.template.spec.containers[0].resources
        cpu, memory = given.requests["cpu"], given.limits["memory"]
        self._instance.report_engine_event(
            f"The run's Job is {name}: {cpu} CPU, {memory} of memory, {size.seconds / 3600:g} h at most.",
            run,
            EngineEventData({"Job": name, "namespace": self._namespace}),
            cls=type(self),
        )

    def _require_job_of(self, run: DagsterRun, name: str) -> None:
        job = self._ask(self._batch.read_namespaced_job, name, self._namespace)
        if (job.metadata.labels or {}).get("dagster/run-id") != run.run_id:
            raise PermanentFailure(f"the Job {name} in {self._namespace} is of another run: delete it")

    def _job(self, run: DagsterRun, size: RunSize) -> client.V1Job:
        """The Job: a copy of this pod with the run's resources; those of the tag dagster-k8s/config go before."""
        own = _copy_fields(self._own_pod.spec.to_dict())
        container = {name: own["containers"][0][name] for name in OF_ITS_CONTAINER if name in own["containers"][0]}
        pod = {name: own[name] for name in OF_ITS_POD if name in own}
        labels = {"app.kubernetes.io/name": PRODUCT, "app.kubernetes.io/part-of": PRODUCT, KIND_TAG: size.kind}
        like_this_pod = UserDefinedDagsterK8sConfig(
            container_config=container
            | {"resources": {"requests": {"cpu": size.cpu, "memory": size.memory}, "limits": {"memory": size.memory}}},
            pod_spec_config=pod | {"automount_service_account_token": False},
            pod_template_spec_metadata={"labels": labels},
            job_metadata={"labels": labels},
            job_spec_config={"active_deadline_seconds": size.seconds + UNTIL_STARTED_S},
        )
        chosen = K8sContainerContext(run_k8s_config=_resources_asked_for(run))
        name = get_job_name_from_run_id(run.run_id)
        return construct_dagster_k8s_job(
            DagsterK8sJobConfig(),
            ["irt", "run", "worker", run.run_id],
            name,
            K8sContainerContext(run_k8s_config=like_this_pod).merge(chosen).run_k8s_config,
            pod_name=name,
            component="run-worker",
            labels={"dagster/job": run.job_name, "dagster/run-id": run.run_id},
        )

    # -- watching --------------------------------------------------------------------------------
    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """FAILED where the run's Job is gone or has ended, else RUNNING: the daemon fails a run on anything else."""
        try:
            fault = None if WORKER_TAG in run.tags else self._fault(run)
        except (ApiException, HTTPError, ConfigException) as error:
            return CheckRunHealthResult(WorkerStatus.RUNNING, f"the API server did not say: {error_text(error)}")
        if fault is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, fault)

    def check_starting_run(self, run: DagsterRun) -> CheckRunHealthResult:
        """As `check_run_worker_health`, but a run whose Job this process is about to make counts as alive.

        A repetition carries the tags of the run that it repeats.
        """
        if run.tags.get(JOB_TAG) != get_job_name_from_run_id(run.run_id) and not self._was_launched_earlier(run):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return self.check_run_worker_health(run)

    def _was_launched_earlier(self, run: DagsterRun) -> bool:
        """Whether it was launched before this process began, so that the process that was to make its Job is gone."""
        launched = self._instance.get_run_stats(run.run_id).launch_time
        return launched is not None and launched < self.began

    def get_run_worker_debug_info(self, run: DagsterRun, include_container_logs: bool | None = True) -> str | None:  # noqa: ARG002
        """What the run's pods wait for, in a few words; None where nothing is known."""
        with suppress(ApiException, HTTPError, ConfigException):
            return "; ".join(filter(None, map(_waits_for, self._pods(run)))) or None
        return None

    def _fault(self, run: DagsterRun) -> str | None:
        """Why the run cannot still be alive."""
        name = get_job_name_from_run_id(run.run_id)
        try:
            job = self._ask(self._batch.read_namespaced_job, name, self._namespace)
        except ApiException as error:
            if error.status == NOT_FOUND:
                return f"the run's Job {name} is gone: somebody deleted it, or the daemon died before it was made"
            raise
        pods = self._pods(run)
        over = any(one.type in ("Complete", "Failed") and one.status == "True" for one in job.status.conditions or ())
        over = over or (not job.status.active and bool(job.status.failed or job.status.succeeded))
        if not over and not (pods and all(pod.status.phase in ENDED for pod in pods)):
            return None
        reasons = [one.message for one in job.status.conditions or () if one.type == "Failed" and one.message]
        endings = "; ".join([*map(_ending, pods), *reasons])
        return endings or f"the pod of the run's Job {name} is gone: killed, or evicted"

    def _pods(self, run: DagsterRun) -> list[client.V1Pod]:
        selector = f"job-name={get_job_name_from_run_id(run.run_id)}"
        return self._ask(self._core.list_namespaced_pod, self._namespace, label_selector=selector).items

    # -- ending ----------------------------------------------------------------------------------
    def terminate(self, run_id: str) -> bool:
        """Cancel the run: its worker notices, even while the API server is away.

        The Job is deleted if possible, which also ends a pod that still waits for a node.
        """
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        try:
            self._ask(
                self._batch.delete_namespaced_job,
                get_job_name_from_run_id(run_id),
                self._namespace,
                propagation_policy="Background",
            )
        except (ApiException, HTTPError, ConfigException) as error:
            if isinstance(error, ApiException) and error.status == NOT_FOUND:
                self._instance.report_run_canceled(run, "The run has no Job any more.")
            else:
                self._instance.report_engine_event(
                    f"The run's Job could not be deleted ({error_text(error)}); its worker ends when it sees the run's "
                    "status.",
                    run,
                    cls=type(self),
                )
        return True

    # -- the cluster -----------------------------------------------------------------------------
    @cached_property
    def _settings(self) -> Settings:
        return get_settings()

    @property
    def _namespace(self) -> str:
        return self._in_a_pod("POD_NAMESPACE", self._settings.pod_namespace)

    @cached_property
    def _own_pod(self) -> client.V1Pod:
        name = self._in_a_pod("POD_NAME", self._settings.pod_name)
        return self._ask(self._core.read_namespaced_pod, name, self._namespace)

    def _in_a_pod(self, name: str, value: str | None) -> str:
        if value is None:
            raise ConfigException(f"{name} is not set: set it by the downward API, as deploy/k8s does")
        return value

    @cached_property
    def _api(self) -> client.ApiClient:
        load_kubernetes_config(load_incluster_config=TOKEN.exists())
        configuration = client.Configuration.get_default_copy()
        configuration.retries = False  # the caller asks again
        return PatchedApiClient(configuration)

    @cached_property
    def _batch(self) -> client.BatchV1Api:
        return client.BatchV1Api(self._api)

    @cached_property
    def _core(self) -> client.CoreV1Api:
        return client.CoreV1Api(self._api)

    def _ask(self, request: Callable[..., Any], *arguments: object, **named: object) -> Any:
        return self._outage.watch(request, *arguments, **named, _request_timeout=PATIENCE_S)


def _ending(pod: client.V1Pod) -> str:
    """How a pod ended, in words."""
    name, status = pod.metadata.name, pod.status
    ended = [one.state.terminated for one in status.container_statuses or () if one.state and one.state.terminated]
    if not ended:
        return f"the pod {name} ended: {status.message or status.reason or 'its node is gone, or it was evicted'}"
    last = ended[0]
    if last.reason == "OOMKilled":
        limit = (pod.spec.containers[0].resources.limits or {}).get("memory", "its limit")
        return f"the pod {name} needed more memory than {limit}: give its kind of run more (IRT_RUN_RESOURCES)"
    message = f": {last.message.strip()}" if last.message else ""
    return f"the pod {name} ended with exit code {last.exit_code} ({last.reason}){message}"


def _waits_for(pod: client.V1Pod) -> str | None:
    """What keeps a pod from starting."""
    name = pod.metadata.name
    for one in pod.status.container_statuses or ():
        if one.state and one.state.waiting:
            return f"the pod {name} waits: {one.state.waiting.reason} {one.state.waiting.message or ''}".rstrip()
    for condition in pod.status.conditions or ():
        if condition.type == "PodScheduled" and condition.status == "False":
            return f"the pod {name} has no node: {condition.message}"
    return None


def _resources_asked_for(run: DagsterRun) -> UserDefinedDagsterK8sConfig:
    """What the tag dagster-k8s/config says of memory and CPU.

    Other settings are ignored: they would let anyone who may launch a run choose a pod's account, image and Secrets.
    """
    asked = get_user_defined_k8s_config(run.tags).container_config.get("resources")
    return UserDefinedDagsterK8sConfig(container_config={"resources": asked} if asked else {})


def _copy_fields(value: Any) -> Any:
    """The fields set in the pod's spec, without unset ones and without the token's volume, which Kubernetes adds."""
    if isinstance(value, dict):
        return {name: _copy_fields(one) for name, one in value.items() if one is not None}
    if isinstance(value, list):
        named = [(one, one.get("name", "") if isinstance(one, dict) else "") for one in value]
        return [_copy_fields(one) for one, name in named if not str(name).startswith(TOKEN_VOLUME)]
    return value
