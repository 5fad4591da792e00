"""Runs without the daemon: the same job that the UI launches, executed in this process.

What does not belong here: how a partition is computed, and what is printed about it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from irt_assets.calibration.assets import says_held
from irt_assets.common.job_names import LEARNER_REPORT, LEARNER_REPORT_JOB, MONTHLY_JOB, NIGHTLY, NIGHTLY_JOB
from irt_assets.common.partitions import DAYS, MONTHS, WEEKS, Period
from irt_assets.common.retries import first_cause, why_it_failed
from irt_assets.common.run_progress import RANGE_TAGS, under_way
from irt_assets.definitions import build_defs
from irt_assets.gates.gates import SetGate
from irt_assets.gates.month_judged import MONTHLY_ASSETS
from irt_assets.gates.month_status import latest_evaluations, unsettled_months
from jobs.launcher import own_worker_tags
from jobs.stuck_runs import SHOWN_OF_AN_ID, StuckRun, fail_lost_runs, stuck_runs
from resources.failures import PermanentFailure
from resources.serving import logs
from resources.settings import Settings

NO_STEP = "the run failed before its first step"


def _console(level: str | None = None) -> dict[str, Any]:
    """On a terminal the command prints progress and runs are silent; elsewhere runs log."""
    level = level or ("CRITICAL" if logs.for_people() else "INFO")
    return {"loggers": {"console": {"config": {"log_level": level}}}}


@dataclass(frozen=True)
class RunOutcome:
    """How a run of a partition ended.

    Attributes:
        error: the first failed step's message. held: the error says why the month is held and what to decide.
        warnings: messages of its checks.
    """

    partition: str
    run_id: str
    success: bool
    error: str | None
    warnings: tuple[str, ...] = ()
    held: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a run of any job ended, `why` it failed, and its id in Dagster."""

    name: str
    success: bool
    why: str = ""
    run_id: str = field(default="", compare=False)


def run_month(instance: dg.DagsterInstance, settings: Settings, month: str, assets: Sequence[str] = ()) -> RunOutcome:
    """Execute the monthly job for one month here and now, or only some of its assets.

    Raises PermanentFailure where the month is not a partition, or where a run of it is queued or under way.
    """
    return _run_partition(instance, settings, MONTHLY_JOB, month, MONTHS, MONTHLY_ASSETS, assets=assets)


def judge_again(
    instance: dg.DagsterInstance, settings: Settings, gates: Collection[SetGate], months: Iterable[str]
) -> Iterator[tuple[str, dg.AssetCheckEvaluation]]:
    """Evaluate some checks of months again, here and now, by what is stored; nothing else is made.

    Yields the month and the evaluation of each check whose verdict changed. Left out are months that run
    and those that were never judged by one of the checks: their runs judge by the rules of that time.
    """
    keys = {gate.name: dg.AssetCheckKey(dg.AssetKey(gate.asset), gate.name) for gate in gates}
    job = build_defs(settings).resolve_job_def(MONTHLY_JOB).get_subset(asset_check_selection={*keys.values()})
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


def run_night(instance: dg.DagsterInstance, settings: Settings, day: str) -> RunOutcome:
    """Execute the nightly job for one day here and now; it logs on a terminal too. Raises as `run_month` does."""
    return _run_partition(instance, settings, NIGHTLY_JOB, day, DAYS, (NIGHTLY,), log_level="INFO")


def run_learner_reports(instance: dg.DagsterInstance, settings: Settings, week: str) -> RunOutcome:
    """Execute the job of the learner reports for a week here and now. Raises as `run_month` does."""
    return _run_partition(instance, settings, LEARNER_REPORT_JOB, week, WEEKS, (LEARNER_REPORT,))


def _run_partition(
    instance: dg.DagsterInstance,
    settings: Settings,
    name: str,
    partition: str,
    period: Period,
    made: Collection[str],
    *,
    assets: Sequence[str] = (),
    log_level: str | None = None,
) -> RunOutcome:
    """Execute `assets`, or all of the job, for a partition, unless another run makes one of `made` for it."""
    job = job_with_partition(settings, name, partition, period)
    fail_lost_runs(instance)
    if partition in under_way(instance, name, made):
        runs = [one for one in stuck_runs(instance) if one.may_hold(partition)]
        raise PermanentFailure(
            f"a run of {partition} is queued or under way: wait for it, or cancel it\n{_as_lines(runs)}"
        )
    result = _execute(job, instance, partition, [dg.AssetKey(name) for name in assets], log_level=log_level)
    return run_outcome(partition, result.run_id, result.success, result.all_events)


def job_with_partition(settings: Settings, name: str, partition: str, period: Period) -> dg.JobDefinition:
    """The job of this name. Raises PermanentFailure where it has no such partition."""
    job = build_defs(settings).resolve_job_def(name)
    assert job.partitions_def is not None
    if not job.partitions_def.has_partition_key(partition):
        keys = job.partitions_def.get_partition_keys()
        raise PermanentFailure(
            f"{partition} is not a {period.name} that is over: the {period.name}s run from {keys[0]} (IRT_FIRST_MONTH) "
            f"to {keys[-1]}"
            if keys
            else f"no {period.name} is over yet since IRT_FIRST_MONTH={settings.irt_first_month}"
        )
    return job


def run_outcome(partition: str, run_id: str, success: bool, events: Sequence[dg.DagsterEvent]) -> RunOutcome:
    """How a run of a partition ended, from its events."""
    failed, warnings = [], []
    for event in events:
        if event.is_step_failure:
            failed.append(event.step_failure_data)
        elif event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if not check.passed:
                warnings.append(check.description or check.check_name)
    why = None if success else why_it_ended(events)
    return RunOutcome(partition, run_id, success, why, tuple(warnings), held=any(map(says_held, failed)))


def _as_lines(runs: list[StuckRun]) -> str:
    return "\n".join(
        f"  {one.name} {one.partition} {one.status}{f' ({one.why})' if one.why else ''}: "
        f"irt runs cancel {one.run_id[:SHOWN_OF_AN_ID]}"
        for one in runs
    )


def run_job(instance: dg.DagsterInstance, settings: Settings, name: str, first: str = "", last: str = "") -> bool:
    """Execute a job here and now, of one partition, of all from `first` to `last` in one run, or of none.

    Returns whether it succeeded.
    """
    a_range = dict(zip(RANGE_TAGS, (first, last), strict=True)) if last else {}
    partition = first if first and not last else None
    return execute(instance, settings, job=name, partition=partition, tags=a_range).success


def execute(
    instance: dg.DagsterInstance,
    settings: Settings,
    *,
    job: str | None = None,
    partition: str | None = None,
    assets: Sequence[dg.AssetKey] = (),
    tags: Mapping[str, str] | None = None,
    log_level: str | None = None,
) -> dg.ExecuteInProcessResult:
    """Execute a job, or `assets` with their checks, here and now, whatever else goes on."""
    defs = build_defs(settings)
    chosen = defs.resolve_job_def(job) if job else defs.resolve_implicit_job_def_def_for_assets(assets)
    assert chosen is not None
    return _execute(chosen, instance, partition, assets, tags, log_level)


def _execute(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    partition: str | None,
    assets: Sequence[dg.AssetKey] = (),
    tags: Mapping[str, str] | None = None,
    log_level: str | None = None,
) -> dg.ExecuteInProcessResult:
    return job.execute_in_process(
        partition_key=partition,
        asset_selection=list(assets) or None,
        instance=instance,
        raise_on_error=False,
        tags=own_worker_tags() | dict(tags or {}),
        run_config=_console(log_level),
    )


def why_it_ended(events: Iterable[dg.DagsterEvent]) -> str:
    """The explanation of the first step that failed; without one, what broke the run off."""
    why = NO_STEP
    for event in events:
        if event.is_step_failure:
            return why_it_failed(event.step_failure_data)
        if event.is_run_failure and (error := event.job_failure_data.error):
            why = f"the run broke off, and the step that it was at left nothing: {first_cause(error)}"
    return why
