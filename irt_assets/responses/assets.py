"""Assets of answers: the bank, items' usual times, and each month's scored responses."""

import dagster as dg

from irt_assets.common.metadata import md
from irt_assets.common.partitions import day_bounds, existing_partitions
from irt_assets.common.retries import classify_failures
from irt_assets.psychometrics.eligibility.attempts import rejected
from irt_assets.responses.item_times import current_ability_times
from irt_assets.responses.judged_assets import build_judged_asset, counts_table, reporter
from irt_assets.responses.snapshot import Judge, take_snapshot
from resources.cluster.relational import application
from resources.dagster_schema import column_schema, rows_shown
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database
from resources.tables import item_response_time as item_response_time_table
from resources.tables import question

OWNERS = ["team:psychometrics"]


def build_response_assets(
    months: dg.PartitionsDefinition, days: dg.DailyPartitionsDefinition, judge: Judge
) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """`question_bank`, `judged_attempts`, `item_response_time` and `scored_responses`. `judge`: of a month on Spark."""

    question_bank = dg.AssetSpec(
        "question_bank",
        group_name="responses",
        description="The item bank: which items there are, their scales, topics and anchors. An external asset.",
        metadata={"dagster/column_schema": column_schema(question)},
        kinds={"postgres"},
    )

    # Nothing depends on it: what reads the table computes what is missing, and Dagster would call every month and night
    # unsynced that was made before there was one.
    @dg.asset(
        group_name="responses",
        partitions_def=days,
        deps=["attempts"],
        description="The median response time of every item over two years of live answers as of the day's end: far "
        "faster answers are rapid guesses. Abilities on Spark read it. Origin windows "
        "keep theirs in the same table, and compute what is missing first.",
        kinds={"postgres", "ibis"},
        owners=OWNERS,
        metadata={"dagster/column_schema": column_schema(item_response_time_table)},
    )
    def item_response_time(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]
    ) -> dg.MaterializeResult:
        as_of = day_bounds(context.partition_key)[1]
        with classify_failures(), database.connect() as connection:
            stored = current_ability_times(connection, as_of)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": sum(times.n.size for times in stored.values()),
                "answers with a time": max((int(times.n.sum()) for times in stored.values()), default=0),
                **application(database.settings),
            }
        )

    @dg.asset(
        group_name="responses",
        partitions_def=months,
        deps=[existing_partitions("attempts"), "question_bank"],
        description="Every attempt of the month by its verdict, and whether calibration may use it: a Parquet snapshot "
        "with a `reason` (empty: scored), kept under its own hash. Days that are not judged yet are judged first.",
        kinds={"parquet", "postgres"},
        owners=OWNERS,
        pool="calibration",
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
                judge=judge,
                report=reporter(context, database),
            )
        rejections = {scale: rejected(snapshot.counts.get(scale, {})) for scale in snapshot.rules}
        return dg.MaterializeResult(
            metadata={
                "counts by reason": md(counts_table(snapshot.counts)),
                "dagster/row_count": snapshot.n_attempts,
                "scored": sum(c.get("scored", 0) for c in snapshot.counts.values()),
                "items left out": rows_shown(
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

    return [question_bank, build_judged_asset(days), item_response_time, scored_responses]
