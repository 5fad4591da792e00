"""The asset of daily features. Its rows are computed in `daily`."""

import dagster as dg

from irt_assets.common.job_names import JUDGED
from irt_assets.common.retries import classify_failures
from irt_assets.features.daily import write_features
from irt_assets.responses.verdicts import judge_missing
from resources import tables
from resources.cluster.relational import application
from resources.dagster_schema import stored_in
from resources.postgres.database import Database


def build_feature_assets(days: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Return `features_topic_daily`. One run may compute a range of days."""

    @dg.asset(
        partitions_def=days,
        backfill_policy=dg.BackfillPolicy.single_run(),
        deps=[JUDGED, "question_bank"],
        description="One row per learner and topic of the day: live answers, correct ones, the median response time "
        "of the correct ones, and hints.",
        kinds={"postgres", "ibis"},
        metadata=stored_in(tables.features_topic_daily),
    )
    def features_topic_daily(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]
    ) -> dg.MaterializeResult:
        window = context.partition_time_window
        with classify_failures():
            judge_missing(database, window.start, window.end)
            written = database.call(write_features, window.start, window.end)
        for day, counts in written.items():
            context.add_asset_metadata(
                {"dagster/row_count": counts.rows, "answers": counts.answers} | application(database.settings),
                partition_key=day,
            )
        return dg.MaterializeResult()

    return [features_topic_daily]
