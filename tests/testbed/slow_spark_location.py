"""The real graph. A month takes a minute longer on Spark while the file `slow` is in the platform's home."""

from __future__ import annotations

from typing import Any

from irt_assets.definitions import build_defs
from irt_assets.responses import assets
from resources.cluster.spark import spark_jobs, spark_session
from resources.settings import get_settings
from tests.testbed.spark_functions import sleeps

take_snapshot = assets.take_snapshot


def _slowly(*args: Any, **options: Any) -> Any:
    settings = get_settings()
    if (settings.irt_home / "slow").exists():
        session = spark_session(settings)
        with spark_jobs(session, "a month that takes a minute"):
            session.range(2).mapInArrow(sleeps, "id long").toArrow()
    return take_snapshot(*args, **options)


assets.take_snapshot = _slowly
defs = build_defs(get_settings())
