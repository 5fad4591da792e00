"""Steps of both demos: running jobs in this process, and writing the lake."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

from irt_assets.common.job_names import same_job
from irt_assets.common.run_progress import RANGE_TAGS
from irt_assets.runs.in_process_runs import run_job
from irt_assets.spark.lake import export_days
from resources.cluster.relational import lake
from resources.dagster_compat import PARTITION_NAME_TAG
from resources.postgres.database import Database
from resources.settings import Settings

Say = Callable[[str], None]
OpenInstance = Callable[[Settings, Database], AbstractContextManager[DagsterInstance]]
FOREIGN_DATA = (
    "this database holds other data, and the demo does not mix its answers into it. Set IRT_HOME to an empty folder "
    "(and unset DATABASE_URL), then run the demo again"
)


@dataclass(frozen=True)
class Jobs:
    """Runs jobs in this process. Partitions that an earlier demo made are kept, unless `again`."""

    instance: DagsterInstance
    settings: Settings
    say: Say
    again: bool

    def run(self, name: str, first: str = "", last: str = "") -> None:
        """Run a job for one partition, for all from `first` to `last`, or without a partition."""
        partition = f" {first} … {last}" if last else f" {first}" if first else ""
        tags = (
            dict(zip(RANGE_TAGS, (first, last), strict=True)) if last else {PARTITION_NAME_TAG: first} if first else {}
        )
        made = (RunsFilter(job_name=alias, statuses=[DagsterRunStatus.SUCCESS], tags=tags) for alias in same_job(name))
        if not self.again and any(map(self.instance.get_runs_count, made)):
            self.say(f"  {name}{partition}: already made")
            return
        began = time.monotonic()
        done = run_job(self.instance, self.settings, name, first, last)
        ended = f"{time.monotonic() - began:.0f} s" if done else "failed, see its run in the UI"
        self.say(f"  {name}{partition}: {ended}")


def write_lake(database: Database, say: Say) -> None:
    """Write the log to the lake that Spark reads, if there is a lake. Safe to repeat."""
    with database.connect() as connection:
        target = lake(connection)
    if target is None:
        return
    done = export_days(database, target)
    say(f"  {done.rows:,} answers of {len(done.written):,} days written to the lake {target.name}")
