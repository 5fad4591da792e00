"""Fits, scores, links and simulated answers of the file commands: reference values and round trips through files."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from irt_psychometrics import PsychometricsError, fit as fit_responses
from irt_psychometrics.commands import Files, fit, link, score, simulate_responses
from irt_psychometrics.commands.answers import Answers
from irt_psychometrics.commands.fitting import FileFit
from irt_psychometrics.commands.parameters import ParameterTable
from irt_psychometrics.core.covariances import from_errors
from irt_psychometrics.linking import Method
from irt_psychometrics.responses import Responses
from irt_psychometrics.scoring import estimate_abilities

FIT_KEYS = (
    *("model", "engine", "engine_version", "converged", "iterations", "loglik", "aic", "bic", "n_persons", "n_items"),
    *("n_responses", "items", "latent", "normality", "shape", "reliability", "seconds"),
)
ITEM_KEYS = (
    *("item", "a", "b", "c", "a_se", "b_se", "c_se", "n", "p_value", "infit", "outfit", "rmsd", "flags"),
    "cov_ab",
)


FILES = Files()


def answers_of(matrix: np.ndarray) -> Answers:
    responses = Responses.from_wide(matrix)
    return Answers(responses, tuple(str(k) for k in range(responses.n_persons)))


@pytest.fixture(scope="module")
def simulated() -> Answers:
    made = simulate_responses(persons=400, items=8, seed=3)
    return answers_of(np.where(made.score < 0, np.nan, made.score))


def test_fit_has_the_documented_keys_and_is_plain_json(simulated_fit: FileFit) -> None:
    result = simulated_fit.as_dict()
    assert tuple(result) == FIT_KEYS
    assert {tuple(row) for row in result["items"]} == {ITEM_KEYS}
    assert tuple(result["latent"]) == ("mean", "sd")
    json.dumps(result, allow_nan=False)


@pytest.fixture(scope="module")
def simulated_fit(simulated: Answers) -> FileFit:
    return fit(simulated)


@pytest.mark.parametrize("model", ["rasch", "2pl", "3pl"])
@pytest.mark.filterwarnings("ignore::irt_psychometrics.ItemWarning")
def test_fit_of_a_file_equals_the_fit_of_its_answers(shared: Path, model) -> None:
    answers = FILES.answers(shared / "reference" / "lsat7.csv")
    result, expected = fit(answers, model=model).as_dict(), fit_responses(answers.responses, model)
    assert [row["a"] for row in result["items"]] == pytest.approx(expected.items.a, rel=1e-12)
    assert [row["b"] for row in result["items"]] == pytest.approx(expected.items.b, rel=1e-12)
    assert [row["c"] for row in result["items"]] == pytest.approx(expected.items.c, rel=1e-12)
    assert (result["aic"], result["bic"]) == pytest.approx((expected.aic, expected.bic), rel=1e-12)
    assert result["reliability"] == pytest.approx(expected.reliability, rel=1e-9)
    assert (result["n_persons"], result["n_items"], result["n_responses"]) == (1000, 5, 5000)


def test_items_with_a_single_response_are_kept_and_flagged(simulated: Answers) -> None:
    """Thresholds apply to months of a bank. File commands fit or flag all given items."""
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


def test_fit_without_convergence_has_a_reason() -> None:
    made = simulate_responses(persons=300, items=6, seed=2).score.astype(float)
    made[:, 1] = made[:, 0]
    done = fit(answers_of(made))
    assert not done.as_dict()["converged"]
    assert "i1" in done.reason


def test_anchors_of_a_table_keep_their_parameters_and_the_population_is_estimated(tmp_path: Path) -> None:
    simulate_responses(persons=2000, items=8, seed=3, mean=0.4, sd=1.3).write(tmp_path)
    anchors = _only(FILES.parameters(tmp_path / "items.csv"), 4)
    result = fit(FILES.answers(tmp_path / "responses.csv"), anchors=anchors).as_dict()
    assert [row["b"] for row in result["items"][:4]] == pytest.approx(anchors.b.tolist(), rel=1e-12)
    # eight answers of 2000 persons: standard errors of about .04
    assert (result["latent"]["mean"], result["latent"]["sd"]) == pytest.approx((0.4, 1.3), abs=0.13)


def test_groups_of_a_file_have_the_means_and_sds_of_the_fit(tmp_path: Path) -> None:
    made = simulate_responses(persons=400, items=8, seed=3)
    made.write(tmp_path)
    groups = ["person,group", *(f"{person},{'AB'[k % 2]}" for k, person in enumerate(made.person_ids))]
    (tmp_path / "groups.csv").write_text("\n".join(groups))
    answers = FILES.answers(tmp_path / "responses.csv", groups=str(tmp_path / "groups.csv"))
    done = fit(answers, groups=answers.groups)
    for row, of in zip(done.as_dict()["groups"], done.calibration.populations, strict=True):
        assert (row["group"], row["mean"], row["sd"], row["n_persons"]) == (of.name, of.mean, of.sd, 200)
    json.dumps(done.as_dict(), allow_nan=False)


def test_files_written_by_a_fit_are_read_as_its_parameters(simulated: Answers, tmp_path: Path) -> None:
    done = fit(simulated, model="rasch")
    done.write(tmp_path)
    table, whole = FILES.parameters(tmp_path / "params.csv"), FILES.parameters(tmp_path / "fit.json")
    assert (tmp_path / "fit.json").read_text() == json.dumps(done.as_dict(), ensure_ascii=False, indent=2) + "\n"
    for one in (table, whole):
        assert one.item_ids == simulated.responses.item_ids
        assert np.array_equal(one.b, done.calibration.b)
    assert (table.sd, whole.sd) == (1.0, done.calibration.latent_sd)
    assert score(simulated, whole).scores.theta.std() != score(simulated, table).scores.theta.std()


# --- scores --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["eap", "map", "ml"])
def test_scores_of_a_file_equal_the_scores_of_its_answers(simulated: Answers, simulated_fit: FileFit, method) -> None:
    rows, of = score(simulated, _table_of(simulated_fit), method=method).as_dict(), simulated_fit.calibration
    expected = estimate_abilities(simulated.responses, of.a, of.d, of.c, method=method).theta
    assert [row["person"] for row in rows] == list(simulated.person_ids)
    # all right or all wrong has no finite ML; a search for a maximum ends within 1e-6
    assert [row["theta"] for row in rows] == [pytest.approx(x, abs=1e-6) if np.isfinite(x) else None for x in expected]


def _table_of(fitted):
    cal = fitted.calibration
    return ParameterTable(cal.item_ids, cal.a, cal.b, cal.c, cal.cov_ab, path=Path("p.csv"))


def test_answers_to_items_without_parameters_are_ignored_and_listed(simulated: Answers, simulated_fit: FileFit) -> None:
    table = _table_of(simulated_fit)
    half = _only(table, 4)
    known = simulated.responses.item < 4
    r = simulated.responses
    seen_by_half = Responses(r.person[known], r.item[known], r.score[known], r.n_persons, r.item_ids[:4])
    found = score(simulated, half)
    assert found.ignored == r.item_ids[4:]
    alone = score(Answers(seen_by_half, simulated.person_ids), half)
    assert np.array_equal(found.scores.theta, alone.scores.theta)


def test_scoring_is_refused_if_no_answered_item_has_parameters(simulated: Answers, simulated_fit: FileFit) -> None:
    table = _table_of(simulated_fit)
    renamed = replace(table, item_ids=tuple(f"other{i}" for i in table.item_ids))
    with pytest.raises(PsychometricsError, match="its 8 items with parameters do not include"):
        score(simulated, renamed)


def _only(table, k: int):
    return replace(table, **vars(table.select(table.item_ids[:k])))


# --- simulated answers ---------------------------------------------------------------------------------------------


def test_simulated_answers_are_read_back_unchanged(tmp_path: Path) -> None:
    made = simulate_responses(persons=30, items=7, each=3, seed=4, model="3pl")
    made.write(tmp_path)
    read = FILES.answers(tmp_path / "responses.csv")
    matrix = np.full((30, 7), -1)
    rows = [made.person_ids.index(read.person_ids[p]) for p in read.responses.person]
    columns = [made.item_ids.index(read.responses.item_ids[i]) for i in read.responses.item]
    matrix[rows, columns] = read.responses.score
    assert np.array_equal(matrix, made.score)
    assert np.array_equal((made.score >= 0).sum(1), np.full(30, 3))
    truth = FILES.parameters(tmp_path / "items.csv")
    assert np.array_equal(truth.c, made.c)
    assert np.array_equal(np.loadtxt(tmp_path / "persons.csv", delimiter=",", skiprows=1, usecols=1), made.theta)


def test_simulated_answers_depend_only_on_the_seed() -> None:
    one, same, other = (simulate_responses(persons=50, items=5, seed=s).score for s in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_answers_follow_the_curve_of_a_given_table(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("item,a,b,c\nx,1.5,0.5,0.2\n")
    n = 20_000
    made = simulate_responses(persons=n, params=FILES.parameters(path), mean=0.3, sd=0.8, seed=1)
    expected = 0.2 + 0.8 / (1 + np.exp(-1.5 * (made.theta - 0.5)))
    # 4 standard errors of a proportion, an upper limit because each θ is known
    assert (made.score[:, 0] == 1).mean() == pytest.approx(expected.mean(), abs=4 * math.sqrt(0.25 / n))
    assert (made.theta.mean(), made.theta.std()) == pytest.approx((0.3, 0.8), abs=4 * 0.8 / math.sqrt(n))


@pytest.mark.parametrize("wrong", [{"persons": 0}, {"items": 0}, {"each": 99}, {"sd": 0.0}])
def test_invalid_numbers_are_refused_with_the_option(wrong: dict) -> None:
    with pytest.raises(PsychometricsError, match=f"--{next(iter(wrong))}"):
        simulate_responses(**wrong)


def test_scored_items_are_fitted_and_their_table_gives_the_same_scores(shared: Path, tmp_path: Path) -> None:
    """Science (mirt), whose scores begin at 1: the score 0 is impossible, so four scores have three log odds."""
    path = shared / "data" / "science_wide.csv"
    answers = FILES.answers(path, None, FILES.max_scores("4"))
    done = fit(answers, model="gpcm")
    comfort = done.as_dict()["items"][0]
    # the fit has a prior on rare steps
    assert done.calibration.convergence.loglik == pytest.approx(-1612.6816, abs=0.1)
    assert ("t0" in comfort, comfort["max_score"]) == (False, 4)
    assert [comfort[f"d{k}"] for k in (2, 3, 4)] == pytest.approx([2.822, 5.313, 3.989], abs=0.2)
    done.write(tmp_path)
    by_table, by_json = (score(answers, FILES.parameters(tmp_path / name)) for name in ("params.csv", "fit.json"))
    np.testing.assert_allclose(by_table.scores.theta, by_json.scores.theta, atol=1e-12)
    assert np.corrcoef(by_json.scores.theta, answers.responses.score.reshape(-1, 4).sum(axis=1))[0, 1] > 0.9


def test_rsm_of_different_maximum_scores_is_refused_with_a_suitable_model(tmp_path: Path) -> None:
    """Blocks and PCM items do not help, because a file command cannot specify them."""
    path, most = tmp_path / "a.csv", tmp_path / "most.csv"
    rng = np.random.default_rng(4)
    rows = "".join(f"{j},{k},{h},{i}\n" for j, k, h, i in rng.integers(0, [5, 5, 3, 3], (60, 4)))
    path.write_text(f"a,b,c,d\n{rows}")
    most.write_text("item,max_score\na,4\nb,4\nc,2\nd,2\n")
    with pytest.raises(PsychometricsError, match="or fit a pcm or gpcm, which has steps for each item"):
        fit(FILES.answers(path, None, FILES.max_scores(str(most))), model="rsm")


# -- linking -----------------------------------------------------------------------------------------
# Linking of parameter tables: known constants, closed forms, moved items, and few or no common items.

METHODS = get_args(Method)


def table(
    items: Sequence[str],
    a: Sequence[float],
    b: Sequence[float],
    c: Sequence[float] | None = None,
    *,
    se: tuple[float, float] | None = None,
) -> ParameterTable:
    k = len(items)
    a_se, b_se = se if se else (np.nan, np.nan)
    columns = [np.asarray(x, dtype=float) for x in (a, b, c if c is not None else np.zeros(k))]
    cov = from_errors(np.full(k, a_se), np.full(k, b_se), np.zeros(k))
    return ParameterTable(tuple(items), *columns, cov, path=Path("t.csv"))


def move_table(old: ParameterTable, slope: float, intercept: float) -> ParameterTable:
    """The table on the scale from which θ_old = slope·θ + intercept."""
    return replace(old, path=Path("new.csv"), a=old.a * slope, b=(old.b - intercept) / slope)


@pytest.fixture
def old() -> ParameterTable:
    rng = np.random.default_rng(5)
    k = 12
    return table([f"i{j}" for j in range(k)], np.exp(rng.normal(0, 0.3, k)), rng.normal(0, 1, k), np.full(k, 0.1))


@pytest.mark.parametrize("se", [None, (0.1, 0.08)])
@pytest.mark.parametrize("k", [1, 2, 4, 12])
@pytest.mark.parametrize("method", METHODS)
def test_known_constants_are_recovered_from_any_number_of_common_items(
    old: ParameterTable, method: Method, k: int, se: tuple[float, float] | None
) -> None:
    few = table(old.item_ids[:k], old.a[:k], old.b[:k], old.c[:k], se=se)
    new = move_table(few, 1.3, -0.4)
    if method == "mean-sigma" and k == 1:
        with pytest.raises(PsychometricsError, match="mean-sigma criterion gives no constants for the 1 items"):
            link(new, few, method=method)
        return
    found = link(new, few, method=method)
    # the criteria's minimum is found to about the root of the machine's precision
    assert (found.slope, found.intercept, found.rmse) == pytest.approx((1.3, -0.4, 0), abs=1e-7)
    assert any("are in both tables" in w for w in found.warnings) == (k < 5)


@pytest.mark.parametrize("se", [None, (0.1, 0.1)])
@pytest.mark.parametrize("a", [(1.0, 1.0), (1.0, 1.25)])
@pytest.mark.parametrize("method", METHODS)
def test_slope_of_a_link_is_the_ratio_of_discriminations_if_these_are_equal(
    method: Method, a: tuple[float, float], se: tuple[float, float] | None
) -> None:
    """A search over the slope gives 1.0045 by Stocking-Lord and 1.033 by mean-sigma for twenty-five Rasch difficulties
    without errors; sirt and plink have 1, with intercepts between .0885 and .0966 for the methods of curves."""
    rng = np.random.default_rng(25)
    b = rng.normal(0, 1.2, 25)
    ids = [f"i{k}" for k in range(25)]
    old = table(ids, np.full(25, a[1]), b, se=se)
    new = table(ids, np.full(25, a[0]), (b + 0.09) * a[1] / a[0] + rng.normal(0, 0.15, 25), se=se)
    found = link(new, old, method=method, purify=False)
    assert found.slope == pytest.approx(a[0] / a[1], rel=1e-12)
    expected = _intercept_by_search(new, old, method, a[0] / a[1])
    # errors weight the curves of items: the intercept's own error is .15/√25 = .03
    assert found.intercept == pytest.approx(expected, abs=0.03 if se else 1e-6)


def _intercept_by_search(new: ParameterTable, old: ParameterTable, method: Method, slope: float) -> float:
    """The minimum of the criterion by its definition, over the nodes of N(0, 1), with the slope given."""
    if method.startswith("mean"):
        return float(np.mean(old.b - slope * new.b))
    nodes = np.linspace(-6, 6, 61)
    density = np.exp(-(nodes**2) / 2)

    def curves(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-a * (nodes[:, None] - b)))

    def distance(intercept: float) -> float:
        difference = curves(old.a, old.b) - curves(new.a / slope, slope * new.b + intercept)
        return float(density @ (difference**2).sum(1) if method == "haebara" else density @ difference.sum(1) ** 2)

    return float(minimize_scalar(distance, bounds=(-1, 1), method="bounded", options={"xatol": 1e-10}).x)


def test_tables_of_difficulties_without_slopes_are_read_as_rasch(tmp_path: Path) -> None:
    path = tmp_path / "rasch.csv"
    path.write_text("item,b,b_se\ni0,-0.5,0.1\ni1,0.5,0.1\ni2,1.5,0.2\n")
    found = FILES.parameters(path)
    assert (found.a.tolist(), found.a_se.tolist(), found.b.tolist()) == ([1.0] * 3, [0.0] * 3, [-0.5, 0.5, 1.5])
    path.write_text("item,Discrimination,b\ni0,0.7,-0.5\n")
    with pytest.raises(PsychometricsError, match="a is not among item, Discrimination, b"):
        FILES.parameters(path)


def test_twelve_pcm_items_are_linked_with_slope_1(tmp_path: Path) -> None:
    rng = np.random.default_rng(12)
    steps = np.sort(rng.normal(0, 1, (12, 2)), axis=1)
    tables = []
    for name, off in (("new", 0.3), ("old", 0.0)):
        shifted = steps + off + rng.normal(0, 0.1, (12, 2))
        rows = "".join(f"i{k},1,{one:.4f},{two:.4f},pcm\n" for k, (one, two) in enumerate(shifted))
        (tmp_path / name).write_text(f"item,a,b1,b2,model\n{rows}")
        tables.append(FILES.parameters(tmp_path / name))
    found = link(*tables, purify=False)
    assert found.slope == 1.0
    assert found.intercept == pytest.approx(-0.3, abs=0.1)  # the mean of 24 steps varies by .1·√2/√24 = .03


@pytest.mark.parametrize("se", [None, (0.08, 0.06)])
def test_a_moved_item_is_dropped_with_a_reason_and_kept_on_demand(
    old: ParameterTable, se: tuple[float, float] | None
) -> None:
    sound = table(old.item_ids, old.a, old.b, old.c, se=se)
    new = move_table(sound, 1.2, 0.5)
    new.b[3] += 1.5
    found = link(new, sound)
    assert list(found.anchors_dropped) == ["i3"]
    assert "off the line of the anchors that are kept: b by +1.80" in found.anchors_dropped["i3"]
    assert (found.slope, found.intercept) == pytest.approx((1.2, 0.5), abs=1e-7)
    kept = link(new, sound, purify=False)
    assert "i3" in kept.anchors_used
    assert abs(kept.intercept - 0.5) > 0.02


def test_items_are_weighted_by_their_errors_if_both_tables_have_errors(old: ParameterTable) -> None:
    """An item that moved a little has less weight if its error is larger."""
    sharp = table(old.item_ids, old.a, old.b, old.c, se=(0.1, 0.1))
    new = move_table(sharp, 1.0, 0.0)
    new.b[0] += 0.3
    blunt = replace(new, cov=from_errors(new.a_se, np.where(np.arange(12) == 0, 1.0, 0.1), np.zeros(12)))
    plain = link(new, sharp, method="mean-sigma", purify=False).intercept
    weighted = link(blunt, sharp, method="mean-sigma", purify=False).intercept
    classical = link(replace(blunt, cov=blunt.cov * np.nan), sharp, method="mean-sigma")
    assert abs(weighted) < abs(plain) / 5
    assert "not weighted" in " ".join(classical.warnings)


def test_items_without_errors_are_dropped_if_the_rest_has_errors(old: ParameterTable) -> None:
    sound = table(old.item_ids, old.a, old.b, old.c, se=(0.1, 0.1))
    sound.cov[2, 1, 1] = np.nan
    new = move_table(table(old.item_ids, old.a, old.b, old.c, se=(0.1, 0.1)), 1.1, 0.2)
    new.cov[7, 1, 1] = np.nan
    found = link(new, sound)
    assert (set(found.anchors_dropped), found.slope) == ({"i2", "i7"}, pytest.approx(1.1, abs=1e-7))


def test_items_with_extreme_difficulty_are_dropped(old: ParameterTable) -> None:
    """Such an item has no information from which an error could be assumed."""
    far = replace(old, b=np.where(np.arange(12) == 4, 400.0, old.b), a=np.where(np.arange(12) == 4, 3.0, old.a))
    found = link(move_table(far, 1.1, 0.2), far)
    assert "i4" in found.anchors_dropped
    assert found.slope == pytest.approx(1.1, abs=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_rasch_fits_are_linked_by_the_ratio_of_slopes_to_scales_with_slopes_not_1(method: Method) -> None:
    """Learners with an SD of 1.6 in the fit have an SD of 1 on the scale, whatever the difficulties."""
    b = np.linspace(-2, 2, 8)
    new = table([f"i{j}" for j in range(8)], np.ones(8), b, se=(0.0, 0.1))
    old = replace(new, a=np.full(8, 1.6), b=(b + 0.8 + np.tile([0.1, -0.1, -0.1, 0.1], 2)) / 1.6)
    for purify in (False, True):
        found = link(new, old, method=method, purify=purify)
        assert found.slope == pytest.approx(1 / 1.6, rel=1e-12)
        assert found.intercept == pytest.approx(0.5, abs=0.01)  # nearly exact for sums of curves
        assert not found.anchors_dropped


def test_tables_without_a_common_item_are_refused_with_items_of_both_sides(old: ParameterTable) -> None:
    with pytest.raises(PsychometricsError, match=r"no item in common.*j0.*i0"):
        link(replace(old, item_ids=tuple(i.replace("i", "j") for i in old.item_ids)), old)


@pytest.mark.parametrize("method", METHODS)
def test_known_constants_are_recovered_from_tables_with_scored_items(tmp_path: Path, method: Method) -> None:
    plain, header = ",,,,", "item,a,b,max_score,t0,t1,t2,t3"
    items = {
        "x": (1.2, -0.5, plain),
        "y": (0.8, 0.5, "2,0,0.8,0,"),
        "z": (0.6, 1.1, "3,0,0.5,0.9,0"),
        "w": (1, -1.4, plain),
    }

    def written(name: str, slope: float, intercept: float) -> ParameterTable:
        rows = [f"{item},{a * slope},{(b - intercept) / slope},{more}" for item, (a, b, more) in items.items()]
        (tmp_path / name).write_text("\n".join([header, *rows]))
        return FILES.parameters(tmp_path / name)

    found = link(written("new.csv", 1.2, 0.5), written("old.csv", 1.0, 0.0), method=method)
    assert (found.slope, found.intercept) == pytest.approx((1.2, 0.5), abs=1e-4)
    assert found.rmse < 1e-4
