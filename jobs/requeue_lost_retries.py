"""Killed runs that the daemon forgot to repeat.

The daemon repeats a run whose worker was killed when it reads that the run failed. Where it does not reach the code
server at that moment, because that was killed too, it gives up for good; where it is killed itself, it may never come
to it, and the backfill waits for ever. A sensor's tick runs in the code server: now it is there, and the failure is
reported once more. What does not belong here: which runs these are (see `run_progress`).
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from irt_assets.common.run_progress import to_be_repeated

DAEMONS_TURN = timedelta(seconds=30)
"""Seconds between evaluations."""


def report_again(instance: dg.DagsterInstance) -> list[str]:
    """Report the failure of every run that should have been repeated by now; their ids."""
    before = datetime.now(UTC) - DAEMONS_TURN
    forgotten = [r.dagster_run for r in to_be_repeated(instance) if r.update_timestamp.astimezone(UTC) < before]
    for run in forgotten:
        instance.report_run_failed(run, "The run was not repeated when its worker was killed; reported again.")
    return [run.run_id for run in forgotten]


@dg.sensor(
    name="killed_runs",
    description="Repeats runs whose workers were killed together with the process that should have repeated them.",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def killed_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    again = report_again(context.instance)
    return dg.SkipReason(f"to be repeated: {', '.join(again)}" if again else "no killed run waits to be repeated")
