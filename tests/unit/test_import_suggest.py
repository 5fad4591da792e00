"""The guesses of a suggested mapping, by signals that several systems share."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from irt_assets.intake.mapping import bind, load_mapping
from irt_assets.intake.recognise import Column, denominator
from irt_assets.intake.suggest import suggest
from irt_assets.intake.suggestion import Suggestion, make_choices, preview
from resources.failures import PermanentFailure

CHOICES = "".join(f"p{n},{','.join(random.Random(n).choices('12345', k=6))}\n" for n in range(60))
HARD = {"columns": {"user_id": "id"}, "wide": {"items": ["v1", "v2", "v3"]}, "null_values": {"v3": "9"}}


def suggested(folder: Path, text: str) -> Suggestion:
    path = folder / "x.csv"
    path.write_text(text, "utf-8")
    return suggest(path)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("id|v1|v2|v3\n1|1|0|9\n2|0|1|1\n3|1|1|0\n", {**HARD, "file": {"delimiter": "|", "header": 1}}),
        ("Midterm\n\nStudent ID,q1,q2,q3\n1,1,0,1\n2,0,0,1\n", {"file": {"delimiter": ",", "header": 3}}),
        (
            "Student,Q1,Q2,Q3,Total\nKEY,B,C,A,3\nann,B,C,D,2\nbob,A,C,A,2\n",
            {"keys": {"Q1": "B", "Q2": "C", "Q3": "A"}},
        ),
        ("Student,q1,q2,q3\nPoints possible,2,1,4\nann,2,1,3\nbob,1,0,3\n", {"max_scores": {"q1": 2, "q3": 4}}),
        ("id,q1,q2,q3,sum\n1,1,2,0,3\n2,0,2,1,3\n3,1,1,1,3\n", {"wide": {"items": ["q1", "q2", "q3"]}}),
        (
            "id,q1,q2,q3,rt_q1,rt_q2,rt_q3\n1,1,0,1,2.5,3.1,9\n2,0,1,1,2,4.5,8\n",
            {"wide": {"items": ["q1", "q2", "q3"]}},
        ),
        ("id,sex,age,Comfort,Work,Future\n1,1,30,2,4,3\n2,2,41,1,3,3\n", {"max_scores": {"*": 3}}),
        ("Who,A1 (2 pts),A2 (1 pts)\nann,0.67,1\nbob,2,0\n", {"max_scores": {"A1": 6, "A2": 3}}),
        ("Name,Q1 Answer,Q1 Score,Q2 Answer,Q2 Score\nann,A,1,B,0\nbob,C,0,D,1\n", {"wide": {"items": ["Q1", "Q2"]}}),
        ("user,question,answer,correct answer\nu,q1,b,b\nv,q1,c,b\nu,q2,a,c\n", {"keys": {"q1": "b", "q2": "c"}}),
        ("Student ID,Name,1,2\nKEY,,A,B\n101,Ann,A,C\n102,Bob,B,B\n", {"keys": {"1": "A", "2": "B"}}),
        (
            "ID,Name,Capital?,Points - Capital?,A prime?,Points - A prime?\n1,Ann,Rome,0,7,1\n2,Bob,Paris,1,8,0\n",
            {"wide": {"items": ["Capital?", "A prime?"]}},
        ),
        (
            "Respondent ID,End Date,I like it,I do it\n,,Response,Response\n11,10/13/2026 09:10,Agree,Disagree\n",
            {"file": {"first_row": 3}, "values": {"correct": {"Disagree": 0, "Agree": 1}}},
        ),
        ("V1,V2,V3,freq\n1,0,1,12\n0,0,1,3\n", {"frequency": "freq", "columns": {"user_id": ["#file", "#row"]}}),
    ],
)
def test_signals_of_a_file_become_keys_of_the_mapping(tmp_path: Path, text: str, content: dict[str, Any]) -> None:
    found = suggested(tmp_path, text)
    assert {key: found.content[key] for key in content} == content
    assert "would be stored" in preview(tmp_path / "x.csv", found)[-1]


def test_options_without_a_key_are_not_called_ratings(tmp_path: Path) -> None:
    found = suggested(tmp_path, "person,i1,i2,i3,i4,i5,i6\n" + CHOICES)
    assert "values" not in found.content
    assert any("--key FILE" in note for note in found.notes)


def test_comments_hold_every_reason_and_names_with_line_breaks(tmp_path: Path) -> None:
    found = suggested(tmp_path, 'id,"q\n1","q\n2","q\n3","a: #\nb"\n1,1,0,1,text one\n2,0,1,1,text two\n')
    lines = found.as_yaml().splitlines()
    assert max(map(len, lines)) < 90
    keys = [n for n, line in enumerate(lines) if re.match(r" *\w+: \S", line)]
    assert keys
    assert all(lines[n - 1].lstrip().startswith("#") for n in keys)
    assert yaml.safe_load(found.as_yaml()) == found.content
    assert found.content["wide"]["items"] == ["q\n1", "q\n2", "q\n3"]


@pytest.mark.parametrize(
    ("texts", "form"),
    [
        (["2026-10-01 09:10:00", "2026-10-01T09:10Z"], ""),
        (["1790840400", "1790840460"], ""),
        (["13/10/2026 09:10", "01/02/2026 10:00"], "%d/%m/%Y %H:%M"),
        (["10/13/2026 9:10:00 PM"], "%m/%d/%Y %I:%M:%S %p"),
        (["2026/10/01 9:10:00 AM GMT+9"], "%Y/%m/%d %I:%M:%S %p %z"),
        (["1 October 2026, 9:10 AM"], "%d %B %Y, %I:%M %p"),
        (["2026-10-01"], None),
        (["1980-01-01 00:00:00"], None),
        (["10:12", "9:30"], None),
        (["12 mins"], None),
    ],
)
def test_formats_of_times(texts: list[str], form: str | None) -> None:
    assert Column("time", texts).time_formats == ([] if form is None else [form])


def times_of(*texts: str, header: str = "student,question,submitted,correct") -> str:
    return f"{header}\n" + "".join(f"s{k},q{k % 2},{text},{k % 2}\n" for k, text in enumerate(texts))


def test_dates_with_two_readings_are_a_choice(tmp_path: Path) -> None:
    texts = [f"10/{5 + k % 5:02d}/2026 9:{k:02d} AM" for k in range(30)]
    found = suggested(tmp_path, times_of(*texts))
    assert "format" not in found.content.get("time", {})
    assert yaml.safe_load(found.as_yaml())["choose"]["times"] == [
        {
            "reading": {"time": {"format": "%m/%d/%Y %I:%M %p"}},
            "rows": [f"line {k + 2}: {texts[k]} is {5 + k:02d} October 2026, 09:{k:02d}" for k in range(3)],
        },
        {
            "reading": {"time": {"format": "%d/%m/%Y %I:%M %p"}},
            "rows": [f"line {k + 2}: {texts[k]} is 10 {('May', 'June', 'July')[k]} 2026, 09:{k:02d}" for k in range(3)],
        },
    ]
    assert "(choose.times)" in preview(tmp_path / "x.csv", found)[-1]


@pytest.mark.parametrize(
    ("texts", "header"),
    [
        (["10/05/2026 09:10", "10/13/2026 09:10"], "student,question,submitted,correct"),
        (["10/10/2026 09:10", "09/09/2026 09:10"], "student,question,submitted,correct"),
        (["05.10.2026 09:10", "06.10.2026 09:10"], "student,question,submitted,correct"),
        (
            ["10/05/2026 09:10,10/05/2026 09:12", "10/05/2026 09:10,10/13/2026 09:12"],
            "student,question,started,submitted,correct",
        ),
    ],
    ids=["a day above 12", "equal numbers", "points", "another column with a day above 12"],
)
def test_dates_with_one_reading_are_no_choice(tmp_path: Path, texts: list[str], header: str) -> None:
    found = suggested(tmp_path, times_of(*texts, header=header))
    assert "choose" not in found.content
    assert "2 of 2 answers would be stored" in preview(tmp_path / "x.csv", found)[-1]


def table(header: str, rows: int, cells: Callable[[int], str]) -> str:
    return f"{header}\n" + "".join(f"p{k},{cells(k)}\n" for k in range(rows))


@pytest.mark.parametrize(("mark", "n_readings"), [("-1", 3), ("-0.25", 2)])
@pytest.mark.parametrize("kind", ["matrix", "list"])
def test_marks_taken_off_are_a_choice_and_no_code(tmp_path: Path, mark: str, n_readings: int, kind: str) -> None:
    cells = ["1", mark, "0", "1"]
    if kind == "matrix":
        found = suggested(tmp_path, table("id,q1,q2", 40, lambda k: f"{cells[k % 4]},{cells[k // 2 % 4]}"))
    else:
        found = suggested(tmp_path, table("student,item,score", 40, lambda k: f"q{k % 3},{cells[k % 4]}"))
    wrong, omitted, *code = (one["reading"] for one in found.content["choose"]["marks"])
    assert wrong == {"values": {"correct": {mark: 0, "0": 0, "1": 1}}}
    assert omitted == {"values": {"correct": {mark: 0, "0": None, "1": 1}}}
    assert len(code) == n_readings - 2
    assert all([*one["null_values"].values()] == [["-1"]] * len(one["null_values"]) for one in code)
    assert "null_values" not in found.content
    assert yaml.safe_load(found.as_yaml()) == found.content
    assert "(choose.marks)" in preview(tmp_path / "x.csv", found)[-1]


def test_marks_taken_off_without_zeros_are_wrong_answers(tmp_path: Path) -> None:
    found = suggested(tmp_path, table("id,q1,q2", 40, lambda k: f"{1 - k % 3 // 2 * 2},{1 - k % 2 * 2}"))
    assert found.content["values"] == {"correct": {"-1": 0, "1": 1}}
    assert not {"choose", "null_values"} & found.content.keys()


def test_rare_or_large_negative_numbers_remain_codes(tmp_path: Path) -> None:
    found = suggested(tmp_path, table("id,q1,q2", 60, lambda k: f"{k % 2 if k else -1},{k // 2 % 2 if k % 3 else -9}"))
    assert found.content["null_values"] == {"q1": "-1", "q2": "-9"}
    assert "choose" not in found.content


@pytest.mark.parametrize("kind", ["matrix", "list"])
def test_item_coded_1_and_2_beside_0_and_1_is_a_choice(tmp_path: Path, kind: str) -> None:
    if kind == "matrix":
        found = suggested(tmp_path, table("id,q1,q2", 40, lambda k: f"{1 + k // 2 % 2},{k % 2}"))
    else:
        found = suggested(
            tmp_path, table("student,item,score", 80, lambda k: f"q{1 + k % 2},{(k + 1) % 2 + k // 2 % 2}")
        )
    coded, points = found.content["choose"]["items_from_1"]
    assert coded["reading"] == {"item_values": {"q1": {"1": 0, "2": 1}}}
    assert points["reading"] == {"max_scores": {"q1": 2}}
    assert (coded["rows"][0], points["rows"][0]) == ("line 2, q1: 1 is 0 of 1 points", "line 2, q1: 1 is 1 of 2 points")
    assert "max_scores" not in found.content


@pytest.mark.parametrize("top", ["1", "2"])
def test_item_of_true_and_false_beside_numbers_is_an_item(tmp_path: Path, top: str) -> None:
    found = suggested(
        tmp_path, table("id,q1,q2,q3", 40, lambda k: f"{k % 2 == 0},{k // 2 % 2},{'0' if k % 3 else top}")
    )
    assert found.content["wide"] == {"items": ["q1", "q2", "q3"]}
    assert found.content["values"] == {"correct": {"True": True, "False": False}}
    assert found.content.get("max_scores") == (None if top == "1" else {"q3": 2})


@pytest.mark.parametrize(
    ("header", "row", "named"),
    [
        ("id,q1,q2", "{a},{b}", False),
        ("row,student,item,right", "s{c},q{b},{a}", False),
        ("row,form_id,student,item,right", "F1,s{c},q{b},{a}", True),
    ],
)
def test_suggestion_asks_for_the_form_unless_a_column_has_it(
    tmp_path: Path, header: str, row: str, named: bool
) -> None:
    found = suggested(tmp_path, table(header, 40, lambda k: row.format(a=k % 2, b=k // 2 % 2, c=k // 4)))
    assert any("constants: {form_id: NAME}" in note for note in found.notes) != named


def test_rows_of_one_learner_in_a_matrix_are_a_choice(tmp_path: Path) -> None:
    text = "id,attempt,q1,q2,q3\n" + "".join(f"s{k // 2},{1 + k % 2},{k % 2},{k // 3 % 2},1\n" for k in range(40))
    found = suggested(tmp_path, text)
    same, other = (one["reading"]["columns"]["user_id"] for one in found.content["choose"]["learners"])
    assert (same, other) == (["id"], ["#file", "#row"])
    assert any("attempt (the number of an attempt)" in note for note in found.notes)


@pytest.mark.parametrize(("total", "what"), [(sum, "sum"), (lambda row: round(sum(row) / len(row), 2), "mean")])
def test_total_of_a_matrix_is_left_out_and_named(tmp_path: Path, total: Callable, what: str) -> None:
    rows = [[k % 2, k // 2 % 2, k // 3 % 2, k * k % 3 % 2] for k in range(40)]
    text = table("id,a,b,c,d,mine", 40, lambda k: ",".join(map(str, [*rows[k], total(rows[k])])))
    found = suggested(tmp_path, text)
    assert found.content["wide"] == {"items": ["a", "b", "c", "d"]}
    assert f"Left out, because they are not items: mine (the {what} of a … d)." in found.notes


def test_list_with_marks_of_people_and_programs_uses_both(tmp_path: Path) -> None:
    header = "CandidateExternalId,QuestionNo,QuestionTitle,ManuallyGradedScore,AutoGradedScore"
    lines = [f"{c},{q},T{q}," + ("3.0,null" if q < 2 else f"null,{q % 2}.0") for c in (101, 102) for q in (1, 2, 3)]
    found = suggested(tmp_path, "\n".join([header, *lines]) + "\n")
    assert found.content["columns"] == {
        "item_id": "QuestionNo",
        "user_id": "CandidateExternalId",
        "score": ["ManuallyGradedScore", "AutoGradedScore"],
    }
    assert found.content["max_scores"] == {"1": 3}
    assert preview(tmp_path / "x.csv", found)[-1] == "6 of 6 answers would be stored"


def test_times_in_two_forms_are_not_left_out(tmp_path: Path) -> None:
    found = suggested(tmp_path, times_of("10/05/2026 09:10", "06.10.2026 09:10", "10/07/2026 09:10"))
    assert found.content["columns"]["completed_at"] == "submitted"
    assert "submitted looks like times, in two forms: lines 2 and 3. Write them alike." in found.notes
    assert not any("Left out" in note for note in found.notes)
    assert preview(tmp_path / "x.csv", found)[-1] == "0 of 3 answers would be stored, 3 × bad_time"


def test_times_in_an_unknown_form_are_named(tmp_path: Path) -> None:
    texts = ("2026年10月5日 09:10", "2026年10月6日 09:10")
    found = suggested(tmp_path, times_of(*texts, header="student,question,datetime,correct"))
    assert any("datetime looks like times, in an unknown form: line 2." in note for note in found.notes)


def test_a_choice_with_one_reading_left_is_made(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    readings = [{"reading": {"time": {"format": form}}} for form in ("%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M")]
    content: dict[str, Any] = {"columns": {"user_id": "u"}, "time": {"zone": "UTC"}, "choose": {"times": readings}}
    path.write_text(yaml.safe_dump(content))
    both = load_mapping(path)
    assert both is not None
    with pytest.raises(PermanentFailure, match=r"several readings of it \(choose.times\): keep one"):
        bind(both, "x.csv", ["u"], ["user_id"], ["user_id"])
    path.write_text(yaml.safe_dump(content | {"choose": {"times": readings[1:]}}))
    one = load_mapping(path)
    assert one is not None
    assert (one.choose, one.time.format, one.time.zone) == ({}, "%m/%d/%Y %H:%M", "UTC")


@pytest.mark.parametrize("header", ["user_id,item_id,completed_at,correct", "student,question,submitted,correct"])
@pytest.mark.parametrize(
    ("times", "form", "first"),
    [
        (["46300.51042", "46300.52083", "46301.25"], "excel", "2026-10-05 12:15:00.288"),
        (["05.10.2026 12:15", "05.10.2026 12:30", "06.10.2026 06:00"], "%d.%m.%Y %H:%M", "2026-10-05 12:15:00"),
    ],
    ids=["serial numbers", "dates"],
)
def test_written_times_get_a_format_also_under_our_names(
    tmp_path: Path, header: str, times: list[str], form: str, first: str
) -> None:
    found = suggested(tmp_path, times_of(*times, header=header))
    assert found.content["time"] == {"format": form}
    shown = preview(tmp_path / "x.csv", found, zone="UTC")
    assert first in shown[1]
    assert shown[-1] == "3 of 3 answers would be stored"


def test_bank_of_fasttest_asks_for_d_and_keeps_items_without_parameters(tmp_path: Path) -> None:
    bank = "Item ID;Content Area;IRT a;IRT b;IRT c;Key;Status\nI1;Algebra;0,95;-0,52;0,20;C;Active\nI2;Sets;;;;B;New\n"
    found = suggested(tmp_path, bank)
    assert found.kind == "questions"
    assert not any("learners" in note for note in found.notes)
    assert [reading["rows"] for reading in found.content["choose"]["metric"]] == [
        ["line 2: a = 0.95 is a slope of 0.95"],
        ["line 2: a = 0.95 is a slope of 1.61"],
    ]
    found.make_choices(lambda _question, _readings: 1)
    assert preview(tmp_path / "x.csv", found) == [
        "I1: {'irt': {'a': 0.95, 'b': -0.52, 'c': 0.2, 'D': 1.7}, 'key': 'C'}",
        "I2: {'key': 'B'}",
    ]


def test_bank_of_winsteps_has_no_parameters_for_extreme_items(tmp_path: Path) -> None:
    """`ItemParameters.from_program(ifile, "winsteps")` gives the same numbers."""
    ifile = (
        "ENTRY,MEASURE,STATUS,COUNT,SCORE,MODLSE,IN.MSQ,NAME\n1,-1.25,1,500,390,.11,1.01,I1\n2,3.5,-1,500,0,1.83,1,I2\n"
    )
    found = suggested(tmp_path, ifile)
    assert found.kind == "questions"
    assert preview(tmp_path / "x.csv", found) == [
        "I1: {'irt': {'a': 1.0, 'b': -1.25, 'a_se': 0.0, 'b_se': 0.11, 'model': 'rasch'}}",
        "I2: {}",
    ]


def test_chosen_reading_is_merged_into_the_suggested_mapping(tmp_path: Path) -> None:
    found = suggested(tmp_path, times_of(*(f"10/{5 + k % 5:02d}/2026 09:{k:02d}" for k in range(30))))
    asked: list[Sequence[str]] = []

    def second(question: str, readings: Sequence[Sequence[str]]) -> int:
        asked.extend([[question], *readings])
        return 1

    found.make_choices(second)
    assert asked[0] == ["no day is above 12: is the day or the month first?"]
    assert asked[2][1] == "line 2: 10/05/2026 09:00 is 10 May 2026, 09:00"
    assert "choose" not in found.content
    assert found.content["time"] == {"format": "%d/%m/%Y %H:%M"}
    assert not any("Several readings" in note for note in found.notes)


@pytest.mark.parametrize("flow", [False, True])
def test_chosen_reading_alone_remains_in_a_mapping_file(tmp_path: Path, flow: bool) -> None:
    forms = ("%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M")
    readings = [{"reading": {"time": {"format": form}}, "rows": ["line 2: é #1"]} for form in forms]
    content = {"times": readings, "x": [{"reading": {"integer_ids": True}}]}
    choose = f"choose: {json.dumps(content)}\n" if flow else yaml.safe_dump({"choose": content})
    path = tmp_path / "own.yaml"
    path.write_text(f"# mine\n{choose}# the learners\ncolumns: {{user_id: u}} # kept\n", "utf-8")
    make_choices(path, lambda _question, _readings: None)
    assert len(yaml.safe_load(path.read_text("utf-8"))["choose"]["times"]) == 2
    make_choices(path, lambda _question, _readings: 1)
    text = path.read_text("utf-8")
    assert yaml.safe_load(text)["choose"] == {"times": readings[1:], "x": content["x"]}
    assert text.startswith("# mine\n")
    assert text.endswith("# the learners\ncolumns: {user_id: u} # kept\n")
    one = load_mapping(path)
    assert one is not None
    assert (one.choose, one.time.format) == ({}, forms[1])


@pytest.mark.parametrize("choose", [[], {"times": []}, {"times": [1]}, {"times": [{"reading": {"time": 5}}]}])
def test_invalid_choices_are_refused_with_a_message(tmp_path: Path, choose: Any) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"columns": {"user_id": "u"}, "choose": choose}))
    with pytest.raises(PermanentFailure, match="A mapping file looks like"):
        load_mapping(path)


@pytest.mark.parametrize(
    ("values", "parts"),
    [([0, 1, 2], (1, True)), ([0, 0.5, 1], (2, True)), ([0.25, 0.5], (4, True)), ([0.33, 0.67, 1], (3, False))],
)
def test_denominator_is_the_smallest_that_makes_scores_whole(values: list[float], parts: tuple[int, bool]) -> None:
    assert denominator(values) == parts


NAMES = ("id", "Student", "q1", "q2", "Q. 1 /1.00", "item", "question", "score", "Total", "A [Score]", "A", "time") + (
    ("Start time", "key", "b", "freq", "", "#file", "1.0", "*")
)
CELLS = (
    "0",
    "1",
    "4",
    "9",
    "A",
    "Never",
    "often",
    "1 / 2",
    "0.33",
    "0,5",
    "2026-10-01 09:10",
    "u7",
    "x",
    "NA",
    "KEY",
    "²",
    "",
)


@pytest.mark.parametrize("seed", range(40))
def test_random_tables_end_in_a_loadable_mapping_or_a_refusal(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    columns = [draw.choices(CELLS, k=draw.randint(1, 3)) for _ in range(draw.randint(1, 7))]
    rows = [[draw.choice(cells) for cells in columns] for _ in range(draw.randint(0, 9))]
    table = [draw.choices(NAMES, k=len(columns)), *rows]
    text = "\n".join(";".join(row) for row in table) + "\n"
    try:
        found = suggested(tmp_path, text)
    except PermanentFailure:
        return
    mapping = tmp_path / "own.yaml"
    mapping.write_text(found.as_yaml(), "utf-8")
    loaded = load_mapping(mapping)
    assert loaded is not None
    assert loaded.model_dump(exclude={"name"}) == found.mapping("").model_dump(exclude={"name"})
    preview(tmp_path / "x.csv", found)
