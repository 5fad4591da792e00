"""The worker of a run is forked from a process that has loaded the graph, and ends with this process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.launching.launcher import WORKER_OOM_SCORE_ADJ
from tests.testbed.patience import patient

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a worker is not forked from what is loaded")

PROGRAM = """
import atexit, json, multiprocessing, os, signal, sys, threading
from pathlib import Path

import psutil

from irt_assets.servers import run_workers
from resources import dagster_compat

loaded = []
context = multiprocessing.get_context("forkserver")

def executes(told, may_end):
    atexit.register(lambda: print("spans are sent", flush=True))
    files = [each.readlink() for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    told.put({
        "loaded": loaded,
        "computes": "numba" in sys.modules,
        "score": Path("/proc/self/oom_score_adj").read_text().strip(),
        "hangs up": signal.getsignal(signal.SIGHUP) is signal.SIG_DFL,
        "open": [str(file) for file in files if "opened" in file.name],
    })
    may_end.wait()

dagster_compat.start_run_in_subprocess = executes

def alive():
    below = psutil.Process().children(recursive=True)
    return [each for each in below if each.name() == run_workers.NAME]

def launched():
    told, may_end = context.Queue(), context.Event()
    arguments = [run_workers.prepare_worker, told, may_end]
    worker = context.Process(target=dagster_compat.execute_started_run, args=arguments)
    worker.start()
    return worker, told.get(), may_end

if __name__ == "__main__":
    signal.signal(signal.SIGHUP, lambda *_: None)
    loaded.append("the graph")
    run_workers.fork_worker_server()
    loaded.append("a later one")
    later = open("opened later", "w")

    worker, said, may_end = launched()
    (found,) = alive()
    may_end.set()
    worker.join()
    said["found"], said["ended"] = found.pid == worker.pid, worker.exitcode

    worker, *_ = launched()
    (found,) = alive()
    found.parent().kill()
    found.wait()
    said["found afterwards"] = [each.pid for each in alive()]
    worker, _, may_end = launched()
    may_end.set()
    worker.join()
    said["ended afterwards"] = worker.exitcode
    print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the output of a program that forks workers as the code server does."""
    folder = tmp_path_factory.mktemp("workers")
    (folder / "program.py").write_text(PROGRAM)
    with (folder / "opened before it starts").open("w") as lock:
        done = subprocess.run(
            [sys.executable, "program.py"],
            env={
                **os.environ,
                "IRT_CODE_SERVER_SOCKET": "code-server.sock",
                "PYTHONPATH": str(Path(__file__).parents[2]),
            },
            cwd=folder,
            pass_fds=[lock.fileno()],
            capture_output=True,
            text=True,
            timeout=patient(60),
        )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_worker_inherits_loaded_modules_but_no_files_or_signal_handlers(messages: list[str]) -> None:
    state = json.loads(messages[-1])
    assert (state["loaded"], state["open"], state["hangs up"]) == (["the graph"], [], True)


def test_worker_inherits_imported_numba(messages: list[str]) -> None:
    """The code server itself does not use numba, whose import takes half a second."""
    assert json.loads(messages[-1])["computes"]


def test_worker_is_the_preferred_victim_if_memory_runs_out(messages: list[str]) -> None:
    assert json.loads(messages[-1])["score"] == WORKER_OOM_SCORE_ADJ


def test_running_worker_is_found_and_calls_exit_handlers_at_its_end(messages: list[str]) -> None:
    state = json.loads(messages[-1])
    assert (state["found"], state["ended"]) == (True, 0)
    assert messages[0] == "spans are sent"


def test_worker_ends_if_its_parent_is_killed_and_later_workers_are_forked_again(messages: list[str]) -> None:
    """The code server considers the worker dead then, and Dagster repeats its run."""
    state = json.loads(messages[-1])
    assert (state["found afterwards"], state["ended afterwards"]) == ([], 0)
