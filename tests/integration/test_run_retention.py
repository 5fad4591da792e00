"""Which runs of Dagster's go, and which stay because something rests on them.

Dagster reads the annotations of the decorated functions, so this module does not postpone them.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from irt_assets.servers.instance import dagster_instance
from jobs.retention.run_retention import RUNS, prune_runs
from resources.alerts.outbox import Alert, open_alert, resolve_alert
from resources.dagster_compat import ComputeIOType
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from tests.helpers import rooms

MONTHS = dg.StaticPartitionsDefinition(["2026-01", "2026-02"])
LATER = RUNS + timedelta(days=1)
SUPERSEDED, STAY = "runs that were superseded or failed", "output of old runs that stay"


@dg.asset(partitions_def=MONTHS)
def month(context: dg.AssetExecutionContext) -> None:
    """Fails where its run's tag says so."""
    if "fails" in context.run.tags:
        raise ValueError("as wanted")


@dg.asset_check(asset=month, partitions_def=MONTHS)
def holds() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@dg.observable_source_asset
def bank() -> dg.DataVersion:
    return dg.DataVersion("1")


DEFINITIONS = dg.Definitions(
    assets=[month, bank],
    asset_checks=[holds],
    jobs=[
        dg.define_asset_job("make", selection=dg.AssetSelection.assets("month").without_checks()),
        dg.define_asset_job("judge", selection=dg.AssetSelection.assets("month")),
        dg.define_asset_job("observe", selection=["bank"]),
    ],
    executor=dg.in_process_executor,
)


class Graph:
    """Runs of the little graph, and what is pruned of them."""

    def __init__(self, database: Database, instance: dg.DagsterInstance) -> None:
        self.database, self.instance = database, instance

    def run(self, job: str, partition: str | None = None, **tags: str) -> str:
        return (
            DEFINITIONS.resolve_job_def(job)
            .execute_in_process(partition_key=partition, instance=self.instance, tags=tags, raise_on_error=False)
            .run_id
        )

    def gone(self, later: timedelta = LATER, *, dry_run: bool = False) -> dict[str, tuple[str, ...]]:
        at = datetime.now(UTC) + later
        return {one.kind: one.names for one in prune_runs(self.database, self.instance, at, dry_run=dry_run)}

    def pruned(self, later: timedelta = LATER, *, dry_run: bool = False) -> tuple[str, ...]:
        return self.gone(later, dry_run=dry_run)[SUPERSEDED]

    def runs(self) -> set[str]:
        return {run.run_id for run in self.instance.get_runs()}


@pytest.fixture(scope="module")
def home(
    postgres: EmbeddedPostgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Database, dg.DagsterInstance]]:
    with rooms.copied(
        postgres.start(),
        migrated_template,
        "run_retention",
        tmp_path_factory.mktemp("home"),
    ) as settings:
        database = Database(settings)
        with dagster_instance(settings, database) as instance:
            yield database, instance


@pytest.fixture
def graph(home: tuple[Database, dg.DagsterInstance]) -> Iterator[Graph]:
    database, instance = home
    yield Graph(database, instance)
    instance.wipe()
    rooms.run_sql(database, "DELETE FROM alert; DELETE FROM publication_step")


def test_a_run_goes_when_its_partition_was_made_again_and_takes_its_events_and_output_along(graph: Graph) -> None:
    old, other, new = graph.run("make", "2026-01"), graph.run("make", "2026-02"), graph.run("make", "2026-01")
    output = graph.instance.compute_log_manager.get_log_keys_for_log_key_prefix
    assert (graph.pruned(LATER - timedelta(days=2)), graph.pruned(dry_run=True)) == ((), (old,))
    assert (graph.runs(), graph.pruned(), graph.runs()) == ({old, other, new}, (old,), {other, new})
    assert graph.instance.get_materialized_partitions(month.key) == {"2026-01", "2026-02"}
    assert not graph.instance.all_logs(old)
    with pytest.raises(FileNotFoundError):
        output([old, "compute_logs"], ComputeIOType.STDERR)
    assert graph.pruned() == ()


def test_deleting_a_latest_materialisation_would_lose_the_partition(graph: Graph) -> None:
    """Why nothing of the kind is deleted: what Dagster does, so that a newer one that does not is noticed."""
    only = graph.run("make", "2026-01")
    assert graph.pruned() == ()
    graph.instance.delete_run(only)
    assert graph.instance.get_materialized_partitions(month.key) == set()


def test_a_failed_run_stays_until_its_partition_was_made(graph: Graph) -> None:
    failed = graph.run("make", "2026-01", fails="yes")
    assert graph.pruned() == ()
    made = graph.run("make", "2026-01")
    assert (graph.pruned(), graph.runs()) == ((failed,), {made})


def test_a_run_with_the_latest_evaluation_of_a_check_stays(graph: Graph) -> None:
    judged, made = graph.run("judge", "2026-01"), graph.run("make", "2026-01")
    assert graph.pruned() == ()
    again = graph.run("judge", "2026-01")
    assert (set(graph.pruned()), graph.runs()) == ({judged, made}, {again})


def test_of_observations_the_latest_stays(graph: Graph) -> None:
    observed = [graph.run("observe") for _ in range(3)]
    assert set(graph.pruned()) == set(observed[:2])


def test_a_run_that_an_open_alert_or_a_row_names_stays(graph: Graph) -> None:
    told, cited, last = (graph.run("make", "2026-01") for _ in range(3))
    key = f"run make 2026-01|{told}"
    with graph.database.connect() as connection:
        open_alert(connection, Alert(key, "error", "it failed", "look"))
        connection.execute(
            """INSERT INTO publication_step (month, scale_id, state, why, run_id)
               VALUES ('2026-01', 's', 'done', 'w', %s)""",
            (cited,),
        )
    assert graph.pruned() == ()
    with graph.database.connect() as connection:
        resolve_alert(connection, key)
    assert (graph.pruned(), graph.runs()) == ((told,), {cited, last})


def test_a_run_under_way_is_no_old_run(graph: Graph) -> None:
    old, new = graph.run("make", "2026-01"), graph.run("make", "2026-01")
    running = graph.instance.get_run_by_id(old)._replace(run_id="f" * 32, status=dg.DagsterRunStatus.STARTED)
    graph.instance.add_run(running)
    assert (graph.pruned(), graph.runs()) == ((old,), {new, running.run_id})


def test_a_prune_that_was_killed_between_events_and_run_is_finished_by_the_next(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = graph.run("make", "2026-01"), graph.run("make", "2026-01")
    with monkeypatch.context() as killed:
        killed.setattr(graph.instance, "delete_run", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            graph.pruned()
    assert (graph.runs(), graph.pruned()) == ({old, new}, (old,))
    orphans = "SELECT count(*) FROM dagster.event_logs WHERE run_id NOT IN (SELECT run_id FROM dagster.runs)"
    assert rooms.rows(graph.database, orphans) == [(0,)]


def test_output_of_an_old_run_goes_though_the_run_stays(graph: Graph) -> None:
    run = graph.run("make", "2026-01")
    log = graph.instance.compute_log_manager
    with log.open_log_stream([run, "compute_logs", "month"], ComputeIOType.STDERR) as stream:
        stream.write("a line")
    assert graph.gone() == {SUPERSEDED: (), STAY: (run,)}
    assert graph.runs() == {run}
    assert graph.gone() == {SUPERSEDED: (), STAY: ()}
