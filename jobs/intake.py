"""Asks for a run where files wait in the inbox; `irt job intake` does the same where timers replace the daemon.

What does not belong here: which files wait, and what becomes of them (see `intake.inbox`).
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from irt_assets.common.partitions import day_of
from irt_assets.intake.assets import INTAKE
from irt_assets.intake.inbox import look
from resources.dagster_compat import NOT_FINISHED_STATUSES, SENSOR_NAME_TAG
from resources.files.inbox_files import inbox_of
from resources.postgres.database import Database

PAUSE = timedelta(minutes=10)
"""After a run that failed: what it met is most often not the files' fault."""


@dg.sensor(
    name="intake",
    description="Takes the files that wait in the inbox (IRT_INBOX), all in one run.",
    asset_selection=dg.AssetSelection.assets(INTAKE),
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def intake(context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database]) -> dg.RunRequest | dg.SkipReason:
    inbox = inbox_of(database.settings)
    if inbox is None:
        return dg.SkipReason("IRT_INBOX is not set")
    with database.connect() as connection:
        waiting = [file for file in look(connection, inbox) if not file.taken]
    if not waiting:
        return dg.SkipReason("no file waits, or each may still be being written")
    now = datetime.now(UTC)
    for last in context.instance.get_run_records(dg.RunsFilter(tags={SENSOR_NAME_TAG: "intake"}), limit=1):
        if last.dagster_run.status in NOT_FINISHED_STATUSES:
            return dg.SkipReason(f"run {last.dagster_run.run_id[:8]} takes what waits")
        if last.dagster_run.is_failure and abs(now - last.create_timestamp) < PAUSE:
            return dg.SkipReason(f"run {last.dagster_run.run_id[:8]} failed: the next one comes after ten minutes")
    key = f"{len(waiting)} files at {now:%Y-%m-%dT%H:%M:%S}"
    return dg.RunRequest(run_key=key, partition_key=day_of(now), asset_selection=[dg.AssetKey(INTAKE)])
