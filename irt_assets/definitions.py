"""The composition root: the only module that imports all parts of the graph. `build_defs` puts them together.

Importing this module builds the graph from the process's settings, and connects nowhere.
"""

import gc
import warnings
from functools import partial

import dagster as dg

from irt_assets.abilities.assets import build_ability_asset
from irt_assets.abilities.group_assets import build_group_asset, build_group_check
from irt_assets.adaptive.assets import build_exposure_asset, build_promises_check, build_simulation_asset
from irt_assets.calibration.assets import build_calibration_assets
from irt_assets.calibration.checks import build_calibration_checks
from irt_assets.calibration.nightly_assets import build_nightly_asset
from irt_assets.common import pause_gc  # noqa: F401 - before all that it concerns
from irt_assets.common.partitions import daily, monthly, weekly
from irt_assets.decisions.movement_assets import build_movement_asset
from irt_assets.drift.assets import build_drift_assets
from irt_assets.drift.checks import build_drift_checks
from irt_assets.engines.registry import asset_of, build, enabled_scales, obstacle
from irt_assets.features.assets import build_feature_assets
from irt_assets.features.checks import build_feature_checks
from irt_assets.intake.assets import build_external_assets, build_intake_asset
from irt_assets.invariants.assets import build_invariant_assets
from irt_assets.invariants.lake_check import build_lake_checks
from irt_assets.item_analysis.assets import build_item_analysis_assets, build_key_checks
from irt_assets.kpis.assets import build_kpi_assets, build_kpi_checks
from irt_assets.new_items.assets import build_pipeline_asset
from irt_assets.reports.assets import build_report_assets
from irt_assets.reports.learner_assets import build_learner_report_assets, build_learner_report_checks
from irt_assets.responses.assets import build_response_assets
from irt_assets.responses.judged_assets import build_judged_check
from irt_assets.scores.assets import build_score_asset, build_score_check
from irt_assets.spark.lake_assets import build_lake_assets
from irt_assets.spark.window import collect_on_spark
from jobs.automation import AFTER_A_MONTH
from jobs.jobs import build_jobs, build_sensors
from jobs.launching import run_logs
from jobs.plans import PLANS, RUNNING_GRACE
from jobs.schedules import build_schedules
from resources.dagster_schema import TABLE
from resources.files.object_store import object_store
from resources.postgres.database import Database
from resources.serving.logs import without_password
from resources.settings import Settings, get_settings

OWNERS = ["team:psychometrics"]
DAILY_FRESHNESS = dg.FreshnessPolicy.time_window(fail_window=RUNNING_GRACE)
"""Policy of the assets of daily jobs. Dagster shows it on their pages, by the last materialisation of any partition. An
alert also needs the partition that is due, and whether the schedule is on (see `jobs.watching.lateness`)."""


def build_defs(settings: Settings, *, resources: dict[str, object] | None = None) -> dg.Definitions:
    """A fresh graph. `resources` (database, store) replace the real ones, for tests.

    An engine that is not enabled, or not installed, has no asset; `irt doctor` says which of the two. This also sets up
    the process for runs, because the caller may execute some.
    """
    _set_up_process()
    console = run_logs.install(settings)
    months, days = monthly(settings.irt_first_month), daily(settings.irt_first_month)
    days_running = daily(settings.irt_first_month, running=True)
    weeks = weekly(settings.irt_first_month, running=True)
    weeks_over = weekly(settings.irt_first_month, running=False)
    make = partial(build, settings=settings)
    comparison_engines = {
        name: scales for name, scales in enabled_scales(settings).items() if obstacle(name, settings) is None
    }
    monthly_checks, all_months = build_calibration_checks(months, settings.irt_first_month, comparison_engines)
    inventory = [all_months, build_judged_check()]
    keys_of_month, keys_of_day = build_key_checks(months, days_running)
    monthly_checks += [
        keys_of_month,
        build_score_check(months),
        build_promises_check(months),
        build_group_check(months),
    ]
    jobs = build_jobs(monthly_checks, inventory, [asset_of(engine) for engine in comparison_engines], settings)
    must_be_fresh = {plan.asset for plan in PLANS if plan.is_daily and settings.irt_schedules != "stopped"}

    def complete(group: str, spec: dg.AssetSpec) -> dg.AssetSpec:
        policy = DAILY_FRESHNESS if spec.key.to_user_string() in must_be_fresh else None
        kinds, metadata = spec.kinds or {"postgres"}, dict(spec.metadata)
        if TABLE in metadata:
            metadata[TABLE] = ".".join(filter(None, (_schema(settings), metadata[TABLE])))
        return spec.replace_attributes(
            group_name=group, owners=OWNERS, kinds=kinds, freshness_policy=policy, metadata=metadata
        )

    # In the order in which data flows: no asset reads an asset of a later group.
    groups: dict[str, list[dg.AssetsDefinition | dg.AssetSpec]] = {
        "intake": [
            build_intake_asset(days_running),
            *build_external_assets(days),
        ],
        "responses": [*build_response_assets(months, days, collect_on_spark), *build_lake_assets(settings)],
        "item_analysis": [*build_item_analysis_assets(months, days_running)],
        "features": [*build_feature_assets(days)],
        "calibration": [
            *build_calibration_assets(build=make, comparison_engines=comparison_engines, months=months),
            build_nightly_asset(build=make, days=days),
        ],
        "abilities": [build_ability_asset(months), build_movement_asset(months), build_group_asset(months)],
        "scores": [build_score_asset(months)],
        "new_items": [build_pipeline_asset(days)],
        "adaptive": [build_simulation_asset(months), build_exposure_asset(days)],
        "drift": [*build_drift_assets(months, AFTER_A_MONTH, settings.irt_threads)],
        "kpis": [*build_kpi_assets(weeks, days)],
        "reports": [
            *build_report_assets(months, AFTER_A_MONTH, ui_prefix=settings.ui_prefix),
            *build_learner_report_assets(
                weeks_over, zone=settings.irt_time_zone, processes=settings.irt_threads, ui_prefix=settings.ui_prefix
            ),
        ],
        "invariants": [*build_invariant_assets(days, settings.irt_first_month)],
    }
    assets = [
        asset for name, members in groups.items() for asset in dg.map_asset_specs(partial(complete, name), members)
    ]
    return dg.Definitions(
        assets=dg.with_source_code_references(assets),
        asset_checks=[
            *monthly_checks,
            *inventory,
            keys_of_day,
            *build_drift_checks(months),
            *build_feature_checks(days),
            *build_kpi_checks(weeks),
            *build_learner_report_checks(weeks_over),
            *build_lake_checks(settings),
        ],
        jobs=list(jobs.values()),
        schedules=build_schedules(jobs, settings),
        sensors=build_sensors(jobs, settings),
        executor=dg.in_process_executor,
        loggers={"console": console},
        resources=_describe_resources(settings) if resources is None else resources,
    )


def _schema(settings: Settings) -> str | None:
    """Return the schema of our tables, or None if only a connection shows it."""
    return settings.irt_db_schema or (None if settings.database_url else "public")


def _describe_resources(settings: Settings) -> dict[str, dg.ResourceDefinition]:
    """Return the database and the object store, which the Dagster UI describes without their secrets."""
    address, bucket = settings.database_url, settings.s3_bucket
    where = without_password(address.get_secret_value()) if address else f"embedded, in {settings.irt_home}"
    schema = _schema(settings) or "the first of the connection's search path"
    files = f"the bucket {bucket}" if bucket else f"the folder {settings.irt_home / 'objects'}"
    described = dg.ResourceDefinition.hardcoded_resource
    return {
        "database": described(Database(settings), f"PostgreSQL with the tables. Address: {where}. Schema: {schema}."),
        "store": described(object_store(settings), f"Months' files, reports and learners' files, in {files}."),
    }


def _set_up_process() -> None:
    """Silence known warnings, and turn garbage collection on again without the objects loaded so far. Safe to
    repeat."""
    warnings.filterwarnings("ignore", category=dg.PreviewWarning)
    warnings.filterwarnings("ignore", category=dg.BetaWarning)
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


SETTINGS = get_settings()
defs = build_defs(SETTINGS)
