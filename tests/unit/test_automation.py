"""When the assets that follow a month are requested: Dagster evaluates the condition on three small assets."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from irt_assets.ledger.steps import Step
from jobs.automation import AFTER_A_MONTH
from jobs.sensors import plan_requests

MONTHS = dg.MonthlyPartitionsDefinition(start_date="2026-01", end_date="2026-04", fmt="%Y-%m")
MADE, JANUARY, FEBRUARY = "linked_item_parameters", "2026-01", "2026-02"
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class World:
    """A month's parameters with a gate, a publication that fails if the gate fails, and a report that follows."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance, self.green, self.calm = instance, True, True
        self.cursor: Any = None

        @dg.asset(name=MADE, partitions_def=MONTHS)
        def made() -> None: ...

        @dg.asset(partitions_def=MONTHS, deps=[made])
        def published() -> None:
            if not self.green:
                raise dg.Failure("the month is held", allow_retries=False)

        @dg.asset(partitions_def=MONTHS, deps=[made, published], automation_condition=AFTER_A_MONTH)
        def drift_report() -> None: ...

        @dg.asset_check(asset=made, partitions_def=MONTHS)
        def gate() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=self.green)

        @dg.asset_check(asset=made, partitions_def=MONTHS)
        def caution() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=self.calm, severity=dg.AssetCheckSeverity.WARN)

        self.defs = dg.Definitions(
            assets=[made, published, drift_report],
            asset_checks=[gate, caution],
            jobs=[
                dg.define_asset_job("month", selection=[MADE, "published"]),
                dg.define_asset_job("fit", selection=[MADE]),
                dg.define_asset_job("publish", selection=["published"]),
                dg.define_asset_job("drift", selection=["drift_report"]),
            ],
            executor=dg.in_process_executor,
        )

    def run(self, job: str, month: str) -> None:
        self.defs.resolve_job_def(job).execute_in_process(
            partition_key=month, instance=self.instance, raise_on_error=False, run_config=QUIET
        )

    def requested_months(self) -> set[str]:
        """Evaluate one tick. Returns the months whose report it requests."""
        found = dg.evaluate_automation_conditions(self.defs, self.instance, cursor=self.cursor)
        self.cursor = found.cursor
        return set(found.get_requested_partitions(dg.AssetKey("drift_report")))


@pytest.fixture
def world() -> Iterator[World]:
    with dg.DagsterInstance.ephemeral() as instance:
        world = World(instance)
        assert world.requested_months() == set()
        yield world


def test_report_is_requested_once_for_every_month_that_became_green(world: World) -> None:
    world.run("month", JANUARY)
    assert world.requested_months() == {JANUARY}
    assert world.requested_months() == set()
    world.run("drift", JANUARY)
    assert world.requested_months() == set()
    world.run("month", "2026-03")
    world.run("month", FEBRUARY)
    assert world.requested_months() == {FEBRUARY, "2026-03"}


def test_report_of_a_red_month_is_not_requested_until_the_month_is_green(world: World) -> None:
    world.green = False
    world.run("month", JANUARY)
    assert world.requested_months() == set()
    world.green = True
    world.run("month", JANUARY)
    assert world.requested_months() == {JANUARY}


def test_report_is_not_requested_again_if_a_green_month_turned_red(world: World) -> None:
    world.run("month", JANUARY)
    world.requested_months()
    world.run("drift", JANUARY)
    world.green = False
    world.run("month", JANUARY)
    assert world.requested_months() == set()


def test_report_is_requested_if_a_check_only_warns(world: World) -> None:
    world.calm = False
    world.run("month", JANUARY)
    assert world.requested_months() == {JANUARY}


def test_report_is_requested_again_if_its_month_was_refitted_between_ticks(world: World) -> None:
    """The end of a run and the refit after it are often between two ticks."""
    world.run("month", JANUARY)
    world.requested_months()
    world.run("drift", JANUARY)
    world.run("month", JANUARY)
    assert world.requested_months() == {JANUARY}


def test_report_is_not_requested_while_a_run_of_its_month_is_in_progress(world: World) -> None:
    world.run("month", JANUARY)
    world.run("month", FEBRUARY)
    run = world.instance.create_run_for_job(
        world.defs.resolve_job_def("fit"), tags={"dagster/partition": JANUARY}, status=dg.DagsterRunStatus.STARTED
    )
    assert world.requested_months() == {FEBRUARY}
    world.instance.report_run_canceled(run)
    assert world.requested_months() == {JANUARY}


def test_report_of_a_refitted_month_is_requested_once_its_publication_step_is_done(world: World) -> None:
    world.run("month", JANUARY)
    world.requested_months()
    world.run("drift", JANUARY)
    world.run("fit", JANUARY)
    assert world.requested_months() == set()
    world.run("publish", JANUARY)
    assert world.requested_months() == {JANUARY}


# -- sensors -----------------------------------------------------------------------------------------
# The runs that the ledger's sensor requests.

STEPPED = datetime(2026, 7, 1, tzinfo=UTC)


def pending(month: str, scale: str = "default", fit_id: str = "fit", stepped: datetime = STEPPED) -> Step:
    return Step(month=month, scale_id=scale, fit_id=fit_id, state="pending", why="waits", stepped_at=stepped)


@pytest.mark.parametrize(
    ("waiting", "stale", "under_way", "expected"),
    [
        pytest.param([], {}, {"2026-01"}, [], id="no waiting months"),
        pytest.param(
            ["2026-03", "2026-02"], {}, (), [("2026-02", True), ("2026-03", True)], id="in order if no month runs"
        ),
        pytest.param(
            ["2026-01", "2026-03"], {}, {"2026-02"}, [("2026-01", True)], id="not during an earlier month's run"
        ),
        pytest.param(["2026-03"], {}, {"2026-03"}, [], id="not during the month's own run"),
        pytest.param(["2026-03"], {}, {"2026-04"}, [("2026-03", True)], id="a later month's run is no obstacle"),
        pytest.param([], {"2026-03": "set"}, {"2026-01"}, [("2026-03", False)], id="only stale abilities"),
        pytest.param(["2026-03"], {"2026-03": "set"}, (), [("2026-03", True)], id="waiting and stale: one request"),
        pytest.param([], {"2026-03": "set"}, {"2026-03"}, [], id="not during a stale month's run"),
    ],
)
def test_sensor_requests_months_in_order_unless_an_earlier_month_runs(
    waiting: list[str], stale: dict[str, str], under_way: Collection[str], expected: list[tuple[str, bool]]
) -> None:
    found = plan_requests([pending(month) for month in waiting], stale, under_way)
    assert [(ask.month, ask.settle) for ask in found] == expected


def test_run_key_changes_if_and_only_if_the_fit_the_step_or_the_published_set_changes() -> None:
    (first,), (again,) = plan_requests([pending("2026-03")], {}, ()), plan_requests([pending("2026-03")], {}, ())
    (refitted,) = plan_requests([pending("2026-03", fit_id="another")], {}, ())
    (later,) = plan_requests([pending("2026-03", stepped=STEPPED.replace(hour=5))], {}, ())
    assert first.key == again.key
    assert len({first.key, refitted.key, later.key}) == 3
    (old,), (new,) = plan_requests([], {"2026-03": "old"}, ()), plan_requests([], {"2026-03": "new"}, ())
    assert old.key != new.key
