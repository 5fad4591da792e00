"""Assets of answers: the days' verdicts, and each month's scored responses."""

import dagster as dg

from irt_assets.common.job_names import JUDGED
from irt_assets.common.metadata import md
from irt_assets.common.partitions import existing_partitions
from irt_assets.common.retries import classify_failures
from irt_assets.engines.spec import LIGHT_POOL
from irt_assets.responses.eligibility.attempts import count_rejected
from irt_assets.responses.judged_assets import build_judged_asset, counts_table, reporter
from irt_assets.responses.snapshot import CollectMonth, take_snapshot
from resources.cluster.relational import application
from resources.dagster_schema import row_table
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database


def build_response_assets(
    months: dg.PartitionsDefinition, days: dg.DailyPartitionsDefinition, collect: CollectMonth
) -> list[dg.AssetsDefinition]:
    """`judged_attempts` and `scored_responses`. `collect`: reads a month on Spark."""

    @dg.asset(
        partitions_def=months,
        deps=[existing_partitions(JUDGED), "question_bank"],
        description="One row per attempt of the month: its score, and the `reason` why calibration may not use it "
        "(empty: scored). A Parquet snapshot, stored under its own hash.",
        kinds={"parquet", "postgres"},
        pool=LIGHT_POOL,
    )
    def scored_responses(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database], store: dg.ResourceParam[ObjectStore]
    ) -> dg.MaterializeResult:
        with classify_failures():
            snapshot, window = take_snapshot(
                database,
                store,
                context.partition_key,
                context.run.run_id,
                collect=collect,
                report=reporter(context, database),
            )
        rejections = {scale: count_rejected(snapshot.counts.get(scale, {})) for scale in snapshot.rules}
        return dg.MaterializeResult(
            metadata={
                "counts by reason": md(counts_table(snapshot.counts)),
                "dagster/row_count": snapshot.n_attempts,
                "scored": sum(c.get("scored", 0) for c in snapshot.counts.values()),
                "items left out": row_table(
                    ("scale", "item", "answers"),
                    [(scale, item, n) for scale, items in window.left_out.items() for item, n in items.items()],
                ),
                **{
                    f"share rejected ({scale})": dg.MetadataValue.float(n / answers)
                    for scale, (n, answers) in rejections.items()
                    if answers
                },
                "snapshot": snapshot.uri,
                "data_hash": snapshot.data_hash,
                **application(database.settings),
            },
            data_version=dg.DataVersion(snapshot.data_hash),
        )

    return [build_judged_asset(days), scored_responses]
