"""The real graph without the sensors that request runs, so that only the tests' runs exist."""

from __future__ import annotations

import dagster as dg

from irt_assets import definitions
from jobs.plans import PLANS
from jobs.watching.alert_sensors import build_alert_sensors
from resources.dagster_compat import UnresolvedAssetJobDefinition
from resources.settings import Settings, get_settings


def _of_alerts(_jobs: dict[str, UnresolvedAssetJobDefinition], settings: Settings) -> list[dg.SensorDefinition]:
    sensors = build_alert_sensors(PLANS, settings)
    return [sensor for sensor in sensors if sensor.name in ("alerts_of_runs", "alert_delivery")]


definitions.build_sensors = _of_alerts
defs = definitions.build_defs(get_settings())
