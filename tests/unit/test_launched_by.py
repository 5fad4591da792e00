"""The tag of a queued run with the verified name of the person who launched it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from jobs.launching.launched_by import CALLER_HEADER, LAUNCHED_BY, NamingRunCoordinator, tags_of_backfill
from resources.dagster_compat import PARENT_BACKFILL_ID_TAG
from tests.helpers.dagster_private import create_run_for_test


@pytest.mark.parametrize(("of_backfill", "expected"), [({}, "ann"), ({PARENT_BACKFILL_ID_TAG: "first"}, "")])
def test_runs_have_the_name_of_their_backfills_launcher_unless_the_backfill_is_a_repeat(
    of_backfill: dict[str, str], expected: str
) -> None:
    """The daemon launches these runs. A repeated backfill has the tags of the first backfill, whoever repeats it."""
    tags = tags_of_backfill({CALLER_HEADER: json.dumps("ann")}) | of_backfill
    with dg.DagsterInstance.ephemeral() as instance:
        coordinator = NamingRunCoordinator()
        coordinator.register_instance(instance)
        run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED, tags=tags)
        by_the_daemon: Any = SimpleNamespace(dagster_run=run, workspace=None, get_request_header=lambda _: None)
        assert coordinator.submit_run(by_the_daemon).tags[LAUNCHED_BY] == expected


def test_backfill_has_no_name_without_a_login() -> None:
    assert tags_of_backfill({"x-user": "zoe"}) == {}
