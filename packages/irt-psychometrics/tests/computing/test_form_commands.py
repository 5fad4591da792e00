"""The commands `score-table`, `equate`, `classify` and `dif` on files."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

import irt_psychometrics as irt
from irt_psychometrics.__main__ import main

ITEMS = "item,a,b,a_se,b_se\n" + "".join(f"q{k},1.2,{b},.1,.1\n" for k, b in enumerate((-1.5, -0.5, 0, 0.5, 1.5)))
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: object) -> dict[str, Any]:
        assert main([*map(str, words), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return call


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def call(*words: object) -> str:
        assert main([*map(str, words)]) == 2
        return capsys.readouterr().err

    return call


@pytest.fixture
def items(tmp_path: Path) -> Path:
    (tmp_path / "items.csv").write_text(ITEMS)
    return tmp_path / "items.csv"


def write_answers(path: Path, names: Sequence[str], scores: Any, groups: Sequence[str] | None = None) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["person", *(["group"] if groups else []), *names])
        for k, row in enumerate(np.asarray(scores).tolist()):
            writer.writerow([f"p{k}", *([groups[k]] if groups else []), *row])
    return path


def simulated(names: Sequence[str], b: Sequence[float], theta: Any, seed: int) -> Any:
    bank = irt.ItemParameters.from_frame({"item": [*names], "a": [1.3] * len(names), "b": [*b]})
    x = irt.simulate_responses(bank, theta, random_state=seed)
    return x.score.reshape(len(theta), len(names))


def test_score_table_of_symmetric_items_is_symmetric(run: Run, items: Path, tmp_path: Path) -> None:
    """Items whose difficulties are symmetric about the mean of θ give symmetric θ, and half of the raw scores pass."""
    (tmp_path / "counts.csv").write_text("raw,n\n1,10\n2,20\n3,10\n")
    options = ("--mean", 0, "--sd", 1, "--slope", 100, "--intercept", 500, "--step", 10, "--cut", 500)
    found = run("score-table", items, *options, "--counts", tmp_path / "counts.csv")
    columns = {name: np.array([row[name] for row in found["rows"]]) for name in found["rows"][0]}
    assert columns["theta"] == pytest.approx(-columns["theta"][::-1])
    assert columns["scaled"].tolist() == (1000 - columns["scaled"][::-1]).tolist()
    assert columns["passes"].tolist() == [False] * 3 + [True] * 3
    # percentile ranks: the share below, and half of the share of the score itself
    assert columns["percentile"][1:4].tolist() == [12.5, 50.0, 87.5]


def test_score_table_is_written_as_csv_and_html(run: Run, items: Path, tmp_path: Path) -> None:
    found = {}
    for name in ("t.csv", "t.html"):
        found = run("score-table", items, "--mean", 0, "--sd", 1, "--to", tmp_path / name)
    rows = [*csv.DictReader((tmp_path / "t.csv").read_text().splitlines())]
    assert [float(row["theta"]) for row in rows] == [row["theta"] for row in found["rows"]]
    page = (tmp_path / "t.html").read_text()
    assert page.startswith("<!doctype html>")
    assert page.count("<tr>") == 7
    assert "passes" not in page


def test_population_comes_from_the_fit_or_is_required(run: Run, refusal: Any, items: Path, tmp_path: Path) -> None:
    assert "--mean and --sd must be given" in refusal("score-table", items)
    assert "--mean and --sd must be given" in refusal("classify", items, "--cut", 2)
    rows = [{"item": f"q{k}", "a": 1.2, "b": k - 1.0} for k in range(3)]
    (tmp_path / "fit.json").write_text(json.dumps({"items": rows, "latent": {"mean": 0.5, "sd": 2.0}, "model": "2pl"}))
    given = run("score-table", tmp_path / "fit.json", "--mean", 0.5, "--sd", 2)
    assert run("score-table", tmp_path / "fit.json") == given


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("score-table", "ITEMS", "--to", "t.pdf"), "--to must be a file that ends in .csv, .html, got t.pdf"),
        (("score-table", "ITEMS", "--mean", "0", "--sd", "1", "--counts", "ITEMS"), "counts must be a table raw,n"),
        (("equate", "ITEMS", "ITEMS", "--method", "linear"), "--method linear needs answers"),
        (("equate", "ITEMS", "ITEMS", "--method", "observed-score"), "needs a fit.json, which contains the population"),
        (("classify", "ITEMS", "--cut", "9", "--mean", "0", "--sd", "1"), "must be between the expected scores"),
    ],
)
def test_impossible_requests_are_refused_with_the_remedy(
    refusal: Any, items: Path, words: Sequence[str], message: str
) -> None:
    assert message in refusal(*(items if word == "ITEMS" else word for word in words))


def test_equating_of_a_form_to_itself_on_another_scale_is_the_identity(run: Run, items: Path, tmp_path: Path) -> None:
    """θ* = 2θ + 1 divides slopes by 2 and moves difficulties; raw scores stay the same."""
    lines = ITEMS.splitlines()
    rows = [line.split(",") for line in lines[1:]]
    moved = [f"{item},{float(a) / 2},{2 * float(b) + 1},.05,.2" for item, a, b, *_ in rows]
    (tmp_path / "moved.csv").write_text("\n".join([lines[0], *moved]))
    found = run("equate", tmp_path / "moved.csv", items)
    assert [row["equated"] for row in found["rows"]] == pytest.approx(range(6), abs=1e-4)
    assert "Standard errors need the answers" in found["notes"][-1]


def test_equating_finds_common_items_by_name_and_agrees_across_methods(run: Run, tmp_path: Path) -> None:
    """The new form is harder for its own items, so each middle score is worth more on the old form."""
    rng = np.random.default_rng(4)
    names, b = (
        [f"q{k:02d}" for k in range(18)],
        [*np.linspace(-1.5, 0.5, 6), *np.linspace(-1, 1, 6), *np.linspace(0, 2, 6)],
    )
    old = write_answers(tmp_path / "old.csv", names[:12], simulated(names[:12], b[:12], rng.normal(0, 1, 800), 1))
    new = write_answers(tmp_path / "new.csv", names[6:], simulated(names[6:], b[6:], rng.normal(0.3, 1, 800), 2))
    bank = irt.ItemParameters.from_frame({"item": names, "a": [1.3] * 18, "b": b})
    truth = irt.equating.equate_by_items(bank.select(names[6:]), bank.select(names[:12])).equated
    for method in ("equipercentile", "true-score", "observed-score"):
        found = run("equate", new, old, "--method", method)
        equated, se = (np.array([row[name] for row in found["rows"]], dtype=float) for name in ("equated", "se"))
        assert (np.abs(equated - truth)[3:10] < 4 * se[3:10]).all(), method
        assert (se[3:10] < 0.4).all(), method


def test_observed_scores_of_two_fits_are_equated_as_those_of_the_answers(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fit.json contains items and population, so only standard errors are lost. Both ways use the same link but for
    the weights of items."""
    rng = np.random.default_rng(5)
    names, b = [f"q{k:02d}" for k in range(14)], [*np.linspace(-1.5, 1.5, 14)]
    forms = {}
    for seed, (name, own, mean) in enumerate((("old", slice(0, 10), 0.0), ("new", slice(4, 14), 0.5))):
        scores = simulated(names[own], b[own], rng.normal(mean, 1, 600), seed)
        forms[name] = write_answers(tmp_path / f"{name}.csv", names[own], scores)
        assert main(["fit", str(forms[name]), "--out", str(tmp_path / name)]) == 0
    capsys.readouterr()
    by_answers = run("equate", forms["new"], forms["old"], "--method", "observed-score")
    fits = (tmp_path / "new" / "fit.json", tmp_path / "old" / "fit.json")
    by_fits = run("equate", *fits, "--method", "observed-score")
    one, other = ([row["equated"] for row in found["rows"]] for found in (by_answers, by_fits))
    assert one == pytest.approx(other, abs=0.05)
    assert {row["se"] for row in by_fits["rows"]} == {None}


def test_decisions_by_abilities_follow_the_normal_distribution(run: Run, tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("person,theta,se\nann,0.5,0.5\nbob,-0.5,0.5\ncy,,\n")
    found = run("classify", tmp_path / "scores.csv", "--cut", 0)
    [row] = found["rows"]
    assert row["accuracy"] == pytest.approx(norm.cdf(1))
    assert row["consistency"] == pytest.approx(norm.cdf(1) ** 2 + norm.cdf(-1) ** 2)
    assert found["notes"] == ["1 of 3 persons have no θ and are left out."]


def test_decisions_by_raw_scores_agree_with_the_library(run: Run, items: Path) -> None:
    rows = run("classify", items, "--cut", "2,4", "--mean", 0, "--sd", 1)["rows"]
    assert [row["cut"] for row in rows] == [2, 4, None]
    # a category of three is missed more often than a category of two
    assert rows[2]["accuracy"] < min(rows[0]["accuracy"], rows[1]["accuracy"])
    assert rows[0]["false_pass"] + rows[0]["false_fail"] == pytest.approx(1 - rows[0]["accuracy"])


def test_dif_of_small_groups_reports_low_power_and_the_size_it_finds(run: Run, tmp_path: Path) -> None:
    """73 against 243 persons: no Wald test, but Mantel-Haenszel with the size of a difference that is found."""
    rng = np.random.default_rng(6)
    names, b = [f"q{k:02d}" for k in range(15)], np.linspace(-1.5, 1.5, 15)
    harder = b + 2.0 * (np.arange(15) == 7)
    scores = np.concatenate(
        [simulated(names, b, rng.normal(0, 1, 243), 1), simulated(names, harder, rng.normal(0, 1, 73), 2)]
    )
    path = write_answers(tmp_path / "a.csv", names, scores, ["ref"] * 243 + ["focal"] * 73)
    found = run("dif", path, "--groups", "group")
    rows = {row["item"]: row for row in found["rows"]}
    assert {(row["n_ref"], row["n"], row["q"]) for row in rows.values()} == {(243, 73, None)}
    assert (rows["q07"]["class"], rows["q07"]["delta"] < -2) == ("C", True)
    assert sum(row["power"] == "low" for row in rows.values()) >= 10
    for row in rows.values():  # the power of a two-sided 5 % test at the size that is found is 80 %
        assert norm.sf(norm.ppf(0.975) - row["finds"] / row["se"]) == pytest.approx(0.8, abs=1e-4)
    assert "focal has low power" in found["notes"][-1]
    assert "73 learners, 200 are needed" in found["notes"][1]


def test_dif_of_large_groups_has_both_methods(run: Run, refusal: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    names, b = [f"q{k:02d}" for k in range(10)], np.linspace(-1, 1, 10)
    harder = b + 1.0 * (np.arange(10) == 3)
    scores = np.concatenate(
        [simulated(names, b, rng.normal(0, 1, 600), 1), simulated(names, harder, rng.normal(0, 1, 600), 2)]
    )
    path = write_answers(tmp_path / "a.csv", names, scores, ["x"] * 600 + ["y"] * 600)
    rows = {row["item"]: row for row in run("dif", path, "--groups", "group", "--reference", "x")["rows"]}
    assert (rows["q03"]["class"], rows["q03"]["q"] < 0.001) == ("C", True)
    assert "no person is in the reference group 'z'" in refusal("dif", path, "--groups", "group", "--reference", "z")


def test_dif_of_73_men_and_243_women_agrees_with_the_literature(run: Run, shared: Path) -> None:
    """Men more often do curse and scold than women who want to as much (De Boeck and Wilson on verbal aggression)."""
    rows = run("dif", shared / "data" / "verbal_aggression_binary_wide.csv", "--groups", "gender")["rows"]
    assert {(row["n_ref"], row["n"], row["power"]) for row in rows} == {(243, 73, "low")}
    doing = [row["delta"] for row in rows if row["item"].endswith(("DoCurse", "DoScold"))]
    assert len(doing) == 8
    assert min(doing) > 0
    assert np.mean([row["delta"] for row in rows if "Want" in row["item"]]) < 0
