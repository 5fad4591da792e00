"""A new engine requires only a file (`tests/helpers/trial_engine.py`) and a line in the registry; the rest follows from
its spec."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from irt_assets.common.job_names import MONTHLY_JOB
from irt_assets.definitions import build_defs
from irt_assets.engines import registry
from irt_assets.engines.diagnosis import engine_findings
from irt_assets.engines.spec import PythonPackage
from irt_psychometrics import PsychometricsError
from resources.failures import PermanentFailure
from resources.settings import Settings
from tests.helpers import trial_engine
from tests.testbed.patience import patient

ROOT = Path(__file__).parents[2]
IRT = """
import json, sys
from typer.testing import CliRunner
from irt_assets.engines import registry
from tests.helpers.trial_engine import SPEC
registry.ENGINES = (*registry.ENGINES, SPEC)
from irt_assets import cli
done = [CliRunner().invoke(cli.app, words) for words in json.loads(sys.argv[1])]
print(json.dumps([[one.exit_code, one.stdout, one.stderr, str(one.exception)] for one in done]))
"""


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "ENGINES", (*registry.ENGINES, trial_engine.SPEC))


def irt(*commands: list[str]) -> list[tuple[int, str, str, str]]:
    """Run commands with the engine registered. Returns exit code, output, errors and exception of each."""
    program = [sys.executable, "-c", IRT, json.dumps(commands)]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True, timeout=patient(120))
    return [tuple(one) for one in json.loads(done.stdout)]


def test_new_engine_has_an_asset_in_the_month_with_kind_pool_and_check() -> None:
    graph = build_defs(Settings(irt_engines="maths:trial", _env_file=None))
    key = dg.AssetKey("item_calibration_trial")
    node = graph.resolve_asset_graph().get(key)
    assert node.pools == {"trials"}
    assert node.kinds == {"python", "postgres"}
    assert "estimated by the engine `trial`, before linking" in (node.description or "")
    month = graph.resolve_job_def(MONTHLY_JOB).asset_layer
    assert key in month.executable_asset_keys
    assert "trial_fitted" in {check.name for check in month.asset_graph.asset_check_keys}
    without = build_defs(Settings(_env_file=None)).resolve_asset_graph()
    assert key not in without.materializable_asset_keys


def test_settings_and_rules_accept_the_new_engine_and_list_its_name_in_errors() -> None:
    assert registry.enabled_scales(Settings(irt_engines="trial,mirt", _env_file=None)) == {"mirt": None, "trial": None}
    with pytest.raises(PermanentFailure, match="with one of mirt, pymc, brms, trial"):
        registry.enabled_scales(Settings(irt_engines="trail", _env_file=None))
    registry.require_demandable(["trial"])
    with pytest.raises(PsychometricsError, match="engines of em, mirt, pymc, brms, trial, with commas; got 'trail'"):
        registry.require_demandable(["trial", "trail"])


def test_doctor_has_rows_for_the_new_engine_and_for_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")  # starting R takes seconds
    settings = Settings(irt_engines="maths:trial", _env_file=None)
    rows = {one.subject: one for one in engine_findings(settings)}
    assert rows["numpy"].state == "ok"
    assert rows["engine trial"].detail == "fits every month of scale maths, besides em"
    monkeypatch.setattr(PythonPackage, "version", None)
    rows = {one.subject: one for one in engine_findings(settings)}
    assert (rows["numpy"].state, rows["numpy"].fix) == ("absent", "pip install numpy")
    assert rows["engine trial"].state == "error"
    assert "engine trial needs the package numpy: pip install numpy" in rows["engine trial"].detail


def test_command_line_lists_the_new_engine_and_fits_a_file_with_this_engine(tmp_path: Path) -> None:
    file = tmp_path / "answers.csv"
    rows = [[i >> j & 1 for j in range(5)] for i in range(32)] * 3
    file.write_text("\n".join(["a,b,c,d,e", *(",".join(map(str, row)) for row in rows)]))
    refused, found, other_model = irt(
        ["fit", "none.csv", "--engine", "trail"],
        ["fit", str(file), "--engine", "trial", "--model", "1pl", "--json"],
        ["fit", str(file), "--engine", "trial", "--model", "3pl", "--json"],
    )
    assert (refused[0], "'trial'" in refused[2]) == (2, True)
    assert json.loads(found[1])["engine"] == "trial", found
    assert "the trial engine fits 1pl, 2pl; got model '3pl'" in other_model[3]


def test_table_of_engines_in_the_docs_includes_the_new_engine() -> None:
    pages = runpy.run_path(str(ROOT / "docs" / "reference" / "generate.py"))["PAGES"]
    assert "| `trial` | em's, under another name | 1pl, 2pl | this process |" in pages["engine-table.md"]()
