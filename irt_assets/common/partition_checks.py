"""Checks of partitions. Dagster shows only a check's newest evaluation, whatever its partition.

So each result begins with its partition, and ends with the earlier partitions in which the check still fails.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import dagster as dg
import psycopg

from irt_assets.common.retries import classify_failures
from irt_assets.common.run_progress import RANGE_TAGS
from irt_assets.common.wording import some_of
from resources.dagster_compat import AssetCheckExecutionRecordStatus
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database

MAX_NAMED = 6


@dataclass(frozen=True)
class CheckInput:
    """Input of a check: the partition, or FIRST…LAST in a run over a range, and its time window."""

    connection: psycopg.Connection
    store: ObjectStore
    partition: str
    window: dg.TimeWindow


def partition_check(
    partitions_def: dg.PartitionsDefinition,
    asset: str,
    name: str,
    description: str,
    judge: Callable[[CheckInput], dg.AssetCheckResult],
) -> dg.AssetChecksDefinition:
    """A check that judges each partition by `judge`, which reads in one transaction."""
    key = dg.AssetCheckKey(dg.AssetKey(asset), name)

    @dg.asset_check(asset=asset, name=name, description=description, partitions_def=partitions_def)
    def check(
        context: dg.AssetCheckExecutionContext,
        database: dg.ResourceParam[Database],
        store: dg.ResourceParam[ObjectStore],
    ) -> dg.AssetCheckResult:
        with classify_failures(), database.connect() as connection:
            found = judge(CheckInput(connection, store, _partition(context), context.partition_time_window))
        return dated_result(found, context, key, earlier_failures(context.instance, [key], _partition(context))[key])

    return check


def dated_result(
    found: dg.AssetCheckResult, context: dg.AssetCheckExecutionContext, key: dg.AssetCheckKey, failing: list[str]
) -> dg.AssetCheckResult:
    """The result of the check `key`, whose description also names its partition and the partitions in `failing`."""
    description = f"{_partition(context)}: {found.description}"
    if failing:
        description = f"{description.rstrip('.')}. Still fails: {some_of(failing, MAX_NAMED)}"
    return found._replace(asset_key=key.asset_key, check_name=key.name, description=description)


def earlier_failures(
    instance: dg.DagsterInstance, keys: Collection[dg.AssetCheckKey], partition: str
) -> dict[dg.AssetCheckKey, list[str]]:
    """For each check, the partitions before `partition` whose latest evaluation failed, newest first."""
    failing: dict[dg.AssetCheckKey, list[str]] = {key: [] for key in keys}
    for info in instance.event_log_storage.get_asset_check_partition_info([*keys]):
        failed = info.latest_execution_status is AssetCheckExecutionRecordStatus.FAILED
        if failed and info.partition_key and info.partition_key < partition:
            failing[info.check_key].append(info.partition_key)
    return {key: sorted(earlier, reverse=True) for key, earlier in failing.items()}


def _partition(context: dg.AssetCheckExecutionContext) -> str:
    """The partition, or FIRST…LAST in a run over a range."""
    if context.has_partition_key:
        return context.partition_key
    return "…".join(context.run.tags[tag] for tag in RANGE_TAGS)
