"""`irt fit`, `score`, `link`, `simulate-responses` as they are typed: exit codes, pure JSON, nothing half written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.sentences import unsaid
from tests.helpers.typed import Irt, command_line


@pytest.fixture
def irt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Irt:
    """The command line; any access to a database would fail, because none is there."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    return command_line(monkeypatch, capsys)


@pytest.fixture
def data(irt, tmp_path: Path) -> Path:
    done = irt("simulate-responses", tmp_path / "sim", "--persons", 400, "--items", 8, "--seed", 2, "--json")
    assert done.code == 0
    assert json.loads(done.out)["n_responses"] == 3200
    return tmp_path / "sim"


def test_a_fit_its_scores_and_its_link_to_the_truth(irt, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "fit"
    fitted = irt("fit", data / "responses.csv", "--out", out, "--json")
    assert fitted.code == 0
    assert json.loads(fitted.out) == json.loads((out / "fit.json").read_text())
    scored = irt("score", data / "responses.csv", "--params", out / "params.csv", "--method", "wle", "--json")
    rows = json.loads(scored.out)
    assert len(rows) == 400
    assert set(rows[0]) == {"person", "theta", "se"}
    linked = irt("link", out / "params.csv", data / "items.csv", "--method", "haebara", "--no-purify", "--json")
    assert linked.code == 0
    result = json.loads(linked.out)
    assert list(result) == ["slope", "intercept", "method", "symmetric", "rmse", "anchors_used", "anchors_dropped"]
    # the truth is on the scale θ ~ N(0, 1) of 400 persons: the constants' errors are about 0.1 and 0.05
    assert (result["slope"], result["intercept"]) == pytest.approx((1, 0), abs=0.4)
    both_ways = irt("link", out / "params.csv", data / "items.csv", "--symmetric")
    assert "(stocking-lord, symmetric)" in both_ways.out
    refused = irt("link", out / "params.csv", data / "items.csv", "--method", "mean-mean", "--symmetric")
    assert refused.code == 2
    assert "mean-mean compares no curves" in refused.err


def test_a_fit_of_answers_to_items_near_each_ability_names_what_it_hardly_determines(irt, tmp_path: Path) -> None:
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
        row["item"] for row in result["items"] if not row["flags"] and (abs(row["b"]) > 6 or (row["b_se"] or 0) > 1)
    ]
    assert result["converged"]
    assert loose
    assert done.code == 1
    assert f"hardly determine {len(loose)} of 60 items" in done.err
    assert loose[0] in done.err


def test_the_parameters_of_another_test_are_refused_unless_it_is_a_part_of_a_bank(
    irt, data: Path, tmp_path: Path
) -> None:
    """LSAT6 was scored by SAT12's parameters, as both call their items item_1 …: 27 of 32 items had no answers."""
    bank = tmp_path / "bank.csv"
    others = "".join(f"other{n},1,0,0\n" for n in range(27))
    bank.write_text((data / "items.csv").read_text() + others)
    refused = irt("score", data / "responses.csv", "--params", bank)
    assert (refused.code, refused.out) == (2, "")
    assert "27 of its 35 items have no answers (other0, other1, other2, other3, other4 and 22 more)" in refused.err
    asked = irt("score", data / "responses.csv", "--params", bank, "--partial", "--json")
    assert asked.code == 0
    assert "warning: 27 of the 35 items" in asked.err
    alone = irt("score", data / "responses.csv", "--params", data / "items.csv", "--json")
    assert (alone.code, alone.err) == (0, "")
    assert json.loads(asked.out) == json.loads(alone.out)


def test_people_get_a_table_and_machines_nothing_but_json(irt, data: Path, tmp_path: Path) -> None:
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
    assert warned.code == 0
    assert json.loads(warned.out)["slope"] == pytest.approx(1)
    assert "only 3 items" in warned.err


def test_a_fit_that_did_not_converge_is_exit_code_1_with_the_reason_and_the_item(irt, tmp_path: Path) -> None:
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
def test_wrong_input_is_exit_code_2_names_the_place_and_writes_nothing(
    irt,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str,
    words: tuple[str, ...],
    named: tuple[str, ...],
) -> None:
    monkeypatch.setenv("PATH", "")  # without R, whatever this machine has
    path = tmp_path / "given.csv"
    path.write_text(content)
    places = {"FILE": str(path), "OUT": str(tmp_path / "out")}
    given = [places.get(word, word.replace("SIM", str(data))) for word in words]
    if words[0] in ("fit", "score"):
        given += ["--out", str(tmp_path / "out")]
    done = irt(*given)
    assert done.code == 2
    assert unsaid(done.err, *named) == []
    assert not (tmp_path / "out").exists()
    assert "Traceback" not in done.err


def test_tables_in_different_metrics_meet(irt, data: Path, tmp_path: Path) -> None:
    """A bank published with D = 1.7 and a fit with D = 1: the bank's slopes are 1.7 times smaller."""
    rows = [line.split(",") for line in (data / "items.csv").read_text().splitlines()]
    bank = [rows[0], *([i, str(float(a) / 1.7), b, c] for i, a, b, c in rows[1:])]
    (tmp_path / "bank.csv").write_text("\n".join(",".join(row) for row in bank))
    linked = json.loads(irt("link", data / "items.csv", tmp_path / "bank.csv", "--metric-d", "1,1.7", "--json").out)
    assert (linked["slope"], linked["intercept"]) == pytest.approx((1, 0), abs=1e-7)
    forgotten = json.loads(irt("link", data / "items.csv", tmp_path / "bank.csv", "--json").out)
    assert abs(forgotten["slope"] - 1) > 0.1 or forgotten["rmse"] > 0.02


def test_guessing_that_is_not_in_the_model_is_mentioned(irt, tmp_path: Path) -> None:
    made = irt("simulate-responses", tmp_path / "sim", "--model", "3pl", "--persons", 3000, "--items", 25, "--seed", 3)
    assert made.code == 0
    without = irt("fit", tmp_path / "sim/responses.csv")
    assert "skewed to the right, or items are guessed. Parameters are biased" in " ".join(without.out.split())
    assert "not normal" not in irt("fit", tmp_path / "sim/responses.csv", "--model", "3pl").out
    judged = " ".join(irt("fit", tmp_path / "sim/responses.csv", "--latent", "auto").out.split())
    assert "learners guess: a 3PL raises 2 log L by" in judged
    assert {"2pl normal", "3pl normal", "2pl histogram", "3pl histogram"} <= set(re.findall(r"\dpl [a-z]+", judged))


def test_a_histogram_is_not_called_normal(irt, data: Path) -> None:
    said = " ".join(irt("fit", data / "responses.csv", "--latent", "histogram").out.split())
    assert "θ with mean 0.000, SD 1.000" in said
    assert "θ is taken as a histogram, as asked" in said
    assert "θ ~ N(" not in said


def test_auto_judges_one_population_without_anchors(irt, data: Path) -> None:
    anchored = irt("fit", data / "responses.csv", "--latent", "auto", "--anchors", data / "items.csv")
    assert anchored.code == 2
    assert "--latent auto judges one population without anchors" in " ".join(anchored.err.split())
