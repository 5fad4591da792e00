"""Linking of parameter tables: the reference's constants, closed forms, moved items, few items and none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from irt_assets.file_commands.link import link
from irt_assets.file_commands.tables import ParameterTable, read_parameters
from irt_assets.psychometrics.core.covariances import of_errors
from irt_assets.psychometrics.core.options import Method
from resources.failures import PermanentFailure

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
    cov = of_errors(np.full(k, a_se), np.full(k, b_se), np.zeros(k))
    return ParameterTable(tuple(items), *columns, cov, path=Path("t.csv"))


def moved(old: ParameterTable, slope: float, intercept: float) -> ParameterTable:
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
def test_known_constants_come_back_from_any_number_of_common_items(
    old: ParameterTable, method: Method, k: int, se: tuple[float, float] | None
) -> None:
    few = table(old.item_ids[:k], old.a[:k], old.b[:k], old.c[:k], se=se)
    new = moved(few, 1.3, -0.4)
    if method == "mean-sigma" and k == 1:
        with pytest.raises(PermanentFailure, match="mean-sigma criterion gives no constants for the 1 items"):
            link(new, few, method=method)
        return
    found = link(new, few, method=method)
    # the criteria's minimum is found to about the root of the machine's precision
    assert (found.slope, found.intercept, found.rmse) == pytest.approx((1.3, -0.4, 0), abs=1e-7)
    assert any("are in both tables" in w for w in found.warnings) == (k < 5)


@pytest.mark.parametrize("se", [None, (0.1, 0.1)])
@pytest.mark.parametrize("a", [(1.0, 1.0), (1.0, 1.25)])
@pytest.mark.parametrize("method", METHODS)
def test_the_slope_of_equal_discriminations_is_their_ratio(
    method: Method, a: tuple[float, float], se: tuple[float, float] | None
) -> None:
    """Twenty-five Rasch difficulties without errors had 1.0045 by Stocking-Lord and 1.033 by mean-sigma; sirt and plink
    have 1 and intercepts between .0885 and .0966 for the methods of curves."""
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
    """The minimum of the criterion as it is defined, over the nodes of N(0, 1), with the slope given."""
    if method.startswith("mean"):
        return float(np.mean(old.b - slope * new.b))
    nodes = np.linspace(-6, 6, 61)
    density = np.exp(-(nodes**2) / 2)

    def curves(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-a * (nodes[:, None] - b)))

    def distance(intercept: float) -> float:
        apart = curves(old.a, old.b) - curves(new.a / slope, slope * new.b + intercept)
        return float(density @ (apart**2).sum(1) if method == "haebara" else density @ apart.sum(1) ** 2)

    return float(minimize_scalar(distance, bounds=(-1, 1), method="bounded", options={"xatol": 1e-10}).x)


def test_a_table_of_difficulties_alone_is_that_of_a_rasch_model(tmp_path: Path) -> None:
    path = tmp_path / "rasch.csv"
    path.write_text("item,b,b_se\ni0,-0.5,0.1\ni1,0.5,0.1\ni2,1.5,0.2\n")
    found = read_parameters(path)
    assert (found.a.tolist(), found.a_se.tolist(), found.b.tolist()) == ([1.0] * 3, [0.0] * 3, [-0.5, 0.5, 1.5])
    path.write_text("item,Discrimination,b\ni0,0.7,-0.5\n")
    with pytest.raises(PermanentFailure, match="a is not among item, Discrimination, b"):
        read_parameters(path)


def test_twelve_pcm_items_are_linked_with_slope_1(tmp_path: Path) -> None:
    rng = np.random.default_rng(12)
    steps = np.sort(rng.normal(0, 1, (12, 2)), axis=1)
    tables = []
    for name, off in (("new", 0.3), ("old", 0.0)):
        shifted = steps + off + rng.normal(0, 0.1, (12, 2))
        rows = "".join(f"i{k},1,{one:.4f},{two:.4f},pcm\n" for k, (one, two) in enumerate(shifted))
        (tmp_path / name).write_text(f"item,a,b1,b2,model\n{rows}")
        tables.append(read_parameters(tmp_path / name))
    found = link(*tables, purify=False)
    assert found.slope == 1.0
    assert found.intercept == pytest.approx(-0.3, abs=0.1)  # the mean of 24 steps varies by .1·√2/√24 = .03


@pytest.mark.parametrize("se", [None, (0.08, 0.06)])
def test_a_moved_item_is_dropped_with_a_reason_and_kept_on_demand(
    old: ParameterTable, se: tuple[float, float] | None
) -> None:
    sound = table(old.item_ids, old.a, old.b, old.c, se=se)
    new = moved(sound, 1.2, 0.5)
    new.b[3] += 1.5
    found = link(new, sound)
    assert list(found.anchors_dropped) == ["i3"]
    assert "off the line of the anchors that are kept: b by +1.80" in found.anchors_dropped["i3"]
    assert (found.slope, found.intercept) == pytest.approx((1.2, 0.5), abs=1e-7)
    kept = link(new, sound, purify=False)
    assert "i3" in kept.anchors_used
    assert abs(kept.intercept - 0.5) > 0.02


def test_items_are_weighted_by_their_errors_where_both_tables_have_them(old: ParameterTable) -> None:
    """An item that moved a little counts for less where its error is larger."""
    sharp = table(old.item_ids, old.a, old.b, old.c, se=(0.1, 0.1))
    new = moved(sharp, 1.0, 0.0)
    new.b[0] += 0.3
    blunt = replace(new, cov=of_errors(new.a_se, np.where(np.arange(12) == 0, 1.0, 0.1), np.zeros(12)))
    plain = link(new, sharp, method="mean-sigma", purify=False).intercept
    weighted = link(blunt, sharp, method="mean-sigma", purify=False).intercept
    classical = link(replace(blunt, cov=blunt.cov * np.nan), sharp, method="mean-sigma")
    assert abs(weighted) < abs(plain) / 5
    assert "not weighted" in " ".join(classical.warnings)


def test_items_without_errors_among_items_with_errors_are_left_out_by_name(old: ParameterTable) -> None:
    sound = table(old.item_ids, old.a, old.b, old.c, se=(0.1, 0.1))
    sound.cov[2, 1, 1] = np.nan
    new = moved(table(old.item_ids, old.a, old.b, old.c, se=(0.1, 0.1)), 1.1, 0.2)
    new.cov[7, 1, 1] = np.nan
    found = link(new, sound)
    assert set(found.anchors_dropped) == {"i2", "i7"}
    assert found.slope == pytest.approx(1.1, abs=1e-7)


def test_an_item_beyond_all_ability_is_left_out_by_name(old: ParameterTable) -> None:
    """There is no information to assume an error from."""
    far = replace(old, b=np.where(np.arange(12) == 4, 400.0, old.b), a=np.where(np.arange(12) == 4, 3.0, old.a))
    found = link(moved(far, 1.1, 0.2), far)
    assert "i4" in found.anchors_dropped
    assert found.slope == pytest.approx(1.1, abs=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_a_rasch_fit_is_put_into_the_unit_of_a_scale_whose_slopes_are_not_1(method: Method) -> None:
    """Its learners of SD 1.6 are those of SD 1 there, whatever b says."""
    b = np.linspace(-2, 2, 8)
    new = table([f"i{j}" for j in range(8)], np.ones(8), b, se=(0.0, 0.1))
    old = replace(new, a=np.full(8, 1.6), b=(b + 0.8 + np.tile([0.1, -0.1, -0.1, 0.1], 2)) / 1.6)
    for purify in (False, True):
        found = link(new, old, method=method, purify=purify)
        assert found.slope == pytest.approx(1 / 1.6, rel=1e-12)
        assert found.intercept == pytest.approx(0.5, abs=0.01)  # the curves' sums are nearly so
        assert not found.anchors_dropped


def test_no_common_item_is_an_error_that_shows_both_sides(old: ParameterTable) -> None:
    with pytest.raises(PermanentFailure, match=r"no item in common.*j0.*i0"):
        link(replace(old, item_ids=tuple(i.replace("i", "j") for i in old.item_ids)), old)


@pytest.mark.parametrize("method", METHODS)
def test_tables_of_scored_items_beside_0_1_items_give_the_constants_between_them(
    tmp_path: Path, method: Method
) -> None:
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
        return read_parameters(tmp_path / name)

    found = link(written("new.csv", 1.2, 0.5), written("old.csv", 1.0, 0.0), method=method)
    assert (found.slope, found.intercept) == pytest.approx((1.2, 0.5), abs=1e-4)
    assert found.rmse < 1e-4
