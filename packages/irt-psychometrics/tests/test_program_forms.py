"""Parameters of scored items in the forms of other programs: round trips, and values computed by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from irt_psychometrics.commands.files import Files
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.items import ItemParameters, ItemRow
from irt_psychometrics.core.model_families import GPCM
from irt_psychometrics.core.program_forms import FORMS, PROGRAMS, columns_of, in_metric, parameters_of

THETA = np.array([-2.0, -0.5, 0.0, 1.0, 2.5])


def probabilities(parameters):
    """P(k) at five θ by the model, shape (5, C)."""
    row = ItemRow.from_row(parameters | {"further": {k: x for k, x in parameters.items() if k not in ("a", "b")}})
    (some,) = ItemParameters.from_rows(("i",), [row]).others
    return GPCM.probabilities(THETA, some.parameters(np.array([row.a]), np.array([-row.a * row.b])), some.categories)[0]


def shares(*exponents):
    """P(k) from the exponents of the scores, each of shape (5,) or a number."""
    e = np.exp(np.stack([np.broadcast_to(x, THETA.shape) for x in exponents], axis=1))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("columns", "metric_d", "by_hand"),
    [
        pytest.param(
            {"a1": 0.8, "ak0": 0, "ak1": 1, "ak2": 2, "ak3": 3, "d0": 0, "d1": 1.1, "d2": 0.9, "d3": -1.2}, 1.0,
            shares(0.0, 0.8 * THETA + 1.1, 1.6 * THETA + 0.9, 2.4 * THETA - 1.2), id="mirt",
        ),
        pytest.param(
            {"a": 0.7, "b1": -1.0, "b2": 0.4, "b3": 0.1}, 1.0,
            shares(0.0, 0.7 * (THETA + 1), 0.7 * (2 * THETA + 0.6), 0.7 * (3 * THETA + 0.5)), id="mirt's IRTpars",
        ),
        pytest.param(
            {"B.Cat1.Dim1": 1.3, "B.Cat2.Dim1": 2.6, "B.Cat3.Dim1": 0.0, "AXsi_.Cat1": -0.5, "AXsi_.Cat2": 0.25}, 1.0,
            shares(0.0, 1.3 * THETA + 0.5, 2.6 * THETA - 0.25), id="TAM",
        ),
        pytest.param(
            {"delta": 0.3, "tau1": -0.7, "tau2": 0.7}, 1.0,
            shares(0.0, THETA + 0.4, 2 * THETA - 0.6), id="ConQuest",
        ),
        pytest.param(
            {"slope": 0.5, "location": 0.2, "category1": 0.6, "category2": -0.6}, 1.7,
            shares(0.0, 1.7 * 0.5 * (THETA + 0.4), 1.7 * 0.5 * (2 * THETA - 0.4)), id="PARSCALE",
        ),
        pytest.param(
            {"a": 0.5, "b1": -0.4, "b2": 0.8}, 1.7,
            shares(0.0, 1.7 * 0.5 * (THETA + 0.4), 1.7 * 0.5 * (2 * THETA - 0.4)), id="Xcalibre",
        ),
    ],
)  # fmt: skip
def test_an_item_of_each_program_has_the_probabilities_computed_by_hand(columns, metric_d, by_hand):
    ours = in_metric(parameters_of(columns), metric_d)
    np.testing.assert_allclose(probabilities(ours), by_hand, rtol=0, atol=1e-12)


@pytest.mark.parametrize("metric_d", [1.0, 1.7])
@pytest.mark.parametrize("form", [form for form in FORMS if form not in ("fasttest", "winsteps")])
def test_written_parameters_are_read_back_unchanged(form, metric_d):
    item = {"a": 1.3, "b": 0.4, "max_score": 3.0, "t0": 0.0, "t1": 0.7, "t2": -0.2, "t3": 0.0}
    back = in_metric(parameters_of(columns_of(form, in_metric(item, 1 / metric_d))), metric_d)
    assert back == pytest.approx(item, abs=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_parameters_of_items_of_0_and_1_are_read_back_in_every_form(form):
    a = 1.0 if form == "winsteps" else 1.3
    found = parameters_of(columns_of(form, {"a": a, "b": 0.4}))
    assert (found["a"], found["b"]) == pytest.approx((a, 0.4), abs=1e-12)


def test_scores_with_a_gap_are_written_for_mirt_and_tam_and_refused_as_steps():
    item = {"a": 0.9, "b": -0.3, "max_score": 3.0, "t0": 0.0, "t2": 0.4, "t3": 0.0}
    assert columns_of("mirt", item)["ak1"] == 2.0
    for form in ("mirt", "tam"):
        assert parameters_of(columns_of(form, item)) == pytest.approx(item, abs=1e-12)
    for form in ("steps", "parscale", "conquest"):
        with pytest.raises(PsychometricsError, match="without score 1 cannot be written"):
            columns_of(form, item)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a1": 1.0, "ak0": 0.0, "d0": 0.0, "d1": 1.0}, "mirt need ak1"),
        ({"a1": 1.0, "ak0": 0.5, "ak1": 1.0, "ak2": 0.5, "d0": 0.0, "d1": 1.0, "d2": 0.0}, "must differ in ak·a1"),
        ({"b1": 0.3, "b2": 0.4}, "steps need a"),
        ({"a": 1.0, "b1": 0.3, "b3": 0.4}, "steps need b2"),
        ({"a": 0.0, "b1": 0.3, "b2": 0.4}, "do not make an item"),
        ({"B.Cat1.Dim1": 1.0, "B.Cat2.Dim1": 1.5, "AXsi_.Cat1": 0.0, "AXsi_.Cat2": 0.0}, "B of score 1"),
    ],
)
def test_incomplete_forms_and_forms_of_different_models_are_refused(columns, message):
    with pytest.raises(PsychometricsError, match=message):
        parameters_of(columns)


@pytest.mark.parametrize(
    ("columns", "model"),
    [
        ({"a1": 1.2, "d1": 0.3, "d2": 0.3}, ""),
        ({"a": 1.2, "b1": 0.4, "b2": -0.3}, "graded"),
        ({"slope": 1.2, "location": 0.0, "category1": -0.3, "category2": 0.3}, "grm"),
    ],
)
def test_thresholds_that_cross_are_refused(columns, model):
    with pytest.raises(PsychometricsError, match=r"thresholds of a graded item must ascend, got .* with a = 1\.2"):
        parameters_of(columns, model)


def test_columns_without_a_known_form_give_no_parameters():
    assert parameters_of({"a": 1.0, "b": 0.2, "c": 0.1}) is None


def test_metric_d_of_1_7_multiplies_slopes_and_their_errors_but_not_difficulties():
    ours = in_metric({"a": 1.0, "a_se": 0.1, "b": 0.5, "b_se": 0.2, "t1": 0.3, "t1_se": 0.05, "max_score": 2.0}, 1.7)
    assert ours == pytest.approx(
        {"a": 1.7, "a_se": 0.17, "b": 0.5, "b_se": 0.2, "t1": 0.51, "t1_se": 0.085, "max_score": 2.0}
    )


# -- tables of other programs from Python --------------------------------------------------------------------------

PLAIN = ItemParameters.from_rows(["q1", "q2"], [ItemRow(1.2, -0.5, 0.2), ItemRow(0.8, 0.4)])
SCORED = ItemParameters.from_frame({"item": ["q1"], "a": [0.8], "b1": [0.4], "b2": [-0.3], "model": ["gpcm"]})
GRADED = ItemParameters.from_frame({"item": ["q1"], "a1": [1.2], "d1": [2.0], "d2": [0.3], "d3": [-1.1]})
RASCH = ItemParameters.from_frame({"item": ["q1", "q2"], "b": [-0.5, 0.7], "b_se": [0.1, 0.2]})


@pytest.mark.parametrize("kind", ["pandas", "polars"])
@pytest.mark.parametrize(
    ("program", "items"),
    [
        *((program, SCORED) for program in ("mirt", "tam", "conquest", "parscale", "xcalibre")),
        *((program, GRADED) for program in ("mirt", "parscale", "flexmirt")),
        *((program, PLAIN) for program in ("mirt", "fasttest", "flexmirt")),
        *((program, RASCH) for program in PROGRAMS),
    ],
)
@pytest.mark.filterwarnings("ignore::irt_psychometrics.ItemWarning")
def test_items_come_back_from_the_tables_of_programs(program, items, kind):
    metric_d = 1.7 if program in ("parscale", "xcalibre", "fasttest") else None
    back = ItemParameters.from_program(items.to_program(program, kind, metric_d=metric_d), program, metric_d=metric_d)
    assert back.item_ids == items.item_ids
    np.testing.assert_allclose(back.curve(THETA), items.curve(THETA), rtol=1e-12)
    np.testing.assert_allclose(back.curves.information(THETA), items.curves.information(THETA), rtol=1e-11)


def test_ifile_of_winsteps_is_read_with_its_errors_and_without_extreme_items():
    ifile = {
        "ENTRY": [1, 2, 3, 4],
        "MEASURE": [0.31, -1.2, 5.1, 9999.0],
        "STATUS": [1, 2, -1, -3],
        "COUNT": [90.0] * 4,
        "SCORE": [40.0, 70.0, 0.0, 0.0],
        "MODLSE": [0.12, 0.14, 1.8, 0.0],
        "IN.MSQ": [1.0] * 4,
        "NAME": ["q1", "q2", "q3", "q4"],
    }
    items = ItemParameters.from_program(ifile, "winsteps")
    assert items.item_ids == ("q1", "q2", "q3", "q4")
    np.testing.assert_array_equal(items.a, [1, 1, np.nan, np.nan])
    np.testing.assert_array_equal(items.b, [0.31, -1.2, np.nan, np.nan])
    np.testing.assert_allclose(items.b_se[:2], [0.12, 0.14])
    np.testing.assert_array_equal(items.a_se[:2], 0.0)


def test_prm_file_of_flexmirt_is_read_by_position():
    """The 3PL has logit c, intercept and slope; a group's row has mean and variance; logit .2 is −1.386."""
    prm = pd.DataFrame(
        [
            [1, "v1", 1, 1, 1, 2, -1.386294, 0.6, 1.2],
            [1, "v2", 1, 1, 2, 2, -0.4, 0.8, np.nan],
            [0, "Group1", 1, 1, 0, 0.0, 1.0, np.nan, np.nan],
        ]
    )
    items = ItemParameters.from_program(prm.rename(columns=str), "flexmirt")
    assert items.item_ids == ("v1", "v2")
    np.testing.assert_allclose([items.a, items.b, items.c], [[1.2, 0.8], [-0.5, 0.5], [0.2, 0.0]], atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ItemParameters.from_program({}, "bilog"), "program must be one of mirt, tam"),
        (
            lambda: SCORED.to_program("winsteps"),
            r"item q1: an item scored 0 … 2 cannot be written in the form of winst",
        ),
        (lambda: SCORED.to_program("flexmirt"), "item q1: items of a partial credit model"),
        (lambda: GRADED.to_program("conquest"), r"item q1: a graded item scored 0 … 3 cannot be written"),
        (lambda: PLAIN.to_program("winsteps"), r"item q1: an item with a = 1\.2 cannot be written.*where a is 1"),
        (lambda: PLAIN.to_program("xcalibre"), "xcalibre is run with D = 1 or D = 1.7; give metric_d"),
        (lambda: ItemParameters.from_program({"item": ["x"], "a": [1], "b": [0]}, "tam"), "not columns of tam"),
        (
            lambda: ItemParameters.from_program(
                {"NAME": ["x"], "MEASURE": [1], "SCORE": [9], "COUNT": [5]}, "winsteps"
            ),
            "scores above 1, and an IFILE of Winsteps has no steps",
        ),
        (
            lambda: ItemParameters.from_program(
                pd.DataFrame([[1, "v", 1, 1, 3, 3, 0.5, -0.5, 1.0]], columns=list("abcdefghi")), "flexmirt"
            ),
            "item v: nominal items",
        ),
        (
            lambda: ItemParameters.from_program(
                pd.DataFrame([[1, "v", 1, 2, 2, 2, 0.5, 1.0, 1.0]], columns=list("abcdefghi")), "flexmirt"
            ),
            "item v: it has 2 factors",
        ),
    ],
)
def test_tables_and_items_that_a_program_cannot_have_are_refused(call, message):
    with pytest.raises(PsychometricsError, match=message):
        call()


@pytest.mark.parametrize(
    ("text", "metric_d", "ab"),
    [
        ("item,IRT a,IRT b,IRT c\nx,0.8,0.4,0.1\n", 1.7, (1.36, 0.4, 0.1)),
        ("item,MEASURE,MODLSE\nx,0.4,0.1\n", 1.0, (1.0, 0.4, 0.0)),
    ],
)
def test_files_of_fasttest_and_winsteps_are_read(tmp_path, text, metric_d, ab):
    (tmp_path / "items.csv").write_text(text)
    items = Files().parameters(tmp_path / "items.csv", metric_d)
    assert (items.a[0], items.b[0], items.c[0]) == pytest.approx(ab)
