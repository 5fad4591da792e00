"""`irt export month`: the answers and parameters of a month's fit, and scripts that reproduce the fit."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from irt_assets.decisions.month_export import write_month
from irt_assets.ledger.cited_fits import calibration_of, constants_of
from resources.failures import PermanentFailure
from resources.postgres.database import Database
from tests.helpers import rooms
from tests.helpers.rooms import SCALE, call
from tests.helpers.sentences import missing_sentences

MONTH = rooms.MONTHS[0]
WITH_MIRT = "suppressMessages({library(mirt); library(jsonlite)})"


@pytest.fixture
def folder(months: Database, tmp_path: Path) -> Path:
    call(months, write_month, rooms.folder_store(months.settings), SCALE, MONTH, tmp_path)
    return tmp_path


def largest_difference(command: str, script: Path) -> float:
    done = subprocess.run([command, script.name], cwd=script.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return float(re.findall(r"largest difference of a parameter: (\S+)", done.stdout)[0])


def test_python_script_of_an_exported_month_reproduces_its_parameters(months: Database, folder: Path) -> None:
    assert largest_difference(sys.executable, folder / "reproduce.py") < 1e-4
    settings = json.loads((folder / "settings.json").read_text())
    fit = call(months, calibration_of, settings["fit"])
    known = pd.read_csv(folder / "parameters.csv").set_index("item").loc[list(fit.item_ids)]
    np.testing.assert_allclose(known.raw_a, fit.a, rtol=1e-12)
    np.testing.assert_allclose(known.mirt_d, fit.d, rtol=1e-9)
    constants = call(months, constants_of, [settings["fit"]])[settings["fit"]]
    np.testing.assert_allclose(known.a, fit.a / constants.slope, rtol=1e-9)
    np.testing.assert_allclose(known.b, constants.slope * fit.b + constants.intercept, rtol=1e-9)
    answers = pd.read_csv(folder / "responses.csv", dtype={"item": str})
    keys = {key for (key,) in rooms.rows(months, "SELECT learner_key FROM learner")}
    assert list(answers.columns) == ["learner_key", "item", "score"]
    assert (len(answers), set(answers.learner_key) <= keys) == (fit.n_responses, True)


def test_python_script_fails_if_an_answer_was_changed(folder: Path) -> None:
    answers = pd.read_csv(folder / "responses.csv")
    answers["score"] = np.where(answers.index % 50 == 0, 1 - answers["score"], answers["score"])
    answers.to_csv(folder / "responses.csv", index=False)
    done = subprocess.run([sys.executable, folder / "reproduce.py"], capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)


@pytest.mark.ci
def test_r_script_of_an_exported_month_reproduces_its_parameters(folder: Path) -> None:
    if not shutil.which("Rscript") or subprocess.run(["Rscript", "-e", WITH_MIRT], check=False).returncode:
        pytest.skip("R's mirt and jsonlite are not installed")
    assert largest_difference("Rscript", folder / "reproduce.R") < 1e-4


def test_month_without_a_fit_and_unknown_scales_are_refused(months: Database, tmp_path: Path) -> None:
    for scale, month, said in (
        (SCALE, "2019-01", "2019-01 has no stored fit of scale"),
        ("other", MONTH, "scale other has no origin yet"),
    ):
        with pytest.raises(PermanentFailure) as caught:
            call(months, write_month, rooms.folder_store(months.settings), scale, month, tmp_path / "refused")
        assert not missing_sentences(str(caught.value), said)
    assert not (tmp_path / "refused").exists()
