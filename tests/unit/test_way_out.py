"""Wrong inputs that people have typed: each message names the right input."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_group
from typer.testing import CliRunner

from irt_assets.cli import app
from irt_assets.cli.servers import run_app
from irt_assets.intake.library_files import FILES
from irt_assets.scales.rules import Rules
from irt_assets.servers import SERVERS
from irt_psychometrics import PsychometricsError
from resources.failures import PermanentFailure
from resources.settings import get_settings
from tests.helpers.written_commands import fault_of_irt

ROOT = Path(__file__).parents[2]
PRODUCT = ("irt_assets", "jobs", "resources", "services", "packages/irt-psychometrics/irt_psychometrics")
TYPED = {
    "scale lists": "There are: accept, decisions, init, list, movement, pass-mark, set, show.",
    "dashboard": "To start this server: irt run dashboard; without a login, on this machine only: irt run dashboard "
    "--demo",
    "theta-api": "To start this server: irt run theta-api",
    "report 2026-10": "For one month: irt report drift --month 2026-10",
    "report foo": "There are: drift, form, items, learner.",
    "status 2026-09": "(2026-09). For one month: irt report drift --month 2026-09",
}


@pytest.mark.parametrize("typed", TYPED)
def test_error_for_an_unknown_command_lists_existing_commands(typed: str) -> None:
    done = CliRunner().invoke(app, typed.split())
    assert done.exit_code == 2
    assert TYPED[typed] in " ".join(done.output.replace("│", " ").split())


def test_commands_and_options_that_messages_recommend_exist() -> None:
    written, faults = 0, []
    for path in (path for folder in PRODUCT for path in (ROOT / folder).rglob("*.py")):
        text = re.sub(r'"\s*\n\s*f?"', "", path.read_text("utf-8"))  # a literal over several lines
        for command in re.findall(r"`irt ([^`\n{]+)`", text):
            written += 1
            fault = fault_of_irt(command.split())
            if "No such" in fault and command != "run NAME":
                faults.append(f"{path.name}: {fault}")
    assert written > 100
    assert faults == []


def test_servers_in_hints_equal_the_servers_that_irt_run_starts() -> None:
    commands = get_group(run_app).commands
    assert {*commands} == {*SERVERS, "worker"}


def test_error_for_a_misspelt_rule_names_the_intended_rule() -> None:
    with pytest.raises(PsychometricsError, match=r"no such rule: minresponses; did you mean min_responses\?"):
        Rules.from_settings({"minresponses": 300})


def test_error_for_a_setting_that_is_not_a_month_shows_a_month(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IRT_HOME", str(tmp_path))
    monkeypatch.setenv("IRT_FIRST_MONTH", "2026")
    get_settings.cache_clear()
    with pytest.raises(PermanentFailure, match=r"^setting IRT_FIRST_MONTH: must be a month, such as 2026-07$"):
        get_settings()
    get_settings.cache_clear()


CELLS = {
    "points": (
        "q1,q2\n1,4\n4,2\n",
        "",
        r"Use `--max-score 4` if cells up to 4 are scores, and `--key FILE` if",
    ),
    "points of two kinds": (
        "q1,q2\n1,4\n3,2\n",
        "",
        r"table item,max_score with each item's maximum \(cells reach q1,3, q2,4\), or `--max-score 4` if it is the",
    ),
    "covariates": (
        "sex,q1,q2\nm,2,0\nf,0,1\n",
        "",
        r"item q1: score '2'. If they are scores, give `--max-score FILE`, a table item,max_score .* reach q1,2\)",
    ),
    "marks taken off": (
        "q1,q2\n1,-0.25\n0,1\n",
        "",
        r"use `--marks-off 0.25`; if it means no answer, use `--missing=-0.25`",
    ),
    "list without scores": ("id,item,trial\na,q1,0\na,q2,0\n", "", r"name the column of scores score or correct"),
    "one wrong cell": ("q1,q2\n1,0\nx,1\n", "", r"line 3, item q1: score 'x'.* A file of answers is a matrix"),
}


@pytest.mark.parametrize("case", CELLS)
def test_error_for_cells_that_are_not_scores_gives_their_likely_meaning(case: str, tmp_path: Path) -> None:
    text, most, meaning = CELLS[case]
    path = tmp_path / "answers.csv"
    path.write_text(text, "utf-8")
    with pytest.raises(PsychometricsError, match=meaning):
        FILES.answers(path, None, FILES.max_scores(most) if most else None)
