"""Processor seconds of starts, of the process and its children, compared with the goals.

    python -m benchmarks.bench_startup [--base CHECKOUT] [--runs RUNS] [--only PART]

RUNS (default 3) is the number of measurements; the minimum counts, because other load only adds time. CHECKOUT is
another checkout, measured in turn with this one by this interpreter, so that the ratio depends little on other load.
PART is part of the name of the measurements to run. Caches are filled, except for the fit without compiled kernels.

Exit status 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from irt_psychometrics.commands import simulate_responses
from tests.testbed.small_world import last_months, small_world

HERE = Path(__file__).parents[1]
IRT = ("-m", "irt_assets.cli")
WORKER = """
import os, time
import numba
from irt_assets import definitions
from irt_assets.servers.instance import dagster_instance
from resources.postgres.database import Database
from resources.settings import get_settings

def until_a_step_starts(event, **options):
    if event.dagster_event and event.dagster_event.is_step_start:
        print(time.process_time(), flush=True)
        os._exit(0)
    return handle(event, **options)

if os.fork() == 0:
    settings = get_settings()
    with dagster_instance(settings, Database(settings)) as instance:
        handle, instance.handle_new_event = instance.handle_new_event, until_a_step_starts
        definitions.defs.resolve_job_def("inventory").execute_in_process(instance=instance)
os.wait()
"""
"""A run's worker:

a fork of a process that has loaded the graph and numba. It prints its processor time when its first step starts.
"""


@dataclass(frozen=True)
class Start:
    """A measurement: arguments of Python and the goal in seconds.

    Attributes:
        warm: whether it runs once before, as the other checkout may store its caches differently.
        compiles: whether numba's cache is empty.
        says: whether the measured command prints the figure itself.
    """

    name: str
    goal_s: float
    arguments: tuple[str, ...]
    warm: bool = True
    compiles: bool = False
    says: bool = False

    def seconds(self, checkout: Path, environment: dict[str, str]) -> float:
        if self.warm:
            self._run(checkout, environment)
        with tempfile.TemporaryDirectory() as empty:
            return self._run(checkout, environment | ({"NUMBA_CACHE_DIR": empty} if self.compiles else {}))

    def _run(self, checkout: Path, environment: dict[str, str]) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, *self.arguments]
        done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode not in (0, 1) or "Traceback" in done.stderr:
            raise SystemExit(f"{self.name} in {checkout}: {done.stderr}")
        if self.says:
            return float(done.stdout)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    checkouts = [HERE, *([options.base.resolve()] if options.base else [])]
    months, is_fast_enough = last_months(2), True
    print(f"{'':<36}  goal" + "".join(f"{name:>8}" for name in ("here", "base", "ratio")[: 3 * len(checkouts) - 2]))
    with tempfile.TemporaryDirectory() as folder, small_world(Path(folder, "home"), months) as settings:
        simulate_responses(persons=2000, items=50, seed=3).write(Path(folder))
        fit = (*IRT, "fit", str(Path(folder, "responses.csv")))
        starts = (
            Start("irt --help", 0.25, (*IRT, "--help")),
            Start("irt fit, 2000 persons, 50 items", 2.0, fit),
            Start("the same, nothing compiled", 15.0, fit, warm=False, compiles=True),
            Start("import irt_assets.definitions", 2.5, ("-c", "import irt_assets.definitions")),
            Start("irt calibrate, 200 answers an item", 6.0, (*IRT, "calibrate", "--month", months[0]), warm=False),
            Start("irt status", 2.0, (*IRT, "status")),
            Start("a run's worker before its first step", 3.0, ("-c", WORKER), warm=False, says=True),
        )
        own = {"IRT_HOME": str(settings.irt_home), "IRT_FIRST_MONTH": months[0], "IRT_SCHEDULES": "stopped"}
        own |= {"IRT_THREADS": "2"}
        for start in (each for each in starts if options.only in each.name):
            times = [
                [each.seconds(path, os.environ | own | {"PYTHONPATH": str(path)}) for path in checkouts]
                for each in [start] * options.runs
            ]
            least = [min(of_one) for of_one in zip(*times, strict=True)]
            is_fast_enough &= least[0] <= start.goal_s
            ratio = f"{least[0] / least[1]:8.2f}" if options.base else ""
            print(f"{start.name:<36}{start.goal_s:6.2f}" + "".join(f"{s:8.2f}" for s in least) + ratio, flush=True)
    print(f"{'kept' if is_fast_enough else 'not kept'}; load {os.getloadavg()[0]:.1f}")
    return int(not is_fast_enough)


if __name__ == "__main__":
    sys.exit(main())
