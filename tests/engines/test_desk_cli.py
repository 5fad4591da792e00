"""`irt fit`, `score`, `score-table`, `link` and others on the command line: exit codes, pure JSON, complete files."""

from __future__ import annotations

import gzip
import json
import math
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from irt_assets.intake.library_files import FILES
from irt_psychometrics import PsychometricsError
from irt_psychometrics.cells import codes_by_column
from irt_psychometrics.cells.notes import describe_zeros
from irt_psychometrics.commands import main, output
from irt_psychometrics.commands.answers import Answers
from irt_psychometrics.commands.output import check_folder, write_whole
from resources.failures import PermanentFailure
from tests.helpers.sentences import missing_sentences
from tests.helpers.typed import Irt, command_line


@pytest.fixture
def irt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Irt:
    """The command line with an address at which no database answers, so that any access to a database fails."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    return command_line(monkeypatch, capsys)


@pytest.fixture
def data(irt, tmp_path: Path) -> Path:
    done = irt("simulate-responses", tmp_path / "sim", "--persons", 400, "--items", 8, "--seed", 2, "--json")
    assert (done.code, json.loads(done.out)["n_responses"]) == (0, 3200)
    return tmp_path / "sim"


def test_commands_fit_score_and_link_simulated_responses(irt, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "fit"
    fitted = irt("fit", data / "responses.csv", "--out", out, "--json")
    assert (fitted.code, json.loads(fitted.out)) == (0, json.loads((out / "fit.json").read_text()))
    scored = irt("score", data / "responses.csv", "--params", out / "params.csv", "--method", "wle", "--json")
    rows = json.loads(scored.out)
    assert (len(rows), set(rows[0])) == (400, {"person", "theta", "se"})
    both_ways = irt("link", out / "params.csv", data / "items.csv", "--symmetric")
    assert "(stocking-lord, symmetric)" in both_ways.out
    refused = irt("link", out / "params.csv", data / "items.csv", "--method", "mean-mean", "--symmetric")
    assert refused.code == 2
    assert "mean-mean compares no curves" in refused.err


def test_fit_of_adaptive_answers_lists_items_that_are_hardly_determined(irt, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    a, b = rng.lognormal(0, 0.3, 60), np.sort(rng.normal(0, 1, 60))
    lines = ["person,item,score"]
    for person, theta in enumerate(rng.normal(0, 1, 1500)):
        nearest = np.argsort(np.abs(b - theta - rng.normal(0, 0.3)))[:12]
        right = rng.random(12) < 1 / (1 + np.exp(-a[nearest] * (theta - b[nearest])))
        lines += [f"p{person},i{item},{int(score)}" for item, score in zip(nearest, right, strict=True)]
    (tmp_path / "adaptive.csv").write_text("\n".join(lines))
    done = irt("fit", tmp_path / "adaptive.csv", "--json")
    result = json.loads(done.out)
    loose = [
        row["item"]
        for row in result["items"]
        if row["flags"] in ([], ["loose"]) and (abs(row["b"]) > 6 or (row["b_se"] or 0) > 1)
    ]
    assert result["converged"]
    assert loose == [row["item"] for row in result["items"] if "loose" in row["flags"]]
    assert done.code == 1
    assert f"hardly determine {len(loose)} of 60 items" in done.err
    assert ("month" in done.err, "--model 1pl" in irt("fit", tmp_path / "adaptive.csv", "--model", "rasch").err) == (
        False,
        False,
    )
    assert loose[0] in done.err


def test_parameters_of_unanswered_items_are_refused_without_the_partial_flag(irt, data: Path, tmp_path: Path) -> None:
    """Otherwise LSAT6 could be scored by SAT12's parameters, because both name their items item_1 …"""
    bank = tmp_path / "bank.csv"
    others = "".join(f"other{n},1,0,0\n" for n in range(27))
    bank.write_text((data / "items.csv").read_text() + others)
    refused = irt("score", data / "responses.csv", "--params", bank)
    assert (refused.code, refused.out) == (2, "")
    assert "27 of its 35 items have no answers (other0, other1, other2, other3, other4 and 22 more)" in refused.err
    partial = irt("score", data / "responses.csv", "--params", bank, "--partial", "--json")
    assert partial.code == 0
    assert "warning: 27 of the 35 items" in partial.err
    alone = irt("score", data / "responses.csv", "--params", data / "items.csv", "--json")
    assert (alone.code, alone.err) == (0, "")
    assert json.loads(partial.out) == json.loads(alone.out)


def test_commands_print_a_table_or_pure_json_with_the_json_flag(irt, data: Path, tmp_path: Path) -> None:
    for words in (["fit", data / "responses.csv"], ["score", data / "responses.csv", "--params", data / "items.csv"]):
        shown = irt(*words)
        assert shown.code == 0
        assert "SE" in shown.out or "se" in shown.out
        with pytest.raises(json.JSONDecodeError):
            json.loads(shown.out)
        json.loads(irt(*words, "--json").out)
    few = "\n".join((data / "items.csv").read_text().splitlines()[:4])
    (tmp_path / "few.csv").write_text(few)
    warned = irt("link", tmp_path / "few.csv", data / "items.csv", "--json")
    assert (warned.code, json.loads(warned.out)["slope"]) == (0, pytest.approx(1))
    assert "only 3 items" in warned.err


@pytest.mark.parametrize(
    "words",
    [
        ("link", "SIM/items.csv", "SIM/items.csv", "--json"),
        ("link", "SIM/items.csv", "SIM/items.csv", "--method", "haebara", "--no-purify"),
        ("link", "SIM/items.csv"),
        ("link", "SIM/items.csv", "SIM/items.csv", "--metod", "haebara"),
        ("link", "SIM/items.csv", "SIM/items.csv", "--metric-d", "1,2,3"),
        ("link", "--help"),
        ("simulate-responses", "OUT", "--persons", "20", "--mean", "-0.5"),
        ("simulate-responses", "OUT", "--persons", "0"),
        ("simulate-responses", "--help"),
        ("score-table", "SIM/items.csv", "--mean", "0", "--sd", "1", "--json"),
        ("classify", "SIM/items.csv"),
    ],
)
def test_mounted_commands_end_and_print_as_the_librarys_program(
    irt, data: Path, tmp_path: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    given = [
        str(tmp_path / word.replace("SIM", "sim").replace("OUT", "out")) if "/" in word or word == "OUT" else word
        for word in words
    ]
    typed = irt(*given)
    try:
        code = main(given, program="irt")
    except SystemExit as ended:
        code = int(str(ended.code))
    printed = capsys.readouterr()
    assert (typed.code, typed.out, typed.err) == (code, printed.out, printed.err)


def test_mounted_link_reads_every_kind_of_file_and_shows_control_characters(irt, data: Path, tmp_path: Path) -> None:
    table = pd.read_csv(data / "items.csv")
    table["item"] = "\x1b[31m" + table["item"].astype(str)
    (tmp_path / "items.jsonl").write_text(table.to_json(orient="records", lines=True))
    linked = irt("link", tmp_path / "items.jsonl", tmp_path / "items.jsonl")
    assert (linked.code, "8 common items" in linked.out) == (0, True)
    refused = irt("link", tmp_path / "items.jsonl", data / "items.csv")
    assert ("\x1b" in refused.err, "\\x1b[31mi1" in refused.err) == (False, True)


def test_fit_without_convergence_exits_with_code_1_and_names_the_item(irt, tmp_path: Path) -> None:
    irt("simulate-responses", tmp_path, "--persons", 300, "--items", 6)
    lines = (tmp_path / "responses.csv").read_text().splitlines()
    twins = [lines[0] + ",twin", *(f"{line},{line.split(',')[1]}" for line in lines[1:])]
    (tmp_path / "twins.csv").write_text("\n".join(twins))
    done = irt("fit", tmp_path / "twins.csv", "--json", "--out", tmp_path / "fit")
    assert done.code == 1
    assert json.loads(done.out)["converged"] is False
    assert "twin" in done.err
    assert (tmp_path / "fit" / "fit.json").exists()


@pytest.mark.parametrize(
    ("content", "words", "named"),
    [
        ("person,i1,i2\na,1,0\nb,1\n", ("fit", "FILE"), ("line 3",)),
        ("person,i1,i2\na,1,2\n", ("fit", "FILE"), ("line 2", "i2", "'2'")),
        ("person,item,score\na,i1,1\na,i1,0\n", ("fit", "FILE"), ("person a", "item i1")),
        ("i1,i2,i3\n1,0,1\n0,1,1\n1,1,0\n", ("fit", "FILE"), ("3 learners",)),
        ("i1,i2,i3\n1,0,1\n0,1,1\n", ("fit", "FILE", "--model", "5pl"), ("5pl",)),
        ("i1,i2,i3\n1,0,1\n0,1,1\n", ("fit", "FILE", "--engine", "mirt"), ("mirt",)),
        ("item,a,b,c\nx,-1,0,0\n", ("link", "FILE", "FILE"), ("line 2", "item x", "a = -1")),
        ("item,a,b,c\nx,1,0,1\n", ("link", "FILE", "FILE"), ("line 2", "item x", "c = 1")),
        ("item,a,b,c\nx,1,0,0\n", ("link", "FILE", "SIM/items.csv"), ("no item in common",)),
        ("item,a,b,c\nx,1,0,0\n", ("link", "FILE", "FILE", "--metric-d", "x"), ("--metric-d",)),
        ("item,a,b,c\nx,0,0,0\n", ("score", "SIM/responses.csv", "--params", "FILE"), ("line 2", "a = 0")),
        ("item,a,b,c\nx,0,0,0\n", ("simulate-responses", "OUT", "--params", "FILE"), ("line 2", "a = 0")),
    ],
)
def test_invalid_input_exits_with_code_2_names_the_location_and_writes_no_file(
    irt,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str,
    words: tuple[str, ...],
    named: tuple[str, ...],
) -> None:
    monkeypatch.setenv("PATH", "")  # hides R, even if it is installed
    path = tmp_path / "given.csv"
    path.write_text(content)
    places = {"FILE": str(path), "OUT": str(tmp_path / "out")}
    given = [places.get(word, word.replace("SIM", str(data))) for word in words]
    if words[0] in ("fit", "score"):
        given += ["--out", str(tmp_path / "out")]
    done = irt(*given)
    assert done.code == 2
    assert missing_sentences(done.err, *named) == []
    assert not (tmp_path / "out").exists()
    assert "Traceback" not in done.err


def test_tables_in_different_metrics_are_linked_by_metric_d(irt, data: Path, tmp_path: Path) -> None:
    """A bank published with D = 1.7 and a fit with D = 1: the bank's slopes are 1.7 times smaller."""
    rows = [line.split(",") for line in (data / "items.csv").read_text().splitlines()]
    bank = [rows[0], *([i, str(float(a) / 1.7), b, c] for i, a, b, c in rows[1:])]
    (tmp_path / "bank.csv").write_text("\n".join(",".join(row) for row in bank))
    linked = json.loads(irt("link", data / "items.csv", tmp_path / "bank.csv", "--metric-d", "1,1.7", "--json").out)
    assert (linked["slope"], linked["intercept"]) == pytest.approx((1, 0), abs=1e-7)
    forgotten = json.loads(irt("link", data / "items.csv", tmp_path / "bank.csv", "--json").out)
    assert abs(forgotten["slope"] - 1) > 0.1 or forgotten["rmse"] > 0.02


def test_fit_mentions_guessing_that_the_model_lacks(irt, tmp_path: Path) -> None:
    made = irt("simulate-responses", tmp_path / "sim", "--model", "3pl", "--persons", 3000, "--items", 25, "--seed", 3)
    assert made.code == 0
    without = irt("fit", tmp_path / "sim/responses.csv")
    assert "skewed to the right, or items are guessed. Parameters are biased" in " ".join(without.out.split())
    assert "not normal" not in irt("fit", tmp_path / "sim/responses.csv", "--model", "3pl").out
    text = " ".join(irt("fit", tmp_path / "sim/responses.csv", "--latent", "auto").out.split())
    assert "learners guess: a 3PL raises 2 log L by" in text
    assert {"2pl normal", "3pl normal", "2pl histogram", "3pl histogram"} <= set(re.findall(r"\dpl [a-z]+", text))


def test_latent_distribution_of_a_histogram_is_not_described_as_normal(irt, data: Path) -> None:
    text = " ".join(irt("fit", data / "responses.csv", "--latent", "histogram").out.split())
    assert missing_sentences(text, "θ with mean 0.000, SD 1.000", "θ is taken as a histogram, as requested") == []
    assert "θ ~ N(" not in text


def test_latent_auto_is_refused_with_anchors(irt, data: Path) -> None:
    anchored = irt("fit", data / "responses.csv", "--latent", "auto", "--anchors", data / "items.csv")
    assert anchored.code == 2
    assert "--latent auto is for one population without anchors" in " ".join(anchored.err.split())


# -- files -------------------------------------------------------------------------------------------
# Files of answers and tables of parameters: accepted and refused layouts, and complete output.


@pytest.fixture
def file(tmp_path: Path):
    def write(text: str, name: str = "given.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return write


def as_pairs(answers: Answers) -> dict[tuple[str, str], int]:
    r = answers.responses
    return {
        (answers.person_ids[p], r.item_ids[i]): int(s)
        for p, i, s in zip(r.person.tolist(), r.item.tolist(), r.score.tolist(), strict=True)
    }


WIDE = "student,x2,x10\nann,1,0\nbob,,1\ncy,0,NA\n"
PAIRS = {("ann", "x2"): 1, ("ann", "x10"): 0, ("bob", "x10"): 1, ("cy", "x2"): 0}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (WIDE, "a.csv"),
        (WIDE, "a.csv.gz"),
        (WIDE.replace(",", "\t"), "a.tsv"),
        (WIDE.replace(",", ";"), "a.csv"),
        ("\ufeff" + WIDE.replace("\n", "\r\n"), "a.csv"),
        (WIDE.replace(",1", ",1.0").replace("NA", "NaN"), "a.csv"),
        ("person,item,score\nann,x2,1\nann,x10,0\nbob,x10,1\nbob,x2,\ncy,x2,0\n", "a.csv"),
        ("x,correct,item_id,user_id\n9,1,x10,bob\n9,0,x10,ann\n9,0,x2,cy\n9,1,x2,ann\n", "a.csv"),
    ],
)
def test_matrices_and_lists_are_read_in_every_file_format(file, text: str, name: str) -> None:
    assert as_pairs(FILES.answers(file(text, name))) == PAIRS


def test_a_matrix_keeps_the_order_of_persons_and_items(file) -> None:
    answers = FILES.answers(file(WIDE))
    assert (answers.person_ids, answers.responses.item_ids) == (("ann", "bob", "cy"), ("x2", "x10"))


def test_persons_without_names_are_numbered_including_persons_without_answers(file) -> None:
    answers = FILES.answers(file("i1,i2\n1,0\n,\n0,1\n\n\n"))
    assert (answers.person_ids, {*answers.responses.person.tolist()}) == (("1", "2", "3"), {0, 2})


LATENT = '"latent": {"mean": 0, "sd": 1}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"items": 3, ' + LATENT + "}", "items is not a list"),
        ('{"items": [3], ' + LATENT + "}", r"items\[0\] is not an item"),
        ('{"items": [{"item": ["a"], "a": 1, "b": 0}], ' + LATENT + "}", r"items\[0\] is not an item"),
        ('{"items": [{"item": "a", "a": 1e999, "b": 0}], ' + LATENT + "}", "a = 'inf' is not a number"),
        ('{"items": [{"item": "a", "a": 1, "b": NaN}], ' + LATENT + "}", "NaN is not JSON"),
        ('{"items": [], "latent": [0, 1]}', "latent has no mean and SD"),
        ('{"items": [], "latent": {"mean": null, "sd": 1}}', "latent has no mean and SD"),
        ('{"items": [], "latent": {"mean": 0, "sd": 0}}', "latent has no mean and SD"),
        ('{"items": [' + "[" * 5_000 + ', "latent"', "not JSON|nested too deeply"),
        ('{"items": [{"item": "a"\n}], "latent": {"mean"', "not JSON"),
    ],
)
def test_mangled_fit_files_are_refused_with_the_fault(file, text: str, message: str) -> None:
    with pytest.raises(PsychometricsError, match=message):
        FILES.parameters(file(text, "fit.json"))


KEY = {"x2": {"B": 1}, "x10": {"3": 1}}


@pytest.mark.parametrize(
    "text",
    [
        "student,x2,x10\nann,B,4\nbob,,3\ncy,A,NA\n",
        "person,item,response\nann,x2,B\nann,x10,4\nbob,x10,3\nbob,x2,\ncy,x2,b\n",
    ],
)
def test_choices_are_scored_by_a_key(file, text: str) -> None:
    assert as_pairs(FILES.answers(file(text), KEY)) == PAIRS


def test_items_without_a_key_are_refused_with_their_name(file) -> None:
    """Columns of a matrix can be covariates, so they are left out with a note."""
    with pytest.raises(PsychometricsError, match="item x10 has no key"):
        FILES.answers(file("person,item,score\nann,x2,1\nann,x10,0\n"), {"x2": {"1": 1}})
    left_out = FILES.answers(file(WIDE), {"x2": {"1": 1}})
    assert "left out, because the key does not have them: x10" in left_out.notes[-1]
    assert left_out.responses.item_ids == ("x2",)


def test_published_choices_give_the_published_scores(shared: Path) -> None:
    data = shared / "data"
    key = FILES.key(data / "sat12_key.csv")
    raw, scored = FILES.answers(data / "sat12_raw_choices.csv", key), FILES.answers(data / "sat12_scored_wide.csv")
    assert as_pairs(raw) == as_pairs(scored)


def test_notes_count_unknown_codes_and_blanks(file, shared: Path) -> None:
    """SAT12's 8 counts as wrong here, but as no answer in an import with null_values, so notes show the counts."""
    data = shared / "data"
    raw = FILES.answers(data / "sat12_raw_choices.csv", FILES.key(data / "sat12_key.csv"))
    [note] = raw.notes
    assert note.endswith("choices that are the key of no item count as wrong (--missing: as no answer): '8' (69)")
    for text in (
        "person,x2,x10\nann,1,NA\nbob,,0\n,,\n",
        "person,item,score\nann,x2,1\nann,x10,NA\nbob,x10,0\nbob,x2,\n,,\n",
    ):
        [note] = FILES.answers(file(text)).notes
        assert note.endswith("counted as no answer: 1 empty, 1 × 'NA'")
    assert FILES.answers(file("x2,x10\n1,0\n0,1\n\n")).notes == ()
    [note] = FILES.answers(file("id,x2,x10\n2.026E+11,1,0\nbob,0,1\n")).notes
    assert "which Excel has shortened: 2.026E+11" in note


@pytest.mark.parametrize("layout", ["matrix", "list"])
def test_keys_without_any_choice_are_refused_with_the_chosen_options(file, layout: str) -> None:
    """The fit used to end with "needs at least 3 items that were answered both correctly and wrongly,
    found 0"."""
    chosen = [f"{n % 4 + 1}.0" for n in range(60)]
    lines = [f"u{n},{one},{one}" for n, one in enumerate(chosen)]
    if layout == "list":
        lines = [f"u{n},{item},{one}" for n, one in enumerate(chosen) for item in ("x2", "x10")]
    text = "\n".join(["person,x2,x10" if layout == "matrix" else "person,item,response", *lines])
    with pytest.raises(
        PsychometricsError, match=r"key of 2 of 2 items: item x2, key '2', chosen: '1\.0' \(15\), '2\.0'"
    ):
        FILES.answers(file(text), {"x2": {"2": 1}, "x10": {"3": 1}})
    assert FILES.answers(file(text), {"x2": {"2.0": 1}, "x10": {"3.0": 1}}).responses.score.sum() == 30


@pytest.mark.parametrize(("right", "wrong"), [("1.00", "0.00"), ("TRUE", "FALSE"), ("1,0", "0,0"), ("1", "0")])
def test_scores_are_read_from_decimals_and_booleans(file, right: str, wrong: str) -> None:
    text = f"person;x2;x10\nann;{right};{wrong}\nbob;;{right}\ncy;{wrong};NA\n"
    assert as_pairs(FILES.answers(file(text))) == PAIRS
    with pytest.raises(PsychometricsError, match="score 't'"):
        FILES.answers(file("person,x2\nann,t\nbob,0\n"))


@pytest.mark.parametrize("column", ["person", "item"])
def test_floats_that_may_represent_several_ids_are_refused(tmp_path: Path, column: str) -> None:
    path = tmp_path / "a.parquet"
    frame = pd.DataFrame({"person": [1.0, 2.0], "item": [3.0, 4.0], "score": [1, 0]})
    frame.to_parquet(path)
    assert as_pairs(FILES.answers(path)) == {("1", "3"): 1, ("2", "4"): 0}
    frame.assign(**{column: [1e19, 2e19]}).to_parquet(path)
    with pytest.raises(PermanentFailure, match=f"column '{column}' stores ids as double"):
        FILES.answers(path)


@pytest.mark.parametrize("kind", ["float", "boolean", "Int8"])
def test_parquet_columns_of_any_type_are_read_as_scores(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.parquet"
    frame = pd.DataFrame({"id": [7, 8], "x": [1, 0], "y": [None, 1]})
    frame.astype({"x": kind, "y": kind}).to_parquet(path)
    assert as_pairs(FILES.answers(path)) == {("7", "x"): 1, ("8", "x"): 0, ("8", "y"): 1}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("person,i1,i2\na,1,0\nb,1\nc,1,1,1\n", ("line 3", "line 4", "3")),
        ("person,i1,i2\na,1,0\nb,2,1\n", ("line 3", "item i1", "'2'")),
        ("person,i1,i2\na,1,0\nb,x,1\nc,0,1\nd,-1,1\n", ("line 3", "item i1", "'x'", "line 5")),
        ("person,item,score\na,i1,1\nb,i7,0.5\n", ("line 3", "item i7", "'0.5'")),
        ("person,item,score\na,i1,1\nb,i1,1\na,i1,0\n", ("person a", "item i1", "lines 2 and 4")),
        ("person,i1,i2\na,1,0\na,,1\n", ("person a", "item i2", "lines 2 and 3")),
        ("person,i1,i1\na,1,0\n", ("i1", "twice")),
        ("person,i1\na,1\n,1\n", ("line 3", "without a person")),
        ("person,item,score\na,i1,1\na,,1\n", ("line 3", "without a person or an item")),
        ("person\na\n", ("column that is an item",)),
        ("", ("empty",)),
    ],
)
def test_invalid_answers_are_refused_with_file_line_and_item(file, text: str, named: tuple[str, ...]) -> None:
    path = file(text)
    with pytest.raises((PermanentFailure, PsychometricsError)) as caught:
        FILES.answers(path)
    assert missing_sentences(str(caught.value), str(path), *named) == []


def test_message_lists_five_faults_and_counts_the_rest(file) -> None:
    with pytest.raises(PsychometricsError, match="and 4 more") as caught:
        FILES.answers(file("a,b,c\n1,0,1\n" + "x,x,x\n" * 3))
    assert str(caught.value).count("item") >= 5


def test_message_about_a_file_of_scores_names_the_option_and_no_cells(shared: Path) -> None:
    with pytest.raises(PsychometricsError) as caught:
        FILES.answers(shared / "data" / "science_wide.csv")
    remedy = "Use `--max-score 4` if cells up to 4 are scores, and `--key FILE` if they are choices"
    assert str(caught.value).endswith(f"science_wide.csv: cells go up to 4 in all 4 columns. {remedy}")


def test_covariates_are_left_out_with_a_note_or_used_as_groups(shared: Path) -> None:
    path = shared / "data" / "verbal_aggression_poly_wide.csv"
    answers = FILES.answers(path, None, FILES.max_scores("2"))
    assert answers.notes == (f"{path}: left out, because most cells are not scores: gender, anger",)
    assert answers.responses.n_items == 24
    grouped = FILES.answers(path, None, FILES.max_scores("2"), groups="gender")
    assert Counter(grouped.groups) == {"female": 243, "male": 73}
    with pytest.raises(PsychometricsError, match="--groups sex: neither a file nor a column of"):
        FILES.answers(path, groups="sex")


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("total", lambda x: x.sum(axis=1), "the sum of q1 … q4"),
        ("total", lambda x: x.mean(axis=1).round(2), "the mean of q1 … q4"),
        ("block", lambda x: 1 + np.arange(len(x)) % 2, "a number of the rows"),
        ("wave", lambda x: np.full(len(x), 3), "the same for everyone"),
        ("complete", lambda x: np.ones(len(x), dtype=int), "the same for everyone"),
        ("Attempt No.", lambda x: 1 + x[:, 0], "the number of an attempt"),
        ("seat", lambda x: (7 * np.arange(len(x)) + 3) % 41, "another number in each row"),
    ],
    ids=["sum", "mean", "number of rows", "constant", "constant 1", "attempt", "person"],
)
def test_derived_column_is_left_out_and_named(file, name: str, values, why: str) -> None:
    items = np.random.default_rng(5).integers(0, 3, (40, 4))
    lines = [
        ",".join(map(str, [f"p{k}", *row, value]))
        for k, (row, value) in enumerate(zip(items, values(items), strict=True))
    ]
    path = file(f"id,q1,q2,q3,q4,{name}\n" + "\n".join(lines) + "\n")
    answers = FILES.answers(path, None, FILES.max_scores("4"))
    assert answers.responses.item_ids == ("q1", "q2", "q3", "q4")
    assert f"{path}: left out, because they are not items: {name} ({why})" in answers.notes


def test_derived_column_with_its_own_maximum_stays_an_item(file) -> None:
    items = np.random.default_rng(5).integers(0, 2, (40, 4))
    lines = [",".join(map(str, [*row, row.sum()])) for row in items]
    path, most = file("q1,q2,q3,q4,total\n" + "\n".join(lines) + "\n"), file("item,max_score\ntotal,4\n", "most.csv")
    assert "total" in FILES.answers(path, None, FILES.max_scores(str(most))).responses.item_ids


@pytest.mark.parametrize("name", ["q5", "q4b"])
def test_item_that_everyone_gets_right_stays_an_item(file, name: str) -> None:
    items = np.random.default_rng(5).integers(0, 2, (40, 4))
    path = file(f"q1,q2,q3,q4,{name}\n" + "\n".join(",".join(map(str, [*row, 1])) for row in items) + "\n")
    assert name in FILES.answers(path).responses.item_ids


@pytest.mark.parametrize("names", ["one,two", "one,two,three"])
def test_equal_columns_remain_items(file, names: str) -> None:
    items = names.split(",")
    path = file(names + "\n" + "\n".join(",".join(str(k % 2) * len(items)) for k in range(40)) + "\n")
    assert FILES.answers(path).responses.item_ids == tuple(items)


def test_maximum_that_nobody_comes_near_is_noted(file) -> None:
    items = np.random.default_rng(5).integers(0, 2, (40, 3)) * [1, 1, 3]
    path = file("q1,q2,q3\n" + "\n".join(",".join(map(str, row)) for row in items) + "\n")
    [note] = FILES.answers(path, None, FILES.max_scores("3")).notes
    assert note == f"{path}: nobody has more than 1 point on q1 (1 of 3), q2 (1 of 3): is 1 the maximum score there?"


@pytest.mark.parametrize("absent", [0, 450])
def test_persons_with_nothing_but_zeros_are_noted(file, absent: int) -> None:
    rng = np.random.default_rng(23)
    right = rng.random((1000, 30)) < 1 / (1 + np.exp(np.linspace(-1.5, 1.5, 30) - rng.normal(size=(1000, 1))))
    right[:absent] = False
    text = "\n".join(",".join(map(str, row)) for row in right.astype(int))
    path = file(",".join(f"q{j}" for j in range(30)) + f"\n{text}\n")
    note = f"{path}: 450 persons have 0 on all 30 items (by chance: 0): leave out persons who did not take the test"
    assert FILES.answers(path).notes == ((note,) if absent else ())


@pytest.mark.parametrize("hard", [0, 1, 2])
def test_hard_items_alone_give_no_note_on_persons(hard: int) -> None:
    rng = np.random.default_rng(hard)
    for _ in range(20):
        right = rng.random((500, 6)) < 1 / (1 + np.exp(hard + np.linspace(-1, 1, 6) - rng.normal(size=(500, 1))))
        n = np.full(500, 6)
        assert describe_zeros(n, right.sum(axis=1), n) == ""


def test_items_are_analysed_without_a_database(irt, shared: Path, tmp_path: Path) -> None:
    words = ("items", "analyse", shared / "data" / "sat12_raw_choices.csv", "--key", shared / "data" / "sat12_key.csv")
    done = irt(*words, "--omitted", "8", "--out", tmp_path)
    assert (done.code, done.err) == (0, "")
    text = " ".join(done.out.split())
    assert "mean 18.202, SD 5.054, α 0.798 (0.774 … 0.820)" in text
    assert "above_key: an option has a positive correlation with the rest score, above the key's" in text
    assert "beats_key: such an option, beyond chance: check the key" in text
    items = pd.read_csv(tmp_path / "items.csv")
    assert (items.omitted.sum(), list(items.item[items.item_rest < 0.15])) == (
        69,
        ["item_9", "item_12", "item_21", "item_32"],
    )
    assert json.loads(irt(*words, "--missing", "8", "--json").out)["forms"] == []


def test_choices_beside_scores_are_analysed_by_a_key(irt, file) -> None:
    """Canvas writes the choice of each question beside its points, and no key."""
    path = file("id,a,a pts,b,b pts\nann,x,1,y,1\nbob,x,1,z,0\ncid,z,0,y,1\ndan,z,0,z,0\n", "canvas.csv")
    mapping = "columns: {user_id: id}\nwide: {items: [a pts, b pts], responses: {a pts: a, b pts: b}}\n"
    words = ("items", "analyse", path, "--mapping", file(mapping, "own.yaml"))
    without = " ".join(irt(*words).err.split())
    assert "the choices beside the scores are used only with a key: --key FILE (item,key)" in without
    done = irt(*words, "--key", file("item,key\na pts,x\nb pts,y\n", "key.csv"), "--json")
    options = {(one["item"], one["option"]): one["n"] for one in json.loads(done.out)["options"]}
    assert options == {("a pts", "x"): 2, ("a pts", "z"): 2, ("b pts", "y"): 2, ("b pts", "z"): 2}


def test_codes_of_missing_and_omitted_answers_and_half_points_are_read(file, shared: Path) -> None:
    data = shared / "data"
    path, key = data / "sat12_raw_choices.csv", FILES.key(data / "sat12_key.csv")
    missing = FILES.answers(path, key, missing=codes_by_column(["8"]))
    assert missing.responses.n_responses == 19_131
    assert missing.notes == (f"{path}: counted as no answer: 69 × '8'",)
    omitted = FILES.answers(path, key, omitted=codes_by_column(["item_*=8"]))
    assert (omitted.responses.score == FILES.answers(path, key).responses.score).all()
    assert (omitted.omitted.sum(), (omitted.choices.option < 0).sum()) == (69, 69)
    halves = "person,x2,x10\nann,0.5,9\nbob,1.5,1\n"
    read = FILES.answers(file(halves), None, FILES.max_scores("3"), missing=codes_by_column(["x10=9"]), denominator=2)
    assert as_pairs(read) == {("ann", "x2"): 1, ("bob", "x2"): 3, ("bob", "x10"): 2}


def test_missing_files_are_refused_with_their_name(tmp_path: Path) -> None:
    with pytest.raises(PermanentFailure, match=r"nowhere\.csv"):
        FILES.answers(tmp_path / "nowhere.csv")


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("id,group\nbob,g2\nann,g1\ncy,g1\nzoe,g3\n", ("g1", "g2", "g1")),
        ("group\ng1\ng2\ng2\n", ("g1", "g2", "g2")),
    ],
)
def test_groups_are_read_by_name_or_by_order(file, text: str, groups: tuple[str, ...]) -> None:
    assert FILES.answers(file(WIDE), groups=str(file(text, "groups.csv"))).groups == groups


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("person,group\nann,g1\nbob,g1\n", "person cy has no group"),
        ("person,group\nann,g1\nbob,g1\ncy,g1\nann,g2\n", "line 5: person ann is in g2 and in g1"),
        ("group\ng1\n", "1 groups for 3 persons"),
        ("person,form\nann,1\n", "person,group"),
    ],
)
def test_groups_that_do_not_fit_the_persons_are_refused(file, text: str, named: str) -> None:
    with pytest.raises(PsychometricsError, match=named):
        FILES.answers(file(WIDE), groups=str(file(text, "groups.csv")))


# --- tables of parameters ------------------------------------------------------------------------------------------


def test_table_of_parameters_is_read_with_and_without_optional_columns(file) -> None:
    table = FILES.parameters(file("item,a,b,c,a_se,b_se\nx,1.5,-0.5,0.2,0.1,0.2\ny,2,1,,NA,0.3\n"))
    assert (table.item_ids, table.c.tolist(), table.a_se[0]) == (("x", "y"), [0.2, 0.0], 0.1)
    assert math.isnan(table.a_se[1])
    assert table.has_errors
    bare = FILES.parameters(file("b,a,item\n-1,2,x\n"))
    assert (bare.a[0], bare.b[0], bare.c[0], bare.d[0]) == (2, -1, 0, 2)
    assert not bare.has_errors


def test_slopes_in_metric_1_7_are_converted_when_read(file) -> None:
    """P = 1/(1 + exp(−D·a(θ − b))), so a·D is the slope in the metric D = 1; b does not change."""
    path = file("item,a,b,c,a_se,b_se\nx,0.8,0.4,0.1,0.05,0.07\n")
    table = FILES.parameters(path, metric_d=1.7)
    assert [float(v[0]) for v in (table.a, table.b, table.c, table.a_se, table.b_se)] == pytest.approx(
        [0.8 * 1.7, 0.4, 0.1, 0.05 * 1.7, 0.07]
    )


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ("x,0,1,0", ("a = 0",)),
        ("x,-0.4,1,0", ("a = -0.4", "wrong key")),
        ("x,1,1,1", ("c = 1",)),
        ("x,1,1,-0.1", ("c = -0.1",)),
        ("x,one,1,0", ("a = 'one'",)),
        ("x,1,,0", ("b is missing",)),
        ("x,1,inf,0", ("b = 'inf'",)),
        ("good,1,1,0", ("twice", "line 2")),
    ],
)
def test_impossible_parameters_are_refused_with_line_and_item(file, row: str, named: tuple[str, ...]) -> None:
    path = file(f"item,a,b,c\ngood,1,0,0\n{row}\n")
    with pytest.raises(PsychometricsError) as caught:
        FILES.parameters(path)
    assert missing_sentences(str(caught.value), str(path), "line 3", row.split(",")[0], *named) == []


def test_items_without_parameters_are_listed_separately(file) -> None:
    table = FILES.parameters(file("item,a,b,c\nx,1,0,0\nhopeless,,,\n"))
    assert (table.item_ids, table.without) == (("x",), ("hopeless",))


def test_json_of_a_fit_is_read_as_a_table_with_its_population(file) -> None:
    content = {
        "items": [{"item": "x", "a": 1.0, "b": 0.5, "c": 0.0, "a_se": 0.0, "b_se": 0.1, "n": 9}, {"item": "y"}],
        "latent": {"mean": 0.1, "sd": 1.4},
    }
    table = FILES.parameters(file(json.dumps(content, indent=2), "fit.json"))
    assert (table.item_ids, table.without, table.mean, table.sd) == (("x",), ("y",), 0.1, 1.4)
    assert np.allclose([table.a[0], table.b[0], table.b_se[0]], [1.0, 0.5, 0.1])


# --- writing -------------------------------------------------------------------------------------------------------


def test_old_results_are_kept_if_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Previously, a crash in the second file left a new first file and a truncated second file."""
    write_whole(tmp_path / "out", {"a.csv": "old", "b.json": "old"})

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output.os, "fsync", full)
    with pytest.raises(PsychometricsError, match="No space left"):
        write_whole(tmp_path / "out", {"a.csv": "new", "b.json": "new"})
    assert {p.name: p.read_text() for p in (tmp_path / "out").iterdir()} == {"a.csv": "old", "b.json": "old"}


def test_old_results_are_kept_if_the_program_is_killed_while_writing(tmp_path: Path) -> None:
    write_whole(tmp_path, {"a.csv": "old", "b.json": "old"})
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from irt_psychometrics.commands import output\n"
        "output.os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)\n"
        "output.write_whole(Path(sys.argv[1]), {'a.csv': 'new', 'b.json': 'new'})\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=Path(__file__).parents[2], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert {name: (tmp_path / name).read_text() for name in ("a.csv", "b.json")} == {"a.csv": "old", "b.json": "old"}


def test_output_folder_is_refused_before_the_work_if_a_file_has_its_name(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    for folder in (tmp_path / "taken", tmp_path / "taken" / "deeper"):
        with pytest.raises(PsychometricsError, match="is a file"):
            check_folder(folder)
    check_folder(tmp_path / "new" / "deeper")
    assert not (tmp_path / "new").exists()


SCORED = "person,i1,i2\na,0,3\nb,1,\nc,1,2.0\n"


@pytest.mark.parametrize("text", [SCORED, "person,item,score\na,i1,0\na,i2,3\nb,i1,1\nc,i1,1\nc,i2,2\n"])
def test_scores_above_1_are_refused_without_a_maximum_score(file, text: str) -> None:
    with pytest.raises(PsychometricsError, match=r"item i2: score '3'.*--max-score"):
        FILES.answers(file(text))
    table = file("item_id,topic,max_score\ni1,x,\ni2,x,5\n", "bank.csv")
    read = FILES.answers(file(text), None, FILES.max_scores(str(table))).responses
    assert (read.n_categories.tolist(), read.score.tolist()) == ([2, 6], [0, 3, 1, 1, 2])
    assert FILES.answers(file(text), None, FILES.max_scores("4")).responses.n_categories.tolist() == [5, 5]
    with pytest.raises(PsychometricsError, match="item i2: score '3', and its scores are 0 … 2"):
        FILES.answers(file(text), None, FILES.max_scores("2"))


def test_maximum_scores_are_read_from_items_patterns_and_tables(file, irt, tmp_path: Path) -> None:
    text = "person,i1,essay_1,essay_2\n" + "".join(f"p{k},{k * k % 3},{k * k % 5},{k * k % 6}\n" for k in range(60))
    table = file("item,max_score\ni1,2\n", "most.csv")
    most = FILES.max_scores("essay_*=5", "essay_1=4", str(table))
    assert FILES.answers(file(text), None, most).responses.n_categories.tolist() == [3, 5, 6]
    assert [most[name] for name in ("i1", "essay_1", "essay_9", "other")] == [2, 4, 5, 1]
    analysed = irt("items", "analyse", file(text), "--max-score", "*=5", "--json")
    assert json.loads(analysed.out)["forms"][0]["max_score"] == 15


def test_word_for_right_is_no_score_of_a_scored_item(file) -> None:
    """It was read as 1 of 3 points."""
    text = "person,i1,i2\na,0,true\nb,1,3\nc,true,0\n"
    with pytest.raises(PsychometricsError, match="line 2, item i2: score 'true', and its scores are 0 … 3"):
        FILES.answers(file(text), None, FILES.max_scores("i2=3"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("0", "from 1 to 20"),
        ("21", "from 1 to 20"),
        ("i" * 300 + "=21", "from 1 to 20"),
        ("item,max_score\nx,1.5\n", "line 2, item x"),
        ("a,b\n1,2\n", "a, b"),
    ],
)
def test_maximum_scores_outside_1_to_20_are_refused(file, given: str, message: str) -> None:
    with pytest.raises(PsychometricsError, match=message):
        FILES.max_scores(str(file(given)) if "\n" in given else given)


@pytest.mark.parametrize(
    "text",
    [
        "item,a1,d,ak0,ak1,ak2,d0,d1,d2\nx,1.2,0.6,,,,,,\ny,0.8,,0,1,2,0,0.4,-0.8\n",
        "item,a,b,b1,b2\nx,1.2,-0.5,,\ny,0.8,,-0.5,1.5\n",
        "item,a,b,max_score,t0,t1,t2\nx,1.2,-0.5,1,,,\ny,0.8,0.5,2,0,0.8,0\n",
    ],
)
def test_scored_items_are_read_from_tables_of_mirt_of_steps_and_of_log_odds(file, text: str) -> None:
    table = FILES.parameters(file(text))
    np.testing.assert_allclose([table.a, table.b], [[1.2, 0.8], [-0.5, 0.5]], atol=1e-12)
    (some,) = table.others
    np.testing.assert_allclose(some.further[:, 0], [0.0, 0.8, 0.0], atol=1e-12)
    assert [table.max_scores[item] for item in ("x", "y", "elsewhere")] == [1, 2, 20]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item,a,b,c,d\nx,1.2,-0.5,0.2,0.9\n", r"item x: d = 0\.9 is an upper asymptote"),
        ("item,a1,d,g,u\nx,1.2,0.5,0.2,1\ny,1.2,0.5,0.2,0.85\n", r"line 3, item y: u = 0\.85 is an upper asymptote"),
        ("item,a,b,g,u\nx,1.2,0.5,0.2,0.95\n", r"u = 0\.95 is an upper asymptote"),
        ("item,a1,a2,d\nx,1.1,0,0.3\ny,0.1,1.4,0.5\n", r"line 3, item y: a2 = 1\.4 is a slope of another dimension"),
        ("item,B.Cat1.Dim1,B.Cat1.Dim2,AXsi_.Cat1\nx,1,0.5,0.2\n", r"B\.Cat1\.Dim2 = 0\.5 is a slope"),
        ("item,a1,d1,d2,d3\nx,1.1,2,-1,1\n", "thresholds of a graded item must ascend"),
        ("item,model,a,b1,b2\nx,grsm,1.1,-1,1\n", "the model grsm"),
        ("item,a,b,max_score\ny,1,0,2\n", "line 2, item y: with max_score 2 it needs t of each score"),
        ("name,discrimination,b\nx,1,0\n", "item, ?a is not among name, ?discrimination, ?b"),
        ("item,a,b,c,a_se,b_se\nx,1,0,0,-1,0.1\n", "a_se = -1"),
        ("item,a,b,c,a_se,b_se\nx,1,0,0,0.1,0\n", "b_se = 0"),
    ],
)
def test_impossible_parameters_and_parameters_of_unsupported_models_are_refused(file, text: str, message: str) -> None:
    """The columns must not be ignored: with an upper asymptote of 1, θ of a wrong pattern is -.98 instead of -.80."""
    with pytest.raises(PsychometricsError, match=message):
        FILES.parameters(file(text))


def test_columns_of_larger_models_are_accepted_if_their_values_have_no_effect(file) -> None:
    """mirt writes u = 1 for every 3PL, and the intercept as d; catR writes d = 1. With a and b, g is guessing."""
    for text in (
        "item,a1,d,g,u\nx,1.2,0.6,0.2,1\n",
        "item,a1,a2,d,g\nx,1.2,0,0.6,0.2\n",
        "item,a,b,c,d\nx,1.2,-0.5,0.2,1\n",
        "item,a,b,c,d\nx,1.2,-0.5,0.2,0.6\n",
        "item,a,b,g,u\nx,1.2,-0.5,0.2,1\n",
    ):
        table = FILES.parameters(file(text))
        np.testing.assert_allclose([table.a, table.b, table.c], [[1.2], [-0.5], [0.2]], atol=1e-12)


@pytest.mark.parametrize(
    ("text", "doubtful"),
    [
        ("item,a,b1,b2\nx,1.1,-1,1\ny,0.7,-0.5,0.2\n", ("x", "y")),
        ("item,a,b1,b2\nx,1.1,-1,1\ny,0.7,0.5,0.2\n", ()),
        ("item,a,b1,b2,model\nx,1.1,-1,1,gpcm\ny,0.7,-0.5,0.2,\n", ("y",)),
        ("item,a,b1\nx,1.1,-1\n", ()),
        ("item,slope,location,category1,category2\nx,0.5,0.2,0.6,-0.6\n", ("x",)),
    ],
)
def test_steps_that_may_be_graded_thresholds_are_listed(file, text: str, doubtful: tuple[str, ...]) -> None:
    """A graded model has the same columns, in ascending order: Science's pattern 0,1,0,1 had -2.30 instead of -2.05."""
    assert FILES.parameters(file(text)).may_be_graded == doubtful


def test_d_of_1_7_multiplies_slopes_and_log_odds(file) -> None:
    one, other = (FILES.parameters(file(f"item,a,b1,b2\ny,{a},-0.5,1.5\n"), d) for a, d in ((1.7, 1.0), (1.0, 1.7)))
    np.testing.assert_allclose([one.a, one.b], [other.a, other.b])
    np.testing.assert_allclose(one.others[0].further, other.others[0].further)


def test_parameters_written_by_irt_export_are_read_as_a_table(tmp_path: Path) -> None:
    """Scored items have all further parameters in a single cell or in columns of steps, with a column D."""
    path = tmp_path / "parameters.csv"
    scores = '"{""max_score"": 2, ""t0"": 0, ""t1"": 0.8, ""t2"": 0, ""b1"": null}"'
    path.write_text(f"scale_id,item_id,a,b,further\ns,x,1.2,-0.5,\ns,y,0.8,0.5,{scores}\n")
    found = FILES.parameters(path)
    assert (found.item_ids, [found.max_scores[item] for item in "xy"]) == (("x", "y"), [1, 2])
    assert found.others[0].further.tolist() == [[0.0], [0.8], [0.0]]
    path.write_text("item_id,a,b1,b2,D\ny,0.8,-1,2,1.7\n")
    assert FILES.parameters(path).a == pytest.approx([0.8 * 1.7])


def test_commands_on_forms_write_every_kind_of_file(irt, data: Path, tmp_path: Path) -> None:
    starts = {".csv": b"raw,theta", ".html": b"<!doctype html>", ".pdf": b"%PDF", ".xlsx": b"PK"}
    for ending, start in starts.items():
        to = tmp_path / f"table{ending}"
        done = irt("score-table", data / "items.csv", "--mean", 0, "--sd", 1, "--to", to)
        assert (done.code, to.read_bytes().lower().startswith(start.lower())) == (0, True), done.err
    refused = irt("score-table", data / "items.csv", "--to", tmp_path / "table.txt")
    assert (refused.code, "must be a file that ends in .csv, .html, .pdf, .xlsx" in refused.err) == (2, True)


@pytest.mark.parametrize(
    ("command", "other"),
    [("score-table", "irt scores table"), ("equate", "irt scores equate"), ("assemble", "irt forms assemble")],
)
def test_help_of_files_and_of_stored_forms_refer_to_each_other(irt, command: str, other: str) -> None:
    assert other in " ".join(irt(command, "--help").out.split())
    assert f"irt {command}" in " ".join(irt(*other.split()[1:], "--help").out.split())


def test_forms_are_assembled_from_a_file_by_a_blueprint(irt, tmp_path: Path) -> None:
    """Two forms of two items near θ = 0 with at most 100 words: the best items that the rules allow."""
    rows = ["q1,1,0,a,60", "q2,1,0,b,30", "q3,1,0.1,a,60", "q4,1,0.1,b,30", "q5,1,0,a,90", "q6,1,3,b,20"]
    (tmp_path / "bank.csv").write_text("\n".join(["item,a,b,topic,words", *rows]))
    rules = "name: x\nforms: 2\nlength: {max: 2}\ntopics: {a: {min: 1, max: 1}}\ncolumns: {words: {max: 100}}\n"
    (tmp_path / "exam.yaml").write_text(rules)
    done = irt("assemble", tmp_path / "bank.csv", tmp_path / "exam.yaml", "--to", tmp_path / "f.csv", "--json")
    found = json.loads(done.out)
    assert {row["item"] for row in found["rows"]} == {"q1", "q2", "q3", "q4"}
    assert sorted((row["form"], row["topic"]) for row in found["rows"]) == [
        ("x-1", "a"), ("x-1", "b"), ("x-2", "a"), ("x-2", "b")
    ]  # fmt: skip
    assert "lacks standard errors" in found["notes"][1]
    assert len((tmp_path / "f.csv").read_text().splitlines()) == 5
    (tmp_path / "exam.yaml").write_text(rules + "seed_places: [2]\n")
    done = irt("assemble", tmp_path / "bank.csv", tmp_path / "exam.yaml", "--json")
    assert [(row["place"], not row["item"]) for row in json.loads(done.out)["rows"]] == [
        (1, False), (2, True), (3, False)
    ] * 2  # fmt: skip
    for text, message in (
        (rules + "included: [q9]\n", "names items that"),
        (rules + "max_exposure: .5\n", "need stored answers and forms"),
        (rules.replace("words", "minutes"), "'words' in a table of items is unknown"),
        (rules.replace("{words: {max: 100}}", "{words: {}, n: {max: 9}}"), "item q1 must have a number in words and n"),
        (rules.replace("max: 2}", "maximum: 2}"), "line 3: length.maximum"),
    ):
        (tmp_path / "wrong.yaml").write_text(text)
        refused = irt("assemble", tmp_path / "bank.csv", tmp_path / "wrong.yaml")
        assert (refused.code, message in refused.err) == (2, True), refused.err


# --- files as systems write them -----------------------------------------------------------------------------------


def matrix_of(cells: np.ndarray, names: str = "q{}") -> str:
    header = ",".join(["id", *(names.format(j + 1) for j in range(cells.shape[1]))])
    rows = (",".join([f"p{k}", *(f"{x:g}" for x in row)]) for k, row in enumerate(cells.tolist()))
    return "\n".join([header, *rows, ""])


def simulated(n: int = 300, seed: int = 11) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.random((n, 6)) < 1 / (1 + np.exp(np.linspace(-1, 1, 6) - 1.3 * rng.normal(size=(n, 1))))).astype(int)


def items_of(done) -> list[tuple[float, float]]:
    assert done.code == 0, done.err
    return [(row["item_rest"], row["facility"]) for row in json.loads(done.out)["items"]]


@pytest.mark.parametrize("mark", [1, 0.25])
def test_marks_taken_off_give_the_item_rest_and_alpha_of_right_and_wrong(irt, file, mark: float) -> None:
    """Marks are a linear function of right and wrong if no answer was omitted."""
    right = simulated()
    plain = irt("items", "analyse", file(matrix_of(right)), "--json")
    path = file(matrix_of(np.where(right == 1, 1, -mark)), "marks.csv")
    marked = irt("items", "analyse", path, "--marks-off", mark, "--json")
    assert np.allclose(items_of(marked), items_of(plain), rtol=0, atol=1e-12)
    alphas = [json.loads(done.out)["forms"][0]["alpha"] for done in (plain, marked)]
    assert alphas[0] == pytest.approx(alphas[1], abs=1e-12)
    assert FILES.answers(path, marks_off=mark).responses.score.tolist() == right.ravel().tolist()
    assert f"the mark -{mark:g} is a wrong answer, with the score 0" in FILES.answers(path, marks_off=mark).notes[-1]
    refused = irt("items", "analyse", path)
    assert f"use `--marks-off {mark:g}`; if it means no answer" in " ".join(refused.err.split())


def test_omitted_answers_between_marks_count_as_they_are_without_a_model(irt, file) -> None:
    """An omitted answer has 0 marks, a right answer 1, and a wrong answer takes off .25."""
    marks = np.random.default_rng(13).choice([1, -0.25, 0], (60, 5), p=[0.5, 0.35, 0.15])
    path = file(matrix_of(marks))
    rest = marks.sum(axis=1, keepdims=True) - marks
    expected = [np.corrcoef(marks[:, j], rest[:, j])[0, 1] for j in range(5)]
    found = items_of(irt("items", "analyse", path, "--marks-off", ".25", "--json"))
    assert [r for r, _ in found] == pytest.approx(expected, abs=1e-12)
    assert [p for _, p in found] == pytest.approx((marks.mean(axis=0) + 0.25) / 1.25, abs=1e-12)
    refused = irt("fit", path, "--marks-off", ".25")
    assert refused.code == 2
    assert "Use `--omitted 0` if it counts as wrong, or `--missing 0`" in " ".join(refused.err.split())
    wrong = FILES.answers(path, marks_off=0.25, omitted={"*": ["0"]})
    assert (wrong.responses.score.sum(), wrong.omitted.sum()) == ((marks == 1).sum(), (marks == 0).sum())
    assert FILES.answers(path, marks_off=0.25, missing={"*": ["0"]}).responses.n_responses == (marks != 0).sum()


def test_thirds_with_two_decimals_are_scores_of_three(irt, file) -> None:
    thirds = np.random.default_rng(6).integers(0, 4, (80, 4))
    path = file(matrix_of(np.array([0, 0.33, 0.67, 1])[thirds]))
    read = FILES.answers(path, None, FILES.max_scores("3"), denominator=3)
    assert read.responses.score.tolist() == thirds.ravel().tolist()
    refused = irt("items", "analyse", path)
    assert "If they are parts of a point, use `--denominator 3 --max-score 3`" in " ".join(refused.err.split())
    assert {*re.findall(r"item (q\d)", " ".join(refused.err.split()))} == {"q1", "q2", "q3", "q4"}


def test_points_up_to_100_are_analysed_and_a_fit_names_the_ways(irt, file) -> None:
    points = np.clip(np.random.default_rng(5).normal(60, 15, (80, 3)).round(), 0, 100).astype(int)
    path = file(matrix_of(points, "essay{}"))
    for command in (("items", "analyse"), ("fit",)):
        advice = f"`--max-score {points.max()}` analyses the items without a model"
        assert advice in " ".join(irt(*command, path).err.split())
    rest = points.sum(axis=1, keepdims=True) - points
    expected = [(np.corrcoef(points[:, j], rest[:, j])[0, 1], points[:, j].mean() / 100) for j in range(3)]
    assert np.allclose(items_of(irt("items", "analyse", path, "--max-score", 100, "--json")), expected, atol=1e-12)
    refused = irt("fit", path, "--max-score", 100)
    assert (refused.code, "group points in a mapping file, values:" in refused.err) == (2, True)


def test_0_and_100_per_cent_are_wrong_and_right(file) -> None:
    right = simulated()
    assert FILES.answers(file(matrix_of(100 * right))).responses.score.tolist() == right.ravel().tolist()
    with pytest.raises(PsychometricsError, match="score '100'"):
        FILES.answers(file("id,q1\na,0\nb,100\nc,1\n"))


def test_words_capitals_and_a_declared_delimiter_are_read(file) -> None:
    text = "sep=;\nName;Question;Response\nann;x2;Correct\nann;x10;Incorrect\nbob;x10;RIGHT\ncy;x2;Partially correct\n"
    answers = FILES.answers(file(text))
    assert as_pairs(answers) == PAIRS
    assert any("partly right answers count as wrong: 1" in note for note in answers.notes)
    with pytest.raises(PsychometricsError, match="name the column of persons user_id or person"):
        FILES.answers(file("x,Question,Response\na,x2,1\n"))


def test_empty_cells_are_wrong_answers_if_the_option_says_so(irt, file) -> None:
    right = simulated()
    path = file(matrix_of(right).replace(",0", ","))
    noted = irt("fit", path)
    assert "every answer is right: use --omitted '' if empty cells are wrong answers" in noted.err
    fitted = irt("fit", path, "--omitted", "", "--json")
    plain = irt("fit", file(matrix_of(right), "plain.csv"), "--json")
    assert (fitted.code, json.loads(fitted.out)["items"]) == (0, json.loads(plain.out)["items"])


def test_patterns_are_written_out_by_their_frequencies(file) -> None:
    x = FILES.answers(file("id,q1,q2,Freq\na,1,0,3\nb,0,1,2\nc,1,1,0\n"))
    assert (x.responses.n_persons, x.responses.score.reshape(5, 2).sum(axis=0).tolist()) == (5, [3, 2])
    assert any("Freq is the number of persons who gave a row's answers" in note for note in x.notes)
    with pytest.raises(PsychometricsError, match=r"line 3: freq must be the number of persons .* got '0\.5'"):
        FILES.answers(file("q1,q2,freq\n1,0,3\n0,1,0.5\n"))


MOODLE = "Surname,First name,Email address,State,Completed,Grade/3.00,Q. 1 /1.00,Q. 2 /1.00,Q. 3 /1.00\n" + "".join(
    f"S{k},F{k},s{k}@x.org,Finished,5 October 2026 10:{k:02d} AM,2.00,{k % 2}.00,"
    f"{'-' if k == 7 else f'{k % 3 // 2}.00'},{k // 2 % 2}.00\n"
    for k in range(40)
)


@pytest.mark.parametrize("command", [("items", "analyse"), ("fit",), ("score", "--params", "P")], ids=lambda c: c[0])
def test_commands_on_files_suggest_a_mapping_and_read_by_it(irt, file, tmp_path: Path, command) -> None:
    path, params = file(MOODLE), file("item,a,b\nQ. 2,1,0\nQ. 3,1,0\n", "params.csv")
    words = [str(params) if word == "P" else word for word in command]
    refused = irt(*words, path)
    assert (refused.code, "--suggest proposes a mapping" in " ".join(refused.err.split())) == (2, True)
    suggested = irt(*words, path, "--suggest")
    assert (suggested.code, "No column has the times" in suggested.out) == (0, False)
    assert f"irt {' '.join(command[:2] if command[0] == 'items' else command[:1])} {path} --mapping" in suggested.out
    mapping = file(suggested.out, "own.yaml")
    done = irt(*words, path, "--mapping", mapping, "--json")
    assert done.code in (0, 1), done.err
    found = json.loads(done.out)
    if command[0] == "score":
        assert [row["person"] for row in found[:2]] == ["s0@x.org", "s1@x.org"]
    else:
        assert [row["item"] for row in found["items"]] == ["Q. 1", "Q. 2", "Q. 3"]
