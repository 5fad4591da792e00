"""The asset `item_pipeline`, its check, and the weekly alert on stuck items. `pipeline` computes the rows."""

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import numpy as np
import psycopg

from irt_assets.common.job_names import JUDGED, NEW_ITEMS_MOVE_ON
from irt_assets.common.metadata import Metadata, metadata
from irt_assets.common.partitions import existing_partitions
from irt_assets.common.retries import classify_failures
from irt_assets.common.wording import quantity, some_of
from irt_assets.engines.spec import LIGHT_POOL
from irt_assets.ledger.fitted_items import items_of_month
from irt_assets.ledger.linked_windows import last_sound_month, newest_window
from irt_assets.new_items.pipeline import ScalePipeline, make_pipeline
from irt_assets.new_items.pipeline_blocks import items_table, overview, progress_picture
from irt_assets.new_items.publishing import SETTING_TEST_AT, items_to_test
from resources import tables
from resources.alerts.outbox import Alert, settle_alerts
from resources.dagster_schema import HOW_TO_FIX, ITEMS, row_table, stored_in
from resources.postgres.database import Database

ITEM_PIPELINE = "item_pipeline"
ALERT = "new items "
"""Beginning of the weekly alerts' keys."""
MAX_NAMED, MAX_DIFFERENCE = 10, 2.0
_DIFFERENT = (
    "Read the item: its learners, its place in sessions or its text may differ between the month and the seeds."
)
_SETTING = (
    "Learners may answer a scored item differently. Decide on the month's proposal for the item: `irt release list`."
)


def build_pipeline_asset(days: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """Build the asset `item_pipeline` of the days."""

    @dg.asset(
        name=ITEM_PIPELINE,
        partitions_def=days,
        deps=[
            existing_partitions(JUDGED),
            "question_bank",
            dg.AssetDep("published_item_parameters", partition_mapping=dg.LastPartitionMapping()),
        ],
        description="One row per unpublished item with answers in 12 months, as of the newest night: values, errors, "
        "the expected day of publication, and obstacles. A proposal only: no fit, link or θ reads it.",
        kinds={"numba", "postgres"},
        pool=LIGHT_POOL,
        metadata=stored_in(tables.item_pipeline),
        op_tags={"dagster/priority": "-10"},  # after the night's fits and abilities
        check_specs=[
            dg.AssetCheckSpec(
                NEW_ITEMS_MOVE_ON,
                asset=ITEM_PIPELINE,
                description="No new item is stuck, and the values of new items agree with the newest month.",
            )
        ],
    )
    def item_pipeline(context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]) -> dg.MaterializeResult:
        with classify_failures():
            pipelines = make_pipeline(database, context.partition_key)
            with database.connect() as connection:
                check = check_pipeline(connection, pipelines)
                announce_stuck(connection, pipelines, date.fromisoformat(context.partition_key))
        return dg.MaterializeResult(metadata=pipeline_metadata(pipelines), check_results=[check])

    return item_pipeline


def pipeline_metadata(pipelines: Sequence[ScalePipeline]) -> Metadata:
    """Metadata of a night for the Dagster UI."""
    several = [made for made in pipelines if made.items]
    waiting = [item for made in several for item in made.items if item.publishable or item.stuck]
    return metadata(
        {
            "new items": overview(pipelines),
            "publishable or stuck": items_table(waiting),
            "dagster/row_count": dg.MetadataValue.int(sum(len(made.items) for made in pipelines)),
        },
        ((made.scale.scale_id, {"plot: progress": progress_picture(made)}.items()) for made in several),
    )


def check_pipeline(connection: psycopg.Connection, pipelines: Sequence[ScalePipeline]) -> dg.AssetCheckResult:
    """Warn about items that are stuck, or whose values differ from the newest month's values."""
    rows = [
        (item.scale_id, item.item_id, item.stuck, item.remedy)
        for made in pipelines
        for item in made.items
        if item.stuck
    ]
    rows += [
        (made.scale.scale_id, item, why, _DIFFERENT)
        for made in pipelines
        for item, why in differences(connection, made)
    ]
    rows += [
        (made.scale.scale_id, item, why, _SETTING)
        for made in pipelines
        for item, why in changes_of_setting(connection, made)
    ]
    unmade = "; ".join(f"{made.scale.scale_id}: {made.why}" for made in pipelines if made.why)
    fixes = dict.fromkeys(remedy for _, _, _, remedy in rows)
    return dg.AssetCheckResult(
        check_name=NEW_ITEMS_MOVE_ON,
        passed=not rows,
        severity=dg.AssetCheckSeverity.WARN,
        description=some_of([f"{item}: {why}" for _, item, why, _ in rows], MAX_NAMED, between="; ")
        or unmade
        or "no new item is stuck",
        metadata={
            ITEMS: row_table(("scale", "item", "why", "remedy"), rows),
            **({HOW_TO_FIX: some_of([*fixes], MAX_NAMED, between=" ")} if rows else {}),
        },
    )


def differences(connection: psycopg.Connection, made: ScalePipeline) -> Iterator[tuple[str, str]]:
    """Compare with the newest month. Yield each item that differs in a or b by more than 2 SE of the difference.

    The SE assumes independent answers. It is too large, because the pipeline also has the month's answers.
    """
    month = newest_window(connection, made.scale)
    of_month = items_of_month(connection, made.scale, month) if month else {}
    for item in made.items:
        values = of_month[item.item_id].values if item.item_id in of_month else None
        for name in ("a", "b"):
            se = getattr(values, f"{name}_se", None)
            if values is not None and se is not None and item.parameters:
                by = item.parameters[name] - getattr(values, name)
                if abs(by) > MAX_DIFFERENCE * np.hypot(se, item.parameters[f"{name}_se"]):
                    yield (
                        item.item_id,
                        f"its {name} is {item.parameters[name]:.2f}, but {getattr(values, name):.2f} in {month}",
                    )


def changes_of_setting(connection: psycopg.Connection, made: ScalePipeline) -> Iterator[tuple[str, str]]:
    """Compare published values from seeds with the newest month, if an item had its first 500 scored answers in it.

    Yields each item with a b that differs by more than 2 SE of the difference.
    """
    month = last_sound_month(connection, made.scale, datetime.max.replace(tzinfo=UTC))
    of_month = items_of_month(connection, made.scale, month) if month else {}
    scored = items_to_test(connection, made.scale.scale_id, month) if month else {}
    for item, published in scored.items():
        values = of_month[item].values if item in of_month else None
        if values is not None:
            se = math.hypot(values.b_se or math.inf, published.b_se or math.inf)
            if abs(values.b - published.b) > MAX_DIFFERENCE * se:
                why = f"first published from seeds: its b was {published.b:.2f}, but is {values.b:.2f} in {month}"
                yield item, f"{why}, with its first {SETTING_TEST_AT} scored answers"


def announce_stuck(connection: psycopg.Connection, pipelines: Sequence[ScalePipeline], day: date) -> None:
    """Open one alert a week about the items that are stuck. The next week, or the end of the problem, resolves it."""
    monday = day - timedelta(days=day.weekday())
    stuck = [item for made in pipelines for item in made.items if item.stuck]
    what = f"{quantity(len(stuck), 'new item')} stuck: " + some_of(
        [f"{x.item_id}: {x.stuck}" for x in stuck], MAX_NAMED
    )
    fix = "`irt items pipeline --stuck` lists them with the remedies."
    subjects = tuple(item.item_id for item in stuck)
    alert = Alert(f"{ALERT}{monday}", "info", what, fix, str(day), "items", subjects, f"/assets/{ITEM_PIPELINE}")
    settle_alerts(connection, ALERT, [alert] if stuck else [])
