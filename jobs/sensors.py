"""Sensors for work that no run triggers.

`ledger` publishes pending months that no longer wait for an earlier month, and requests abilities again if the
published set that they read has changed. `theta_sweep` updates θ after a request of the session hook was lost.
`killed_runs` repeats killed runs that the daemon did not repeat.

The daemon repeats a run whose worker was killed when it reads that the run failed. If it cannot reach the code server
at that moment, because that was killed too, it gives up for good. If the daemon itself is killed, it may never repeat
the run, and the backfill waits forever. A sensor's tick runs in the code server, so the code server can be reached when
the sensor reports the failure again. If a restart of the database interrupts Dagster while it records a step, the step
fails; the daemon does not repeat failed steps, so the sensor has such a run repeated once.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

from irt_assets.abilities.batch import stale_months
from irt_assets.abilities.group_assets import GROUP_ABILITIES
from irt_assets.abilities.sweep import online_updates_are_on, sweep
from irt_assets.common.run_progress import failed_in_dagster, runs_to_repeat
from irt_assets.gates.month_status import unsettled_months
from irt_assets.ledger.steps import Step, pending_steps
from resources.dagster_compat import MAX_RETRIES_TAG, RETRY_ON_ASSET_OR_OP_FAILURE_TAG
from resources.postgres.database import Database
from resources.settings import Settings

SECONDS_BETWEEN_TICKS = 30
SWEEP_S = 40
"""Longest sweep of θ, in seconds; Dagster allows a tick 60."""
PUBLISHED, ABILITIES = dg.AssetKey("published_item_parameters"), dg.AssetKey("abilities")
BY_THE_SET = [ABILITIES, dg.AssetKey(GROUP_ABILITIES)]
"""Assets that a month computes by the set in force at its end."""


@dataclass(frozen=True)
class MonthRequest:
    """A request for a month: for its publication and abilities (`settle`), or for abilities only."""

    month: str
    settle: bool
    key: str


def plan_requests(pending: Iterable[Step], stale: dict[str, str], unsettled: Collection[str]) -> list[MonthRequest]:
    """The requests to make now, ordered by month.

    Args:
        pending: publication steps that wait for an earlier month.
        stale: months whose abilities were computed from an outdated set, with a key that names the current sets.
        unsettled: months that are running, queued or in a backfill; later pending months wait for them.
    """
    requests = {
        step.month: MonthRequest(step.month, True, f"settle {step.month} {step.fit_id} {step.stepped_at}")
        for step in pending
        if step.month not in unsettled and not any(m < step.month for m in unsettled)
    }
    requests |= {
        month: MonthRequest(month, False, f"abilities {month} {set_hash}")
        for month, set_hash in stale.items()
        if month not in unsettled and month not in requests
    }
    return [requests[month] for month in sorted(requests)]


@dg.sensor(
    name="ledger",
    description="Publishes months that waited for an earlier month, and updates abilities whose published set changed.",
    asset_selection=dg.AssetSelection.assets(PUBLISHED, *BY_THE_SET),
    minimum_interval_seconds=SECONDS_BETWEEN_TICKS,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def ledger(
    context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database]
) -> list[dg.RunRequest] | dg.SkipReason:
    with database.connect() as connection:
        pending = pending_steps(connection)
        stale = stale_months(connection)
    requests = plan_requests(pending, stale, unsettled_months(context.instance)) if pending or stale else []
    if not requests:
        return dg.SkipReason("no month waits and no ability is stale")
    return [
        dg.RunRequest(
            run_key=request.key,
            partition_key=request.month,
            asset_selection=[PUBLISHED, *BY_THE_SET] if request.settle else BY_THE_SET,
        )
        for request in requests
    ]


def build_theta_sensor(settings: Settings) -> dg.SensorDefinition:
    @dg.sensor(
        name="theta_sweep",
        description="With ENABLE_IRT_ONLINE_UPDATE, here or on the θ API: updates learners whose answers are newer "
        "than their θ on request, one minute after the answers arrived.",
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def theta_sweep(context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database]) -> dg.SensorResult:
        if not (settings.enable_irt_online_update or online_updates_are_on(database)):
            return dg.SensorResult(skip_reason="ENABLE_IRT_ONLINE_UPDATE is off, here and on the θ API")
        swept = sweep(database, context.cursor, SWEEP_S)
        summary = swept.why or f"theta: {swept.updated} of {swept.looked_at} learners with newer answers were updated"
        context.log.info(summary)
        return dg.SensorResult(skip_reason=summary, cursor=swept.mark.write())

    return theta_sweep


DAEMON_GRACE = timedelta(seconds=30)
"""Time that the daemon has to repeat a run itself."""
REPEAT_ONCE = {RETRY_ON_ASSET_OR_OP_FAILURE_TAG: "true", MAX_RETRIES_TAG: "1"}
"""Tags with which the daemon repeats a run once although a step failed."""


def report_again(instance: dg.DagsterInstance) -> list[str]:
    """Report again the failure of every run that should have been repeated by now. Returns the runs' ids."""
    before = datetime.now(UTC) - DAEMON_GRACE
    forgotten = [r.dagster_run for r in runs_to_repeat(instance) if r.update_timestamp.astimezone(UTC) < before]
    for run in forgotten:
        if failed_in_dagster(instance, run):
            instance.add_run_tags(run.run_id, REPEAT_ONCE)
        instance.report_run_failed(run, "The run was not repeated when it broke off; reported again.")
    return [run.run_id for run in forgotten]


@dg.sensor(
    name="killed_runs",
    description="Repeats runs whose workers were killed together with the process that should have repeated them. Runs "
    "in which Dagster lost its database while it recorded a step are repeated once.",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def killed_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    run_ids = report_again(context.instance)
    return dg.SkipReason(f"to be repeated: {', '.join(run_ids)}" if run_ids else "no killed run waits to be repeated")
