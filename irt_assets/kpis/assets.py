"""The assets of KPIs, and the checks of the weekly KPIs. The rows are computed in `weekly`."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from functools import partial
from statistics import median
from typing import Any

import dagster as dg
import numpy as np

from irt_assets.abilities.batch import judge_until
from irt_assets.blocks import Figure, Table, pairs, table
from irt_assets.charts import histogram
from irt_assets.common.job_names import JUDGED
from irt_assets.common.metadata import md
from irt_assets.common.partition_checks import CheckInput, partition_check
from irt_assets.common.partitions import existing_partitions, week_of
from irt_assets.common.retries import classify_failures
from irt_assets.kpis.kpi_definitions import MEANINGS, RANGES, TITLES
from irt_assets.kpis.summary import Summary
from irt_assets.kpis.weekly import end_of_week, write_quiet, write_week
from irt_psychometrics.plots import Picture
from resources import tables
from resources.cluster.relational import application
from resources.dagster_schema import LEARNERS, row_table, stored_in
from resources.postgres.database import Database

MAX_SHOWN = 10


def build_kpi_assets(weeks: dg.PartitionsDefinition, days: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Build `weekly_kpi` and `inactivity`. Both read the answers of a year, and need no earlier partition to exist."""
    in_force = dg.AssetDep("published_item_parameters", partition_mapping=dg.LastPartitionMapping())

    @dg.asset(
        partitions_def=weeks,
        deps=[existing_partitions(JUDGED, before=52), "question_bank", in_force],
        description="One row per learner with a live answer in the year before the week's end: improvement (I_t), "
        "efficiency (E_t), recovery (R_t), engagement (A_t), goal probability (P) and churn risk (S).",
        kinds={"postgres", "ibis"},
        metadata={
            **stored_in(tables.weekly_kpi),
            "KPIs": md(pairs(MEANINGS)),
        },
    )
    def weekly_kpi(context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]) -> dg.MaterializeResult:
        now = datetime.now(UTC)
        with classify_failures():
            judge_until(database, end_of_week(context.partition_key, now))
            written = database.call(write_week, context.partition_key, now)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": written.learners,
                **application(database.settings),
                "KPIs": md(kpi_table(written)),
                **{
                    f"median {name}": dg.MetadataValue.float(median(values))
                    for name in MEANINGS
                    if (values := written.values[name])
                },
                "without a value": md(_reason_table(written)),
                "plot: distributions": md(Figure(_distributions(written), alt="how the KPIs are distributed")),
            }
        )

    @dg.asset(
        partitions_def=days,
        deps=[existing_partitions(JUDGED, before=364), "question_bank", in_force],
        description="One row per learner without a live answer for seven days: goal probability and churn risk in the "
        "week that is running when the day ends. The other KPIs are not changed.",
        kinds={"postgres", "ibis"},
        metadata=stored_in(tables.weekly_kpi),
    )
    def inactivity(context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]) -> dg.MaterializeResult:
        week, now = week_of(context.partition_time_window.end), datetime.now(UTC)
        with classify_failures():
            judge_until(database, end_of_week(week, now))
            frame = database.call(write_quiet, week, now)
        written = Summary()
        written.add(frame["kpis"])
        return dg.MaterializeResult(
            metadata={
                "week": week,
                "dagster/row_count": len(frame),
                "idle learners": len(frame),
                **application(database.settings),
                "without a value": md(_reason_table(written)),
            }
        )

    return [weekly_kpi, inactivity]


def kpi_table(written: Summary) -> Table:
    """A table of each KPI's meaning, its number of learners with a value, and its median."""
    rows = []
    for name, meaning in MEANINGS.items():
        values = written.values[name]
        low, high = RANGES[name]
        rows.append((name, meaning, f"{low:g} to {high:g}", len(values), median(values) if values else None))
    return table(("KPI", "meaning", "range", "learners", "median"), rows, numbers={"learners": ",", "median": ".2f"})


def _reason_table(written: Summary) -> Table:
    rows = [(name, why, f"{n:,} of {written.learners:,}") for (name, why), n in sorted(written.missing.items())]
    return table(
        ("KPI", "reason if missing", "learners"),
        rows,
        numbers=("learners",),
        empty="every KPI of every learner has a value",
    )


def _distributions(written: Summary) -> Picture:
    """A histogram of each KPI over its whole range, with the numbers of learners with and without a value."""
    charts = []
    for name, (low, high) in RANGES.items():
        values = np.array(written.values[name])
        counts = f"{values.size:,} learners, {written.learners - values.size:,} without"
        charts.append(
            histogram(values, np.linspace(low, high, 26), counts, "learners", name, heading=f"{name}: {TITLES[name]}")
        )
    return Picture("How the KPIs are distributed", charts, 3)


def build_kpi_checks(weeks: dg.PartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    return [
        partition_check(weeks, "weekly_kpi", name, description, partial(_judge, find))
        for name, description, find in (
            (
                "kpis_are_present_and_in_range",
                "Every record has its six keys, each null or in range.",
                out_of_range,
            ),
            (
                "every_null_has_a_reason",
                "`why` has a reason for each KPI that is null, and for no other.",
                unexplained_nulls,
            ),
        )
    ]


def out_of_range(record: Mapping[str, Any]) -> Iterator[str]:
    """The KPIs that are missing from a record or outside their range."""
    for name, (low, high) in RANGES.items():
        if name not in record:
            yield f"{name} is missing"
        elif record[name] is not None and not low <= record[name] <= high:
            yield f"{name} = {record[name]}, expected {low:g} to {high:g}"


def unexplained_nulls(record: Mapping[str, Any]) -> Iterator[str]:
    """The KPIs of a record that are null without a reason, or have both a reason and a value."""
    for name in RANGES:
        if (record.get(name) is None) != bool(record.get("why", {}).get(name)):
            yield f"{name} = {record.get(name)}, why: {record.get('why', {}).get(name)}"


def _judge(find: Callable[[Mapping[str, Any]], Iterator[str]], look: CheckInput) -> dg.AssetCheckResult:
    query = "SELECT user_id, kpis FROM weekly_kpi WHERE week_start = %s ORDER BY user_id"
    records = look.connection.execute(query, (date.fromisoformat(look.partition),)).fetchall()
    wrong = {user: faults for user, record in records if (faults := [*find(record)])}
    named = dict(list(wrong.items())[:MAX_SHOWN])
    first = [f"{user}: {'; '.join(faults)}" for user, faults in named.items()]
    more = f" and {len(wrong) - MAX_SHOWN} more learners" if len(wrong) > MAX_SHOWN else ""
    return dg.AssetCheckResult(
        passed=not wrong,
        description=f"{' | '.join(first)}{more}: materialise the week again" if wrong else "all records pass",
        metadata={
            "learners": len(wrong),
            LEARNERS: row_table(("learners", "what"), [(user, "; ".join(faults)) for user, faults in named.items()]),
        },
    )
