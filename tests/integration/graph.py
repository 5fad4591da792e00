"""The real graph in this process, without Dagster's servers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from irt_assets.common.job_names import MONTHLY_JOB
from irt_assets.decisions.origin import initialise
from irt_assets.definitions import build_defs
from irt_assets.gates.month_classification import MonthState
from irt_assets.gates.month_status import month_states
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.databases import made_once, template_copy
from tests.helpers.worlds import OF_MONTHS


class Graph:
    """The real graph over a database and a Dagster instance; its definitions were built when the object was created."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.settings, self.instance, self.database = settings, instance, Database(settings)
        self.store = rooms.folder_store(settings)
        self.defs = build_defs(settings, resources={"database": self.database, "store": self.store})

    def run(
        self, partition: str | None = None, job: str = MONTHLY_JOB, *, assets: Sequence[str] = (), **tags: str
    ) -> dg.ExecuteInProcessResult:
        """Run the job, or only these assets if any are named."""
        return self.defs.resolve_job_def(job).execute_in_process(
            partition_key=partition,
            instance=self.instance,
            asset_selection=[dg.AssetKey(name) for name in assets] or None,
            tags=tags,
            raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )

    def state(self, month: str) -> MonthState:
        (found,) = month_states(self.database, self.instance, [month])
        return found

    def planned_run(self, month: str) -> dg.DagsterRun:
        """Create a run of the monthly job with planned checks, and do not start the run."""
        job = self.defs.resolve_job_def(MONTHLY_JOB)
        return self.instance.create_run_for_job(
            job, tags={"dagster/partition": month}, status=dg.DagsterRunStatus.STARTED
        )


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    """Evaluations of a run's checks by name."""
    return {e.check_name: e for e in result.get_asset_check_evaluations()}


def metadata(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    """Metadata of the asset's last materialisation. A run of a range materialises each of its partitions."""
    event = result.asset_materializations_for_node(asset)[-1]
    return {name: value.value for name, value in event.metadata.items()}


@contextmanager
def graph_after_first_month(postgres: EmbeddedPostgres, home: Path) -> Iterator[Graph]:
    """The graph over a copy of the small world whose first month Dagster's job has made, and of its instance."""
    made_once(postgres, "template_graph", "template_rooms", _run_first_month, **OF_MONTHS)
    with (
        template_copy(postgres, "template_graph", home, **OF_MONTHS) as settings,
        dg.DagsterInstance.local_temp(str(settings.irt_home / "dagster")) as instance,
    ):
        yield Graph(settings, instance)


def _run_first_month(settings: Settings) -> None:
    folder = settings.irt_home / "dagster"
    folder.mkdir(parents=True)
    with dg.DagsterInstance.local_temp(str(folder)) as instance:
        initialise(Database(settings), rooms.SCALE, first_month=rooms.MONTHS[0], thresholds=rooms.LOWERED)
        assert Graph(settings, instance).run(rooms.MONTHS[0]).success


@contextmanager
def graph_of_small_world(server: str, name: str, folders: pytest.TempPathFactory) -> Iterator[Graph]:
    """The graph over a copy of the small world's database, whose scale begins with the first month; nothing has run."""
    with (
        rooms.copied(server, "template_rooms", f"rooms_{name}", folders.mktemp(name)) as settings,
        dg.DagsterInstance.local_temp(str(folders.mktemp("dagster"))) as instance,
    ):
        initialise(Database(settings), rooms.SCALE, first_month=rooms.MONTHS[0], thresholds=rooms.LOWERED)
        yield Graph(settings, instance)
