"""`python -m irt_psychometrics`: files in, results out, without the platform."""

import csv
import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import irt_psychometrics as irt
from irt_psychometrics.__main__ import main
from irt_psychometrics.commands import Files, analyse, fit, tables
from irt_psychometrics.commands.answers import Answers
from irt_psychometrics.core.errors import PsychometricsError

FILES = Files()
MATRIX = "student,x2,x10\nann,1,0\nbob,,1\ncy,0,NA\n"
SCORES = {("ann", "x2"): 1, ("ann", "x10"): 0, ("bob", "x10"): 1, ("cy", "x2"): 0}


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str, name: str = "given.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return write


def scores_of(answers: Answers) -> dict[tuple[str, str], int]:
    r = answers.responses
    return {
        (answers.person_ids[p], r.item_ids[i]): int(s)
        for p, i, s in zip(r.person.tolist(), r.item.tolist(), r.score.tolist(), strict=True)
    }


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (MATRIX, "a.csv"),
        (MATRIX, "a.csv.gz"),
        (MATRIX.replace(",", "\t"), "a.tsv"),
        ("student;x2;x10\nann;1,0;0\nbob;;1\ncy;0,0;NA\n", "a.csv"),
        ("\ufeff" + MATRIX.replace("\n", "\r\n"), "a.csv"),
        ("person,item,score\nann,x2,1\na\u200bnn,x10\u2060,0\n\u00adbob,x10,1\ncy,x\ufeff2,0\n", "a.csv"),
        ('person,item,score\nann,"x2",1\nann,x10,0\nbob,x10,1\nbob,x2,\ncy,x2,0\n\n', "a.csv"),
    ],
)
def test_text_of_every_layout_gives_the_same_scores(file, text: str, name: str) -> None:
    assert scores_of(FILES.answers(file(text, name))) == SCORES


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("person,i1,i2\na,1,0\nb,1\nc,1,1,1\n", "line 3: 2 columns, not 3; line 4: 4 columns, not 3"),
        ("person,i1,i1\na,1,0\n", "column i1 occurs twice"),
        ("person,i1,i2\n\na,1,2\n", "line 3, item i2: score '2'"),
        ("\n\n", "empty"),
    ],
)
def test_invalid_files_are_refused_with_path_and_spreadsheet_row(file, text: str, named: str) -> None:
    path = file(text)
    with pytest.raises(PsychometricsError, match=named) as caught:
        FILES.answers(path)
    assert str(path) in str(caught.value)


def test_text_that_is_not_utf8_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("person,i1\na,1\nJürgen,0\n".encode("latin-1"))
    with pytest.raises(PsychometricsError, match="line 3: this is not UTF-8"):
        FILES.answers(path)


@pytest.mark.parametrize("library", [name for name in tables.FRAME_LIBRARIES if find_spec(name)])
def test_parquet_is_read_by_any_frame_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(tables, "FRAME_LIBRARIES", (library,))
    path = tmp_path / "a.parquet"
    columns = {"id": pa.array([7.0, 8.0]), "x": pa.array([True, False]), "y": pa.array([None, 1.0])}
    pq.write_table(pa.table(columns), path)
    assert scores_of(FILES.answers(path)) == {("7", "x"): 1, ("8", "x"): 0, ("8", "y"): 1}
    pq.write_table(pa.table(columns | {"id": pa.array([1e19, 2e19])}), path)
    with pytest.raises(PsychometricsError, match="column 'id' stores ids as Float64"):
        FILES.answers(path)


def test_commands_need_no_frame_library_and_no_platform(tmp_path: Path) -> None:
    """A first fit of a CSV file loads nothing that a bare installation lacks."""
    program = (
        "import sys\n"
        "from irt_psychometrics.__main__ import main\n"
        f"assert main(['simulate', {str(tmp_path)!r}, '--persons', '60', '--items', '4']) == 0\n"
        f"main(['fit', {str(tmp_path / 'responses.csv')!r}, '--json'])\n"
        "found = {'pandas', 'polars', 'pyarrow', 'narwhals', 'pydantic', 'typer', 'rich', 'irt_assets'}\n"
        "assert not found & set(sys.modules), found & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)


def test_commands_fit_score_and_link_simulated_responses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: object) -> object:
        assert main([*map(str, words), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    sim, out = tmp_path / "sim", tmp_path / "fit"
    assert run("simulate-responses", sim, "--persons", 400, "--items", 8, "--seed", 2)["n_responses"] == 3200
    fitted = run("fit", sim / "responses.csv", "--out", out)
    assert fitted == json.loads((out / "fit.json").read_text())
    rows = run("score", sim / "responses.csv", "--params", out / "params.csv", "--method", "wle")
    truth = np.loadtxt(sim / "persons.csv", delimiter=",", skiprows=1, usecols=1)
    # eight items with a about 1 have a reliability of about .6, whose square root is the correlation with θ
    assert np.corrcoef([row["theta"] for row in rows], truth)[0, 1] > 0.65
    linked = run("link", out / "params.csv", sim / "items.csv", "--method", "haebara", "--no-purify")
    assert list(linked) == ["slope", "intercept", "method", "symmetric", "rmse", "anchors_used", "anchors_dropped"]
    # the constants' errors with 400 persons are about 0.1 and 0.05
    assert (linked["slope"], linked["intercept"]) == pytest.approx((1, 0), abs=0.4)


def test_fit_command_prints_a_table_without_the_json_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", str(tmp_path), "--persons", "100", "--items", "3"]) == 0
    capsys.readouterr()
    main(["fit", str(tmp_path / "responses.csv")])
    heading, first, *_, last = capsys.readouterr().out.splitlines()
    assert heading.split()[:5] == ["item", "n", "a", "SE", "b"]
    assert first.split()[:2] == ["i1", "100"]
    assert last.startswith("log-likelihood ")


def test_choices_are_scored_by_a_key(file, capsys: pytest.CaptureFixture[str]) -> None:
    answers = FILES.answers(
        file("person,item,response\nann,x2,B\nann,x10,4\nbob,x10,3\nbob,x2,\ncy,x2,b\n"),
        FILES.key(file("item,key\nx2,B\nx10,3\n", "key.csv")),
    )
    assert scores_of(answers) == SCORES
    main(["fit", str(file(MATRIX)), "--key", str(file("item,key\nx2,1\n", "key.csv"))])
    assert "left out, because the key does not have them: x10" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("item,key\nx2,B\nx2,D\nx10,3\n", {"x2": {"B": 1, "D": 1}, "x10": {"3": 1}}),
        ("Item;Key\nx2;B|D\n", {"x2": {"B": 1, "D": 1}}),
        ('item,key\nx2,"C;A"\n', {"x2": {"A;C": 1}}),
        ("item,option,score\nx2,A,1\nx2,C,.5\nx2,D,0\n", {"x2": {"A": 2, "C": 1, "D": 0}}),
        ("item,option,points\nx2,A,1\nx2,C,0.33\n", {"x2": {"A": 3, "C": 1}}),
        ("item,option,score,key\nx2,A,5,A\nx2,C,2,A\n", {"x2": {"A": 5, "C": 2}}),
    ],
)
def test_keys_have_several_right_options_and_scores_of_options(file, text: str, key: dict[str, dict[str, int]]) -> None:
    assert FILES.key(file(text, "key.csv")) == key


def test_several_right_options_and_checkboxes_are_scored(file) -> None:
    answers = file("id;q1;q2;q3\na;A,C;B;A\nb;C|A;D;C\nc;A;C;B\n")
    key = FILES.key(file("item,option,score\nq1,C;A,1\nq2,B,1\nq2,D,1\nq3,A,1\nq3,C,.5\n", "key.csv"))
    read = FILES.answers(answers, key)
    assert read.responses.score.reshape(3, 3).tolist() == [[1, 1, 2], [1, 1, 1], [0, 0, 0]]
    assert read.responses.n_categories.tolist() == [2, 2, 3]
    assert read.choices is not None
    assert read.choices.keys == (frozenset({"A;C"}), frozenset("BD"), frozenset("A"))
    assert read.choices.labels[0] == ("A", "A;C")
    as_list = "person,item,response\n" + "".join(
        f'{person},{item},"{choice}"\n'
        for person, *choices in (line.split(";") for line in answers.read_text().splitlines()[1:])
        for item, choice in zip(("q1", "q2", "q3"), choices, strict=True)
    )
    assert scores_of(FILES.answers(file(as_list, "list.csv"), key)) == scores_of(read)


def test_key_of_options_together_is_refused_if_nobody_chose_several(file) -> None:
    answers = file("id,q1,q2\na,B,A\nb,D,A\n")
    with pytest.raises(PsychometricsError, match=r"item q1, key 'B;D', chosen: 'B' .*write a line for each option"):
        FILES.answers(answers, FILES.key(file("item,key\nq1,B;D\nq2,A\n", "key.csv")))


def test_item_analysis_of_sat12_names_the_weak_items_and_the_wrong_key(shared: Path) -> None:
    """The figures of ShinyItemAnalysis and TAM are in test_item_analysis.py."""
    data = shared / "data"
    answers = FILES.answers(data / "sat12_raw_choices.csv", FILES.key(data / "sat12_key.csv"))
    found = analyse(answers).as_dict()
    [form] = found["forms"]
    assert [form[name] for name in ("mean", "sd", "alpha", "sem")] == pytest.approx(
        [18.20, 5.05, 0.798, 2.27], abs=0.005
    )
    weak = {row["item"]: round(row["item_rest"], 3) for row in found["items"] if "min_item_rest" in row["flags"]}
    assert weak == {"item_9": 0.127, "item_12": 0.076, "item_21": 0.136, "item_32": 0.037}
    assert [row["item"] for row in found["items"] if "beats_key" in row["flags"]] == ["item_32"]
    options = [row for row in found["options"] if row["option"] != "8" and not row["key"]]
    assert [(row["item"], row["option"]) for row in options if "beats_key" in row["flags"]] == [("item_32", "3")]
    assert (len(options), sum("min_option_share" in row["flags"] for row in options)) == (128, 49)
    shown = {f"{row['item']}/{row['option']}": round(row["rest_correlation"], 3) for row in options}
    strong = {name: r for name, r in shown.items() if r > 0.05}
    assert strong == {"item_8/5": 0.076, "item_12/3": 0.069, "item_23/3": 0.072, "item_32/3": 0.203}
    assert "item-rest counts omitted answers as 0" in str(analyse(answers).report()[-1])


def test_folder_of_a_fit_has_classical_tables_item_fit_person_fit_and_dif(shared: Path, tmp_path: Path) -> None:
    matrix = shared / "data" / "spisa_wide.csv.gz"
    answers = FILES.answers(matrix, groups="gender")
    fitted = fit(answers, groups=answers.groups)
    [note] = fitted.write(tmp_path)
    rows = {path.name: list(csv.DictReader(path.read_text().splitlines())) for path in tmp_path.glob("*.csv")}
    counts = {"params": 45, "forms": 1, "items": 45, "options": 90, "item_fit": 45, "person_fit": 1075, "dif": 45}
    assert {name: len(found) for name, found in rows.items()} == {f"{name}.csv": n for name, n in counts.items()}
    total = [int(row["score"]) for row in rows["person_fit.csv"]]
    assert float(rows["forms.csv"][0]["mean"]) == pytest.approx(np.mean(total))
    # of about 1,000 persons, a tenth has a p of lz* below .1 if the model fits, and a little more if it does not
    assert 0.05 < np.mean([float(row["p"]) < 0.1 for row in rows["person_fit.csv"] if row["p"]]) < 0.2
    known = irt.find_dif(answers.responses, answers.groups)
    assert [row["severity"] for row in rows["dif.csv"]] == list(known.severity)
    large = [
        (item, size) for item, size in zip(known.item_ids, known.severity, strict=True) if size in ("medium", "high")
    ]
    assert all(f"{item} ({size}, " in note for item, size in large[:3])
    assert note.startswith("DIF against")
    assert note.endswith("see dif.csv")
    assert {name for row in rows["item_fit.csv"] for name in row} >= {"infit", "outfit", "rmsd", "s_x2", "s_x2_p"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit", "nowhere.csv"], "nowhere.csv cannot be read"),
        (["link", "a", "b", "--metric-d", "x"], "--metric-d"),
        (["score", "a"], "--params"),
        (["fit", "a", "--model", "5pl"], "5pl"),
        ([], "COMMAND"),
    ],
)
def test_wrong_requests_have_exit_code_2(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(words)
    except SystemExit as end:
        code = end.code
    assert (code, message in capsys.readouterr().err) == (2, True)


@pytest.mark.parametrize(("model", "simpler"), [("2pl", True), ("rasch", False), ("1pl", False)])
def test_advice_for_undetermined_items_follows_from_the_model(file, model: str, simpler: bool) -> None:
    """A Rasch fit once advised a 1PL, which has a parameter more, and standard errors had eleven digits."""
    rng = np.random.default_rng(1)
    scores = (rng.random((60, 4)) < [0.3, 0.5, 0.6, 0.97]).astype(int)
    rows = "".join(f"p{k},{','.join(map(str, row))}\n" for k, row in enumerate(scores.tolist()))
    fitted = fit(FILES.answers(file("person,a,b,c,d\n" + rows)), model="rasch")
    cal = fitted.calibration
    models = (model,) * cal.n_items
    wide = replace(fitted, calibration=replace(cal, models=models, cov=cal.cov * 1e20, flags=((),) * cal.n_items))
    [warning] = wide.warnings
    assert ("or use --model 1pl" in warning, "month" in warning) == (simpler, False)
    assert "00000" not in str(wide.report()[0])
