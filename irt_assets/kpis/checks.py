"""Checks of the weekly KPIs: every key is there and in its range, and every null has a reason."""

from collections.abc import Callable, Iterator, Mapping
from datetime import date
from functools import partial
from typing import Any

import dagster as dg

from irt_assets.common.dated import Looked, partition_check
from irt_assets.kpis.meaning import RANGES

SHOWN = 10


def build_kpi_checks(weeks: dg.PartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    return [
        partition_check(weeks, "weekly_kpi", name, description, partial(_judge, find))
        for name, description, find in (
            ("kpis_are_present_and_in_range", "Every record has its six keys, each null or in range.", out_of_range),
            ("every_null_has_a_reason", "A KPI is null exactly where `why` says why.", unexplained),
        )
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


def _judge(find: Callable[[Mapping[str, Any]], Iterator[str]], look: Looked) -> dg.AssetCheckResult:
    query = "SELECT user_id, kpis FROM weekly_kpi WHERE week_start = %s ORDER BY user_id"
    records = look.connection.execute(query, (date.fromisoformat(look.partition),)).fetchall()
    wrong = {user: faults for user, record in records if (faults := [*find(record)])}
    first = [f"{user}: {'; '.join(faults)}" for user, faults in list(wrong.items())[:SHOWN]]
    more = f" and {len(wrong) - SHOWN} more learners" if len(wrong) > SHOWN else ""
    return dg.AssetCheckResult(
        passed=not wrong,
        description=f"{' | '.join(first)}{more}: materialise the week again" if wrong else "so it is",
        metadata={"learners": len(wrong)},
    )
