"""A code location with a job of months that does nothing."""

import dagster as dg


@dg.op
def nothing() -> None: ...


@dg.job(partitions_def=dg.StaticPartitionsDefinition(["2026-01", "2026-02"]))
def months_work() -> None:
    nothing()


defs = dg.Definitions(jobs=[months_work])
