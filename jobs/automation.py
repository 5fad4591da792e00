"""What follows a month by itself: the condition, and the sensor that evaluates it.

An asset that reads what the monthly job has made, and that nothing in its run waits for, gets `AFTER_A_MONTH` as
its `automation_condition`, as `item_drift` is. What does not belong here: what has a time (`schedules`), and what is
decided by the content of tables (`late`, `sensors`). Other assets would say no more by a condition: features, KPIs and
nights have their times, abilities follow the published set (the sensor `ledger`), and `engine_agreement` ends the run
whose fits it compares.
"""

import dagster as dg

# A month that is held is fitted and linked like any other; what it does not do is to publish.
_A_DEPENDENCY_WAS_MADE = dg.AutomationCondition.any_deps_updated().ignore(
    dg.AssetSelection.assets("linked_item_parameters")
)
_ASKED_OR_MADE = dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated()

AFTER_A_MONTH = (
    # What happens between two ticks has no order: a refit then counts as later, or it would be forgotten.
    _A_DEPENDENCY_WAS_MADE.since(_ASKED_OR_MADE & ~_A_DEPENDENCY_WAS_MADE)
    & ~dg.AutomationCondition.any_deps_missing()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
).with_label("after a month")
"""True for a month that was taken to the ledger, or whose drift was partly made again, since its last request.

A month that is held is not: its publication makes nothing. The checks of the others warn, and hold nothing.

Not `eager`, which looks at the latest month alone; not `newly_true`, to which a green month that was fitted again and
is green again is nothing new.
"""


def build_automation_sensor() -> dg.SensorDefinition:
    """Evaluates the conditions of all assets; switched on, as assets with a condition are made by nothing else."""
    return dg.AutomationConditionSensorDefinition(
        "automation",
        target=dg.AssetSelection.all(),
        description="Requests what follows a month when the month turned green or was fitted again.",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=30,
    )
