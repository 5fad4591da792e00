"""A code location with a job of the name of the one by which people decide, and another; they do nothing."""

import dagster as dg

from irt_assets.common.release_job import RELEASE_JOB

months = dg.StaticPartitionsDefinition(["2026-01", "2026-02"])


@dg.op
def nothing() -> None: ...


@dg.job(name=RELEASE_JOB, partitions_def=months)
def decisions() -> None:
    nothing()


@dg.job(partitions_def=months)
def months_work() -> None:
    nothing()


defs = dg.Definitions(jobs=[decisions, months_work])
