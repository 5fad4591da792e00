"""The asset of verdicts: the score of each attempt of a day, or the reason why it has no score.

Each day is committed and reported on its own. If a run over a year is killed, the days that it judged are kept and
shown in Dagster, and the next run judges the rest.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime

import dagster as dg
import psycopg

from irt_assets.blocks import Table, table
from irt_assets.common.job_names import INVENTORY, JUDGED
from irt_assets.common.metadata import Metadata, md
from irt_assets.common.partitions import Month, day_bounds, day_of, month_of
from irt_assets.common.retries import classify_failures
from irt_assets.common.wording import some_of
from irt_assets.responses.eligibility.attempts import Reason
from irt_assets.responses.facts import abilities_start
from irt_assets.responses.item_time import ensure_item_times
from irt_assets.responses.open_months import open_months
from irt_assets.responses.verdicts import JudgedDay, days_that_differ, judge_day, judge_differing
from irt_assets.scales.scale import read_scales
from resources import tables
from resources.cluster.relational import holds_log
from resources.dagster_schema import stored_in, taken_over
from resources.postgres.database import Database

Context = dg.AssetExecutionContext | dg.OpExecutionContext
MAX_DAYS_SHOWN = 6
LINEAGE = taken_over(
    {"attempts": ("attempt_id", "completed_at", "item_id", "recorded_at"), "question_bank": ("scale_id", "max_score")}
)


def build_judged_asset(days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """Build the asset `judged_attempts`. One run may cover a range of days."""

    @dg.asset(
        name=JUDGED,
        partitions_def=days,
        backfill_policy=dg.BackfillPolicy.single_run(),
        deps=["attempts", "question_bank"],
        description="One row per attempt of the day: its score, or the reason why it has no score, by the rules of its "
        "scale. A run for several days judges only days that differ from their verdicts.",
        kinds={"postgres", "ibis"},
        metadata=stored_in(tables.attempt_verdict),
    )
    def judged_attempts(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]
    ) -> dg.MaterializeResult:
        if context.has_partition_key:
            with classify_failures(), database.connect() as connection:
                judged = judge_day(connection, date.fromisoformat(context.partition_key))
            return dg.MaterializeResult(metadata=_metadata(judged))
        window = context.partition_time_window
        for judged in judge_window(context, database, window.start, window.end):
            context.add_asset_metadata(_metadata(judged), partition_key=judged.day.isoformat())
        return dg.MaterializeResult()

    return judged_attempts


def build_judged_check() -> dg.AssetChecksDefinition:
    """Build the check that no day of the look-back waits to be judged."""

    @dg.asset_check(
        asset=JUDGED,
        name=INVENTORY,
        description="Every completed day of the look-back has been judged, and its answers have not changed since.",
    )
    def every_day_is_judged(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
        with classify_failures(), database.connect() as connection:
            start, end = look_back(connection, datetime.now(UTC))
            waiting = [day.isoformat() for day in reversed(days_that_differ(connection, start.date(), end.date()))]
        return dg.AssetCheckResult(
            passed=not waiting,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{len(waiting)} days wait to be judged: {some_of(waiting, MAX_DAYS_SHOWN)}; "
            "run the job judge_attempts"
            if waiting
            else "every day is judged",
        )

    return every_day_is_judged


def judge_look_back(context: Context, database: Database) -> list[JudgedDay]:
    """Judge the days that differ from their verdicts: in the look-back, and in earlier open months with a snapshot.

    The look-back ends at the last midnight (UTC). Item times of the previous month are stored first if they are
    missing. Days that were never judged come first, newest first: after an upgrade no day has been judged, and the
    newest days are read most.
    """
    now = datetime.now(UTC)
    with classify_failures(), database.connect() as connection:
        ensure_item_times(connection, month_of(now).previous)
        window = look_back(connection, now)
        earlier = [Month(month).bounds for month in open_months(connection, month_of(window[0]))]
    return [
        judged
        for period in (window, *reversed(earlier))
        for judged in judge_window(context, database, *period, newest_first=True)
    ]


def look_back(connection: psycopg.Connection, now: datetime) -> tuple[datetime, datetime]:
    """First and last midnight of the days before `now` whose answers count for abilities."""
    today = day_bounds(day_of(now))[0]
    return abilities_start(today, read_scales(connection)), today


def judge_window(
    context: Context, database: Database, start: datetime, end: datetime, *, newest_first: bool = False
) -> list[JudgedDay]:
    """Judge the days of [start, end), two midnights, that have no verdicts or differ from them.

    Each day is reported to Dagster as a materialisation of `judged_attempts` as soon as it is committed. Does nothing
    if PostgreSQL has dropped the log of this period.
    """
    with classify_failures():
        with database.connect() as connection:
            if not holds_log(connection, start, end):
                return []
        return judge_differing(
            database, start.date(), end.date(), reporter(context, database), newest_first=newest_first
        )


def reporter(context: Context, database: Database) -> Callable[[JudgedDay], None]:
    """Function that reports a judged day to Dagster as a materialisation of `judged_attempts`."""

    def report(judged: JudgedDay) -> None:
        day = judged.day.isoformat()
        if day >= database.settings.irt_first_month:  # the first partition
            context.log_event(dg.AssetMaterialization(JUDGED, partition=day, metadata=_metadata(judged)))

    return report


def _metadata(judged: JudgedDay) -> Metadata:
    return {
        **LINEAGE,
        "counts by reason": md(counts_table(judged.counts)),
        "dagster/row_count": dg.MetadataValue.int(judged.n),
        "scored": dg.MetadataValue.int(sum(counts.get("scored", 0) for counts in judged.counts.values())),
        "rows written": dg.MetadataValue.int(judged.written),
    }


def counts_table(counts: dict[str, dict[str, int]]) -> Table:
    """A table with a row for each scale and reason that occurs; the scored attempts come first."""
    rows = []
    for scale, by_reason in counts.items():
        rows.append((scale, "scored", by_reason.get("scored", 0)))
        rows += [(scale, reason.value, n) for reason in Reason if (n := by_reason.get(reason, 0))]
    return table(("scale", "what", "attempts"), rows, numbers={"attempts": ","})
