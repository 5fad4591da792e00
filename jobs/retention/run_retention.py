"""Deletion of Dagster's runs, with their events and logs.

Deleting a run also deletes its materialisations: the partition would be missing although the UI still shows it as
green. So a run is deleted only if nothing references it. Ticks are deleted by Dagster (`retention` in dagster.yaml).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import dagster as dg
import psycopg

from irt_assets.common.run_progress import BACKFILL_TAG, PARTITION_TAG
from jobs.retention.unused import Deletion
from resources.alerts.outbox import open_keys
from resources.dagster_compat import FINISHED_STATUSES, BulkActionStatus, ComputeIOType, PartitionKeyFilter
from resources.postgres.database import Database
from resources.tables import METADATA

RUN_AGE = timedelta(days=100)
"""Age from which runs are deleted: longer than any schedule's look-back, so that schedules find its partitions."""
PAGE = 200
ASSET_EVENTS = {
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ASSET_OBSERVATION,
    dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
}
"""Event types whose newest event decides a partition's state: materialised, observed, or failed."""
CHECK_EVENTS = {dg.DagsterEventType.ASSET_CHECK_EVALUATION, dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED}


def prune_runs(database: Database, instance: dg.DagsterInstance, now: datetime, *, dry_run: bool) -> Iterator[Deletion]:
    """Delete runs that nothing references, and the logged output of the old runs that are kept."""
    referenced = database.call(_referenced_runs)
    under_way = {backfill.backfill_id for backfill in instance.get_backfills(status=BulkActionStatus.REQUESTED)}
    latest = _NewestEvents(instance)
    superseded, printed = [], []
    for run in _ended_runs(instance, now - RUN_AGE):
        if (
            run.run_id in referenced
            or run.tags.get(BACKFILL_TAG) in under_way
            or _has_newest_event(instance, latest, run)
        ):
            if _has_output(instance, run):
                printed.append(run.run_id)
        else:
            superseded.append(run.run_id)
    if not dry_run:
        for run_id in printed + superseded:
            instance.compute_log_manager.delete_logs(prefix=[run_id])
        for run_id in superseded:
            # If this is interrupted, a run without events is found again; events without a run would not be.
            instance.event_log_storage.delete_events(run_id)
            instance.delete_run(run_id)
    yield Deletion("runs that were superseded or failed", tuple(superseded))
    yield Deletion("output of old runs that stay", tuple(printed))


def _ended_runs(instance: dg.DagsterInstance, before: datetime) -> Iterator[dg.DagsterRun]:
    ended = dg.RunsFilter(statuses=FINISHED_STATUSES, updated_before=before)
    cursor = None
    while page := instance.get_runs(ended, cursor=cursor, limit=PAGE):
        yield from page
        cursor = page[-1].run_id


def _referenced_runs(connection: psycopg.Connection) -> set[str]:
    """Ids of the runs that rows name as their origin, or that an open alert names."""
    tables = [table.name for table in METADATA.tables.values() if "run_id" in table.columns]
    query = " UNION ".join(f"SELECT run_id FROM {name}" for name in tables)
    run_ids = {run_id for (run_id,) in connection.execute(f"{query} UNION SELECT update_id FROM mirt_ability")}
    return run_ids | {key.rpartition("|")[2] for key in open_keys(connection, "run ")}


@dataclass
class _NewestEvents:
    """Storage ids of the newest event of each kind for each partition, with one query per asset and kind."""

    instance: dg.DagsterInstance
    found: dict[tuple[dg.AssetKey, dg.DagsterEventType], dict[str, int]] = field(default_factory=dict)

    def storage_id(self, asset: dg.AssetKey, kind: dg.DagsterEventType, partition: str | None) -> int | None:
        if partition is None:
            return self._without_partition(asset, kind)
        if (asset, kind) not in self.found:
            storage = self.instance.event_log_storage
            self.found[asset, kind] = dict(storage.get_latest_storage_id_by_partition(asset, kind))
        return self.found[asset, kind].get(partition)

    def _without_partition(self, asset: dg.AssetKey, kind: dg.DagsterEventType) -> int | None:
        newest: Sequence[dg.EventLogRecord]
        match kind:
            case dg.DagsterEventType.ASSET_MATERIALIZATION:
                newest = self.instance.fetch_materializations(asset, limit=1).records
            case dg.DagsterEventType.ASSET_OBSERVATION:
                newest = self.instance.fetch_observations(asset, limit=1).records
            case _:
                newest = self.instance.get_event_records(dg.EventRecordsFilter(kind, asset_key=asset), limit=1)
        return newest[0].storage_id if newest else None


def _has_newest_event(instance: dg.DagsterInstance, latest: _NewestEvents, run: dg.DagsterRun) -> bool:
    """Whether a run contains the newest event of a partition, or of a check of a partition."""
    cursor = None
    while True:
        page = instance.get_records_for_run(run.run_id, cursor=cursor, of_type=ASSET_EVENTS | CHECK_EVENTS, limit=PAGE)
        for record in page.records:
            event = record.event_log_entry.get_dagster_event()
            if event.event_type in ASSET_EVENTS:
                assert event.asset_key is not None
                if latest.storage_id(event.asset_key, event.event_type, event.partition) == record.storage_id:
                    return True
            elif _newest_check(instance, event, run) == run.run_id:
                return True
        if not page.has_more:
            return False
        cursor = page.cursor


def _newest_check(instance: dg.DagsterInstance, event: dg.DagsterEvent, run: dg.DagsterRun) -> str | None:
    """The run of the newest execution of the check in `event`."""
    evaluated = event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION
    check = event.asset_check_evaluation_data if evaluated else event.asset_check_planned_data
    newest = instance.event_log_storage.get_asset_check_execution_history(
        check.asset_check_key, limit=1, partition_filter=PartitionKeyFilter(key=run.tags.get(PARTITION_TAG))
    )
    return newest[0].run_id if newest else None


def _has_output(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    try:
        prefix = [run.run_id, "compute_logs"]
        return bool(instance.compute_log_manager.get_log_keys_for_log_key_prefix(prefix, ComputeIOType.STDERR))
    except FileNotFoundError:
        return False
    except ValueError:  # dagster-aws cannot parse the name of output that was uploaded while the step was running
        return True
