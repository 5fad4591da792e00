"""R in a child process: every failure raises an error with its reason, and no process is left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from irt_assets.engines import child
from irt_assets.engines.child import EngineCrashedError, EngineMemoryError, EngineTimeoutError, Limits
from irt_assets.engines.r_process import RStoppedError, call_r
from irt_psychometrics import PsychometricsError
from resources.failures import PermanentFailure, is_transient
from resources.r_runtime import r_runtime
from tests.helpers.what_changed import WHERE_ENGINES_CHANGE
from tests.testbed.machine import lives
from tests.testbed.patience import patient

pytestmark = [pytest.mark.ci, WHERE_ENGINES_CHANGE]

SOURCE = Path(__file__).with_name("r") / "misbehaving.R"


@pytest.fixture(scope="module", autouse=True)
def _r(require):
    require(r_runtime() is not None, "R (apt install r-base-core)")
    require(find_spec("rpy2") is not None, "rpy2 (make venv, where R is)")


@pytest.fixture(autouse=True)
def _nothing_is_left():
    before = psutil.Process().children(recursive=True)  # servers of the session
    yield
    assert [child for child in psutil.Process().children(recursive=True) if child not in before] == []


def call(function, limits=None, **argument):
    return call_r(function, argument, limits=limits or Limits(120), source=SOURCE)


def test_values_are_returned_by_r_unchanged():
    sent = {"text": ["a", "ü"], "whole": [1, 2], "real": [0.1, 1e300], "yes": True, "nested": {"one": 1.5}}
    assert call("echo", **sent) == sent


def test_missing_numbers_are_returned_as_missing():
    assert call("echo", real=[0.5, None])["real"] == [0.5, None]


def test_versions_are_reported_for_r_and_every_package():
    found = call_r("irt_versions", {})
    assert found["R"] == r_runtime().version
    assert set(found) == {"R", "mirt", "brms", "rstan", "eRm"}


def test_errors_of_r_are_raised_with_their_message():
    with pytest.raises(RStoppedError, match="R stopped: no such luck: today") as raised:
        call("stopping", word="today")
    assert isinstance(raised.value, PermanentFailure)
    assert not is_transient(raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "4pl"}, "model: must be one of rasch, 1pl, 2pl, 3pl; got 4pl"),
        ({"item": [0, 7]}, "item: must lie between 0 and 1, got 7 at position 2"),
        ({"person": [0, 0], "item": [1, 1]}, "person 0 has two answers to item y"),
        ({"item_ids": ["x", "x"]}, "item_ids: x is named twice"),
        ({"score": [1]}, "must have the same length, got 2, 2 and 1"),
        ({"score": []}, "must have the same length, got 2, 2 and 0"),
        ({"item": [0.5, 1]}, "item: must be whole numbers"),
        ({"anchors": {"item_ids": ["z"], "a": [1], "d": [0], "c": [0]}}, "anchors: z is not among item_ids"),
        ({}, "only 0 items have both correct and wrong answers"),
    ],
)
def test_invalid_requests_are_refused_with_the_field(change, message):
    request = {
        "engine": "mirt",
        "model": "2pl",
        "item_ids": ["x", "y"],
        "n_persons": 2,
        "person": [0, 1],
        "item": [0, 1],
        "score": [1, 0],
    }
    with pytest.raises(PsychometricsError, match=message):
        call_r("irt_calibrate", request | change)


@pytest.mark.parametrize(
    ("number", "message"), [(signal.SIGSEGV, r"crashed \(SIGSEGV\)"), (signal.SIGKILL, "killed from outside")]
)
def test_crashes_of_r_are_raised_with_their_signal(number, message):
    with pytest.raises(EngineCrashedError, match=message):
        call("crashing", signal=int(number))


@pytest.mark.parametrize("status", [7, 0])
def test_r_fails_for_any_exit_code_if_no_answer_was_written(status):
    with pytest.raises(EngineCrashedError, match=f"ended with code {status} and no answer"):
        call("quitting", status=status)


def test_answers_of_a_program_that_then_crashed_are_rejected(tmp_path):
    program = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text('{}'); print('late'); sys.exit(3)"
    answer = tmp_path / "answer"
    with pytest.raises(EngineCrashedError, match=r"then ended with code 3.*its last output: late"):
        child.run(
            [sys.executable, "-c", program, str(answer)],
            name="It",
            answer=answer,
            log=tmp_path / "log",
            limits=Limits(),
        )


def test_r_is_stopped_with_a_reason_if_memory_exceeds_the_limit():
    with pytest.raises(EngineMemoryError, match=r"R used .* GiB of memory and may use 0\.4"):
        call("hoarding", Limits(120, memory=int(0.4 * child.GIB)))


def test_failed_allocations_in_r_raise_a_memory_error():
    with pytest.raises(EngineMemoryError, match="cannot allocate"):
        call("asking_too_much")


def test_fit_in_r_is_stopped_at_the_time_limit(monkeypatch, tmp_path):
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))
    began = time.monotonic()
    with pytest.raises(EngineTimeoutError, match="had not ended after 6 seconds"):
        call("endless", Limits(6))
    # six seconds, one grace period, and the slowness of a loaded machine
    assert time.monotonic() - began < 6 + child.TERM_SECONDS + patient(5)


PARENT = """
import signal, sys
from pathlib import Path
from irt_assets.engines.r_process import call_r
# a shell that starts programs in the background lets them ignore interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)
call_r("endless", {}, source=Path(sys.argv[1]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_r_and_its_helpers_end_if_the_worker_is_interrupted_or_killed(number, tmp_path):
    """R ignores interrupts during a computation, and after a SIGKILL the worker cannot end R itself."""
    mark = tmp_path / "mark"
    worker = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(SOURCE)],
        env={**os.environ, "MARK": str(mark)},
        stderr=subprocess.DEVNULL,
    )
    try:
        started = time.monotonic()
        while not (mark.exists() and mark.read_text().strip()):
            assert worker.poll() is None
            assert time.monotonic() - started < patient(60)
            time.sleep(0.1)
        pids = [int(mark.read_text()), int(Path(f"{mark}.helper").read_text())]
        assert all(map(lives, pids))
        worker.send_signal(number)
        worker.wait(patient(30))
        gone_by = time.monotonic() + patient(30)
        while any(map(lives, pids)):
            assert time.monotonic() < gone_by, "R outlived its worker"
            time.sleep(0.1)
    finally:
        worker.kill()
        worker.wait()
