"""Buttons that recompute stale months and evaluate the invariants: once for any number of clicks, under a name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from htmltools import TagList

from irt_assets.blocks import Paragraph, html
from irt_assets.common.job_names import INVARIANTS_JOB, MONTHLY_JOB
from irt_assets.common.partitions import DAYS
from irt_assets.common.probes import DAEMONS
from irt_assets.common.run_progress import PARTITION_TAG, partitions_under_way
from irt_assets.gates.month_classification import MonthState, State
from irt_assets.runs import queue
from jobs.launching.launched_by import LAUNCHED_BY
from resources.failures import TransientFailure
from resources.settings import Settings
from services.dashboard import decisions, rematerialising
from services.dashboard.data_access import Reader
from services.dashboard.login import DEMO
from services.dashboard.page import ViewRequest
from services.dashboard.release_status import next_step
from tests.helpers.dagster_private import DaemonHeartbeat, create_run_for_test
from tests.helpers.sentences import missing_sentences

MONTHS = ["2026-08", "2026-09", "2026-10"]
STALE = [MonthState(month, "default", State.STALE, "decided, to be made again: x") for month in MONTHS]


@pytest.fixture
def refusals() -> list[Exception]:
    """Failures that the code server raises; empty at first."""
    return []


def beat(instance: dg.DagsterInstance, at: datetime) -> None:
    """A heartbeat of every part of the daemon."""
    for kind in DAEMONS:
        instance.add_daemon_heartbeat(DaemonHeartbeat(at.timestamp(), kind, "d", []))


@pytest.fixture
def request_page(
    settings: Settings, database: object, refusals: list[Exception], monkeypatch: pytest.MonkeyPatch
) -> Iterator[ViewRequest]:
    """A page of someone who may decide, on stale months, with a daemon."""
    with dg.DagsterInstance.ephemeral() as instance:

        def states(_database: object, _instance: object, months: list[str]) -> list[MonthState]:
            running = partitions_under_way(instance, MONTHLY_JOB, ())
            return [
                replace(one, state=State.RUNNING if one.month in running else State.STALE)
                for one in STALE
                if one.month in months
            ]

        def queued(_i: object, _workspace: Path, _location: str, job: str, tags: Mapping[str, str], **_: object) -> str:
            for refusal in refusals:
                raise refusal
            return create_run_for_test(instance, job, status=dg.DagsterRunStatus.STARTED, tags=dict(tags)).run_id

        monkeypatch.setattr(queue, "month_states", states)
        monkeypatch.setattr(queue, "queue_run", queued)
        beat(instance, datetime.now(UTC))
        yield ViewRequest("months", {}, replace(DEMO, sub="Ann"), Reader(settings, instance))


def runs(page: ViewRequest) -> list[tuple[str, str]]:
    return sorted((run.tags[PARTITION_TAG], run.tags[LAUNCHED_BY]) for run in page.reader.instance.get_runs())


def test_stale_month_is_queued_once_if_requested_repeatedly(request_page: ViewRequest) -> None:
    assert decisions.queue_months(request_page, MONTHS[:1]).sentences == ("2026-08: requested by Ann.",)
    assert runs(request_page) == [("2026-08", "Ann")], "only the month that was named"
    second = decisions.queue_months(request_page, MONTHS)
    assert (second.ok, second.sentences) == (True, ("2026-09 and 2026-10: requested by Ann.",))
    assert decisions.queue_months(request_page, MONTHS).sentences == ("Every month is already queued or computed.",)
    assert runs(request_page) == [(month, "Ann") for month in MONTHS]


def test_response_to_the_button_links_to_the_runs_and_announces_a_reload(request_page: ViewRequest) -> None:
    response = str(rematerialising._outcome_text(request_page, decisions.queue_months(request_page, MONTHS[:1])))
    assert not missing_sentences(
        response, "2026-08: requested by Ann.", "/jobs/monthly_calibration/runs", "this page loads again"
    )


@pytest.mark.parametrize(("roles", "may"), [("viewer", False), ("analyst", False), ("operator", True)])
def test_recomputation_needs_the_role_that_decides(request_page: ViewRequest, roles: Any, may: bool) -> None:
    of_role = replace(request_page, identity=replace(request_page.identity, roles=(roles,)))
    assert decisions.queue_months(of_role, MONTHS).ok is may
    assert bool(runs(request_page)) is may
    assert ("needs the role psychometrician" in str(rematerialising.button_place(of_role))) is not may


def test_evaluation_is_queued_once_until_its_run_has_ended(request_page: ViewRequest) -> None:
    instance, ben = request_page.reader.instance, replace(request_page.identity, sub="Ben")
    days = DAYS.last_keys(datetime.now(UTC), 1)
    first = decisions.queue_evaluation(request_page)
    second = decisions.queue_evaluation(replace(request_page, identity=ben))
    days += DAYS.last_keys(datetime.now(UTC), 1)  # midnight may have passed meanwhile
    (run,) = instance.get_runs()
    assert (first.run_id, second.run_id, run.job_name) == (run.run_id, run.run_id, INVARIANTS_JOB)
    assert run.tags[PARTITION_TAG] in days
    assert run.tags[LAUNCHED_BY] == "Ann"
    response = str(rematerialising._outcome_text(request_page, second))
    assert not missing_sentences(response, "is queued or under way.", f'/runs/{run.run_id}"', "this page loads again")
    instance.report_run_canceled(run)
    assert decisions.queue_evaluation(request_page).run_id != run.run_id
    assert len(instance.get_runs()) == 2


def test_evaluation_needs_the_role_that_decides_and_a_daemon(request_page: ViewRequest) -> None:
    viewer = replace(request_page, identity=replace(request_page.identity, roles=("viewer",)))
    assert decisions.queue_evaluation(viewer).ok is False
    place = str(rematerialising.button_place(viewer, "Evaluating the invariants"))
    assert "Evaluating the invariants needs the role psychometrician." in place
    beat(request_page.reader.instance, datetime.now(UTC) - timedelta(hours=1))
    assert decisions.queue_evaluation(request_page).sentences == ("no daemon runs.",)
    assert request_page.reader.instance.get_runs() == []


def test_months_are_not_queued_without_a_daemon_or_code_server(
    request_page: ViewRequest, refusals: list[Exception]
) -> None:
    refusals.append(TransientFailure("the code server does not answer"))
    assert decisions.queue_months(request_page, MONTHS).sentences == ("the code server does not answer.",)
    beat(request_page.reader.instance, datetime.now(UTC) - timedelta(hours=1))
    assert "no daemon runs" in decisions.queue_months(request_page, MONTHS).sentences[0]
    assert runs(request_page) == []


@pytest.mark.parametrize(
    ("months", "alive", "message"),
    [
        (MONTHS, True, "Recompute 2026-08 … 2026-10"),
        (["2026-08", "2026-10"], True, "Recompute 2026-08 and 2026-10"),
        (MONTHS[:1], True, "Recompute 2026-08"),
        (MONTHS, False, "irt backfill --from 2026-08 --to 2026-10"),
    ],
)
def test_button_names_its_months_or_the_command(months: list[str], alive: bool, message: str) -> None:
    shown = str(TagList(rematerialising._months_button(months, daemon_alive=alive)))
    assert message in shown
    assert ("<button" in shown) is alive


def test_next_step_of_a_stale_month_links_to_the_button() -> None:
    assert "?view=month&amp;month=2026-08" in html.part(Paragraph(next_step(STALE[0], 0)))
