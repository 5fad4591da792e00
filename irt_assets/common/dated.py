"""Checks of partitions, as Dagster shows them: it shows only the newest evaluation, whatever its partition.

So each begins with its partition, and ends with the earlier partitions in which the check still fails.
"""

from collections.abc import Callable, Collection
from functools import wraps
from typing import Any

import dagster as dg

from irt_assets.common.run_progress import RANGE_TAGS
from irt_assets.common.wording import some_of
from resources.dagster_compat import AssetCheckExecutionRecordStatus

MOST_NAMED = 6
Check = Callable[..., dg.AssetCheckResult]


def partition_check(
    *, asset: str, name: str, description: str, partitions_def: dg.PartitionsDefinition
) -> Callable[[Check], dg.AssetChecksDefinition]:
    """A check of each partition."""
    key = dg.AssetCheckKey(dg.AssetKey(asset), name)

    def decorate(check: Check) -> dg.AssetChecksDefinition:
        @wraps(check)
        def with_date(context: dg.AssetCheckExecutionContext, *args: Any, **resources: Any) -> dg.AssetCheckResult:
            still = failing_before(context.instance, [key], _partition(context))
            return dated_result(check(context, *args, **resources), context, key, still[key])

        return dg.asset_check(asset=asset, name=name, description=description, partitions_def=partitions_def)(with_date)

    return decorate


def dated_result(
    found: dg.AssetCheckResult, context: dg.AssetCheckExecutionContext, key: dg.AssetCheckKey, failing: list[str]
) -> dg.AssetCheckResult:
    """The result of the check `key`, its description with the partition before it and those that still fail after."""
    still = f". Still fails: {some_of(failing, MOST_NAMED)}" if failing else ""
    description = f"{_partition(context)}: {found.description}{still}"
    return found._replace(asset_key=key.asset_key, check_name=key.name, description=description)


def failing_before(
    instance: dg.DagsterInstance, keys: Collection[dg.AssetCheckKey], partition: str
) -> dict[dg.AssetCheckKey, list[str]]:
    """The earlier partitions whose latest evaluation failed, newest first, of each check."""
    failing: dict[dg.AssetCheckKey, list[str]] = {key: [] for key in keys}
    for one in instance.event_log_storage.get_asset_check_partition_info([*keys]):
        failed = one.latest_execution_status is AssetCheckExecutionRecordStatus.FAILED
        if failed and one.partition_key and one.partition_key < partition:
            failing[one.check_key].append(one.partition_key)
    return {key: sorted(earlier, reverse=True) for key, earlier in failing.items()}


def _partition(context: dg.AssetCheckExecutionContext) -> str:
    """The partition, or FIRST…LAST of a run over a range."""
    if context.has_partition_key:
        return context.partition_key
    return "…".join(context.run.tags[tag] for tag in RANGE_TAGS)
