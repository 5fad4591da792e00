"""All jobs and sensors, as lists for the composition root; the schedules are in `schedules`."""

import json
from collections.abc import Sequence

import dagster as dg
from dagster import MAX_RUNTIME_SECONDS_TAG

from irt_assets.abilities.group_assets import GROUP_ABILITIES
from irt_assets.adaptive.assets import ITEM_EXPOSURE, SIMULATION
from irt_assets.common.job_names import (
    INVARIANT_REPORT,
    ITEM_ANALYSIS_DAILY,
    ITEM_ANALYSIS_JOB,
    KPI_JOB,
    LEARNER_REPORT,
    LEARNER_REPORT_JOB,
    MONTHLY_JOB,
    NIGHTLY,
    NIGHTLY_JOB,
    same_job,
)
from irt_assets.drift.assets import DRIFT_JOB
from irt_assets.gates.month_classification import MONTHLY_ASSETS
from irt_assets.item_analysis.assets import ITEM_ANALYSIS
from irt_assets.new_items.assets import ITEM_PIPELINE
from irt_assets.reports.assets import DRIFT_REPORT, DRIFT_REPORT_JOB
from irt_assets.scores.assets import SCORE_TABLES
from jobs.automation import build_automation_sensor
from jobs.intake import intake
from jobs.judging import build_judge_job
from jobs.plans import PLANS
from jobs.pulls import pull
from jobs.retention.prune import build_prune_job
from jobs.schedules import Job
from jobs.sensors import build_theta_sensor, killed_runs, ledger
from jobs.watching.alert_sensors import build_alert_sensors
from jobs.watching.ready_months import ready_months
from jobs.watching.stale_months import build_stale_sensor
from resources.dagster_compat import PRIORITY_TAG
from resources.settings import Settings

POD_TAG = "dagster-k8s/config"
"""Run tag that K8sRunLauncher reads; only the resources in it are allowed."""


def _tags(kind: str, hours: int, priority: int = 10) -> dict[str, str]:
    """Tags of a job's runs: the kind, the longest run time in hours, and the priority in the queue.

    Daily jobs have a higher priority than a backfill of months.
    """
    return {"irt/kind": kind, MAX_RUNTIME_SECONDS_TAG: str(hours * 3600), PRIORITY_TAG: str(priority)}


DAILY, MONTHLY, UPKEEP = _tags("daily", 2), _tags("monthly", 24, 0), _tags("upkeep", 2)
REGULAR_JOBS = (
    (
        "aggregate_features_daily",
        ("features_topic_daily", ITEM_EXPOSURE),
        DAILY,
        "A day's features of every learner and topic, and the exposure of items in adaptive tests.",
    ),
    (
        ITEM_ANALYSIS_JOB,
        (ITEM_ANALYSIS_DAILY,),
        DAILY,
        "Item analysis and evidence against keys of a day; of the running day every hour in which answers come.",
    ),
    (
        KPI_JOB,
        ("weekly_kpi",),
        DAILY,
        "Weekly (not daily) KPIs of every learner, computed every day; the running week's KPIs are as of now.",
    ),
    (
        NIGHTLY_JOB,
        (NIGHTLY, ITEM_PIPELINE),
        _tags("nightly", 6),
        "The nightly calibration: each scale's own engine fits 30 days and links; then θ and new items are estimated.",
    ),
    (
        LEARNER_REPORT_JOB,
        (LEARNER_REPORT,),
        _tags("weekly", 12, 5),
        "Every learner's report on a completed week, as HTML and PDF.",
    ),
    (
        "detect_inactivity",
        ("inactivity",),
        DAILY,
        "Goal probability and churn risk of learners without an answer for seven days.",
    ),
    (
        DRIFT_REPORT_JOB,
        (DRIFT_REPORT,),
        _tags("report", 2, 5),
        "The drift report of a month, as HTML and PDF; requested automatically after the month's drift.",
    ),
    (
        "invariants",
        (INVARIANT_REPORT,),
        UPKEEP,
        "Checks all stored data against the invariants, and lists every violation.",
    ),
)
"""Jobs that make assets regularly: name, assets, tags, description."""


def build_jobs(
    monthly_checks: list[dg.AssetChecksDefinition],
    inventory: list[dg.AssetChecksDefinition],
    comparison_engines: Sequence[str],
    settings: Settings,
) -> dict[str, Job]:
    """All jobs by name. The inventory checks read all months and days, so they are not part of a month's run.

    `comparison_engines`: the assets that fit a month with engines other than the scales' own.
    """
    of_learners = ("abilities", "ability_movement", GROUP_ABILITIES)
    ends = (ITEM_ANALYSIS, *of_learners, "engine_agreement", SCORE_TABLES, SIMULATION)
    month = dg.AssetSelection.assets(*MONTHLY_ASSETS, *comparison_engines, *ends)
    rows: list[tuple[str, dg.AssetSelection, dict[str, str], str]] = [
        (
            MONTHLY_JOB,
            month.without_checks() | _selection(monthly_checks),
            MONTHLY,
            "The monthly calibration, from the answers to published parameters and abilities.",
        ),
        (
            "inventory",
            _selection(inventory),
            UPKEEP,
            "Lists months that are missing, stale, running, waiting or red, and days that wait to be judged.",
        ),
        *(
            (name, dg.AssetSelection.assets(*assets), tags, description)
            for name, assets, tags, description in REGULAR_JOBS
        ),
        (
            DRIFT_JOB,
            dg.AssetSelection.groups("drift"),
            _tags("drift", 2, 5),
            "A month's drift, DIF and information; requested automatically when the month turns green.",
        ),
    ]
    jobs: list[Job] = [
        dg.define_asset_job(
            name,
            selection=selection,
            tags=tags | _pod(tags, settings),
            description=description if name == job else f"Name of the job `{job}` in the documents.",
        )
        for job, selection, tags, description in rows
        for name in same_job(job)
    ]
    judging = _tags("daily", 6)
    jobs.append(build_judge_job(judging | _pod(judging, settings)))
    jobs.append(build_prune_job(UPKEEP | _pod(UPKEEP, settings)))
    return {job.name: job for job in jobs}


def _pod(tags: dict[str, str], settings: Settings) -> dict[str, str]:
    """The tag with the resources of a run's pod; empty outside a cluster."""
    if settings.irt_run_launcher != "kubernetes":
        return {}
    return {POD_TAG: json.dumps({"container_config": {"resources": settings.run_resources(tags["irt/kind"])}})}


def _selection(checks: list[dg.AssetChecksDefinition]) -> dg.AssetSelection:
    return dg.AssetSelection.checks(*(key for check in checks for key in check.check_keys))


def build_sensors(jobs: dict[str, Job], settings: Settings) -> list[dg.SensorDefinition]:
    return [
        ledger,
        killed_runs,
        build_stale_sensor(jobs, settings),
        build_theta_sensor(settings),
        intake,
        pull,
        build_automation_sensor(),
        *build_alert_sensors(PLANS, settings),
        ready_months,
    ]
