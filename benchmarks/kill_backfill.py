"""A backfill of twelve months while its daemon, its code server and its run workers are killed at random.

    python -m benchmarks.kill_backfill [--months 12] [--kills 50] [--seed 1] [--pause 2 8] [--json FILE]

There are two equal small worlds. The months of the first are calibrated one after another; processes of the second's
backfill are killed with SIGKILL. Then the rows of each month are compared. This takes ten minutes on two idle cores.
Exit status 1 if a month is incomplete, something is left behind, or `irt status` disagrees. `tests/testbed/kills.py`
contains the kills and the checks.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from dagster import DagsterEventType, DagsterRunStatus

from resources.dagster_compat import PARENT_RUN_ID_TAG
from tests.testbed import kills
from tests.testbed.small_world import last_months, small_world
from tests.testbed.stack_harness import Harness, running_stack

GRAPH = "irt_assets.definitions"
WHOLE_WITHIN_S = 3600.0


@dataclass(frozen=True)
class Story:
    """Outcome of the runs: their number by final status, and seconds until a killed run was marked as failed."""

    runs: dict[str, int]
    failed_after: list[float]
    repeated: int
    never_seen: int


def story(stack: Harness, kills_made: Sequence[kills.Kill]) -> Story:
    """Summarise the runs. `never_seen`: failed runs without a kill of a worker that had reported its id."""
    killed = {pid: kill.at for kill in kills_made if "worker" in kill.kind for pid in kill.pids}
    counts: dict[str, int] = defaultdict(int)
    after, repeated, unseen = [], 0, 0
    for run in stack.instance.get_runs():
        counts[run.status.value] += 1
        repeated += PARENT_RUN_ID_TAG in run.tags
        if run.status is not DagsterRunStatus.FAILURE:
            continue
        events = stack.instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT)
        values = [e.get_dagster_event().engine_event_data.metadata.get("pid") for e in events]
        times = [killed[pid] for value in values if value is not None and (pid := int(str(value.value))) in killed]
        ends = [e.timestamp for e in stack.instance.all_logs(run.run_id, of_type=DagsterEventType.RUN_FAILURE)]
        if times and ends:
            after.append(ends[0] - times[0])
        else:
            unseen += 1
    return Story(dict(counts), sorted(after), repeated, unseen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--months", type=int, default=12)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pause", type=float, nargs=2, default=(2.0, 8.0), help="seconds between two kills")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    months = last_months(arguments.months)
    home = Path(tempfile.mkdtemp(prefix="kill-backfill-"))

    expected = kills.undisturbed(home / "undisturbed", months)
    print("the undisturbed world is made", flush=True)
    with small_world(home / "killed", months) as settings, running_stack(settings, GRAPH) as stack:
        began = time.monotonic()
        rng = random.Random(arguments.seed)
        kills_made, requests = kills.kill_while_backfilling(stack, months, arguments.kills, rng, tuple(arguments.pause))
        killing_s = time.monotonic() - began
        print(f"{len(kills_made)} kills in {killing_s:.0f} s", flush=True)
        kills.until_whole(stack, months, requests, WHOLE_WITHIN_S)
        whole_s = time.monotonic() - began
        rows = kills.rows_of_months(stack.database)
        status = kills.states_by_status(stack)
        runs, behind = story(stack, kills_made), kills.left_behind(stack)

    differ = kills.differences(rows, expected)
    figures: dict[str, Any] = {
        "kills": {" + ".join(kind): n for kind, n in Counter(kill.kind for kill in kills_made).most_common()},
        "seconds of killing": round(killing_s),
        "seconds until whole": round(whole_s),
        "runs": runs.runs,
        "runs repeated by the daemon": runs.repeated,
        "seconds from a worker's death to its run's failure": _spread(runs.failed_after),
        "runs that failed otherwise": runs.never_seen,
        "backfills asked for, by months": [len(m) for m in requests.months],
        "backfills ended": requests.ended,
        "months asked for again by hand": sorted(requests.again),
        "months asked for again as stale": sorted(requests.stale),
        "months that differ from the undisturbed": differ,
        "left behind": behind,
        "irt status": dict(Counter(state for state, _ in status.values())),
    }
    for name, value in figures.items():
        print(f"{name}: {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))
    sys.exit(bool(differ or behind) or {state for state, _ in status.values()} != {"green"})


def _spread(seconds: list[float]) -> str:
    return f"median {median(seconds):.1f}, longest {max(seconds):.1f}, of {len(seconds)}" if seconds else "none"


if __name__ == "__main__":
    main()
