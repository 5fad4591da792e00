"""Every job and sensor, as lists for the composition root; the schedules are in `schedules`.

What does not belong here: what materialising an asset does, and the decisions of schedules and sensors.
"""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg
from dagster import MAX_RUNTIME_SECONDS_TAG

from irt_assets.common.job_names import (
    INVARIANT_REPORT,
    KPI_JOB,
    LAKE,
    LEARNER_REPORT,
    LEARNER_REPORT_JOB,
    MONTHLY_JOB,
    NIGHTLY,
    NIGHTLY_JOB,
    same_job,
)
from irt_assets.drift.assets import DRIFT_JOB
from irt_assets.drift.assets import GROUP as DRIFT_GROUP
from irt_assets.gates.month_judged import MONTHLY_ASSETS
from irt_assets.reports.assets import DRIFT_REPORT, DRIFT_REPORT_JOB
from irt_assets.responses.item_times import ITEM_TIMES
from jobs.alert_sensors import build_alert_sensors
from jobs.automation import build_automation_sensor
from jobs.late_sensor import build_late_sensor
from jobs.own_copies import own_tables
from jobs.plans import PLANS
from jobs.prune import build_prune_job
from jobs.ready_months import ready_months
from jobs.requeue_lost_retries import killed_runs
from jobs.schedules import Job
from jobs.sensors import build_theta_sensor, ledger
from resources.cluster.lake import lake_that_we_write
from resources.dagster_compat import PRIORITY_TAG
from resources.settings import Settings


def _tags(kind: str, hours: int, priority: int = 10) -> dict[str, str]:
    """Tags of a job's runs: what the runs page filters by, when a run counts as hung, which queued run goes first.

    What is asked for every day goes before a backfill of months, which has no priority.
    """
    return {"irt/kind": kind, MAX_RUNTIME_SECONDS_TAG: str(hours * 3600), PRIORITY_TAG: str(priority)}


DAILY, MONTHLY, UPKEEP = _tags("daily", 2), _tags("monthly", 24, 0), _tags("upkeep", 2)
DAILY_LIFE = (
    ("aggregate_features_daily", ("features_topic_daily",), DAILY, "A day's features of every learner and topic."),
    (
        KPI_JOB,
        ("weekly_kpi",),
        DAILY,
        "Weekly KPIs of every learner, computed every day: those of the running week are of now. It makes no days.",
    ),
    (
        NIGHTLY_JOB,
        (ITEM_TIMES, NIGHTLY),
        _tags("nightly", 6),
        "The night, by each scale's own engine: 30 days fitted and linked, everyone's θ, the items' response times.",
    ),
    (
        LEARNER_REPORT_JOB,
        (LEARNER_REPORT,),
        _tags("weekly", 12, 5),
        "Every learner's report on a completed week, as HTML and PDF.",
    ),
    ("detect_inactivity", ("inactivity",), DAILY, "Goal probability and churn risk of learners who have gone quiet."),
)
"""Name, assets, tags, description."""


def build_jobs(
    monthly_checks: list[dg.AssetChecksDefinition],
    inventory: dg.AssetChecksDefinition,
    comparison_engines: Sequence[str],
    settings: Settings,
) -> dict[str, Job]:
    """Every job by name. The inventory checks look at all months, so they are not part of a month's run.

    `comparison_engines`: the assets that fit a month with other engines than the scales' own.
    """
    assets = dg.AssetSelection.assets(
        *MONTHLY_ASSETS, *comparison_engines, "abilities", "engine_agreement"
    ).without_checks()
    checks = _selection(monthly_checks)
    jobs: tuple[Job, ...] = (
        dg.define_asset_job(
            MONTHLY_JOB,
            selection=assets | checks,
            tags=MONTHLY,
            description="A month from its answers to published parameters and abilities.",
        ),
        dg.define_asset_job(
            "inventory",
            selection=_selection([inventory]),
            tags=UPKEEP,
            description="Which months are missing, stale, running, waiting or red.",
        ),
        *(
            dg.define_asset_job(
                name,
                selection=dg.AssetSelection.assets(*made),
                tags=tags,
                description=description if name == job else f"The documents' name of `{job}`.",
            )
            for job, made, tags, description in DAILY_LIFE
            for name in same_job(job)
        ),
        dg.define_asset_job(
            DRIFT_JOB,
            selection=dg.AssetSelection.groups(DRIFT_GROUP),
            tags=_tags("drift", 2, 5),
            description="A month's drift, DIF and information; requested by itself when the month turns green.",
        ),
        dg.define_asset_job(
            DRIFT_REPORT_JOB,
            selection=dg.AssetSelection.assets(DRIFT_REPORT),
            tags=_tags("report", 2, 5),
            description="The drift report of a month, HTML and PDF; requested by itself after the month's drift.",
        ),
        dg.define_asset_job(
            "invariants",
            selection=dg.AssetSelection.assets(INVARIANT_REPORT),
            tags=UPKEEP,
            description="Checks everything that is stored against the invariants, and names every violation.",
        ),
        dg.define_asset_job(
            "observe_bank",
            selection=dg.AssetSelection.assets("question_bank"),
            tags=UPKEEP,
            description="Notes the present version of the item bank.",
        ),
        dg.define_asset_job(
            "observe_attempts",
            selection=dg.AssetSelection.assets("attempts", *([LAKE] if lake_that_we_write(settings) else [])),
            tags=UPKEEP,
            description="Writes the days that are over to the lake, where there is one, and notes the present version "
            "of every day's answers.",
        ),
        build_prune_job(UPKEEP),
    )
    return {job.name: job for job in jobs}


def _selection(checks: list[dg.AssetChecksDefinition]) -> dg.AssetSelection:
    return dg.AssetSelection.checks(*(key for check in checks for key in check.check_keys))


def build_sensors(jobs: dict[str, Job], settings: Settings) -> list[dg.SensorDefinition]:
    return [
        ledger,
        killed_runs,
        build_late_sensor(jobs, settings),
        build_theta_sensor(settings),
        own_tables,
        build_automation_sensor(),
        *build_alert_sensors(PLANS, settings),
        ready_months,
    ]
