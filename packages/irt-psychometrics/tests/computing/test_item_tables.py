"""Tables of items: round trips, refused columns and assumed covariances."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import irt_psychometrics as irt
from irt_psychometrics.commands.files import Files
from irt_psychometrics.core.item_models import ITEM_MODELS, OtherItems
from irt_psychometrics.items import ItemParameters, ItemRow

THETA = np.array([-2.0, -0.5, 0.0, 1.0, 2.5])
STEPS = {"item": ["q1", "q2"], "a": [1.0, 1.2], "b1": [0.5, 0.1], "b2": [-0.4, 0.3], "model": ["gpcm", "pcm"]}


def assert_same_items(found: ItemParameters, expected: ItemParameters) -> None:
    """Parameters are equal; errors are stored as standard errors, so that covariances differ in the last bits."""
    assert found.item_ids == expected.item_ids
    for name in ("a", "b", "c"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert [some.model.name for some in found.others] == [some.model.name for some in expected.others]
    for mine, own in zip(found.others, expected.others, strict=True):
        np.testing.assert_array_equal(mine.at, own.at)
        np.testing.assert_array_equal(mine.categories, own.categories)
        size = int(own.categories.max())
        np.testing.assert_array_equal(mine.further[:size], own.further[:size])
    size = 2 + min(found.n_further, expected.n_further)
    covs = (items.cov_of_all[:, :size, :size] for items in (found, expected))
    np.testing.assert_allclose(*covs, rtol=1e-11, atol=1e-300)


# -- round trips --------------------------------------------------------------------------------------------------


@st.composite
def items_of_any_models(draw: st.DrawFn) -> ItemParameters:
    """Items of all models with full covariances, some without parameters, some held, some without some scores."""
    kinds = draw(
        st.lists(st.sampled_from(["none", "2pl", "3pl", "held", "pcm", "rsm", "gpcm"]), min_size=1, max_size=6)
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    J, M = len(kinds), 5
    a, b, c = rng.lognormal(0, 0.4, J), rng.normal(0, 1.5, J), np.zeros(J)
    root = rng.normal(size=(J, 2 + M, 2 + M))
    cov = 0.01 * root @ root.swapaxes(1, 2)
    stored, models = {}, {}
    for j, kind in enumerate(kinds):
        free = {0, 1}
        if kind == "none":
            a[j] = b[j] = c[j] = np.nan
            cov[j, :2, :2] = np.nan
        elif kind == "3pl":
            c[j] = rng.uniform(0.05, 0.35)
            free |= {2}
        elif kind == "held":
            free = set()
        elif kind != "2pl":
            most = int(rng.integers(2, M))
            has = sorted({0, most, *rng.choice(most + 1, int(rng.integers(1, most + 2)), replace=False).tolist()})
            t = {f"t{k}": rng.normal() for k in has[1:-1]} | {f"t{k}": 0.0 for k in (0, most)}
            stored[j], models[j] = {"max_score": float(most), **t}, kind
            free |= {2 + k for k in has[1:-1]}
            free -= {0} if kind != "gpcm" else set()
        held = [p for p in range(2 + M) if p not in free]
        cov[j, held], cov[j][:, held] = 0.0, 0.0
        if kind == "none":
            cov[j, :2, :2] = np.nan
    others = OtherItems.from_parameters(stored, models)
    ids = tuple(f"item {j}" for j in range(J))
    return ItemParameters(ids, a, b, c, cov[:, :2, :2], cov[:, 2:], others)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(items_of_any_models(), st.sampled_from(["pandas", "polars", "pyarrow"]))
def test_items_of_all_models_come_back_from_their_table(items: ItemParameters, kind: str) -> None:
    back = ItemParameters.from_frame(items.to_frame(kind))
    assert_same_items(back, items)
    assert back.frame_kind == kind
    assert back.cov_ab_assumed == ()
    assert ItemParameters.from_json(items.to_json()) == items


def responses(model: str, seed: int, n: int = 8) -> irt.Responses:
    rng = np.random.default_rng(seed)
    table = {"item": [f"q{j}" for j in range(n)], "a": rng.lognormal(0, 0.2, n), "b": np.linspace(-1.5, 1.5, n)}
    if model in ("pcm", "rsm", "gpcm"):
        b = table.pop("b")
        table |= {"b1": b - 0.3, "b2": b + 0.4, "model": [model] * n}
    return irt.simulate_responses(ItemParameters.from_frame(table), rng.normal(size=600), random_state=seed)


def through_csv(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(frame.to_csv(index=False)))


@pytest.mark.filterwarnings("ignore::irt_psychometrics.ItemWarning")
@pytest.mark.parametrize("model", ITEM_MODELS)
def test_items_of_a_fit_come_back_from_a_csv_of_their_table(model: str) -> None:
    fit = irt.fit(responses(model, 1), model)
    back = ItemParameters.from_frame(through_csv(fit.items.to_frame("pandas")))
    assert_same_items(back, fit.calibration.items)
    assert_same_items(ItemParameters.from_frame(through_csv(fit.calibration.to_frame("pandas"))), back)


def test_items_of_linked_anchored_and_grouped_fits_come_back_from_their_tables() -> None:
    first, x = irt.fit(responses("gpcm", 1), "gpcm"), responses("gpcm", 2)
    anchors = first.calibration.items.select([f"q{j}" for j in range(4)])
    fits = (
        irt.link(irt.fit(x, "gpcm"), first).fit,
        irt.fit(x, "gpcm", anchors=anchors),
        irt.fit(x, "gpcm", groups=["a", "b"] * 300),
    )
    for fit in fits:
        assert_same_items(ItemParameters.from_frame(fit.items.to_frame("polars")), fit.calibration.items)


def test_scored_items_of_a_saved_fit_keep_their_scores_and_information() -> None:
    """The table of a GPCM was once read as one of 2PL items, with half of the information."""
    fit = irt.fit(responses("gpcm", 1), "gpcm")
    back = ItemParameters.from_frame(through_csv(fit.items.to_frame("pandas")))
    assert back.curves.categories.tolist() == [3] * 8
    # the parameters are equal; sums over categories may be in another order, as arrays in memory are aligned
    np.testing.assert_array_equal(back.curves.a, fit.curves.a)
    np.testing.assert_allclose(back.curves.information(THETA), fit.curves.information(THETA), rtol=1e-14)


def test_items_come_back_from_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    items = ItemParameters.from_frame(STEPS)
    items.to_frame("pandas").to_parquet(tmp_path / "pandas.parquet")
    items.to_frame("polars").write_parquet(tmp_path / "polars.parquet")
    for kind in ("pandas", "polars"):
        back = ItemParameters.from_frame(__import__(kind).read_parquet(tmp_path / f"{kind}.parquet"))
        assert_same_items(back, items)
        assert_same_items(Files().parameters(tmp_path / f"{kind}.parquet"), items)


def test_file_and_frame_of_one_table_give_the_same_items(tmp_path: Path) -> None:
    fit = irt.fit(responses("gpcm", 1), "gpcm")
    frame = fit.items.to_frame("pandas")
    frame.to_csv(tmp_path / "items.csv", index=False)
    assert_same_items(Files().parameters(tmp_path / "items.csv"), ItemParameters.from_frame(frame))


def test_table_of_a_fit_with_held_items_is_read_from_a_file(tmp_path: Path) -> None:
    first = irt.fit(responses("2pl", 1))
    fit = irt.fit(responses("2pl", 2), anchors=first.calibration.items.select(["q1", "q2"]))
    fit.items.to_frame("pandas").to_csv(tmp_path / "items.csv", index=False)
    found = Files().parameters(tmp_path / "items.csv")
    np.testing.assert_array_equal(found.errors_known, [name not in ("q1", "q2") for name in found.item_ids])


# -- columns and models --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "abc"),
    [
        ({"item": ["x"], "a1": [1.2], "d": [0.6], "g": [0.2]}, (1.2, -0.5, 0.2)),
        ({"item_id": ["x"], "b": [0.7]}, (1.0, 0.7, 0.0)),
        ({"item": ["x"], "a": [1.0], "b": [0.7], "D": [1.7]}, (1.7, 0.7, 0.0)),
        ({"item": ["x"], "a": [1.2], "b": [-0.5], "c": [0.2], "d": [1.0], "n": [90], "flags": [""]}, (1.2, -0.5, 0.2)),
    ],
)
def test_tables_of_mirt_and_of_the_rasch_model_are_read_from_frames(table, abc) -> None:
    items = ItemParameters.from_frame(table)
    assert items.item_ids == ("x",)
    assert (items.a[0], items.b[0], items.c[0]) == pytest.approx(abc)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"a2": [0.7]}, r"row 0, item x: a2 = 0\.7 is a slope of another dimension"),
        ({"u": [0.8]}, r"u = 0\.8 is an upper asymptote"),
        ({"d": [0.9]}, r"d = 0\.9 is an upper asymptote"),
        ({"model": ["grsm"]}, r"the model grsm"),
        ({"model": ["sequential"]}, r"the model sequential is unknown"),
        ({"max_score": [2]}, r"with max_score 2 it needs t of each score"),
        ({"max_score": [2], "t0": [0], "t2": [0], "model": ["2pl"]}, r"the model 2pl is for scores of 0 and 1"),
        ({"upper": [1.0], "level": ["hard"]}, r"columns 'upper', 'level' in a table of items is unknown.*t0, t1"),
        ({"c": [1.0]}, r"c = 1 is not in"),
        ({"c": ["one"]}, r"row 0, item x: c = 'one' is not a number"),
        ({"a_se": [-0.1]}, r"a_se = -0\.1 is below 0"),
    ],
)
def test_columns_and_models_that_are_not_read_are_refused(more, message: str) -> None:
    with pytest.raises(irt.PsychometricsError, match=message):
        ItemParameters.from_frame({"item": ["x"], "a": [1.2], "b": [-0.5], **more})


def test_items_that_may_be_graded_responses_are_reported() -> None:
    with pytest.warns(irt.ItemWarning, match="partial credit model.*: q1"):
        ItemParameters.from_frame({"item": ["q1"], "a": [1.0], "b1": [-0.4], "b2": [0.5]})


# -- covariances ---------------------------------------------------------------------------------------------------


def without_covariances(items: ItemParameters) -> pd.DataFrame:
    frame = items.to_frame("pandas")
    return frame[[name for name in frame if not name.startswith("cov_")]]


@pytest.mark.parametrize("model", ["2pl", "gpcm"])
def test_assumed_covariances_are_close_to_those_of_the_fit(model: str) -> None:
    """Correlations with known θ differ from a fit's, which estimates θ; with 40 items they differ by < .1."""
    own = irt.fit(responses(model, 3, 40), model).calibration.items
    found = ItemParameters.from_frame(without_covariances(own))
    assert found.cov_ab_assumed == own.item_ids
    assert "cov_ab" not in found.to_frame("pandas")
    correlations = [items.cov_ab / (items.a_se * items.b_se) for items in (found, own)]
    assert np.abs(correlations[1]).max() > 0.5
    np.testing.assert_allclose(*correlations, rtol=0, atol=0.1)


def test_assumed_covariances_match_the_inverse_information_of_a_2pl() -> None:
    """The information is Lord's (1980, ch. 12): ∫ P'²/(PQ) g gᵀ, g = (θ − b, −a), over N(0, 1), on a finer grid."""
    a, b, theta = 1.3, 0.8, np.linspace(-8, 8, 4001)
    p = 1 / (1 + np.exp(-a * (theta - b)))
    g = np.stack([theta - b, np.full_like(theta, -a)])
    inverse = np.linalg.inv((g * (p * (1 - p) * np.exp(-(theta**2) / 2))) @ g.T)
    correlation = inverse[0, 1] / np.sqrt(inverse[0, 0] * inverse[1, 1])
    items = ItemParameters.from_rows(["q"], [ItemRow(a, b, a_se=0.2, b_se=0.1)]).with_assumed_covariances()
    assert items.cov_ab[0] == pytest.approx(correlation * 0.2 * 0.1, rel=1e-4)


def test_link_and_drift_with_assumed_covariances_warn_and_agree_with_the_stated_ones() -> None:
    """The items are hard, so that all covariances are below 0: with 0 the intercept's error is too large by a tenth."""
    rng = np.random.default_rng(7)
    bank = ItemParameters.from_frame({"item": range(15), "a": rng.lognormal(0, 0.2, 15), "b": np.linspace(0.3, 2, 15)})
    old, new = (irt.fit(irt.simulate_responses(bank, rng.normal(m, 1, 1500), random_state=m)) for m in (0, 1))
    frame = old.items.to_frame("pandas")
    stated = ItemParameters.from_frame(frame)
    with pytest.warns(irt.LinkWarning, match=r"15 anchors have errors on the old side but no covariances \(cov_ab\)"):
        found = irt.link(new, ItemParameters.from_frame(without_covariances(stated)))
    with pytest.warns(irt.LinkWarning, match="no covariances"):
        drift = irt.find_drift(new, ItemParameters.from_frame(without_covariances(stated)))
    zero = ItemParameters.from_frame(without_covariances(stated).assign(cov_ab=0.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", irt.LinkWarning)
        expected, wrong = irt.link(new, stated), irt.link(new, zero)
        changes = irt.find_drift(new, stated)
    apart, apart_without = (abs(x.linking.intercept_se / expected.linking.intercept_se - 1) for x in (found, wrong))
    assert apart < 0.02 < 0.05 < apart_without
    np.testing.assert_allclose(drift.p, changes.p, atol=0.03)


def test_link_of_files_with_assumed_covariances_warns(tmp_path: Path) -> None:
    from irt_psychometrics.commands import link

    items = irt.fit(responses("2pl", 3)).calibration.items
    items.to_frame("pandas").to_csv(tmp_path / "whole.csv", index=False)
    without_covariances(items).to_csv(tmp_path / "bare.csv", index=False)
    whole, bare = (Files().parameters(tmp_path / f"{name}.csv") for name in ("whole", "bare"))
    assert link(whole, whole).warnings == ()
    assert any("bare.csv has no covariances (cov_ab)" in text for text in link(whole, bare).warnings)


# -- results -------------------------------------------------------------------------------------------------------


def test_items_calibrations_and_linkings_are_results() -> None:
    old, new = (irt.fit(responses("2pl", seed)) for seed in (3, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", irt.LinkWarning)
        linking = irt.link(new, old).linking
    for result in (old.calibration.items, old.calibration, linking):
        assert type(result).from_json(result.to_json()) == result
        assert len(repr(result)) < 160
        assert len(result.to_frame("pandas")) == 8
    assert old.calibration.items != new.calibration.items
    assert np.ndim(old.calibration.items.cov) == 3
    assert old.calibration.items.cov.shape == ItemParameters.from_json(old.calibration.items.to_json()).cov.shape
