"""Schedules. Dagster does not catch up on missed ticks, so each asks for every missing partition of its look-back.

The decisions are pure functions; the schedules only fetch and pack.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from irt_assets.calibration.green import PARTITION_TAG, MonthState, State, month_states
from irt_assets.partitions import last_complete_month, months_between
from resources.database import Database
from resources.settings import Settings

MONTHS_LOOKED_BACK = 3


def look_back(now: datetime, first_month: str) -> list[str]:
    """The last complete months before `now`, oldest first, none before `first_month`."""
    months = list(months_between(first_month, last_complete_month(now)))
    return months[-MONTHS_LOOKED_BACK:]


def months_to_ask(states: Iterable[MonthState]) -> list[str]:
    """Months of which no scale has been materialised; a red month waits for a person."""
    states = list(states)
    present = {s.month for s in states if s.state is not State.MISSING}
    return sorted({s.month for s in states} - present)


def build_monthly_schedule(job: UnresolvedAssetJobDefinition, settings: Settings) -> dg.ScheduleDefinition:
    """The 1st, 02:00 UTC: last month, and those before it that were missed."""

    @dg.schedule(
        name="monthly_calibration_schedule",
        cron_schedule="0 2 1 * *",
        execution_timezone="UTC",
        job=job,
        description="Calibrates the month that is over, and months of the last three that were missed.",
        default_status=dg.DefaultScheduleStatus[settings.irt_schedules.upper()],
    )
    def monthly_calibration_schedule(
        context: dg.ScheduleEvaluationContext, database: dg.ResourceParam[Database]
    ) -> list[dg.RunRequest] | dg.SkipReason:
        now = context.scheduled_execution_time.astimezone(UTC)
        months = look_back(now, settings.irt_first_month)
        wanted = months_to_ask(month_states(database, context.instance, months))
        if not wanted:
            return dg.SkipReason(f"no month of {', '.join(months) or 'the look-back'} is missing")
        return [
            dg.RunRequest(run_key=f"{month} attempt {_attempts(context.instance, month) + 1}", partition_key=month)
            for month in wanted
        ]

    return monthly_calibration_schedule


def _attempts(instance: dg.DagsterInstance, month: str) -> int:
    return instance.get_runs_count(dg.RunsFilter(tags={PARTITION_TAG: month}))
