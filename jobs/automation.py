"""Automation after a month: the condition, and the sensor that evaluates it.

An asset that reads the results of the monthly job, and that no later step of that job waits for, gets `AFTER_A_MONTH`
as its `automation_condition`; `item_drift` is an example. No other asset needs a condition: features, KPIs and nights
have schedules, abilities of learners and groups follow the published set (the sensor `ledger`), and `engine_agreement`
is the last step of the run whose fits it compares.
"""

import dagster as dg

NO_CAUSES = ("scored_responses", "linked_item_parameters")
"""Dependencies that request nothing when they are updated. A held month has a file and is linked too, so they do not
show that the month was published."""
_DEPENDENCY_UPDATED = dg.AutomationCondition.any_deps_updated().ignore(dg.AssetSelection.assets(*NO_CAUSES))
_REQUESTED_OR_UPDATED = dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated()

AFTER_A_MONTH = (
    # Events between two ticks have no order: a refit counts as later than a request, or it would be lost.
    _DEPENDENCY_UPDATED.since(_REQUESTED_OR_UPDATED & ~_DEPENDENCY_UPDATED)
    & ~dg.AutomationCondition.any_deps_missing()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
).with_label("after a month")
"""True if a month's publication step is done, or part of its drift was recomputed, since the last request.

It stays false for a held month, because its publication step materialises nothing. Failed checks of other assets are
warnings and hold nothing.

`eager` would evaluate only the latest month. `newly_true` would miss a green month that is fitted again and is green
again.
"""


def build_automation_sensor() -> dg.SensorDefinition:
    """The sensor that evaluates the conditions of all assets. On by default: nothing else requests these assets."""
    return dg.AutomationConditionSensorDefinition(
        "automation",
        target=dg.AssetSelection.all(),
        description="Requests the assets that depend on a month after the month turned green or was fitted again.",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=30,
    )
