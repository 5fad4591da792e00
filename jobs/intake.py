"""The sensor that requests a run for each file in the inbox; `irt job intake` does the same without a daemon.

`intake.inbox` decides which files are ready, and handles them.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from irt_assets.common.partitions import day_of
from irt_assets.intake.assets import INBOX_FILE, INTAKE
from irt_assets.intake.inbox import WaitingFile, scan_inbox
from resources.dagster_compat import SENSOR_NAME_TAG
from resources.files.inbox_files import inbox_of
from resources.postgres.database import Database

PAUSE = timedelta(minutes=10)
"""Pause after a run that failed without setting its file aside: then the database or the disk was at fault."""


@dg.sensor(
    name="intake",
    description="Requests a run for each file in the inbox (IRT_INBOX): first items, then learners, then answers.",
    asset_selection=dg.AssetSelection.assets(INTAKE),
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def intake(
    context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database]
) -> list[dg.RunRequest] | dg.SkipReason:
    inbox = inbox_of(database.settings)
    if inbox is None:
        return dg.SkipReason("IRT_INBOX is not set")
    files = database.call(scan_inbox, inbox)
    if not files:
        return dg.SkipReason("no file waits, or every file may still be incomplete")
    return [
        dg.RunRequest(
            run_key=_run_key(context.instance, file),
            partition_key=day_of(datetime.now(UTC)),
            asset_selection=[dg.AssetKey(INTAKE)],
            tags={INBOX_FILE: file.name},
        )
        for file in files
        if file.folder == files[0].folder
    ]


def _run_key(instance: dg.DagsterInstance, file: WaitingFile) -> str:
    """The file's run key, or a new key if its last run failed more than PAUSE ago."""
    of_file = dg.RunsFilter(tags={SENSOR_NAME_TAG: "intake", INBOX_FILE: file.name})
    for last in instance.get_run_records(of_file, limit=1):
        if last.dagster_run.is_failure and abs(datetime.now(UTC) - last.create_timestamp) > PAUSE:
            return f"{file.run_key} after {last.dagster_run.run_id}"
    return file.run_key
