"""The asset `drift_report`. The modules `drift_*` collect and render the report."""

import dagster as dg

from irt_assets.common.metadata import decide_in
from irt_assets.common.retries import classify_failures
from irt_assets.reports import drift_month
from irt_assets.reports.artifacts import Format, page_path
from resources import tables
from resources.dagster_schema import stored_in
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database

DRIFT_REPORT, DRIFT_REPORT_JOB = "drift_report", "generate_drift_report"
REPORT_SOURCES = ("item_drift", "dif_analysis", "test_information")
"""Assets that the report covers. It can be written without them, and then lists the missing ones."""
LINKS: dict[Format, str] = {"html": "open the report", "pdf": "download as PDF", "docx": "download for Word"}


def build_report_assets(
    months: dg.PartitionsDefinition, follows_a_month: dg.AutomationCondition, *, ui_prefix: str
) -> list[dg.AssetsDefinition]:
    """Return the asset.

    `follows_a_month` is the condition that requests a month's report, and `ui_prefix` the prefix of all paths of the
    Dagster UI.
    """

    @dg.asset(
        partitions_def=months,
        deps=list(REPORT_SOURCES),
        description="One row per file, HTML, PDF and Word for every scale: whether the month is safe to release, and "
        "the findings that need review.",
        kinds={"html", "pdf"},
        metadata=stored_in(tables.report_file),
        automation_condition=follows_a_month,
    )
    def drift_report(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database], store: dg.ResourceParam[ObjectStore]
    ) -> dg.MaterializeResult:
        sentences: list[str] = []
        links: dict[str, dg.MetadataValue] = {}
        with classify_failures():
            for report in drift_month.make_reports(database, store, context.instance, context.partition_key):
                sentences.append(report.verdict.in_short)
                if report.problem:
                    sentences.append(f"Without PDF and Word file: {report.problem}.")
                    context.log.error(f"{report.month} of scale {report.scale_id} has no PDF: {report.problem}")
                suffix = "" if report.only_scale else f" ({report.scale_id})"
                for file in drift_month.store_files(database, store, report):
                    path = page_path(file.artifact_id, ui_prefix)
                    links[f"{LINKS[file.format]}{suffix}"] = dg.MetadataValue.url(path)
                if report.verdict.decisions or report.verdict.mark == "no":
                    links |= decide_in(database.settings.dashboard_url, report.month)
        return dg.MaterializeResult(metadata={"report": dg.MetadataValue.text(" ".join(sentences)), **links})

    return [drift_report]
