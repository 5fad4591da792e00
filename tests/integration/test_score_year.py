"""A year of a company that hands out scores: a wrong key after the release, an anchor that drifts, and the truth.

The tables of docs/explanation/scores.md contain the figures of this year. If they differ, the failing test prints the
tables that belong there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

import numpy as np
import pytest

from irt_assets.ledger.linked_windows import latest_constants
from irt_assets.responses import facts
from irt_assets.scores.issued import issued_scores
from irt_psychometrics.items import ItemParameters, ItemRow
from irt_psychometrics.scoring import ScoreScale, ScoreTable
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from tests.helpers import rooms
from tests.helpers.databases import template_copy
from tests.helpers.score_year import DRIFT, DRIFTING, DRIFTS_FROM, FORMS, LEARNERS, MONTHS, PASS_THETA, Year, items_of
from tests.helpers.written_commands import ROOT

pytestmark = [pytest.mark.ci, pytest.mark.timeout(900)]
PAGE = ROOT / "docs/explanation/scores.md"
LATE = MONTHS[6:]
"""Months in which both faults are corrected."""
FORMER, RELEASED = "before the drift's decision", "after the drift's decision"


@pytest.fixture(scope="module")
def year(
    postgres: EmbeddedPostgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Year]:
    folder = tmp_path_factory.mktemp("year")
    with template_copy(postgres, migrated_template, folder / "irt", irt_first_month=MONTHS[0]) as settings:
        year = Year(Database(settings), folder / "files")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(facts, "LOOKBACK", timedelta(days=62))  # each issue of scores compares the log of this period
            year.run()
        yield year


# -- the truth ---------------------------------------------------------------------------------------


def true_values(year: Year, form: str) -> list[tuple[float, float]]:
    """a and b of the form's items since the anchor has drifted."""
    return [(a, b + DRIFT * (item == DRIFTING)) for item in items_of(form) for a, b in [year.true[item]]]


def true_cut(year: Year, form: str) -> int:
    """The raw score that passes by the true values."""
    rows = [ItemRow(a=a, b=b) for a, b in true_values(year, form)]
    items = ItemParameters.from_rows(items_of(form), rows)
    cut = ScoreTable.from_items(items, ScoreScale(1.0, 0.0), mark=year.standard.mark, mean=0, sd=1).raw_cut
    assert cut is not None
    return cut


def pass_probabilities(year: Year, form: str, users: Sequence[str]) -> np.ndarray:
    """The probability that each learner reaches the true cut, by the learner's true θ and the true values."""
    a, b = np.array(true_values(year, form)).T
    right = 1 / (1 + np.exp(-a * (np.array([year.theta[user] for user in users])[:, None] - b)))
    scores = np.zeros((len(users), a.size + 1))
    scores[:, 0] = 1
    for p in right.T:
        scores[:, 1:] = scores[:, 1:] * (1 - p[:, None]) + scores[:, :-1] * p[:, None]
        scores[:, 0] *= 1 - p
    return scores[:, true_cut(year, form) :].sum(axis=1)


# -- the year ----------------------------------------------------------------------------------------


def test_numbers_in_the_text_of_the_page_are_the_figures_of_the_year(year: Year) -> None:
    text = " ".join(PAGE.read_text("utf-8").split())
    former, released = year.tables[FORMER], year.tables[RELEASED]
    assert {round(released[form].largest_move(former[form])) for form in FORMS} == {8}
    assert "moved by about 8 points of 100 in all six forms" in text
    assert (year.standard.judges, f"{year.standard.se:.2f}") == (12, "0.04")
    assert "12 judges gave a mark with a standard error of 0.04" in text
    changes = [(old.passes, new.passes) for old, new in year.again.changed]
    assert (changes.count((False, True)), changes.count((True, False))) == (3, 8)
    assert "three learners newly passed and eight newly failed" in text


def test_standard_of_the_panel_is_near_the_learner_that_the_panel_has_in_mind(year: Year) -> None:
    assert abs(year.standard.mark - PASS_THETA) < 3 * year.standard.se
    assert {table.spec["pass_theta"] for table in year.tables[FORMER].values()} == {year.standard.mark}


def test_released_tables_fail_only_in_the_months_whose_decisions_change_them(year: Year) -> None:
    """April: the new values of the item with the wrong key. June: the new value of the anchor, which is in all forms.
    A later month with the released tables passes again."""
    assert {month: forms for month, forms in year.failed.items() if forms} == {"2025-04": ["E"], "2025-06": [*FORMS]}
    assert [*year.failed] == MONTHS
    assert {step.state for step in year.steps.values()} == {"done"}


def test_correcting_the_flagged_key_reopens_its_month_and_leaves_issued_scores(year: Year) -> None:
    assert "above_key" in year.flags
    assert year.rekeyed.reopened_months == ("2025-03",)
    issued = year.letters["as issued"]
    assert len(issued) == LEARNERS
    for time in ("after the key", "before the release", "after the release"):
        assert year.letters[time] == issued


def test_scores_to_issue_again_are_of_exactly_the_learners_concerned(year: Year) -> None:
    """The former table concerns learners whose answer to the item has another score; the new table, learners whose
    scaled score or pass differs."""
    changed = {old.user_id for old, _ in year.previews["after the key"].changed}
    assert changed == {user for user in year.letters["as issued"] if year.options[user] in "AB"}
    assert 0 < len(changed) < LEARNERS
    raw, table = year.raw_by_right_key("E", ["2025-03"]), year.tables["after the release"]["E"].table
    differ = {
        user
        for user, score in year.letters["as issued"].items()
        if (score.scaled, score.passes, score.raw) != (table.scaled[raw[user]], table.passes[raw[user]], raw[user])
    }
    assert {old.user_id for old, _ in year.previews["after the release"].changed} == differ
    assert {old.user_id for old, _ in year.again.changed} == differ


def test_scores_that_are_issued_again_follow_the_right_key_and_the_new_table(year: Year) -> None:
    raw, table = year.raw_by_right_key("E", ["2025-03"]), year.tables["issued again"]["E"]
    for user, score in year.letters["issued again"].items():
        assert (score.raw, score.scaled) == (raw[user], table.table.scaled[raw[user]])
        assert score.passes == (raw[user] >= table.table.raw_cut)
    rows = rooms.call(year.database, issued_scores, form_id="E")
    first = {row.user_id: row for row in rows if row.replaces is None and row.user_id in year.letters["as issued"]}
    assert first == year.letters["as issued"]


def test_anchor_that_drifts_is_named_until_it_is_dropped(year: Year) -> None:
    with year.database.connect() as connection:
        found = {month: latest_constants(connection, month, rooms.SCALE, "em") for month in MONTHS}
    moved = {month: [*constants.moved_anchors] for month, constants in found.items() if constants}
    assert moved == {month: [DRIFTING] if DRIFTS_FROM <= month <= "2025-06" else [] for month in MONTHS}


def test_decision_on_the_drift_moves_the_cuts_to_the_true_ones(year: Year) -> None:
    former, released = year.tables[FORMER], year.tables[RELEASED]
    assert [released[form].table.raw_cut for form in FORMS] == [true_cut(year, form) for form in FORMS]
    assert [form for form in FORMS if former[form].table.raw_cut != true_cut(year, form)] == ["A", "B", "D"]


def test_passing_rates_are_the_true_ones_within_sampling_error_once_faults_are_corrected(year: Year) -> None:
    passed, expected, variance = 0, 0.0, 0.0
    for form in FORMS:
        raw = year.raw_by_right_key(form, LATE)
        p = pass_probabilities(year, form, [*raw])
        error = float(np.sqrt((p * (1 - p)).sum()))
        cuts = {name: year.tables[name][form].table.raw_cut for name in (FORMER, RELEASED)}
        n = {name: sum(score >= cut for score in raw.values()) for name, cut in cuts.items() if cut is not None}
        assert abs(n[RELEASED] - p.sum()) < 3 * error, form
        assert (n[FORMER] - p.sum() > 3 * error) == (cuts[FORMER] != cuts[RELEASED]), form
        issued = rooms.rows(
            year.database,
            """SELECT count(*) FILTER (WHERE passes) FROM issued_score
               WHERE form_id = %s AND to_char(sat_at AT TIME ZONE 'UTC', 'YYYY-MM') = ANY(%s)""",
            (form, LATE),
        )
        assert issued == [(n[RELEASED],)]
        passed, expected, variance = passed + n[RELEASED], expected + p.sum(), variance + error**2
    assert abs(passed - expected) < 3 * variance**0.5


# -- the page ----------------------------------------------------------------------------------------


def key_table(year: Year) -> str:
    """Form E in March: the scores as issued, and as issued again."""
    lines = ["| | as issued in March | issued again in May |", "|---|--:|--:|"]
    before, after = (year.letters[time] for time in ("as issued", "issued again"))
    reaches = {user: year.theta[user] >= year.standard.mark for user in before}
    counts = {
        "key of item E7": ["B", "A"],
        "raw scores that pass": [f"from {year.tables[t]['E'].table.raw_cut}" for t in ("as issued", "issued again")],
        "learners who pass": [sum(bool(s.passes) for s in scores.values()) for scores in (before, after)],
        "pass, and their true θ is below the mark": [
            sum(bool(s.passes) and not reaches[user] for user, s in scores.items()) for scores in (before, after)
        ],
        "fail, and their true θ reaches the mark": [
            sum(not s.passes and reaches[user] for user, s in scores.items()) for scores in (before, after)
        ],
    }
    lines += [f"| {name} | {old} | {new} |" for name, (old, new) in counts.items()]
    for option, change in (("A", (False, True)), ("B", (True, False)), ("C", (True, True))):
        user = min(u for u in before if year.options[u] == option and (before[u].passes, after[u].passes) == change)
        letters = [
            f"raw {s.raw}, score {s.scaled:.0f}, {'pass' if s.passes else 'fail'}" for s in (before[user], after[user])
        ]
        lines.append(f"| letter of a learner who chose {option} | {' | '.join(letters)} |")
    return "\n".join(lines) + "\n"


def drift_table(year: Year) -> str:
    """The six forms by the former tables and by the released ones, for the learners of July to December."""
    names = ("form", "passes from: former table", "new table", "true values", "pass: former table", "new table", "true")
    lines = ["| " + " | ".join(names) + " |", "|---|--:|--:|--:|--:|--:|--:|"]
    for form in FORMS:
        raw = year.raw_by_right_key(form, LATE)
        scores, cuts = np.array([*raw.values()]), [year.tables[t][form].table.raw_cut for t in (FORMER, RELEASED)]
        shares = [f"{np.mean(scores >= cut):.1%}" for cut in cuts if cut is not None]
        expected = f"{pass_probabilities(year, form, [*raw]).mean():.1%}"
        lines.append("| " + " | ".join(map(str, [form, *cuts, true_cut(year, form), *shares, expected])) + " |")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("made", [key_table, drift_table])
def test_page_has_the_figures_of_the_year(year: Year, made: Callable[[Year], str]) -> None:
    expected = made(year).replace("%", " %")
    assert expected in PAGE.read_text("utf-8"), f"write into {PAGE.name}:\n{expected}"
