"""Runs in this process: jobs, and the runs that Dagster's daemon would launch after them.

Sensors are evaluated like in the daemon, and the runs that they request are executed here. Assets that follow a month
automatically are made if they are older than their dependencies. What does not belong here: the decision to run in this
process (see `start`), and the decisions of sensors (see `jobs`).
"""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import count
from uuid import uuid4

import dagster as dg
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from irt_assets import definitions
from irt_assets.common.job_names import MONTHLY_JOB
from irt_assets.common.retries import failed_because_held, first_cause, is_dagsters_own, step_failure_reason
from irt_assets.common.run_progress import RANGE_TAGS, partitions_under_way
from irt_assets.gates.gates import SetGate
from irt_assets.gates.month_classification import MONTHLY_ASSETS
from jobs.automation import NO_CAUSES
from jobs.launching.launcher import own_worker_tags
from jobs.plans import Plan, find_plan
from jobs.watching.stuck_runs import ID_LENGTH, fail_lost_runs, stuck_runs
from resources.dagster_compat import RUN_KEY_TAG, SENSOR_NAME_TAG
from resources.failures import PermanentFailure, is_transient
from resources.serving import logs
from resources.settings import Settings

LOG = logging.getLogger("irt.run")
NO_STEP = "the run failed before its first step"
LAUNCHING = ("ledger", "stale_months")
"""Sensors that request runs."""
SENSORS = (
    *(*LAUNCHING, "intake", "pull", "theta_sweep"),
    *("alerts_of_runs", "alerts_of_checks", "ready_months", "alert_delivery"),
)
"""Sensors in the order of evaluation: alerts on the runs follow the last run, and delivery comes last. Sensors that are
missing here are useful only with a daemon."""
MAX_ROUNDS = 5
"""Largest number of rounds of requests; a run may cause a second run, e.g. drift causes the drift report."""
MAX_OUTAGE_S = 300.0
"""Time for which the repetition of a run waits for the database; a step is retried for the same time."""
CURSOR = "irt without a daemon: {}"


@lru_cache(maxsize=1)
def _graph(settings: Settings) -> dg.Definitions:
    """The graph for these settings. It is cached, because a command needs it up to ten times."""
    return definitions.defs if settings == definitions.SETTINGS else definitions.build_defs(settings)


STEP_ENDS = (dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.STEP_SKIPPED)
Progress = Callable[[int, int | None], None]
"""A function that takes the number of ended steps of a run, and the number of all steps."""


@dataclass(frozen=True)
class RunOutcome:
    """Result of a run of a job, or of some assets.

    Attributes:
        why: message of the first failed step; empty if the run succeeded.
        warnings: messages of its failed checks.
        held: whether the run failed because the month is held; `why` then contains the reason.
    """

    job: str
    partition: str | None
    success: bool
    why: str = ""
    run_id: str = field(default="", compare=False)
    warnings: tuple[str, ...] = ()
    held: bool = False

    @property
    def name(self) -> str:
        return name_of_run(self.job, self.partition)


def name_of_run(job: str, partition: str | None) -> str:
    return f"{job} {partition}" if partition else job


def outcome_of(
    job: str, partition: str | None, run_id: str, success: bool, events: Iterable[dg.DagsterEvent], fallback: str = ""
) -> RunOutcome:
    """The result of a run, from its events. `fallback`: the reason of a failure without a failed step."""
    failed, warnings, why = [], [], fallback or NO_STEP
    for event in events:
        if event.is_step_failure:
            failed.append(event.step_failure_data)
        elif event.is_run_failure and not fallback and (error := event.job_failure_data.error):
            why = f"the run broke off, and its current step recorded no error: {first_cause(error)}"
        elif event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if not check.passed:
                warnings.append(check.description or check.check_name)
    if success:
        why = ""
    elif failed:
        why = step_failure_reason(failed[0])
    return RunOutcome(job, partition, success, why, run_id, tuple(warnings), held=any(map(failed_because_held, failed)))


def run_month(instance: dg.DagsterInstance, settings: Settings, month: str, assets: Sequence[str] = ()) -> RunOutcome:
    """Execute the monthly job, or only some of its assets, for a month in this process.

    Raises PermanentFailure like `require_free`.
    """
    plan = find_plan(MONTHLY_JOB)
    require_free(instance, settings, plan, month)
    return run_here(instance, settings, plan, month, assets)


def require_free(instance: dg.DagsterInstance, settings: Settings, plan: Plan, partition: str) -> None:
    """Raise PermanentFailure if the job has no such partition, or if a run of it is queued or under way."""
    partitions, period = _graph(settings).resolve_job_def(plan.job).partitions_def, plan.period
    assert partitions is not None
    if not partitions.has_partition_key(partition):
        keys = partitions.get_partition_keys()
        raise PermanentFailure(
            f"{partition} is not a {period.name} that is over: the {period.name}s run from {keys[0]} (IRT_FIRST_MONTH) "
            f"to {keys[-1]}"
            if keys
            else f"no {period.name} is over yet since IRT_FIRST_MONTH={settings.irt_first_month}"
        )
    fail_lost_runs(instance)
    if partition in partitions_under_way(
        instance, plan.job, MONTHLY_ASSETS if plan.job == MONTHLY_JOB else [plan.asset]
    ):
        runs = [
            f"  {run.name} {run.partition} {run.status}{f' ({run.why})' if run.why else ''}: "
            f"irt runs cancel {run.run_id[:ID_LENGTH]}"
            for run in stuck_runs(instance)
            if run.may_hold(partition)
        ]
        why = f"a run of {partition} is queued or under way: wait for it, or cancel it"
        raise PermanentFailure("\n".join([why, *runs]))


def run_here(
    instance: dg.DagsterInstance,
    settings: Settings,
    plan: Plan,
    partition: str | None,
    assets: Sequence[str] = (),
    *,
    log_level: str | None = None,
    progress: Progress | None = None,
) -> RunOutcome:
    """Execute a job, or only some of its assets, in this process, even if a run of it is under way."""
    keys = [dg.AssetKey(name) for name in assets]
    job = _graph(settings).resolve_job_def(plan.job)
    result = _execute(job, instance, partition, keys, log_level=log_level, progress=progress)
    return outcome_of(plan.job, partition, result.run_id, result.success, result.all_events)


def run_job(instance: dg.DagsterInstance, settings: Settings, name: str, first: str = "", last: str = "") -> bool:
    """Execute a job in this process: without a partition, for `first`, or for all from `first` to `last` in one run.

    Returns whether it succeeded.
    """
    a_range = dict(zip(RANGE_TAGS, (first, last), strict=True)) if last else {}
    partition = first if first and not last else None
    return _execute(_graph(settings).resolve_job_def(name), instance, partition, tags=a_range).success


def run_checks(
    instance: dg.DagsterInstance, settings: Settings, gates: Collection[SetGate], months: Iterable[str]
) -> None:
    """Run the checks of some set gates on months in this process, so that Dagster shows their present results."""
    keys = {dg.AssetCheckKey(dg.AssetKey(gate.asset), gate.name) for gate in gates}
    job = _graph(settings).resolve_job_def(MONTHLY_JOB).get_subset(asset_check_selection=keys)
    for month in months:
        _execute(job, instance, month)


def _execute(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    partition: str | None,
    assets: Sequence[dg.AssetKey] = (),
    tags: Mapping[str, str] | None = None,
    log_level: str | None = None,
    progress: Progress | None = None,
) -> dg.ExecuteInProcessResult:
    """Execute a job in this process.

    By default a run logs nothing on a terminal, where the command prints progress, and from level INFO on elsewhere.
    If Dagster loses its database during the run, the run is repeated once, when the database responds again.
    """
    level = log_level or ("CRITICAL" if logs.for_people() else "INFO")
    execute = partial(
        job.execute_in_process,
        partition_key=partition,
        asset_selection=list(assets) or None,
        instance=instance,
        raise_on_error=False,
        tags=own_worker_tags() | dict(tags or {}),
        run_config={"loggers": {"console": {"config": {"log_level": level}}}},
    )
    run_id = str(uuid4())
    ended = count(1)

    def count_step(event: dg.EventLogEntry) -> None:
        if progress and event.is_dagster_event and event.get_dagster_event().event_type in STEP_ENDS:
            progress(next(ended), len(job.nodes))

    instance.add_event_listener(run_id, count_step)
    try:
        result = execute(run_id=run_id)
    except Exception as error:
        if not is_transient(error):
            raise
    else:
        if not is_dagsters_own(result.all_events):
            return result
    LOG.warning(
        "Dagster lost its database during a run of %s; the run is repeated when the database responds", job.name
    )
    once_more = retry_if_exception(is_transient)
    patient = Retrying(retry=once_more, wait=wait_fixed(1), stop=stop_after_delay(MAX_OUTAGE_S), reraise=True)
    lost = patient(instance.get_run_by_id, run_id)
    if lost is not None and not lost.is_finished:
        instance.report_run_failed(lost, "Dagster lost its database during the run.")
    return execute()


@dataclass(frozen=True)
class RunRequest:
    """A requested run: of a job, or of `assets` if `job` is None."""

    partition: str | None
    job: str | None = None
    assets: tuple[dg.AssetKey, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


def follow_up(instance: dg.DagsterInstance, settings: Settings) -> Iterator[RunOutcome]:
    """Execute the runs that sensors and automation request, until they request no more; then evaluate other sensors."""
    defs = _graph(settings)
    for _ in range(MAX_ROUNDS):
        requests = [*_automation_requests(instance, defs), *_sensor_requests(instance, defs, LAUNCHING)]
        if not requests:
            break
        for request in requests:
            yield _execute_request(instance, settings, request)
    for request in _sensor_requests(instance, defs, SENSORS[len(LAUNCHING) :]):
        yield _execute_request(instance, settings, request)


def evaluate_sensor(instance: dg.DagsterInstance, settings: Settings, sensor: str) -> Iterator[RunOutcome]:
    """Evaluate one of `SENSORS` once, and execute the runs that it requests."""
    for request in _sensor_requests(instance, _graph(settings), (sensor,), logging.INFO):
        yield _execute_request(instance, settings, request)


def _execute_request(instance: dg.DagsterInstance, settings: Settings, request: RunRequest) -> RunOutcome:
    defs = _graph(settings)
    job = (
        defs.resolve_job_def(request.job)
        if request.job
        else defs.resolve_implicit_job_def_def_for_assets(request.assets)
    )
    assert job is not None
    result = _execute(job, instance, request.partition, request.assets, request.tags)
    name = ", ".join(key.to_user_string() for key in request.assets) or request.job or ""
    return outcome_of(name, request.partition, result.run_id, result.success, result.all_events)


def _sensor_requests(
    instance: dg.DagsterInstance, defs: dg.Definitions, names: Sequence[str], level: int = logging.DEBUG
) -> Iterator[RunRequest]:
    """Evaluate sensors, store their cursors, and yield the requested runs whose run key has no run yet.

    level: log level of the reasons why sensors request no run, which are of interest if a person evaluates a sensor.
    """
    cursors = instance.daemon_cursor_storage
    assert cursors is not None
    sensors = {sensor.name: sensor for sensor in defs.sensors or () if isinstance(sensor, dg.SensorDefinition)}
    for name in names:
        key = CURSOR.format(name)
        context = dg.build_sensor_context(
            instance,
            cursor=cursors.get_cursor_values({key}).get(key),
            definitions=defs,
            resources=defs.resources,
            sensor_name=name,
        )
        with context:
            tick = sensors[name].evaluate_tick(context)
        if tick.skip_message:
            LOG.log(level, "%s: %s", name, tick.skip_message)
        for request in tick.run_requests or ():
            tags = {**request.tags, SENSOR_NAME_TAG: name, RUN_KEY_TAG: request.run_key or ""}
            if not instance.get_runs_count(dg.RunsFilter(tags={SENSOR_NAME_TAG: name, RUN_KEY_TAG: tags[RUN_KEY_TAG]})):
                yield RunRequest(request.partition_key, request.job_name, tuple(request.asset_selection or ()), tags)
        if tick.cursor:
            cursors.set_cursor_values({key: tick.cursor})


def _automation_requests(instance: dg.DagsterInstance, defs: dg.Definitions) -> Iterator[RunRequest]:
    """Requests for the automatic assets of each month that are missing or older than their dependencies.

    Assets that depend on such an asset follow in later rounds. The daemon remembers its requests and makes each once;
    here the next command requests failed assets again.
    """
    graph = defs.resolve_asset_graph()
    follow = [key for key in graph.toposorted_asset_keys if graph.get(key).automation_condition is not None]
    read = {key: graph.get(key).parent_keys for key in follow}
    stored, kind = instance.event_log_storage, dg.DagsterEventType.ASSET_MATERIALIZATION
    concerned = {*follow, *(parent for key in follow for parent in read[key])}
    # Ids are compared and not times, because a clock may be set back.
    made = {key: stored.get_latest_storage_id_by_partition(key, kind) for key in concerned}
    due: dict[str, list[dg.AssetKey]] = {}
    for key in follow:
        causes = [parent for parent in read[key] if parent.to_user_string() not in NO_CAUSES]
        for month in set.intersection(*(set(made[parent]) for parent in read[key])):
            waits = any(parent in due.get(month, ()) for parent in read[key])
            if not waits and max(made[cause][month] for cause in causes) > made[key].get(month, -1):
                due.setdefault(month, []).append(key)
    for month in sorted(due):
        yield RunRequest(month, assets=tuple(due[month]))
