"""The job that deletes outdated rows, files and runs; `irt prune` does the same.

`unused` decides which rows and files are deleted, `run_retention` which runs.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

from irt_assets.common.job_names import LEARNER_REPORT, NIGHTLY, PRUNE_JOB
from irt_assets.common.retries import classify_failures
from irt_assets.intake.assets import INTAKE
from jobs.retention.run_retention import prune_runs
from jobs.retention.unused import Deletion, prune_files, prune_rows, prune_unfinished
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database

ASSETS = {
    "fits of nights": NIGHTLY,
    "abilities of nights": NIGHTLY,
    "superseded fits": "item_calibration",
    "superseded snapshots": "scored_responses",
    "reports of learners": LEARNER_REPORT,
    "arrivals": INTAKE,
}
"""Assets whose pages report the deletion of their rows."""


def prune(database: Database, store: ObjectStore, instance: dg.DagsterInstance, *, dry_run: bool) -> Iterator[Deletion]:
    """Delete everything outdated, and yield each kind with the deleted names.

    Runs are deleted after the rows that name them.
    """
    now = datetime.now(UTC)
    yield from prune_rows(database, now, dry_run=dry_run)
    yield prune_files(database, store, now, dry_run=dry_run)
    yield prune_unfinished(store, now, dry_run=dry_run)
    yield from prune_runs(database, instance, now, dry_run=dry_run)


def build_prune_job(tags: dict[str, str]) -> dg.JobDefinition:
    """Build the job, which reports the number of deletions of each kind in its log and on the pages of the assets."""

    @dg.op(name="prune_everything")
    def prune_everything(
        context: dg.OpExecutionContext, database: dg.ResourceParam[Database], store: dg.ResourceParam[ObjectStore]
    ) -> None:
        with classify_failures():
            for deletion in prune(database, store, context.instance, dry_run=False):
                if deletion.names:
                    context.log.info(sentence := f"deleted {len(deletion.names):,} {deletion.kind}")
                    if asset := ASSETS.get(deletion.kind):
                        context.log_event(dg.AssetObservation(asset, description=sentence))

    @dg.job(
        name=PRUNE_JOB,
        executor_def=dg.in_process_executor,
        tags=tags,
        description="Deletes outdated data: old fits of nights, superseded fits, snapshots and runs, learners' old "
        "reports, and resolved alerts. It never deletes the newest evidence of a partition.",
    )
    def prune_job() -> None:
        prune_everything()

    return prune_job
