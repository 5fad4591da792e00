"""The sensor that updates θ after the session hook's request was lost."""

from __future__ import annotations

import dagster as dg

from irt_assets.calibration.sweep import sweep
from resources.database import Database
from resources.settings import Settings

SECONDS_A_TICK = 40
"""Dagster gives a tick 60."""


def build_theta_sensor(settings: Settings) -> dg.SensorDefinition:
    @dg.sensor(
        name="theta_sweep",
        description="With ENABLE_IRT_ONLINE_UPDATE: updates learners whose answers are newer than their θ on request, "
        "one minute after the answers came.",
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def theta_sweep(context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database]) -> dg.SensorResult:
        if not settings.enable_irt_online_update:
            return dg.SensorResult(skip_reason="ENABLE_IRT_ONLINE_UPDATE is off")
        swept = sweep(database, context.cursor, settings.irt_theta_lookback_days, SECONDS_A_TICK)
        summary = swept.why or f"theta: {swept.updated} of {swept.looked_at} learners with newer answers were updated"
        context.log.info(summary)
        return dg.SensorResult(skip_reason=summary, cursor=swept.mark.write())

    return theta_sweep
