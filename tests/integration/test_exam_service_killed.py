"""An exam service goes on while API, daemon and PostgreSQL are killed, at the turn of a year."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.testbed.patience import patient
from tests.testbed.stack_harness import ROOT

SETTING_UP_S = 60
"""Until the world is made, on an idle machine; a turn of the year that comes sooner is an error."""


@pytest.mark.long
@pytest.mark.xdist_group("exam service")
@pytest.mark.timeout(patient(2400))
@pytest.mark.parametrize(("seconds", "kills"), [(60, 1), (600, 3)])
def test_every_acknowledged_answer_is_there_once_and_theta_is_the_batchs(seconds: int, kills: int) -> None:
    before = patient(SETTING_UP_S) + seconds / 2
    command = [sys.executable, "-m", "tests.helpers.new_year", f"{before:.0f}", sys.executable]
    command += ["-m", "tests.testbed.exam_service", "--seconds", f"{seconds}", "--kills", f"{kills}"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(ran.stdout)
    assert ran.returncode == 0, ran.stderr[-3000:]
