"""The real graph with two of its schedules, which tick every minute: no test waits for a quarter past one.

It has no sensors.
"""

from __future__ import annotations

from dataclasses import replace

import dagster as dg

from irt_assets import definitions
from irt_assets.common.job_names import KPI_JOB
from jobs.plans import PLANS
from jobs.schedules import build_schedules
from resources.dagster_compat import UnresolvedAssetJobDefinition
from resources.settings import Settings, get_settings

FEATURES = "aggregate_features_daily"


def _every_minute(jobs: dict[str, UnresolvedAssetJobDefinition], settings: Settings) -> list[dg.ScheduleDefinition]:
    plans = [replace(plan, cron="* * * * *") for plan in PLANS if plan.job in (FEATURES, KPI_JOB)]
    return build_schedules(jobs, settings, plans)


definitions.build_schedules = _every_minute  # type: ignore[assignment]
definitions.build_sensors = lambda jobs, settings: []
defs = definitions.build_defs(get_settings())
