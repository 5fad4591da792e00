"""The asset of the weekly learner reports, and its check. `learner_week` writes the files."""

from datetime import UTC, date, datetime

import dagster as dg

from irt_assets.common.job_names import LEARNER_REPORT
from irt_assets.common.partition_checks import CheckInput, partition_check
from irt_assets.common.partitions import existing_partitions
from irt_assets.common.retries import classify_failures
from irt_assets.common.wording import some_of
from irt_assets.reports import learner_week
from irt_assets.reports.artifacts import page_path, row_ids
from irt_assets.reports.learner_facts import report_learners
from resources import tables
from resources.dagster_schema import LEARNERS, row_table, stored_in
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database

SHOWN = 100


def build_learner_report_assets(
    weeks: dg.PartitionsDefinition, *, zone: str, processes: int, ui_prefix: str
) -> list[dg.AssetsDefinition]:
    """Return the asset `weekly_learner_report`.

    Args:
        weeks: partitions of complete weeks.
        zone: time zone of the bank.
        processes: number of processes that render pages.
        ui_prefix: prefix of all paths of the Dagster UI.
    """

    @dg.asset(
        name=LEARNER_REPORT,
        partitions_def=weeks,
        deps=[
            "weekly_kpi",
            existing_partitions("features_topic_daily"),
            dg.AssetDep("abilities", partition_mapping=dg.LastPartitionMapping()),
        ],
        description="One row per file, HTML and PDF for every learner who answered in the eight weeks that end with "
        "the week: level, topics, the KPIs in words, and next steps.",
        kinds={"html", "pdf"},
        metadata=stored_in(tables.report_file),
    )
    def weekly_learner_report(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database], store: dg.ResourceParam[ObjectStore]
    ) -> dg.MaterializeResult:
        with classify_failures():
            written = learner_week.write_week(
                database,
                store,
                context.partition_key,
                zone=zone,
                now=datetime.now(UTC),
                n_processes=processes,
                say=context.log.info,
            )
        for problem in written.problems:
            context.log.error(problem)
        with classify_failures(), database.connect() as connection:
            samples = row_ids(connection, [store.uri(sample) for sample in written.samples]).values()
        return dg.MaterializeResult(
            metadata={
                "reports": written.summary,
                "dagster/row_count": 2 * (written.made + written.kept),
                "learners": written.learners,
                "made": written.made,
                "kept": written.kept,
                "learners without a report": len(written.failed),
                "without a report": row_table(("learner", "why"), list(written.failed.items())),
                "without a PDF": row_table(("learner", "why"), list(written.without_pdf.items())),
                "files taken away": written.removed,
                "seconds": round(written.seconds, 1),
                **{
                    f"sample {n}": dg.MetadataValue.url(page_path(artifact_id, ui_prefix))
                    for n, artifact_id in enumerate(sorted(samples), 1)
                },
            }
        )

    return [weekly_learner_report]


def build_learner_report_checks(weeks: dg.PartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    due = "Every learner who is due a report on the week has it as HTML and PDF, and no other learner has one."
    return [partition_check(weeks, LEARNER_REPORT, "every_learner_has_both_reports", due, _both_reports)]


def _both_reports(look: CheckInput) -> dg.AssetCheckResult:
    expected = report_learners(look.connection, look.partition)
    have: dict[str, set[str]] = {}
    for user, kind in look.connection.execute(
        "SELECT user_id, format FROM report_file WHERE week_start = %s AND user_id IS NOT NULL ORDER BY 1",
        (date.fromisoformat(look.partition),),
    ):
        have.setdefault(user, set()).add(kind)
    wrong = {user: "has no report" for user in expected if user not in have}
    wrong |= {user: f"has only {'/'.join(sorted(found))}" for user, found in have.items() if len(found) == 1}
    wrong |= dict.fromkeys(have.keys() - set(expected), "should have no report")
    named = some_of([f"{user} {fault}" for user, fault in wrong.items()], learner_week.MAX_NAMED, between="; ")
    advice = ": see `without a report` and `without a PDF` in the asset's metadata; materialise the week again"
    return dg.AssetCheckResult(
        passed=not wrong,
        description=f"{named}{advice}" if wrong else f"{len(expected):,} learners have both",
        metadata={
            "learners": len(wrong),
            LEARNERS: row_table(("learners", "what"), list(wrong.items())[:SHOWN]),
        },
    )
