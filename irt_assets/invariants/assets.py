"""The asset `invariant_report`: the daily report, with every invariant as a check."""

from collections.abc import Iterator

import dagster as dg

from irt_assets.blocks import Table, table
from irt_assets.common.job_names import INVARIANT_REPORT
from irt_assets.common.metadata import md
from irt_assets.common.retries import classify_failures
from irt_assets.invariants.history import make_report
from irt_assets.invariants.invariant import InvariantResult
from irt_assets.invariants.registry import INVARIANTS
from resources.dagster_schema import HOW_TO_FIX, stored_in
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database
from resources.tables import invariant_result

ROWS_SHOWN = 10


def build_invariant_assets(days: dg.PartitionsDefinition, first_month: str) -> list[dg.AssetsDefinition]:
    """The asset `invariant_report` with its checks."""

    @dg.asset(
        name=INVARIANT_REPORT,
        partitions_def=days,
        description="One row per invariant: whether it held for all stored data when the day's report was made. Each "
        "violation has its own row. A repeated report describes the present, not the past.",
        metadata=stored_in(invariant_result),
        check_specs=[
            dg.AssetCheckSpec(
                invariant.name, asset=INVARIANT_REPORT, description=f"{invariant.protects} To fix it: {invariant.fix}"
            )
            for invariant in INVARIANTS
        ],
    )
    def invariant_report(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database], store: dg.ResourceParam[ObjectStore]
    ) -> Iterator[dg.MaterializeResult]:
        run = f"{context.run.run_id}/{context.retry_number}"
        with classify_failures():
            report = make_report(database, store, context.instance, first_month=first_month, run=run)
        violated = [verdict for verdict in report.verdicts if verdict.violations]
        yield dg.MaterializeResult(
            metadata={
                "in a sentence": report.sentence,
                "not tested": md(
                    table(("invariant", "why it was not tested"), report.incomplete, empty="everything was tested")
                ),
                "violations": md(_violations(violated, limit=ROWS_SHOWN)),
                "things not tested": len(report.incomplete),
                "evaluated at": dg.MetadataValue.timestamp(report.evaluated_at),
                "dagster/row_count": sum(len(verdict.violations) for verdict in report.verdicts),
            },
            check_results=[_check_result(verdict) for verdict in report.verdicts if not verdict.crashed],
        )
        if report.crashed_results:
            named = "; ".join(f"{verdict.invariant.name}: {verdict.crashed}" for verdict in report.crashed_results)
            raise dg.Failure(f"invariants that could not be evaluated: {named}", allow_retries=False)

    return [invariant_report]


def _check_result(verdict: InvariantResult) -> dg.AssetCheckResult:
    invariant, n = verdict.invariant, len(verdict.violations)
    summary = f"{n} violations: {', '.join(v.subject for v in verdict.violations[:ROWS_SHOWN])}" if n else "it holds"
    untested = "; ".join(dict.fromkeys(missing.why for missing in verdict.not_tested))
    return dg.AssetCheckResult(
        check_name=invariant.name,
        passed=verdict.passed,
        severity=dg.AssetCheckSeverity.ERROR if invariant.severity == "error" else dg.AssetCheckSeverity.WARN,
        description=(f"not tested: {untested}. " if untested else "") + summary,
        metadata={"violations": md(_violations([verdict], limit=100)), HOW_TO_FIX: invariant.fix},
    )


def _violations(verdicts: list[InvariantResult], limit: int) -> Table:
    rows = []
    for verdict in verdicts:
        name = verdict.invariant.name
        rows += [(name, v.partition, v.subject, v.observed, v.expected) for v in verdict.violations[:limit]]
        if len(verdict.violations) > limit:
            rows.append((name, "", f"and {len(verdict.violations) - limit} more", "", ""))
    return table(("invariant", "partition", "subject", "seen", "expected"), rows)
