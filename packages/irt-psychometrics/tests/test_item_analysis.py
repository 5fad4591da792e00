"""Item analysis against psych, ShinyItemAnalysis and TAM on real answers; reference/classical.R made the figures."""

import csv
import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import irt_psychometrics as irt
from irt_psychometrics.classical import Choices, ItemAnalysis, KeyEvidence, analyse_items
from irt_psychometrics.items import ItemParameters, ItemRow
from irt_psychometrics.scoring import estimate_abilities, rest_abilities

REFERENCE = json.loads((Path(__file__).parent / "reference" / "classical.json").read_text("utf-8"))


def read_table(path: Path, skip: int) -> tuple[list[str], np.ndarray]:
    head, *rows = csv.reader(path.read_text("utf-8").splitlines())
    return head[skip:], np.array([[int(cell) for cell in row[skip:]] for row in rows])


@pytest.fixture(params=["sat12", "science", "verbal_aggression"])
def analysed(request, shared) -> tuple[ItemAnalysis, dict]:
    name, skip = {"verbal_aggression": ("verbal_aggression_poly_wide", 3)}.get(request.param, ("", 1))
    name = name or {"sat12": "sat12_scored_wide", "science": "science_wide"}[request.param]
    ids, x = read_table(shared / "data" / f"{name}.csv", skip)
    x = x - x.min()
    found = analyse_items(irt.Responses.from_wide(dict(zip(ids, x.T, strict=True)), max_score=int(x.max())))
    return found, REFERENCE[request.param]


def test_moments_alpha_and_lambda2_of_a_form_match_psych(analysed):
    found, expected = analysed
    (form,) = found.forms
    names = {"mean": "mean", "sd": "sd", "median": "median", "skewness": "skewness2", "kurtosis": "kurtosis2"}
    names |= {"alpha": "alpha", "lambda2": "lambda2_cov", "split_half": "spearman_brown"}
    for own, theirs in names.items():
        assert getattr(form, own) == pytest.approx(expected[theirs], abs=1e-10), own
    assert [form.alpha_low, form.alpha_high] == pytest.approx(expected["feldt"], abs=1e-10)


def test_omega_matches_psych_up_to_the_tolerance_of_its_optimiser(analysed):
    found, expected = analysed
    assert found.forms[0].omega == pytest.approx(expected["omega_psych"], abs=1e-6)


def test_item_statistics_match_shinyitemanalysis(analysed):
    found, expected = analysed
    for own, theirs in (("mean", "item_mean"), ("sd", "item_sd"), ("item_rest", "item_rest")):
        np.testing.assert_allclose(getattr(found, own), expected[theirs], atol=1e-10)
    np.testing.assert_allclose(found.alpha_if_deleted, expected["alpha_drop_sia"], atol=1e-10)


def test_options_of_sat12_match_tam_and_only_item_32_has_an_option_above_its_key(shared):
    ids, chosen = read_table(shared / "data" / "sat12_raw_choices.csv", 1)
    _, scores = read_table(shared / "data" / "sat12_scored_wide.csv", 1)
    rows = csv.DictReader((shared / "data" / "sat12_key.csv").read_text("utf-8").splitlines())
    key = {row["item"]: row["key"] for row in rows}
    codes = [np.unique(column, return_inverse=True) for column in chosen.T]
    choices = Choices(
        np.stack([code for _, code in codes], axis=1).ravel(),
        tuple(tuple(map(str, labels)) for labels, _ in codes),
        tuple(frozenset({key[item]}) for item in ids),
    )
    found = analyse_items(irt.Responses.from_wide(dict(zip(ids, scores.T, strict=True))), choices).options
    own = {(item, option): m for m, (item, option) in enumerate(zip(found.item_ids, found.options, strict=True))}
    for row in REFERENCE["sat12"]["options"]:
        m = own.pop((row["item"], row["Categ"]))
        assert found.n[m] == row["AbsFreq"]
        assert found.rest_correlation[m] == pytest.approx(row["rpb.WLE"], abs=1e-10)
        assert found.mean_rest[m] == pytest.approx(row["M.WLE"], abs=1e-10)
    assert not own
    of_key = {found.item_ids[m]: found.rest_correlation[m] for m in np.flatnonzero(found.is_key)}
    beats = [
        (found.item_ids[m], found.options[m])
        for m in np.flatnonzero(~found.is_key & (found.rest_correlation > 0))
        if found.rest_correlation[m] > of_key[found.item_ids[m]]
    ]
    assert beats == [("item_32", "3")]


def test_item_analysis_of_choices_finds_the_wrong_key_of_sat12_in_one_call(shared):
    """R's TAM found option 3 of item 32 above the key; `reference/classical.json` has all options."""
    ids, chosen = read_table(shared / "data" / "sat12_raw_choices.csv", 1)
    rows = csv.DictReader((shared / "data" / "sat12_key.csv").read_text("utf-8").splitlines())
    table, key = dict(zip(ids, chosen.T, strict=True)), {row["item"]: row["key"] for row in rows}
    found = analyse_items(irt.Responses.from_wide(table, key=key))
    options = {name: m for m, name in enumerate(zip(found.options.item_ids, found.options.options, strict=True))}
    for row in REFERENCE["sat12"]["options"]:
        m = options.pop((row["item"], row["Categ"]))
        assert found.options.n[m] == row["AbsFreq"]
        assert found.options.rest_correlation[m] == pytest.approx(row["rpb.WLE"], abs=1e-10)
        assert found.options.is_key[m] == (key[row["item"]] == row["Categ"])
    assert not options
    flags = found.to_frame("pandas").set_index("item")["flags"]
    assert flags[flags.str.contains("beats_key")].to_dict() == {"item_32": "min_item_rest, above_key, beats_key"}
    of_options = found.options.to_frame("pandas").set_index(["item", "option"])["flags"]
    assert of_options[of_options.str.contains("beats_key")].index.tolist() == [("item_32", "3")]
    assert found.key_evidence.keys() == {"item_32"}
    evidence = found.key_evidence["item_32"]
    assert (evidence.option, evidence.keys, evidence.n) == ("3", ("5",), 600)
    assert evidence.e_value > 1
    assert "item_32: option 3 attracts abler persons than the key" in found._repr_html_()
    assert ItemAnalysis.from_json(found.to_json()) == found


def test_item_analysis_flags_the_option_that_beats_a_wrong_key_alone():
    """The key of q07 is the most attractive wrong option; `true_key` has the right one."""
    data = irt.datasets.wrong_key()
    found = analyse_items(irt.Responses.from_wide(data.columns, person="person", key=data.key))
    for options in (found.options, analyse_items(data.responses).options):
        flags = options.to_frame("pandas").set_index(["item", "option"])["flags"]
        assert flags[flags.str.contains("key")].to_dict() == {("q07", data.true_key["q07"]): "above_key, beats_key"}


def test_key_evidence_takes_answers_in_the_order_of_time():
    rng = np.random.default_rng(4)
    able, chosen = rng.normal(size=(300, 4)), rng.integers(0, 3, (300, 3))
    table = {f"q{j}": (able[:, j] + able[:, 3] > 0).astype(int) for j in range(3)}
    wrong = [*np.where(able[:, 3] > 0.2, "B", np.array([*"ACD"])[chosen[:, 0]])]
    x = irt.Responses.from_wide(table | {"bad": wrong}, key={"bad": "A"})
    time = rng.permutation(300)
    timed = replace(x, at=time[x.person])
    found, forward = analyse_items(timed), analyse_items(x.of_persons(np.argsort(np.argsort(x.person[::4]))))
    order = np.argsort(time)
    rest = sum(table[f"q{j}"] for j in range(3)).astype(float)
    of_persons = analyse_items(x).rest
    z = (rest - of_persons.mean()) / of_persons.std()
    evidence = KeyEvidence.start(["A"], 0).update([wrong[i] for i in order], z[order])
    assert found.key_evidence["bad"] == evidence
    assert forward.key_evidence["bad"] == analyse_items(x).key_evidence["bad"] != evidence


def test_item_analysis_of_other_tables_says_what_it_needs():
    x = irt.Responses.from_wide({"q1": ["A", "B"], "q2": [1, 0]}, key={"q1": "A"})
    with pytest.raises(irt.PsychometricsError, match=r"analyse_items needs Responses, got dict; Responses.from_wide"):
        analyse_items({"q1": [1, 0]})
    with pytest.raises(irt.PsychometricsError, match=r"choices must be Choices, got dict; Responses.from_wide"):
        analyse_items(x, {"q1": ["A", "B"]})


def test_rest_abilities_equal_scoring_without_the_item():
    rng = np.random.default_rng(5)
    a, b = rng.uniform(0.6, 2, 6), rng.normal(size=6)
    x = irt.Responses.from_wide(
        (rng.random((40, 6)) < 0.5).astype(float) + np.where(rng.random((40, 6)) < 0.3, np.nan, 0)
    )
    items = ItemParameters.from_rows(x.item_ids, [ItemRow(a[j], b[j]) if j else None for j in range(6)])
    rest = rest_abilities(x, items, mean=0.2, sd=1.1)
    for j in range(6):
        others = x.of_items(np.arange(6) != j)
        known = np.array([k for k in range(6) if k != j])
        slope = np.where(known > 0, a[known], np.nan)
        theta = estimate_abilities(others, slope, -slope * b[known], np.zeros(5), mean=0.2, sd=1.1).theta
        rows = np.flatnonzero(x.item == j)
        counted = np.isin(x.person[rows], others.person[others.item > (j > 0) - 1])
        np.testing.assert_allclose(rest[rows][counted], theta[x.person[rows][counted]], atol=1e-6)
        assert np.isnan(rest[rows][~counted]).all()


def test_traces_contain_all_learners_and_forms_of_different_difficulty_keep_their_correlations():
    rng = np.random.default_rng(7)
    theta = rng.normal(size=600)
    easy = (rng.random((600, 12)) < 1 / (1 + np.exp(-theta[:, None] - 2))).astype(int)
    hard = (rng.random((600, 12)) < 1 / (1 + np.exp(-theta[:, None] + 2))).astype(int)
    forms = ["easy"] * 300 + ["hard"] * 300
    x = np.full((600, 24), np.nan)
    x[:300, :12], x[300:, 12:] = easy[:300], hard[300:]
    both = analyse_items(irt.Responses.from_wide(x), forms=forms)
    alone = analyse_items(irt.Responses.from_wide(easy[:300]))
    np.testing.assert_allclose(both.item_rest[:12], alone.item_rest, atol=1e-12)
    assert both.forms[0].alpha == pytest.approx(alone.forms[0].alpha)
    options = both.options
    assert (options.trace_n.sum(axis=1) == 300).all()
    np.testing.assert_allclose(np.nansum(options.trace_n * options.trace, axis=1), options.n)


def test_rest_abilities_of_an_item_with_impossible_scores_and_of_a_single_person_are_numbers():
    """Score 1 of the first item has no step, so its log probability is −∞."""
    steps = ItemRow(1.0, 0.0, further={"t0": 0.5, "t2": -0.5, "max_score": 2})
    x = irt.Responses.from_wide(np.array([[2, 1, 0], [0, 1, 1]]), categories=[3, 2, 2])
    items = ItemParameters.from_rows(x.item_ids, [steps, ItemRow(1.0, 0.0), ItemRow(1.2, 0.3)])
    assert np.isfinite(rest_abilities(x, items, mean=0, sd=1)).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = analyse_items(x.of_persons(np.array([0])))
    assert (found.n == 1).all()
