"""The info alert that a month is ready: sent once to every channel except PagerDuty, and resolved at once.

Each scale has its own alert when the month turns green, and a second one if it was red in between. `month_status`
decides which months are green; `alert_sensors` opens alerts about failures.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from irt_assets.common.dashboard_pages import month_page
from irt_assets.common.job_names import MONTHLY_JOB
from irt_assets.decisions.proposals import latest_waiting, proposals
from irt_assets.gates.month_classification import State
from irt_assets.gates.month_status import month_states
from irt_assets.ledger.steps import unannounced_steps
from resources.alerts.outbox import Alert, open_alert
from resources.postgres.database import Database

LOOK_BACK = timedelta(days=1)
"""Months that were published longer ago are not announced."""


@dg.sensor(
    name="ready_months",
    description="Notifies every channel except PagerDuty when a month turns green, with the number of open decisions.",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def ready_months(context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database]) -> dg.SkipReason:
    sentences = alert_ready_months(database, context.instance, datetime.now(UTC))
    return dg.SkipReason("; ".join(sentences) or "no month has turned green")


def alert_ready_months(database: Database, instance: dg.DagsterInstance, now: datetime) -> list[str]:
    """Open an alert for each month and scale that turned green. Returns the alerts' texts."""
    untold = database.call(unannounced_steps, now - LOOK_BACK, f"run {MONTHLY_JOB} ")
    if not untold:
        return []
    states = month_states(database, instance, sorted({month for month, _ in untold}))
    green = {(state.month, state.scale_id) for state in states if state.state is State.GREEN}
    sentences = []
    with database.connect() as connection:
        for (month, scale_id), is_one_of_several in untold.items():
            if (month, scale_id) in green:
                candidates = proposals(connection, windows=[month], scale_id=scale_id, may_ask=True)
                waiting = [proposal.item_id for proposal in latest_waiting(candidates)]
                page = month_page(database.settings.dashboard_url, month) if database.settings.dashboard_url else ""
                alert = _ready_alert(month, scale_id, waiting, is_one_of_several, page)
                open_alert(connection, alert, is_over=True)
                sentences.append(alert.what)
    return sentences


def _ready_alert(month: str, scale_id: str, item_ids: Sequence[str], is_one_of_several: bool, page: str) -> Alert:
    """The alert. `item_ids`: items that need a decision; `page`: address of the month's page, or empty."""
    name = f"{month} of scale {scale_id}" if is_one_of_several else month
    waits = f"{len(item_ids)} decision{'s wait' if len(item_ids) > 1 else ' waits'}: irt release list --month {month}"
    return Alert(
        key=f"ready {month} {scale_id}",
        severity="info",
        what=f"{name} is green, {waits if item_ids else 'no decision waits'}",
        fix=f"decide when it suits{page and f' in {page}'}: published values stay in force until then"
        if item_ids
        else "nothing",
        partition=month,
        kind="items" if item_ids else "",
        subjects=tuple(item_ids),
        link=f"/assets/published_item_parameters?partition={month}",
    )
