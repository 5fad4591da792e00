"""State of partitions in Dagster's instance: which are under way, and when they were materialised."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import dagster as dg

from irt_assets.common.job_names import job_of, same_job
from irt_assets.common.partitions import keys_between
from irt_assets.common.retries import is_dagsters_own
from resources.dagster_compat import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    AUTO_RETRY_RUN_ID_TAG,
    BULK_ACTION_TERMINAL_STATUSES,
    NOT_FINISHED_STATUSES,
    PARENT_RUN_ID_TAG,
    RETRY_NUMBER_TAG,
    RUN_FAILURE_REASON_TAG,
    BulkActionStatus,
    PartitionBackfill,
    RunFailureReason,
    auto_reexecution_should_retry_run,
)

PARTITION_TAG = "dagster/partition"
BACKFILL_TAG = "dagster/backfill"
RANGE_TAGS = (ASSET_PARTITION_RANGE_START_TAG, ASSET_PARTITION_RANGE_END_TAG)
MAX_REPETITION_AGE = timedelta(hours=6)
"""Age up to which failed runs count as waiting for the daemon to repeat them."""
RECORDS_PER_QUERY = 1000
MAX_LATER_RUNS = 100
MAX_REPORTS = 5
"""Number of failure reports after which a run no longer waits to be repeated (see `jobs.sensors`)."""


def partitions_under_way(
    instance: dg.DagsterInstance, job: str, assets: Collection[str], *, besides_run: str | None = None
) -> set[str]:
    """Partitions for which the job, or any of its `assets`, is running, queued, or still to come in a backfill.

    A run whose worker was killed counts as running until the daemon has repeated it. For a run over a range of weeks,
    every day is returned, including the Mondays.
    """
    found: set[str] = set()
    repeated = (record.dagster_run for record in runs_to_repeat(instance))
    for run in [*instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES)), *repeated]:
        if run.run_id != besides_run and _concerns(run, job, assets):
            found |= partitions_of(run)
    for backfill in instance.get_backfills(status=BulkActionStatus.REQUESTED):
        missing = _backfill_partitions(backfill, job, assets)
        for run in instance.get_runs(dg.RunsFilter(tags={BACKFILL_TAG: backfill.backfill_id})) if missing else ():
            missing -= partitions_of(run)
        found |= missing
    return found


def runs_to_repeat(instance: dg.DagsterInstance) -> list[dg.RunRecord]:
    """Runs whose workers were killed, or that `failed_in_dagster`, and that have not been repeated yet.

    Dagster's own tag is not used: it is set after the status, and removed for good if the daemon could not reach the
    code server.
    """
    if not instance.run_retries_enabled:
        return []
    failed = instance.get_run_records(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=datetime.now(UTC) - MAX_REPETITION_AGE)
    )
    return [record for record in failed if _is_to_be_repeated(instance, record)]


def is_to_be_repeated(instance: dg.DagsterInstance, run_id: str) -> bool:
    return any(record.dagster_run.run_id == run_id for record in runs_to_repeat(instance))


def _is_to_be_repeated(instance: dg.DagsterInstance, record: dg.RunRecord) -> bool:
    run = record.dagster_run
    tag = run.tags.get(RUN_FAILURE_REASON_TAG)
    reason = None if tag is None or failed_in_dagster(instance, run) else RunFailureReason(tag)
    if was_repeated(instance, run) or not auto_reexecution_should_retry_run(instance, run, reason):
        return False
    if BACKFILL_TAG in run.tags:
        backfill = instance.get_backfill(run.tags[BACKFILL_TAG])
        if backfill is None or backfill.status in BULK_ACTION_TERMINAL_STATUSES:
            return False
    reports = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    return len(reports) < MAX_REPORTS and not is_requested_again(instance, record)


def failed_in_dagster(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a run failed because Dagster could not record one of its steps. False for repetitions of a run."""
    if RETRY_NUMBER_TAG in run.tags or run.tags.get(RUN_FAILURE_REASON_TAG) != RunFailureReason.STEP_FAILURE.value:
        return False
    failures = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    return is_dagsters_own(entry.get_dagster_event() for entry in failures)


def was_repeated(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the daemon has repeated a run. It creates the repetition first, and tags the run seconds later."""
    return AUTO_RETRY_RUN_ID_TAG in run.tags or repetition(instance, run) is not None


def repetition(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRun | None:
    """The daemon's repetition of a run. Returns None if the run has not been repeated."""
    children = instance.get_runs(dg.RunsFilter(tags={PARENT_RUN_ID_TAG: run.run_id}))
    return next((child for child in children if RETRY_NUMBER_TAG in child.tags), None)


def is_requested_again(instance: dg.DagsterInstance, record: dg.RunRecord, *statuses: dg.DagsterRunStatus) -> bool:
    """Whether a later run, with one of `statuses` if any are given, covers everything that this run should make.

    Comparing the jobs is not enough: all runs of assets that were chosen in the UI or by automation have the same job.
    """
    run = record.dagster_run
    tag = {PARTITION_TAG: run.tags[PARTITION_TAG]} if PARTITION_TAG in run.tags else {}
    return any(
        later.storage_id > record.storage_id and _makes_all_of(later.dagster_run, run)
        for name in same_job(run.job_name)
        for later in instance.get_run_records(
            dg.RunsFilter(job_name=name, tags=tag, statuses=statuses), limit=MAX_LATER_RUNS
        )
    )


def _makes_all_of(later: dg.DagsterRun, run: dg.DagsterRun) -> bool:
    if partitions_of(later) != partitions_of(run):
        return False
    if not later.asset_selection:
        return True
    return bool(run.asset_selection) and later.asset_selection >= (run.asset_selection or set())


def partitions_of(run: dg.DagsterRun) -> set[str]:
    """The partition of a run, or all partitions of its range."""
    if PARTITION_TAG in run.tags:
        return {run.tags[PARTITION_TAG]}
    first, last = (run.tags.get(tag) for tag in RANGE_TAGS)
    return set(keys_between(first, last)) if first and last else set()


def materialized_since(
    instance: dg.DagsterInstance, asset: dg.AssetKey, partition: str | None, since: datetime
) -> bool:
    """Whether the asset, or a partition of it, was materialised at or after a time."""
    found = instance.fetch_materializations(
        dg.AssetRecordsFilter(
            asset, asset_partitions=[partition] if partition else None, after_timestamp=since.timestamp()
        ),
        limit=1,
    )
    return bool(found.records)


def last_materializations(instance: dg.DagsterInstance, asset: dg.AssetKey) -> dict[str, datetime]:
    """Time of the last materialisation of each materialised partition of an asset."""
    latest = instance.event_log_storage.get_latest_storage_id_by_partition(
        asset, dg.DagsterEventType.ASSET_MATERIALIZATION
    )
    ids = sorted(latest.values())
    return {
        str(record.partition_key): datetime.fromtimestamp(record.timestamp, UTC)
        for start in range(0, len(ids), RECORDS_PER_QUERY)
        for record in instance.fetch_materializations(
            dg.AssetRecordsFilter(asset, storage_ids=ids[start : start + RECORDS_PER_QUERY]), limit=RECORDS_PER_QUERY
        ).records
    }


def _concerns(run: dg.DagsterRun, job: str, assets: Collection[str]) -> bool:
    selection: Collection[dg.AssetKey] = run.asset_selection or ()
    if selection:
        return any(key.to_user_string() in assets for key in selection)
    return job_of(run.job_name) == job


def _backfill_partitions(backfill: PartitionBackfill, job: str, assets: Collection[str]) -> set[str]:
    data = backfill.asset_backfill_data
    if data is None:
        return set(backfill.partition_names or ()) if job_of(backfill.job_name or "") == job else set()
    return {
        partition
        for key, subset in data.target_subset.partitions_subsets_by_asset_key.items()
        if key.to_user_string() in assets
        for partition in subset.get_partition_keys()
    }
