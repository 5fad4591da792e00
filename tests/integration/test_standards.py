"""Standard setting: the pass mark of a panel's ratings, its record, and its undo."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irt_assets.reports.scale_blocks import document
from irt_assets.reports.scale_facts import scale_facts
from irt_assets.scales.scale import change_rules, read_scales, write_pass_mark
from irt_assets.scales.scale_decisions import read_decisions
from irt_assets.scores import standards
from irt_assets.scores.standards import mark_to_undo, plan_mark, plan_standard, set_mark
from irt_psychometrics import PsychometricsError
from resources.failures import PermanentFailure
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.rooms import call
from tests.helpers.score_world import FORMS, MONTH, NOW, SIGNED, build_exam, item_values, make_tables
from tests.helpers.sentences import missing_sentences
from tests.helpers.typed import IrtOf

JUDGES = ("Ann", "Ben", "Cy", "Dee")
ITEMS = [f"i{k}" for k in FORMS["F1"]]
VALUES = [(item_values()[item]["a"], item_values()[item]["b"]) for item in ITEMS]


@pytest.fixture
def exam(database: Database, tmp_path: Path) -> Database:
    build_exam(database, tmp_path / "exam", pass_theta=None)
    make_tables(database)
    return database


def ratings() -> dict[str, list[float]]:
    """Ratings of the judges, about the probability of a learner of θ = 0.4."""
    rng = np.random.default_rng(3)
    right = np.array([1 / (1 + np.exp(-a * (0.4 - b))) for a, b in VALUES])
    return {
        judge: np.round(np.clip(right + shift + rng.normal(0, 0.05, right.size), 0.02, 0.98), 2).tolist()
        for judge, shift in zip(JUDGES, (-0.06, -0.02, 0.03, 0.05), strict=True)
    }


def write_ratings(folder: Path, change: Callable[[list[str]], Any] = list) -> Path:
    lines = [f"{judge},{item},{p}" for judge, row in ratings().items() for item, p in zip(ITEMS, row, strict=True)]
    change(lines)
    file = folder / "ratings.csv"
    file.write_text("\n".join(["judge,item_id,rating", *lines]) + "\n")
    return file


def write_marks(folder: Path, items: Sequence[str]) -> Path:
    file = folder / "marks.csv"
    file.write_text("judge,item_id\n" + "".join(f"{judge},{item}\n" for judge, item in zip(JUDGES, items, strict=True)))
    return file


def pass_mark(database: Database) -> float | None:
    return call(database, read_scales)[rooms.SCALE].pass_theta


def plan(database: Database, file: Path, method: standards.Method = "angoff", form: str = "F1") -> standards.Standard:
    return call(database, plan_standard, rooms.SCALE, form, file, method, "Panel of May")


def angoff(database: Database, file: Path) -> standards.Standard:
    planned = plan(database, file)
    set_mark(database, planned, **SIGNED)
    return planned


def undo(database: Database) -> standards.PassMark:
    decision, mark = call(database, mark_to_undo, rooms.SCALE)
    set_mark(database, mark, undoes=decision, **SIGNED)
    return mark


def test_angoff_cut_and_its_theta_equal_hand_calculation(exam: Database, tmp_path: Path) -> None:
    sums = [sum(row) for row in ratings().values()]
    cut, cut_se = statistics.mean(sums), statistics.stdev(sums) / 2
    low, high = -6.0, 6.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        is_below = sum(1 / (1 + np.exp(-a * (middle - b))) for a, b in VALUES) < cut
        low, high = (middle, high) if is_below else (low, middle)
    right = [(a, 1 / (1 + np.exp(-a * (low - b)))) for a, b in VALUES]
    slope = sum(a * p * (1 - p) for a, p in right)
    found = plan(exam, write_ratings(tmp_path))
    assert (found.judges, found.cut_raw, found.cut_se) == pytest.approx((4, cut, cut_se), abs=1e-9)
    assert (found.mark, found.se) == pytest.approx((low, cut_se / slope), abs=1e-6)
    assert pass_mark(exam) is None


def test_bookmark_is_the_mean_of_the_locations_of_the_marked_items(exam: Database, tmp_path: Path) -> None:
    marked = ["i3", "i8", "i8", "i15"]
    odds = np.log(0.67 / 0.33)
    locations = [item_values()[item]["b"] + odds / item_values()[item]["a"] for item in marked]
    theta = statistics.mean(locations)
    found = plan(exam, write_marks(tmp_path, marked), "bookmark")
    assert (found.mark, found.se) == pytest.approx((theta, statistics.stdev(locations) / 2), abs=1e-6)
    assert found.cut_raw == pytest.approx(sum(1 / (1 + np.exp(-a * (theta - b))) for a, b in VALUES), abs=1e-5)


def test_bookmarks_by_item_page_and_location_give_one_mark(exam: Database, tmp_path: Path) -> None:
    """Pages are numbered by location, from the easiest item."""
    odds, values = np.log(0.67 / 0.33), item_values()
    places = {item: values[item]["b"] + odds / values[item]["a"] for item in ITEMS}
    order = sorted(places, key=lambda item: places[item])
    rows = [("i3", "", ""), ("", order.index("i8") + 1, ""), ("", "", places["i8"]), ("i15", "", "")]
    file = tmp_path / "mixed.csv"
    lines = [",".join(map(str, (judge, *row))) for judge, row in zip(JUDGES, rows, strict=True)]
    file.write_text("\n".join(["judge,item_id,page,location", *lines]) + "\n")
    found, by_items = (
        plan(exam, file, "bookmark"),
        plan(exam, write_marks(tmp_path, ["i3", "i8", "i8", "i15"]), "bookmark"),
    )
    assert (found.mark, found.se) == pytest.approx((by_items.mark, by_items.se), abs=1e-6)


def test_ratings_in_per_cent_and_missing_ratings_are_read_and_named(exam: Database, tmp_path: Path) -> None:
    def in_per_cent(lines: list[str]) -> None:
        for k, line in enumerate(lines):
            judge, item, rating = line.split(",")
            lines[k] = f"{judge},{item},{100 * float(rating):g}"

    plain, per_cent = plan(exam, write_ratings(tmp_path)), plan(exam, write_ratings(tmp_path, in_per_cent))
    assert (per_cent.mark, per_cent.se) == pytest.approx((plain.mark, plain.se), abs=1e-9)
    assert per_cent.notes == ("ratings are read as per cent: 98 is read as 0.98",)
    missing = plan(exam, write_ratings(tmp_path, lambda lines: lines.pop(30)))  # Ben on i11
    mean = statistics.mean(ratings()[judge][10] for judge in ("Ann", "Cy", "Dee"))
    assert missing.cut_raw == pytest.approx(plain.cut_raw + (mean - ratings()["Ben"][10]) / 4, abs=1e-9)
    assert missing.notes == ("missing ratings, taken as the item's mean of the other judges: Ben on i11",)


def test_panel_sets_a_raw_cut_without_published_values(exam: Database, tmp_path: Path) -> None:
    change_rules(
        exam, rooms.SCALE, {"score_by": "raw", "score_slope": 1.0, "score_intercept": 0.0, "score_lowest": 0.0}
    )
    rooms.run_sql(exam, "DELETE FROM item_parameter_publication WHERE item_id = 'i7'")
    sums = [sum(row) for row in ratings().values()]
    done = angoff(exam, write_ratings(tmp_path))
    assert (done.mark, done.se) == pytest.approx((statistics.mean(sums), statistics.stdev(sums) / 2), abs=1e-9)
    assert call(exam, read_scales)[rooms.SCALE].pass_mark == done.mark
    made = make_tables(exam)
    assert {table.table.raw_cut for table in made.values()} == {int(np.ceil(done.mark))}
    assert "raw score" in scale_page(exam)
    assert pass_mark(exam) is None, "the mark in θ is another one"
    other = call(exam, plan_mark, rooms.SCALE, 12.0)
    set_mark(exam, other, **SIGNED)
    assert undo(exam).mark == 12.0
    assert call(exam, read_scales)[rooms.SCALE].pass_mark == done.mark
    assert make_tables(exam)["F1"].spec["mark"] == pytest.approx(done.mark)


def test_previewed_passes_are_the_passes_of_the_next_table(exam: Database, tmp_path: Path) -> None:
    """The table is made with the mark, and with the mark one SE lower and higher."""
    found = plan(exam, write_ratings(tmp_path))
    raw = np.array(
        rooms.rows(
            exam,
            """SELECT count(*) FILTER (WHERE correct) FROM response_log WHERE form_id = 'F1'
               AND to_char(completed_at, 'YYYY-MM') = %s GROUP BY user_id""",
            (MONTH,),
        )
    ).ravel()
    passing, cuts = [], []
    for mark in (found.mark, found.mark - found.se, found.mark + found.se):
        call(exam, write_pass_mark, rooms.SCALE, mark)
        table = make_tables(exam)["F1"].table
        passing.append(int(table.passes[raw].sum()))
        cuts.append(table.raw_cut)
    assert found.effect == (
        f"by θ of the form's score table of {MONTH}, raw scores from {cuts[0]} on pass; of its 150 learners, "
        f"{passing[0]} pass; {passing[1]} with the mark one SE lower and {passing[2]} with the mark one SE higher"
    )
    assert 0 < passing[2] < passing[1] < 150
    assert found.effect in found.sentences


def test_standard_is_recorded_with_its_file_and_undone(exam: Database, tmp_path: Path) -> None:
    call(exam, write_pass_mark, rooms.SCALE, -0.25)
    file = write_ratings(tmp_path)
    done = angoff(exam, file)
    assert pass_mark(exam) == done.mark
    [decision] = [d for d in call(exam, read_decisions, rooms.SCALE) if d.subject == "standard"]
    value = json.loads(decision.value)
    assert (value["sha256"], value["former"]) == (hashlib.sha256(file.read_bytes()).hexdigest(), -0.25)
    assert (value["method"], value["panel"], value["file"]) == ("angoff", "Panel of May", "ratings.csv")
    assert (decision.decided_by, decision.reason) == tuple(SIGNED.values())
    assert undo(exam) == done
    assert pass_mark(exam) == -0.25
    with pytest.raises(PermanentFailure, match="nothing to undo"):
        undo(exam)


def test_undo_is_refused_if_the_pass_mark_has_changed_since(exam: Database, tmp_path: Path) -> None:
    angoff(exam, write_ratings(tmp_path))
    call(exam, write_pass_mark, rooms.SCALE, 0.1)
    with pytest.raises(PermanentFailure, match="nothing to undo"):
        undo(exam)
    assert pass_mark(exam) == 0.1


def test_planned_standard_is_refused_if_the_pass_mark_has_changed_since(exam: Database, tmp_path: Path) -> None:
    planned = plan(exam, write_ratings(tmp_path))
    call(exam, write_pass_mark, rooms.SCALE, 0.1)
    with pytest.raises(PermanentFailure, match="the pass mark of scale default has changed"):
        set_mark(exam, planned, **SIGNED)
    assert pass_mark(exam) == 0.1


def test_mark_without_a_panel_is_previewed_recorded_and_undone(exam: Database, settings: Settings, irt: IrtOf) -> None:
    """Counts passes in the stored θ of the newest month."""
    thetas = [-1.0, -0.2, 0.1, 0.3, 0.4, 1.0]
    for n, theta in enumerate(thetas):
        rooms.run_sql(
            exam,
            """INSERT INTO mirt_ability (update_id, kind, window_end, published_as_of, scale_id, user_id, theta, se,
                                         method, n_items, set_hash, scale_version)
               VALUES ('month', 'monthly', %s, %s, 'default', %s, %s, .3, 'eap', 9, 'x', 1)""",
            (NOW, NOW, f"learner {n}", theta),
        )
    typed, signed = irt(settings), ("--by", "Ann", "--reason", "board of June")
    assert typed("scale", "pass-mark", "0.3", *signed, "--yes").code == 0
    shown = typed("scale", "pass-mark", "0.05", *signed, "--dry-run").out
    assert missing_sentences(shown, "θ = 0.3 → 0.05", "of the six learners measured", "pass: 3 → 4") == []
    assert pass_mark(exam) == 0.3, "a preview changes nothing"
    assert typed("scale", "pass-mark", "0.05", *signed, "--yes").code == 0
    assert "θ = 0.05: Ann, " in scale_page(exam)
    [first, second] = [d for d in call(exam, read_decisions, rooms.SCALE) if d.subject == "standard"]
    assert (first.decided_by, first.reason, json.loads(second.value)["former"]) == ("Ann", "board of June", 0.3)
    assert missing_sentences(typed("scale", "decisions").out, "θ = 0.05", "board of June") == []
    undone = typed("scale", "pass-mark", "--undo", *signed, "--yes").out
    assert missing_sentences(undone, "θ = 0.05 → 0.3", "pass: 4 → 3") == []
    assert typed("scores", "standard", "--undo", *signed, "--yes").code == 0, "both commands undo the last decision"
    assert pass_mark(exam) is None
    assert "nothing to undo" in typed("scale", "pass-mark", "--undo", *signed, "--yes").err
    assert "give either" in typed("scale", "pass-mark", *signed).err


def test_mark_is_refused_if_another_person_set_one_since_the_preview(exam: Database) -> None:
    seen = call(exam, plan_mark, rooms.SCALE, 0.5)
    set_mark(exam, call(exam, plan_mark, rooms.SCALE, 0.4), **SIGNED)
    with pytest.raises(PermanentFailure, match="the pass mark of scale default has changed"):
        set_mark(exam, seen, **SIGNED)
    assert pass_mark(exam) == 0.4


def scale_page(database: Database) -> str:
    with database.connect() as connection:
        facts = scale_facts(connection, read_scales(connection)[rooms.SCALE], datetime.now(UTC))
    return str(document(facts, NOW, "UTC"))


def replaced(line: int, text: str) -> Callable[[list[str]], None]:
    return lambda lines: lines.__setitem__(line - 2, text)


@pytest.mark.ci
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replaced(3, "Ann,i2,1.2"), "row 3: the rating 1.2 is above 1, the maximum score of item i2"),
        (replaced(4, "Ann,i3,-0.1"), "row 4: rating: Input should be greater than or equal to 0"),
        (replaced(5, "Ann,i4,nan"), "row 5: rating: Input should be a finite number"),
        (replaced(5, "Ann,i4,often"), "row 5: rating: Input should be a valid number"),
        (replaced(5, "Ann,i4,60"), "row 5: the rating 60 is above 1, the maximum score of item i4: write a prob"),
        (replaced(6, "Ann,i30,0.5"), "row 6: item i30 is not a scored item of form F1"),
        (replaced(7, "Ann,i1,0.5"), "row 7: judge Ann is in an earlier row with item i1"),
        (lambda lines: lines.__delitem__(slice(10, 80, 20)), "no judge has rated item i11 of form F1"),
        (lambda lines: lines.__delitem__(slice(20, None)), "has one judge: a standard error needs two or more"),
        (list.clear, "has no judges: a standard error needs two or more"),
    ],
)
def test_faulty_ratings_are_refused_with_their_row(
    exam: Database, tmp_path: Path, change: Callable[[list[str]], Any], message: str
) -> None:
    with pytest.raises(PermanentFailure) as refused:
        angoff(exam, write_ratings(tmp_path, change))
    assert message in str(refused.value)
    assert "ratings.csv" in str(refused.value)
    assert pass_mark(exam) is None


@pytest.mark.ci
def test_ratings_that_give_no_mark_are_refused(exam: Database, tmp_path: Path) -> None:
    def refusal(file: Path, method: standards.Method = "angoff", form: str = "F1") -> str:
        with pytest.raises(PermanentFailure) as refused:
            plan(exam, file, method, form)
        return str(refused.value)

    file = tmp_path / "all.csv"
    file.write_text("judge,item_id,rating\n" + "".join(f"{judge},{item},1\n" for judge in "AB" for item in ITEMS))
    assert "no θ within 8 SD of the mean has this cut on form F1" in refusal(file)
    file.write_text("judge,item_id,rating\n" + "".join(f"{judge},{item},0.999\n" for judge in "AB" for item in ITEMS))
    assert "outside of score_lowest 200 and score_highest 800: everybody or nobody would pass" in refusal(file)
    assert "has no score table of a form F9" in refusal(file, form="F9")
    file.write_text("judge,item\nA,i1\n")
    assert "row 2: write one of item_id, page and location" in refusal(file, "bookmark")
    file.write_text("judge,page\nA,21\nB,3\n")
    assert "row 2: page 21 is not in the booklet, which has 20 pages" in refusal(file, "bookmark")
    file.write_text("judge,item_id,step\nA,i1,1\nB,i2,2\n")
    assert "row 3: item i2 has no step 2" in refusal(file, "bookmark")
    file.write_text("judge,item_id\nA,i1\nB,i2\nA,i3\n")
    assert "row 4: judge A is in an earlier row" in refusal(file, "bookmark")
    file.write_bytes(b"\xff\xfe\x00garbage")
    assert file.name in refusal(file)
    rooms.run_sql(exam, "DELETE FROM item_parameter_publication WHERE item_id = 'i7'")
    with pytest.raises(PsychometricsError, match="no values are published of i7"):
        plan(exam, write_ratings(tmp_path))


@pytest.mark.ci
def test_command_previews_sets_and_undoes_the_standard(
    exam: Database, settings: Settings, irt: IrtOf, tmp_path: Path
) -> None:
    typed, signed = irt(settings), ("--by", "Ann", "--reason", "board of June")
    words = ("scores", "standard", write_ratings(tmp_path), "--form", "F1", "--panel", "Panel of May", *signed)
    shown = typed(*words, "--dry-run")
    assert (shown.code, pass_mark(exam)) == (0, None), shown.err
    assert "pass mark of scale default: θ = " in shown.out
    done = typed(*words, "--yes", "--json")
    assert pass_mark(exam) == done.json["theta"]
    assert "θ = 0.36: Angoff by Panel of May, four judges" in scale_page(exam)
    assert typed("scores", "standard", "--undo", "--yes", *signed).code == 0
    assert pass_mark(exam) is None
    assert "Panel of May, four judges" not in scale_page(exam)
    [mark, restored] = [d.in_short for d in call(exam, read_decisions, rooms.SCALE) if d.subject == "standard"]
    assert (mark, restored.partition("decision ")[0]) == ("θ = 0.3572, angoff, Panel of May", "undoes ")
    listed = typed("scale", "decisions").out
    assert mark in listed
    assert restored in listed
    assert mark in scale_page(exam)
    assert '{"' not in listed + scale_page(exam)
    assert "give the file of ratings and --form" in typed("scores", "standard", "--yes", *signed).err
