"""Checks of the weekly KPIs: every key is there and in its range, and every null has a reason."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import dagster as dg

from irt_assets.common.dated import partition_check
from irt_assets.common.partitions import week_bounds
from irt_assets.common.retries import classify_failures
from irt_assets.kpis.meaning import RANGES
from resources.postgres.database import Database

SHOWN = 10


def build_kpi_checks(weeks: dg.PartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    return [
        _check(
            "kpis_are_present_and_in_range",
            out_of_range,
            weeks,
            "Every record has its six keys, each null or in range.",
        ),
        _check("every_null_has_a_reason", unexplained, weeks, "A KPI is null exactly where `why` says why."),
    ]


def out_of_range(record: Mapping[str, Any]) -> Iterator[str]:
    """What is missing from a record or outside its range."""
    for name, (low, high) in RANGES.items():
        if name not in record:
            yield f"{name} is missing"
        elif record[name] is not None and not low <= record[name] <= high:
            yield f"{name} = {record[name]}, expected {low:g} to {high:g}"


def unexplained(record: Mapping[str, Any]) -> Iterator[str]:
    """KPIs that are null without a reason, or have a reason and a value."""
    for name in RANGES:
        if (record.get(name) is None) != bool(record.get("why", {}).get(name)):
            yield f"{name} = {record.get(name)}, why: {record.get('why', {}).get(name)}"


def _check(
    name: str, find: Callable[[Mapping[str, Any]], Iterator[str]], weeks: dg.PartitionsDefinition, description: str
) -> dg.AssetChecksDefinition:
    @partition_check(asset="weekly_kpi", name=name, description=description, partitions_def=weeks)
    def check(context: dg.AssetCheckExecutionContext, database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
        monday = week_bounds(context.partition_key)[0].date()
        query = "SELECT user_id, kpis FROM weekly_kpi WHERE week_start = %s ORDER BY user_id"
        with classify_failures(), database.connect() as connection:
            records = connection.execute(query, (monday,)).fetchall()
        wrong = {user: faults for user, record in records if (faults := [*find(record)])}
        first = [f"{user}: {'; '.join(faults)}" for user, faults in list(wrong.items())[:SHOWN]]
        more = f" and {len(wrong) - SHOWN} more learners" if len(wrong) > SHOWN else ""
        return dg.AssetCheckResult(
            passed=not wrong,
            description=f"{' | '.join(first)}{more}: materialise the week again" if wrong else "so it is",
            metadata={"learners": len(wrong)},
        )

    return check
