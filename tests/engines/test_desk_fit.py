"""Fits, scores and simulated answers of the desk: what is given is fitted, and what comes out is what was put in."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from irt_assets.engines.r_engines import REngine
from irt_assets.engines.registry import build
from irt_assets.engines.spec import PythonPackage
from irt_assets.file_commands.files import Answers, read_answers, read_groups, read_max_scores
from irt_assets.file_commands.fit import Fit, fit
from irt_assets.file_commands.score import score
from irt_assets.file_commands.simulate import simulate_responses
from irt_assets.file_commands.tables import read_parameters
from irt_assets.psychometrics.core.errors import PsychometricsError
from irt_assets.psychometrics.core.models import Responses
from resources.failures import PermanentFailure
from resources.settings import Settings

FIT_KEYS = (
    *("model", "engine", "engine_version", "converged", "iterations", "loglik", "aic", "bic", "n_persons", "n_items"),
    *("n_responses", "items", "latent", "normality", "shape", "reliability", "seconds"),
)
ITEM_KEYS = ("item", "a", "b", "c", "a_se", "b_se", "c_se", "n", "p_value", "infit", "outfit", "rmsd", "flags")


def reference_fit(shared: Path, key: str) -> dict:
    return json.loads((shared / "reference" / "mirt_reference.json").read_text())[key]


def answers_of(matrix: np.ndarray) -> Answers:
    responses = Responses.from_wide(matrix)
    return Answers(responses, tuple(str(k) for k in range(responses.n_persons)))


@pytest.fixture(scope="module")
def simulated() -> Answers:
    made = simulate_responses(persons=400, items=8, seed=3)
    return answers_of(np.where(made.score < 0, np.nan, made.score))


def test_a_fit_has_the_documented_shape_and_is_plain_json(simulated_fit: Fit) -> None:
    result = simulated_fit.as_dict()
    assert tuple(result) == FIT_KEYS
    assert {tuple(row) for row in result["items"]} == {ITEM_KEYS}
    assert tuple(result["latent"]) == ("mean", "sd")
    json.dumps(result, allow_nan=False)


@pytest.fixture(scope="module")
def lsat7(shared: Path) -> tuple[Answers, Fit]:
    answers = read_answers(shared / "reference" / "lsat7.csv")
    return answers, fit(answers)


@pytest.fixture(scope="module")
def simulated_fit(simulated: Answers) -> Fit:
    return fit(simulated)


@pytest.mark.parametrize(("key", "model"), [("lsat7_2pl", "2pl"), ("lsat7_rasch", "rasch")])
def test_lsat7_read_from_its_file_gives_mirts_numbers(shared: Path, key: str, model) -> None:
    reference = reference_fit(shared, key)
    result = fit(read_answers(shared / "reference" / reference["data"]), model=model).as_dict()
    # the tolerances; the reference has 6 significant digits
    assert result["loglik"] == pytest.approx(reference["logLik"], abs=1e-3)
    assert (result["aic"], result["bic"]) == pytest.approx((reference["AIC"], reference["BIC"]), abs=2e-3)
    assert [row["a"] for row in result["items"]] == pytest.approx([r["a"] for r in reference["irt"]], abs=1e-4)
    intercepts = [-row["a"] * row["b"] for row in result["items"]]
    assert intercepts == pytest.approx([r["d"] for r in reference["slope_intercept"]], abs=1e-4)
    assert result["latent"]["sd"] ** 2 == pytest.approx(reference["group"]["var"], abs=1e-3)
    assert result["reliability"] == pytest.approx(reference["reliability"]["empirical_rxx_EAP"], abs=1e-3)
    assert (result["n_persons"], result["n_items"], result["n_responses"]) == (1000, 5, 5000)


def test_one_response_on_an_item_is_no_reason_to_leave_it_out(simulated: Answers) -> None:
    """Thresholds are for the months of a bank; here what is given is fitted, or flagged."""
    r = simulated.responses
    more = Responses(
        np.insert(r.person, 0, 0),
        np.insert(r.item, 0, r.n_items),
        np.insert(r.score, 0, 1),
        r.n_persons,
        (*r.item_ids, "rare"),
    )
    result = fit(Answers(more, simulated.person_ids)).as_dict()
    rare = result["items"][-1]
    assert (rare["item"], rare["n"], rare["a"], rare["flags"]) == ("rare", 1, None, ["all_correct"])
    assert result["converged"]


def test_a_fit_that_did_not_converge_says_why() -> None:
    made = simulate_responses(persons=300, items=6, seed=2).score.astype(float)
    made[:, 1] = made[:, 0]
    done = fit(answers_of(made))
    assert not done.as_dict()["converged"]
    assert "i1" in done.reason


def test_a_3pl_from_a_file_is_mirts_with_the_same_prior(shared: Path) -> None:
    """Our default prior on c is the reference's: logit c ~ N(logit 0.2, 0.5²)."""
    reference = reference_fit(shared, "lsat7_3pl_normprior")
    result = fit(read_answers(shared / "reference" / reference["data"]), model="3pl").as_dict()
    assert result["loglik"] == pytest.approx(reference["logLik"], abs=1e-3)
    for ours, theirs in zip(result["items"], reference["irt"], strict=True):
        assert (ours["a"], ours["c"]) == pytest.approx((theirs["a"], theirs["g"]), abs=5e-3)  # the tolerance
        assert ours["c_se"] == pytest.approx(theirs["se_g"], rel=1e-2)


def test_anchors_keep_their_parameters_and_the_population_is_estimated(shared: Path, tmp_path: Path) -> None:
    linking = reference_fit(shared, "linking")
    rows = [r for r in linking["formA"]["slope_intercept"] if r["item"] >= "k11"]
    lines = [f"{r['item']},{r['a1']!r},{-r['d'] / r['a1']!r},0" for r in rows]
    (tmp_path / "anchors.csv").write_text("\n".join(["item,a,b,c", *lines]))
    anchors = read_parameters(tmp_path / "anchors.csv")
    done = fit(read_answers(shared / "reference" / "link_formB.csv"), anchors=anchors)
    result, reference = done.as_dict(), linking["formB_fixed_anchor"]
    # the reference's anchors and results are rounded to 6 significant digits
    assert result["loglik"] == pytest.approx(reference["logLik"], abs=2e-3)
    assert result["latent"]["mean"] == pytest.approx(reference["group"]["mean"], abs=1e-3)
    assert result["latent"]["sd"] ** 2 == pytest.approx(reference["group"]["var"], abs=2e-3)
    by_item = {row["item"]: row for row in result["items"]}
    assert [by_item[i]["b"] for i in anchors.item_ids] == pytest.approx(anchors.b.tolist())
    for row in reference["irt"]:
        assert by_item[row["item"]]["a"] == pytest.approx(row["a"], abs=1e-3)


def test_groups_from_a_file_have_mirts_mean_and_variance(shared: Path, tmp_path: Path) -> None:
    """Two forms with ten common items, fitted at once."""
    forms = {g: (shared / "reference" / f"link_form{g}.csv").read_text().splitlines() for g in "AB"}
    lines, groups, number = ["person,item,score"], ["person,group"], 0
    for group, form in forms.items():
        items = form[0].replace('"', "").split(",")
        for row in form[1:]:
            number += 1
            groups.append(f"p{number},{group}")
            lines += [f"p{number},{item},{score}" for item, score in zip(items, row.split(","), strict=True)]
    (tmp_path / "long.csv").write_text("\n".join(lines))
    (tmp_path / "groups.csv").write_text("\n".join(groups))
    answers = read_answers(tmp_path / "long.csv")
    result = fit(answers, groups=read_groups(tmp_path / "groups.csv", answers)).as_dict()
    reference = reference_fit(shared, "linking")["concurrent"]
    # mirt stopped at its own tolerance; the latent SE is 0.05
    assert result["loglik"] == pytest.approx(reference["logLik"], abs=5e-3)
    first, second = result["groups"]
    assert (first["group"], first["mean"], first["sd"], first["n_persons"]) == ("A", 0, 1, 1500)
    expected = reference["groups"]["B"]["group"]
    assert second["mean"] == pytest.approx(expected["mean"], abs=2e-3)
    assert second["sd"] ** 2 == pytest.approx(expected["var"], abs=5e-3)
    assert second["mean_se"] == pytest.approx(expected["se_mean"], rel=0.02)
    # the data follow the model, and the SE of infit is 0.001 to 0.007 for the items of form B
    assert [row["infit"] for row in result["items"]] == pytest.approx([1.0] * 30, abs=0.03)
    json.dumps(result, allow_nan=False)


def test_an_engine_that_is_not_installed_says_how_to_get_it(
    simulated: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PythonPackage, "version", None)
    with pytest.raises(PermanentFailure, match="make venv EXTRAS=bayes"):
        fit(simulated, engine=build("pymc", Settings(_env_file=None)))


def test_what_a_fit_writes_scores_and_links(simulated: Answers, tmp_path: Path) -> None:
    done = fit(simulated, model="rasch")
    done.write(tmp_path)
    table, whole = read_parameters(tmp_path / "params.csv"), read_parameters(tmp_path / "fit.json")
    assert (tmp_path / "fit.json").read_text() == json.dumps(done.as_dict(), ensure_ascii=False, indent=2) + "\n"
    for one in (table, whole):
        assert one.item_ids == simulated.responses.item_ids
        assert np.array_equal(one.b, done.calibration.b)
    assert (table.sd, whole.sd) == (1.0, done.calibration.latent_sd)
    assert score(simulated, whole).scores.theta.std() != score(simulated, table).scores.theta.std()


# --- scores --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["eap", "map", "ml"])
def test_lsat7_scores_are_mirts(shared: Path, lsat7: tuple[Answers, Fit], method) -> None:
    reference = reference_fit(shared, "lsat7_2pl")
    answers, fitted = lsat7
    rows = score(answers, _table_of(fitted), method=method).as_dict()
    for expected in reference["scores"]:
        row = rows[expected["row"] - 1]
        assert row["person"] == str(expected["row"])
        if expected[method] is None:  # all right or all wrong under ML
            assert row["theta"] is None
        else:
            assert row["theta"] == pytest.approx(expected[method], abs=1e-3)  # the tolerance
            assert row["se"] == pytest.approx(expected[f"se_{method}"], abs=1e-3)


def _table_of(fitted):
    from irt_assets.file_commands.tables import ParameterTable

    cal = fitted.calibration
    return ParameterTable(cal.item_ids, cal.a, cal.b, cal.c, cal.cov_ab, path=Path("p.csv"))


def test_answers_to_items_without_parameters_do_not_count_and_are_told(simulated: Answers, simulated_fit: Fit) -> None:
    table = _table_of(simulated_fit)
    half = _only(table, 4)
    known = simulated.responses.item < 4
    r = simulated.responses
    seen_by_half = Responses(r.person[known], r.item[known], r.score[known], r.n_persons, r.item_ids[:4])
    found = score(simulated, half)
    assert found.ignored == r.item_ids[4:]
    alone = score(Answers(seen_by_half, simulated.person_ids), half)
    assert np.array_equal(found.scores.theta, alone.scores.theta)


def test_no_item_with_parameters_is_an_error(simulated: Answers, simulated_fit: Fit) -> None:
    table = _table_of(simulated_fit)
    renamed = replace(table, item_ids=tuple(f"other{i}" for i in table.item_ids))
    with pytest.raises(PermanentFailure, match="none of its 8 items"):
        score(simulated, renamed)


def _only(table, k: int):
    return replace(table, **vars(table.select(table.item_ids[:k])))


# --- simulated answers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("long", [True, False])
def test_simulated_answers_are_read_back_as_they_were_drawn(tmp_path: Path, long: bool) -> None:
    made = simulate_responses(persons=30, items=7, each=3, seed=4, model="3pl")
    made.write(tmp_path, long=long)
    read = read_answers(tmp_path / "responses.csv")
    matrix = np.full((30, 7), -1)
    rows = [made.person_ids.index(read.person_ids[p]) for p in read.responses.person]
    columns = [made.item_ids.index(read.responses.item_ids[i]) for i in read.responses.item]
    matrix[rows, columns] = read.responses.score
    assert np.array_equal(matrix, made.score)
    assert np.array_equal((made.score >= 0).sum(1), np.full(30, 3))
    truth = read_parameters(tmp_path / "items.csv")
    assert np.array_equal(truth.c, made.c)
    assert np.array_equal(np.loadtxt(tmp_path / "persons.csv", delimiter=",", skiprows=1, usecols=1), made.theta)


def test_the_same_seed_gives_the_same_answers_and_another_other_ones() -> None:
    one, same, other = (simulate_responses(persons=50, items=5, seed=s).score for s in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_answers_follow_the_curve_of_a_given_table(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("item,a,b,c\nx,1.5,0.5,0.2\n")
    n = 20_000
    made = simulate_responses(persons=n, params=read_parameters(path), mean=0.3, sd=0.8, seed=1)
    expected = 0.2 + 0.8 / (1 + np.exp(-1.5 * (made.theta - 0.5)))
    # 4 standard errors of a proportion, sharper for knowing each θ
    assert (made.score[:, 0] == 1).mean() == pytest.approx(expected.mean(), abs=4 * math.sqrt(0.25 / n))
    assert (made.theta.mean(), made.theta.std()) == pytest.approx((0.3, 0.8), abs=4 * 0.8 / math.sqrt(n))


@pytest.mark.parametrize("wrong", [{"persons": 0}, {"items": 0}, {"each": 99}, {"sd": 0.0}])
def test_numbers_that_make_no_sense_are_refused_by_name(wrong: dict) -> None:
    with pytest.raises(PermanentFailure, match=f"--{next(iter(wrong))}"):
        simulate_responses(**wrong)


def test_scored_items_are_fitted_with_steps_and_log_odds_and_scored_by_their_table(
    shared: Path, tmp_path: Path
) -> None:
    """Science (mirt), whose scores begin at 1: nobody can have 0, so that four scores have three log odds."""
    path = shared / "data" / "science_wide.csv"
    answers = read_answers(path, None, read_max_scores("4"))
    done = fit(answers, model="gpcm")
    comfort = done.as_dict()["items"][0]
    assert done.calibration.convergence.loglik == pytest.approx(-1612.6816, abs=0.1)  # it has a prior on rare steps
    assert "t0" not in comfort
    assert comfort["max_score"] == 4
    assert [comfort[f"d{k}"] for k in (2, 3, 4)] == pytest.approx([2.822, 5.313, 3.989], abs=0.2)
    done.write(tmp_path)
    by_table, by_json = (score(answers, read_parameters(tmp_path / name)) for name in ("params.csv", "fit.json"))
    np.testing.assert_allclose(by_table.scores.theta, by_json.scores.theta, atol=1e-12)
    assert np.corrcoef(by_json.scores.theta, answers.responses.score.reshape(-1, 4).sum(axis=1))[0, 1] > 0.9


def test_a_rating_scale_of_different_maxima_advises_a_model_that_files_can_name(tmp_path: Path) -> None:
    """It advised blocks and PCM items, neither of which can be said of a file."""
    path, most = tmp_path / "a.csv", tmp_path / "most.csv"
    rng = np.random.default_rng(4)
    rows = "".join(f"{j},{k},{h},{i}\n" for j, k, h, i in rng.integers(0, [5, 5, 3, 3], (60, 4)))
    path.write_text(f"a,b,c,d\n{rows}")
    most.write_text("item,max_score\na,4\nb,4\nc,2\nd,2\n")
    with pytest.raises(PsychometricsError, match="or fit a pcm or gpcm, which has steps for each item"):
        fit(read_answers(path, None, read_max_scores(str(most))), model="rsm")


def test_engines_that_do_not_fit_scored_items_say_so(shared: Path) -> None:
    answers = read_answers(shared / "data" / "science_wide.csv", None, read_max_scores("4"))
    with pytest.raises(PermanentFailure, match="engine brms does not support items scored above 1: take em or mirt"):
        fit(answers, engine=REngine("brms"))
