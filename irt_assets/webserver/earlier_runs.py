"""The job of an earlier run or backfill that somebody asks to repeat."""

from __future__ import annotations

from dagster import DagsterInstance


class EarlierRuns:
    """Reads the instance of DAGSTER_HOME, opened for each question, as questions are rare."""

    def of_run(self, run_id: str) -> str | None:
        with DagsterInstance.get() as instance:
            run = instance.get_run_by_id(run_id)
        return None if run is None else run.job_name

    def of_backfill(self, backfill_id: str) -> str | None:
        """The name of the job's partition set; a backfill of assets has none."""
        with DagsterInstance.get() as instance:
            backfill = instance.get_backfill(backfill_id)
        origin = None if backfill is None else backfill.partition_set_origin
        return None if origin is None else origin.partition_set_name
