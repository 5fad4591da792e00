"""Checks of partitions, as Dagster shows them: it puts one evaluation, the newest, in the place of all partitions.

So each begins with its partition, and ends with the earlier partitions in which the check fails still.

Dagster reads the annotations of the decorated functions, so this module does not postpone them.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from irt_assets.underway import RANGE_TAGS

MOST_NAMED = 6
Check = Callable[..., dg.AssetCheckResult]


def partition_check(
    *, asset: str, name: str, description: str, partitions_def: dg.PartitionsDefinition, first: bool = False
) -> Callable[[Check], dg.AssetChecksDefinition]:
    """A check of each partition. `first`: it is evaluated before the next asset is made."""
    key = dg.AssetCheckKey(dg.AssetKey(asset), name)

    def decorate(check: Check) -> dg.AssetChecksDefinition:
        @wraps(check)
        def dated(context: dg.AssetCheckExecutionContext, *args: Any, **resources: Any) -> dg.AssetCheckResult:
            found = check(context, *args, **resources)
            partition = _partition(context)
            earlier = failing_before(context.instance, key, partition)
            said = f"{partition}: {found.description}{_still(earlier)}"
            return found._replace(description=said)

        return dg.asset_check(
            asset=asset,
            name=name,
            description=description,
            partitions_def=partitions_def,
            op_tags={"dagster/priority": "100"} if first else None,
        )(dated)

    return decorate


def failing_before(instance: dg.DagsterInstance, key: dg.AssetCheckKey, partition: str) -> list[str]:
    """The earlier partitions of which the latest evaluation failed, newest first."""
    known = instance.event_log_storage.get_asset_check_partition_info([key])
    failed = AssetCheckExecutionRecordStatus.FAILED
    return sorted(
        (
            one.partition_key
            for one in known
            if one.partition_key and one.partition_key < partition and one.latest_execution_status is failed
        ),
        reverse=True,
    )


def _still(earlier: list[str]) -> str:
    if not earlier:
        return ""
    more = f" and {len(earlier) - MOST_NAMED} before" if len(earlier) > MOST_NAMED else ""
    return f". Still fails: {', '.join(earlier[:MOST_NAMED])}{more}"


def _partition(context: dg.AssetCheckExecutionContext) -> str:
    """The partition, or FIRST…LAST of a run over a range."""
    if context.has_partition_key:
        return context.partition_key
    return "…".join(context.run.tags[tag] for tag in RANGE_TAGS)
