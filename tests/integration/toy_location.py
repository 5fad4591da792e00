"""A code location of sleepers, for the tests of the launcher and the stack that need no real assets."""

import time

from dagster import (
    AssetExecutionContext,
    Definitions,
    MonthlyPartitionsDefinition,
    asset,
    define_asset_job,
    in_process_executor,
)

MONTHS = MonthlyPartitionsDefinition(start_date="2026-01", fmt="%Y-%m")


@asset(partitions_def=MONTHS, pool="calibration", group_name="toy")
def sleeper(context: AssetExecutionContext) -> None:
    """Sleep for the number of seconds in the run's tag `seconds`."""
    time.sleep(float(context.run.tags.get("seconds", "0")))


@asset(partitions_def=MONTHS, deps=[sleeper], group_name="toy")
def dream() -> None:
    """Run after the sleeper."""


defs = Definitions(
    assets=[sleeper, dream],
    jobs=[define_asset_job("toy_job", selection="*", partitions_def=MONTHS)],
    executor=in_process_executor,
)
