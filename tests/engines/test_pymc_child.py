"""The pymc engine in a child process: the same results and errors, and readable errors if the child fails."""

from __future__ import annotations

import io
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from irt_assets.engines import Sampler
from irt_assets.engines.child import EngineCrashedError, EngineTimeoutError
from irt_assets.engines.pymc_child import PymcInChild
from irt_assets.engines.pymc_engine import Posterior, PymcEngine
from irt_assets.engines.registry import build, obstacle
from irt_psychometrics import PsychometricsError
from irt_psychometrics.responses import Responses
from resources.settings import Settings
from tests.helpers.what_changed import WHERE_ENGINES_CHANGE
from tests.testbed.patience import patient

pytestmark = [pytest.mark.ci, WHERE_ENGINES_CHANGE]

QUICK = {"draws": 50, "tune": 50, "chains": 2}


@dataclass
class StoringEngine(PymcEngine):
    """Engine that writes its results to `kept`."""

    kept: Path = Path()

    def sample(self, *args: Any, **kwargs: Any) -> Posterior:
        found = super().sample(*args, **kwargs)
        self.kept.write_bytes(pickle.dumps((found.calibration, found.to_parquet(), found.diagnostics.max_rhat)))
        return found


class SegfaultingEngine(PymcEngine):
    def sample(self, *args: Any, **kwargs: Any) -> Any:
        os.kill(os.getpid(), signal.SIGSEGV)


class FailingEngine(PymcEngine):
    def sample(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("something nobody foresaw")


class HangingEngine(PymcEngine):
    def sample(self, *args: Any, **kwargs: Any) -> Any:
        time.sleep(600)


@pytest.fixture(autouse=True)
def pymc(require: Callable[[bool, str], None]) -> None:
    require(obstacle("pymc", Settings(_env_file=None)) is None, "engine pymc")


@pytest.fixture(scope="module")
def responses() -> Responses:
    rng = np.random.default_rng(1)
    theta, b = rng.normal(size=300), np.linspace(-1, 1, 6)
    return Responses.from_wide((rng.random((300, 6)) < 1 / (1 + np.exp(b - theta[:, None]))).astype(float))


@pytest.fixture
def reads_this_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the child process import this module's engines."""
    here = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(here))


def test_first_import_of_arviz_passes_under_the_filters_of_warnings(tmp_path: Path) -> None:
    """arviz warns on its first import per day, and stores the day in the user's cache."""
    (tmp_path / "test_import.py").write_text("def test_arviz():\n    import arviz\n")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "pyproject.toml", str(tmp_path)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "nothing yet")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_registry_builds_the_pymc_engine_in_a_child() -> None:
    engine = build("pymc", Settings(irt_engine_timeout_minutes=1, _env_file=None))
    assert isinstance(engine, PymcInChild)
    assert isinstance(engine, Sampler)
    assert engine.timeout_s == 60


def test_child_returns_the_engines_calibration_and_draws(
    responses: Responses, tmp_path: Path, reads_this_module: None
) -> None:
    """The child samples once, because draws of two processes differ if a kernel's last bit differs."""
    kept = tmp_path / "posterior"
    drawn = PymcInChild(StoringEngine(**QUICK, kept=kept)).draw(responses, model="2pl", data_hash="hash")
    calibration, parquet, max_rhat = pickle.loads(kept.read_bytes())
    assert drawn.calibration.a.tolist() == calibration.a.tolist()
    assert drawn.calibration.data_hash == calibration.data_hash == "hash"
    assert drawn.parquet == parquet
    assert drawn.sampling["max_rhat"] == max_rhat
    table = pq.read_table(io.BytesIO(drawn.parquet)).to_pandas()
    assert len(table) == 2 * 50 * responses.n_items
    means = table.groupby("item_id", observed=True)["a"].mean()
    assert means.loc[list(responses.item_ids)].to_numpy() == pytest.approx(drawn.calibration.a)


def test_refusals_of_the_engine_raise_its_error_in_the_parent() -> None:
    disconnected = np.full((200, 6), np.nan)
    rng = np.random.default_rng(2)
    disconnected[:100, :3], disconnected[100:, 3:] = rng.integers(0, 2, (100, 3)), rng.integers(0, 2, (100, 3))
    with pytest.raises(PsychometricsError, match="2 groups"):
        PymcInChild(PymcEngine(**QUICK)).calibrate(Responses.from_wide(disconnected), model="2pl", data_hash="")


@pytest.mark.parametrize(
    ("engine", "seconds", "error", "message"),
    [
        (SegfaultingEngine(), patient(60), EngineCrashedError, "engine pymc crashed .SIGSEGV"),
        (FailingEngine(), patient(60), EngineCrashedError, "RuntimeError: something nobody foresaw"),
        (HangingEngine(), 5, EngineTimeoutError, "engine pymc had not ended after 5 seconds"),
    ],
    ids=["crash", "fault", "hang"],
)
def test_child_failures_raise_errors_with_a_reason(
    responses: Responses,
    engine: PymcEngine,
    seconds: float,
    error: type[Exception],
    message: str,
    reads_this_module: None,
) -> None:
    with pytest.raises(error, match=message):
        PymcInChild(engine, timeout_s=seconds).calibrate(responses, model="2pl", data_hash="")
