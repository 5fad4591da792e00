"""From a file as a system writes it to stored answers, by the suggested mapping with at most one edit.

The files in `shapes` are written by hand in the layouts of the systems' exports. The expected answers are written by
hand, too. Times are in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest

from irt_assets.intake.bank import QUESTIONS, import_bank_file
from irt_assets.intake.load import import_attempts
from irt_assets.intake.mapped_files import open_mapped
from irt_assets.intake.mapping import load_mapping
from irt_assets.intake.suggest import suggest
from irt_assets.intake.suggestion import preview
from irt_psychometrics.cells import MaxScores
from resources.failures import PermanentFailure
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.rooms import rows
from tests.helpers.typed import IrtOf

FILES = Path(__file__).parent / "shapes"
Answers = set[tuple[str, str, bool | None, int | None]]
"""Learner, item, full credit, and the score of a scored item."""


def matrix(users: str, items: str, cells: str, most: int = 1) -> Answers:
    """The answers of a matrix. `cells`: a word for each user, with a score for each item, or `.` for no answer."""
    found: Answers = set()
    for user, row in zip(users.split(","), cells.split(), strict=True):
        for item, cell in zip(items.split(","), row, strict=True):
            if cell != ".":
                found.add((user, item, int(cell) == most, int(cell) if most > 1 else None))
    return found


@dataclass(frozen=True)
class Shape:
    """A file with its answers.

    Attributes:
        first: the time of the first answer; "" if the file has no times.
        zone: zone of the times; "" if they have one.
        edit: the only change of the suggested mapping.
    """

    file: str
    answers: Answers
    first: str = ""
    zone: str = ""
    key: str = ""
    edit: tuple[str, str] = ("", "")
    responses: str = ""
    """The responses in the order of times, learners and items, joined by spaces."""


MAILS = "ann@x.org,bob@x.org,cy@x.org"
PATTERNS = {"lsat/2": "001", "lsat/3": "001", "lsat/4": "101", "lsat/5": "111", "lsat/6": "111", "lsat/7": "111"}
FIRST = "2026-10-01 07:10"
SHAPES = [
    Shape("qualtrics.csv", matrix("R_1,R_2,R_3", "Q1,Q2,Q3_1", "101 001 1.0"), "2026-10-01 14:10", "America/Denver"),
    Shape("moodle_grades.csv", matrix(MAILS, "Q. 1,Q. 2,Q. 3", "101 0.1 110"), FIRST, "Europe/Berlin"),
    Shape(
        "moodle_responses.csv",
        matrix(MAILS, "Response 1,Response 2", "10 01 .1"),
        FIRST,
        "Europe/Berlin",
        responses="Paris True Rome False False",
    ),
    Shape(
        "canvas.csv",
        matrix("s11,s12,s13", "4501,4503", "10 01 11") | matrix("s11,s12,s13", "4502", "2 1 0", 2),
        FIRST,
        responses="4 None True 5 None False 4 None False",
    ),
    Shape(
        "zipgrade.csv",
        matrix("101,102,103", "1,2,3", "110 00. 1.1"),
        responses="B D A C A B C",
    ),
    Shape(
        "inspera.csv",
        matrix("c1,c2", "1", "4 0", 5)
        | matrix("c1,c2,c3", "3", "2 1 0", 2)
        | {("c1", "2", True, 1), ("c2", "2", False, 0), ("c3", "2", True, 1), ("c3", "1", None, None)},
    ),
    Shape("blackboard.xls", matrix("ann,bob,cy", "Question ID 11,Question ID 12", "21 02 20", 2)),
    Shape(
        "google_forms.csv",
        matrix(MAILS, "What is 2 + 2?", "1 0 1") | matrix(MAILS, "Name a prime.", "2 1 0", 2),
        FIRST,
    ),
    Shape(
        "limesurvey.csv",
        matrix("1,2,3", "G1Q1[SQ001],G1Q1[SQ002],G1Q1[SQ003]", "012 20. 120", 2),
        FIRST,
        "Europe/Berlin",
    ),
    Shape("redcap_raw.csv", matrix("1,2,3", "q1,q2,q3", "101 00. 110"), FIRST, "Europe/Berlin"),
    Shape(
        "redcap_labels.csv",
        matrix("1,2,3", "I feel calm,I sleep well,I am fit", "024 304 13.", 4),
        FIRST,
        "Europe/Berlin",
    ),
    Shape("open_edx.csv", matrix("1,2,3", "Quiz 1: Sums", "1 0 1") | matrix("1,2,3", "Quiz 2: Primes", "2 . 3", 3)),
    Shape("excel_sep.csv", matrix("ann,bob,cy", "Aufgabe 1,Aufgabe 2,Aufgabe 3", "101 00. 110")),
    Shape("utf16.txt", matrix("ann,bob,cy", "문항1,문항2,문항3", "101 001 110")),
    Shape("cp949.csv", matrix("ann,bob,cy", "문항1,문항2,문항3", "101 001 110")),
    Shape("decimal_comma.csv", matrix("ann,bob,cy", "task1,task2,task3", "210 112 220", 2)),
    Shape(
        "u7.csv",  # EdNet: a file for each learner, and the key elsewhere
        {("u7", "q11", True, None), ("u7", "q12", False, None), ("u7", "q13", True, None), ("u7", "q11", False, None)},
        "2026-10-01 07:40",
        key="ednet_key.csv",
    ),
    Shape(
        "datashop.txt",
        {("ann", "p1/x", True, None), ("ann", "p1/y", False, None), ("bob", "p1/x", False, None)},
        FIRST,
    ),
    Shape(
        "warehouse.csv",
        matrix("ann,bob", "i1,i2", "30 12", 3) | {("cy", "i1", None, None), ("cy", "i2", True, 3)},
        "2026-10-01 07:40",
    ),
    Shape("lsat.csv", matrix(",".join(PATTERNS), "Item 1,Item 2,Item 3", " ".join(PATTERNS.values()))),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.file)
def test_suggested_mapping_stores_the_answers_of_the_file(database: Database, tmp_path: Path, shape: Shape) -> None:
    path, key = FILES / shape.file, FILES / shape.key if shape.key else None
    at = None if shape.first else date(2026, 10, 1)
    found = suggest(path, keyed=key is not None)
    mapping = tmp_path / "own.yaml"
    mapping.write_text(found.as_yaml().replace(*shape.edit), "utf-8")
    assert load_mapping(mapping).model_dump(exclude={"name"}) == found.mapping("").model_dump(exclude={"name"})
    report = import_attempts(
        database,
        [path],
        mapping=mapping,
        at=at,
        zone=shape.zone or None,
        key=key,
        first_month="2026-06",
    )
    query = """SELECT user_id, item_id, correct, score, completed_at AT TIME ZONE 'UTC', response FROM response_log
        ORDER BY 5, 1, 2"""
    stored = rows(database, query)
    assert {tuple(row[:4]) for row in stored} == shape.answers
    if shape.responses:
        assert " ".join(str(row[5]) for row in stored) == shape.responses
    assert len(stored) == report.accepted
    assert set(report.rejected) <= {"skipped_by_mapping"}
    if shape.first:
        assert f"{stored[0][4]:%Y-%m-%d %H:%M}" == shape.first
    shown = preview(path, found, at=at, key=key, zone=shape.zone or None)
    assert len(shown) == min(len(stored), 10) + 2
    assert shown[-1].startswith(f"{len(stored)} of ")


def quiz(letter: str) -> str:
    """Write the responses of a Moodle quiz, which names the questions as every other quiz does."""
    head = "Email address,Status,Completed,Grade/2.00,Response 1,Right answer 1,Response 2,Right answer 2"
    texts = [f"{letter}: the text of option {k}" for k in range(4)]
    cells = (",".join((texts[k % 4], texts[0], texts[k // 4 % 4], texts[1])) for k in range(60))
    return "\n".join([head, *(f'p{k}@x.org,Finished,"1 October 2026 9:{k:02d} AM",1,{x}' for k, x in enumerate(cells))])


def test_second_quiz_with_the_same_names_of_items_is_stored_with_a_prefix(
    database: Database, tmp_path: Path, settings: Settings, irt: IrtOf
) -> None:
    typed = irt(settings)
    first, second, mapping = tmp_path / "quiz 1.csv", tmp_path / "Quiz 2.csv", tmp_path / "own.yaml"
    first.write_text(quiz("A"))
    second.write_text(quiz("B"))
    suggested = typed("import", "attempts", first, "--suggest", "--zone", "UTC")
    assert "prefix" not in suggested.out
    assert "that are the key of no item" not in suggested.out
    mapping.write_text(suggested.out)
    assert typed("import", "attempts", first, "--mapping", mapping).code == 0
    mapping.write_text(suggest(second, zone="UTC").as_yaml())
    refused = typed("import", "attempts", second, "--mapping", mapping)
    assert refused.code == 2
    assert "--prefix quiz-2-" in refused.err
    proposed = typed("import", "attempts", second, "--suggest", "--zone", "UTC")
    assert "\nprefix: quiz-2-\n" in proposed.out
    if_given = typed("import", "attempts", second, "--mapping", mapping, "--prefix", "q2-", "--dry-run")
    assert if_given.code == 0
    mapping.write_text(proposed.out)
    done = typed("import", "attempts", second, "--mapping", mapping)
    assert done.code == 0
    assert "that are the key of no item" not in done.out
    query = "SELECT item_id, count(*), sum(correct::int) FROM response_log GROUP BY 1 ORDER BY 1"
    names = ("Response 1", "Response 2", "quiz-2-Response 1", "quiz-2-Response 2")
    assert rows(database, query) == [(name, 60, n) for name, n in zip(names, (15, 16, 15, 16), strict=True)]
    keys = "SELECT item_id, meta->>'key' FROM question ORDER BY 1"
    assert dict(rows(database, keys))["quiz-2-Response 2"] == "B: the text of option 1"


def test_prefix_is_put_before_items_of_lists_and_of_scored_columns(database: Database, tmp_path: Path) -> None:
    path, key = tmp_path / "x.csv", tmp_path / "key.csv"
    path.write_text("user_id,item_id,completed_at,correct\na,q1,2026-10-01T07:10Z,1\nb,q1,2026-10-01T07:10Z,0\n")
    import_attempts(database, [path], prefix="list-", first_month="2026-06")
    path.write_text("id,q1,essay\na,1,3\nb,0,2\n")
    at = date(2026, 10, 1)
    import_attempts(database, [path], prefix="m-", at=at, max_scores=["essay=4"], first_month="2026-06")
    path.write_text("id,q1,q2\na,A,C\nb,B,C\n")
    key.write_text("item,key\nq1,B\nq2,C\n")
    import_attempts(database, [path], prefix="k-", at=at, key=key, first_month="2026-06")
    stored = rows(database, "SELECT item_id, user_id, correct, score FROM response_log ORDER BY 1, 2")
    assert stored == [
        *(("k-q1", "a", False, None), ("k-q1", "b", True, None), ("k-q2", "a", True, None), ("k-q2", "b", True, None)),
        *(("list-q1", "a", True, None), ("list-q1", "b", False, None)),
        *(
            ("m-essay", "a", False, 3),
            ("m-essay", "b", False, 2),
            ("m-q1", "a", True, None),
            ("m-q1", "b", False, None),
        ),
    ]


def test_file_with_two_readings_is_stored_after_a_choice_alone(database: Database, tmp_path: Path) -> None:
    path, mapping = tmp_path / "log.csv", tmp_path / "own.yaml"
    lines = [f"s{i},q{j},10/{5 + i % 5:02d}/2026 {9 + j}:00 AM,{(i + j) % 2}" for i in range(20) for j in range(2)]
    path.write_text("\n".join(["student,question,submitted,correct", *lines]) + "\n")
    text = suggest(path, zone="UTC").as_yaml()
    mapping.write_text(text)
    with pytest.raises(PermanentFailure, match=r"\(choose.times\).* Nothing was stored"):
        import_attempts(database, [path], mapping=mapping, first_month="2026-01")
    assert rows(database, "SELECT count(*) FROM response_log") == [(0,)]
    start, end = text.index("  - reading: {time: {format: '%d/%m"), text.index("\ncolumns:")
    mapping.write_text(text[:start] + text[end:])
    assert import_attempts(database, [path], mapping=mapping, first_month="2026-01").accepted == 40
    days = "SELECT DISTINCT (completed_at AT TIME ZONE 'UTC')::date FROM response_log ORDER BY 1"
    assert rows(database, days) == [(date(2026, 10, day),) for day in range(5, 10)]


def test_table_of_difficulties_is_suggested_as_questions(database: Database, tmp_path: Path) -> None:
    found = suggest(FILES / "rasch.csv")
    assert found.kind == "questions"
    (tmp_path / "own.yaml").write_text(found.as_yaml(), "utf-8")
    report = import_bank_file(database, QUESTIONS, FILES / "rasch.csv", mapping=tmp_path / "own.yaml")
    assert report.accepted == 3
    query = "SELECT item_id, meta->'irt'->>'model', (meta->'irt'->>'b')::float FROM question ORDER BY 1"
    assert rows(database, query) == [("q1", "rasch", -1.25), ("q2", "rasch", 0.5), ("q3", "rasch", 1.0)]


def test_frequency_needs_no_mapping(database: Database) -> None:
    report = import_attempts(
        database, [FILES / "lsat.csv"], frequency="Freq", at=date(2026, 10, 1), first_month="2026-06"
    )
    assert (report.accepted, report.new_learners, report.new_items) == (18, 6, 3)
    right = "SELECT item_id, count(*) FILTER (WHERE correct) FROM response_log GROUP BY 1 ORDER BY 1"
    assert rows(database, right) == [("Item 1", 4), ("Item 2", 3), ("Item 3", 6)]


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape.file != "u7.csv"], ids=lambda shape: shape.file)
def test_commands_on_files_read_the_answers_that_an_import_stores(tmp_path: Path, shape: Shape) -> None:
    """The learner of u7.csv answers an item twice, which a file command refuses."""
    path, mapping = FILES / shape.file, tmp_path / "own.yaml"
    mapping.write_text(suggest(path).as_yaml().replace(*shape.edit), "utf-8")
    mapped = open_mapped(path, str(mapping), None, MaxScores(), {}, None, lambda _done, _rows: None)
    read = mapped.files.answers(path, mapped.key, mapped.max_scores, denominator=mapped.denominator)
    x = read.responses
    found = {
        (read.person_ids[person], x.item_ids[item], bool(score == most), int(score) if most > 1 else None)
        for person, item, score in zip(x.person.tolist(), x.item.tolist(), x.score.tolist(), strict=True)
        for most in [x.n_categories[item] - 1]
    }
    scored = {item for _, item, _, score in shape.answers if (score or 0) > 1}
    answers = {(*answer, score if answer[1] in scored else None) for *answer, score in shape.answers}
    assert found == {answer for answer in answers if answer[2] is not None}
