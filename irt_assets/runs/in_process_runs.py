"""Runs in this process: the jobs that the UI launches, and what Dagster's daemon would launch after them.

Sensors are evaluated as the daemon evaluates them, and what they ask for is run here; what follows a month by itself is
made where it is older than what it reads. What does not belong here: whether a run is made here (see `start`), how a
partition is computed, and what a sensor decides (see `jobs`).
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from uuid import uuid4

import dagster as dg
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from irt_assets import definitions
from irt_assets.common.job_names import MONTHLY_JOB
from irt_assets.common.retries import first_cause, is_dagsters_own, says_held, why_it_failed
from irt_assets.common.run_progress import RANGE_TAGS, under_way
from irt_assets.gates.gates import SetGate
from irt_assets.gates.month_judged import MONTHLY_ASSETS
from irt_assets.gates.month_status import latest_evaluations, unsettled_months
from jobs.launching.launcher import own_worker_tags
from jobs.plans import Plan, plan_of
from jobs.watching.stuck_runs import SHOWN_OF_AN_ID, fail_lost_runs, stuck_runs
from resources.dagster_compat import RUN_KEY_TAG, SENSOR_NAME_TAG
from resources.failures import PermanentFailure, is_transient
from resources.serving import logs
from resources.settings import Settings

LOG = logging.getLogger("irt.run")
NO_STEP = "the run failed before its first step"
LAUNCHING = ("ledger", "stale_months")
"""Sensors that ask for runs."""
SENSORS = (
    *(*LAUNCHING, "intake", "pull", "theta_sweep"),
    *("alerts_of_runs", "alerts_of_checks", "ready_months", "alert_delivery"),
)
"""In the order of evaluation: those that tell what the runs did follow the last run, and delivery comes last. The
others are useful only with a daemon."""
NOT_A_CAUSE = "linked_item_parameters"
"""A held month is fitted and linked like any other: see `jobs.automation`."""
MOST_ROUNDS = 5
"""At most this many rounds, as a run may cause another: drift, then its report."""
LONGEST_OUTAGE_S = 300.0
"""How long the repetition of a run waits for the database: as long as a step is tried again."""
CURSOR = "irt without a daemon: {}"


@lru_cache(maxsize=1)
def _graph(settings: Settings) -> dg.Definitions:
    """The graph of these settings, which a command asks for up to ten times."""
    return definitions.defs if settings == definitions.SETTINGS else definitions.build_defs(settings)


@dataclass(frozen=True)
class Outcome:
    """How a run of a job, or of some assets, ended.

    Attributes:
        why: the first failed step's message. held: it says why the month is held and what to decide.
        warnings: messages of its checks.
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
    job: str, partition: str | None, run_id: str, success: bool, events: Iterable[dg.DagsterEvent], otherwise: str = ""
) -> Outcome:
    """How a run ended, from its events. otherwise: why it failed if no step did."""
    failed, warnings, why = [], [], otherwise or NO_STEP
    for event in events:
        if event.is_step_failure:
            failed.append(event.step_failure_data)
        elif event.is_run_failure and not otherwise and (error := event.job_failure_data.error):
            why = f"the run broke off, and the step that it was at left nothing: {first_cause(error)}"
        elif event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if not check.passed:
                warnings.append(check.description or check.check_name)
    if success:
        why = ""
    elif failed:
        why = why_it_failed(failed[0])
    return Outcome(job, partition, success, why, run_id, tuple(warnings), held=any(map(says_held, failed)))


def run_month(instance: dg.DagsterInstance, settings: Settings, month: str, assets: Sequence[str] = ()) -> Outcome:
    """Execute the monthly job for one month here and now, or only some of its assets. Raises as `require_free` does."""
    plan = plan_of(MONTHLY_JOB)
    require_free(instance, settings, plan, month)
    return run_here(instance, settings, plan, month, assets)


def require_free(instance: dg.DagsterInstance, settings: Settings, plan: Plan, partition: str) -> None:
    """Raises PermanentFailure where the job has no such partition, or where a run of it is queued or under way."""
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
    if partition in under_way(instance, plan.job, MONTHLY_ASSETS if plan.job == MONTHLY_JOB else [plan.asset]):
        runs = [
            f"  {one.name} {one.partition} {one.status}{f' ({one.why})' if one.why else ''}: "
            f"irt runs cancel {one.run_id[:SHOWN_OF_AN_ID]}"
            for one in stuck_runs(instance)
            if one.may_hold(partition)
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
) -> Outcome:
    """Execute a job here and now, or only some of its assets, whatever else goes on."""
    keys = [dg.AssetKey(name) for name in assets]
    result = _execute(_graph(settings).resolve_job_def(plan.job), instance, partition, keys, log_level=log_level)
    return outcome_of(plan.job, partition, result.run_id, result.success, result.all_events)


def run_job(instance: dg.DagsterInstance, settings: Settings, name: str, first: str = "", last: str = "") -> bool:
    """Execute a job here and now, of one partition, of all from `first` to `last` in one run, or of none.

    Returns whether it succeeded.
    """
    a_range = dict(zip(RANGE_TAGS, (first, last), strict=True)) if last else {}
    partition = first if first and not last else None
    return _execute(_graph(settings).resolve_job_def(name), instance, partition, tags=a_range).success


def judge_again(
    instance: dg.DagsterInstance, settings: Settings, gates: Collection[SetGate], months: Iterable[str]
) -> Iterator[tuple[str, dg.AssetCheckEvaluation]]:
    """Evaluate some checks of months again, here and now, by what is stored; nothing else is made.

    Yields the month and the evaluation of each check whose verdict changed. Left out are months that run
    and those that were never judged by one of the checks: their runs judge by the rules of that time.
    """
    keys = {gate.name: dg.AssetCheckKey(dg.AssetKey(gate.asset), gate.name) for gate in gates}
    job = _graph(settings).resolve_job_def(MONTHLY_JOB).get_subset(asset_check_selection={*keys.values()})
    running = unsettled_months(instance)
    for month in months:
        before = latest_evaluations(instance, keys.values(), month)
        if month in running or any(before[key] is None for key in keys.values()):
            continue
        result = _execute(job, instance, month)
        for found in result.get_asset_check_evaluations():
            earlier = before[found.asset_check_key]
            if earlier is not None and earlier.passed != found.passed:
                yield month, found


def _execute(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    partition: str | None,
    assets: Sequence[dg.AssetKey] = (),
    tags: Mapping[str, str] | None = None,
    log_level: str | None = None,
) -> dg.ExecuteInProcessResult:
    """On a terminal the command prints progress and runs are silent, unless `log_level` says; elsewhere runs log.

    A run that broke off because Dagster lost its database is repeated once, when the database answers again.
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
    try:
        result = execute(run_id=run_id)
    except Exception as error:
        if not is_transient(error):
            raise
    else:
        if not is_dagsters_own(result.all_events):
            return result
    LOG.warning("Dagster lost its database during a run of %s, which is repeated when it answers again", job.name)
    once_more = retry_if_exception(is_transient)
    patient = Retrying(retry=once_more, wait=wait_fixed(1), stop=stop_after_delay(LONGEST_OUTAGE_S), reraise=True)
    left = patient(instance.get_run_by_id, run_id)
    if left is not None and not left.is_finished:
        instance.report_run_failed(left, "Dagster lost its database during the run.")
    return execute()


@dataclass(frozen=True)
class Asked:
    """A run to launch: of a job, or of `assets` if `job` is None."""

    partition: str | None
    job: str | None = None
    assets: tuple[dg.AssetKey, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


def follow_up(instance: dg.DagsterInstance, settings: Settings) -> Iterator[Outcome]:
    """Run what sensors and automation ask for, until they ask for nothing more; then evaluate the other sensors."""
    defs = _graph(settings)
    for _ in range(MOST_ROUNDS):
        asked = [*_automation_requests(instance, defs), *_sensor_requests(instance, defs, LAUNCHING)]
        if not asked:
            break
        for one in asked:
            yield _run(instance, settings, one)
    for one in _sensor_requests(instance, defs, SENSORS[len(LAUNCHING) :]):
        yield _run(instance, settings, one)


def evaluate(instance: dg.DagsterInstance, settings: Settings, sensor: str) -> Iterator[Outcome]:
    """One tick of one of `SENSORS`, and the runs that it asks for."""
    for one in _sensor_requests(instance, _graph(settings), (sensor,)):
        yield _run(instance, settings, one)


def _run(instance: dg.DagsterInstance, settings: Settings, one: Asked) -> Outcome:
    defs = _graph(settings)
    job = defs.resolve_job_def(one.job) if one.job else defs.resolve_implicit_job_def_def_for_assets(one.assets)
    assert job is not None
    result = _execute(job, instance, one.partition, one.assets, one.tags)
    name = ", ".join(key.to_user_string() for key in one.assets) or one.job or ""
    return outcome_of(name, one.partition, result.run_id, result.success, result.all_events)


def _sensor_requests(instance: dg.DagsterInstance, defs: dg.Definitions, names: Sequence[str]) -> Iterator[Asked]:
    """The runs that each sensor requests and has not had yet; cursors are stored as the daemon stores them."""
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
            LOG.info("%s: %s", name, tick.skip_message)
        for request in tick.run_requests or ():
            tags = {**request.tags, SENSOR_NAME_TAG: name, RUN_KEY_TAG: request.run_key or ""}
            if not instance.get_runs_count(dg.RunsFilter(tags={SENSOR_NAME_TAG: name, RUN_KEY_TAG: tags[RUN_KEY_TAG]})):
                yield Asked(request.partition_key, request.job_name, tuple(request.asset_selection or ()), tags)
        if tick.cursor:
            cursors.set_cursor_values({key: tick.cursor})


def _automation_requests(instance: dg.DagsterInstance, defs: dg.Definitions) -> Iterator[Asked]:
    """The automatic assets of each month that are missing or older than what they read.

    Those that read one another come in later rounds. The daemon remembers what it has asked for and so asks once; here
    what failed is asked for again, by the next command.
    """
    graph = defs.resolve_asset_graph()
    follow = [key for key in graph.toposorted_asset_keys if graph.get(key).automation_condition is not None]
    read = {key: graph.get(key).parent_keys for key in follow}
    stored, kind = instance.event_log_storage, dg.DagsterEventType.ASSET_MATERIALIZATION
    concerned = {*follow, *(parent for key in follow for parent in read[key])}
    made = {key: stored.get_latest_storage_id_by_partition(key, kind) for key in concerned}  # clocks are set back
    due: dict[str, list[dg.AssetKey]] = {}
    for key in follow:
        causes = [parent for parent in read[key] if parent.to_user_string() != NOT_A_CAUSE]
        for month in set.intersection(*(set(made[parent]) for parent in read[key])):
            waits = any(parent in due.get(month, ()) for parent in read[key])
            if not waits and max(made[cause][month] for cause in causes) > made[key].get(month, -1):
                due.setdefault(month, []).append(key)
    for month in sorted(due):
        yield Asked(month, assets=tuple(due[month]))
