"""A backfill while its processes are killed at random: a short version of `benchmarks/kill_backfill.py`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from dagster import DagsterRunStatus, RunsFilter

from tests.helpers.rooms import rows
from tests.testbed import kills
from tests.testbed.patience import patient
from tests.testbed.small_world import last_months, small_world
from tests.testbed.stack_harness import running_stack

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("kills")]

KILLS = 3
RUNS_TOLD = "SELECT partition FROM alert WHERE starts_with(key, 'run ')"
WHOLE_WITHIN_S = 600.0
"""A minute on an idle machine; other processes may take most of it."""


@pytest.mark.timeout(patient(2 * WHOLE_WITHIN_S))
def test_killed_months_are_repeated_without_a_persons_request(tmp_path: Path) -> None:
    """Earlier, a killed code server failed the whole backfill, and a killed worker its month, until a person
    intervened."""
    months = last_months(2)
    expected = kills.undisturbed(tmp_path / "undisturbed", months)
    with (
        small_world(tmp_path / "killed", months) as settings,
        running_stack(settings, "irt_assets.definitions") as stack,
    ):
        made, requests = kills.kill_while_backfilling(stack, months, KILLS, random.Random(3), (1.0, 4.0))
        kills.until_whole(stack, months, requests, WHOLE_WITHIN_S)
        shown_states = kills.states_by_status(stack)
        assert kills.left_behind(stack) == []
        assert kills.differences(kills.rows_of_months(stack.database), expected) == {}
        assert {month: shown_states[month][0] for month in months} == dict.fromkeys(months, "green")

        failed = stack.instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.FAILURE]))
        killed_for_good = {run.tags[kills.PARTITION_TAG] for run in failed if run.tags["dagster/will_retry"] == "false"}
        assert requests.again <= killed_for_good  # runs that the daemon repeats are not requested again
        assert requests.stale <= set(months[1:])  # fitted before the first month, which was repeated
        assert {partition for (partition,) in rows(stack.database, RUNS_TOLD)} <= killed_for_good
    print(f"{len(made)} kills: {[' + '.join(kill.kind) for kill in made]}, {len(failed)} runs failed")
