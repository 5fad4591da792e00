"""Plots: they fit their pane, survive any fit and any id, and mark in orange what they say they mark."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from irt_assets.calibration import plots
from irt_assets.psychometrics.core.anchors import AnchorSet
from irt_assets.psychometrics.core.models import Calibration, Convergence, Flag
from irt_assets.psychometrics.fit.observed import Observed
from irt_assets.psychometrics.linking.linking import Linking, LinkingError, assumed_errors, link
from tests.testbed.made_anchors import anchor_set_of

MAX_BYTES = 150_000


def fit(k: int, *, flagged: tuple[int, ...] = (), shift: float = 0.0, seed: int = 0) -> Calibration:
    rng = np.random.default_rng(seed)
    a, b = rng.lognormal(0, 0.3, k), rng.normal(0, 1, k) + shift
    a_se, b_se, cov_ab = assumed_errors(a, b, np.zeros(k))
    a[list(flagged)] *= -0.4
    cov = np.zeros((k, 2, 2))  # of (a, d = −ab)
    cov[:, 0, 0] = a_se**2
    cov[:, 0, 1] = cov[:, 1, 0] = -b * a_se**2 - a * cov_ab
    cov[:, 1, 1] = (b * a_se) ** 2 + (a * b_se) ** 2 + 2 * a * b * cov_ab
    return Calibration(
        item_ids=tuple(f"i{j}" for j in range(k)), model="2pl", engine="em", engine_version="test", a=a, d=-a * b,
        c=np.zeros(k), cov=cov, joint_cov=None, n=np.full(k, 500), n_correct=np.full(k, 250),
        flags=tuple((Flag.NEGATIVE_DISCRIMINATION,) if j in flagged else () for j in range(k)),
        latent_mean=0.0, latent_sd=1.0, n_persons=500, convergence=Convergence(True, 5, 0.0, 0.0, -1.0, 2 * k),
    )  # fmt: skip


def anchors_of(calibration: Calibration, moved: int = 0) -> AnchorSet:
    k = calibration.n_items
    b = calibration.b.copy()
    b[:moved] += 2.0
    return anchor_set_of(
        "s", "1", calibration.item_ids, calibration.a, b, np.zeros(k), *assumed_errors(calibration.a, b, np.zeros(k)),
        (None,) * k, np.zeros(k, dtype=bool),
    )  # fmt: skip


def unestimated(calibration: Calibration, *items: int) -> Calibration:
    a, d, cov = calibration.a.copy(), calibration.d.copy(), calibration.cov.copy()
    flags = list(calibration.flags)
    for j in items:
        a[j] = d[j] = np.nan
        cov[j] = np.nan
        flags[j] = (Flag.ALL_CORRECT,)
    return replace(calibration, a=a, d=d, cov=cov, flags=tuple(flags))


def image(png: bytes) -> np.ndarray:
    """Height × width × 3, 0 to 1; also holds that it is a PNG of the pane's width and not too heavy for metadata."""
    assert len(png) <= MAX_BYTES
    pixels = imread(io.BytesIO(png), format="png")[:, :, :3]
    assert pixels.shape[1] == 900
    return pixels


def orange(png: bytes) -> int:
    """How many pixels are as orange as the marks."""
    wanted = np.array([int(plots.ORANGE[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    return int((np.abs(image(png) - wanted).max(axis=2) < 0.1).sum())


@pytest.mark.parametrize("k", [1, 120, 1000])
def test_flagged_items_and_only_they_are_marked_among_the_parameters(k: int) -> None:
    assert orange(plots.parameters_with_intervals(fit(k))) == 0
    assert orange(plots.parameters_with_intervals(fit(k, flagged=(0,)))) > 20


def test_an_item_far_beyond_the_others_does_not_squeeze_them() -> None:
    sound = fit(30)
    a = sound.a.copy()
    a[3] = 1e-3  # b of some thousands
    both = [image(plots.parameters_with_intervals(c)) for c in (sound, replace(sound, a=a))]
    spread = [np.ptp(np.flatnonzero((p[:310, 80:, 2] > p[:310, 80:, 0] + 0.3).any(axis=1))) for p in both]
    assert spread[1] > 0.8 * spread[0]  # rows of the upper panel that hold blue


@pytest.mark.parametrize("n_shown", [0, 1, 4, 9, 30])
def test_curves_of_any_number_of_items_fit_one_picture(n_shown: int) -> None:
    calibration = unestimated(fit(30, flagged=(1,)), 2)
    observed = {"i0": Observed(np.array([-1.0, 0.0, 1.0]), np.array([0.0, 0.5, 1.0]), np.array([50, 0, 50]))}
    image(plots.item_curves(calibration, calibration.item_ids[:n_shown], observed))


def test_an_item_the_fit_does_not_know_is_drawn_as_without_parameters() -> None:
    image(plots.item_curves(fit(3), ["unknown"]))


def test_information_of_a_fit_without_any_parameters_says_so() -> None:
    full, empty = plots.test_information(fit(20)), plots.test_information(unestimated(fit(3), 0, 1, 2))
    assert image(empty).shape[0] < image(full).shape[0]


def drawn(calibration: Calibration, anchors: AnchorSet, linking: Linking) -> bytes:
    return plots.linking_scatter(calibration, anchors, linking, agree=linking.agrees(0.01))


def test_dropped_anchors_and_only_they_are_marked() -> None:
    calibration = fit(30)
    for moved in (0, 1, 6):
        anchors = anchors_of(calibration, moved)
        linking = link(calibration, anchors)
        assert len(linking.anchors_dropped) == moved
        assert (orange(drawn(calibration, anchors, linking)) > 20) == (moved > 0)


def test_anchors_in_use_that_moved_against_the_others_are_marked_and_named() -> None:
    calibration = fit(30)
    anchors = anchors_of(calibration)
    linking = link(calibration, anchors)
    one = {"delta_b": 0.5, "delta_a": 0.0, "z": 4.0, "parameter": "b"}
    told = replace(linking, suspects={"i3": one, "i4": one, "not in this fit": one})
    before, after = (drawn(calibration, anchors, k) for k in (linking, told))
    assert orange(before) == 0
    assert orange(after) > 20
    named = [np.count_nonzero((image(png)[60:, :450] < 0.3).all(axis=2)) for png in (before, after)]
    assert named[1] > named[0] + 10  # black letters in the panel of b


def test_a_linking_that_failed_can_still_be_drawn() -> None:
    calibration = fit(30)
    anchors = anchors_of(calibration, moved=10)
    partly = unestimated(calibration.select(np.arange(30) != 29), 28)
    with pytest.raises(LinkingError) as caught:
        link(partly, anchors)
    assert caught.value.linking is not None
    assert orange(drawn(partly, anchors, caught.value.linking)) > 100


@pytest.mark.filterwarnings("error")
def test_any_text_is_a_drawable_item_id() -> None:
    """Each is an item that all four pictures name: flagged, and an anchor that moved."""
    ids = ("x" * 500, "$x_1$", "$\\frac{", "emoji 😀", "項目", "'; drop", "", "line\nbreak")
    calibration = fit(40, flagged=tuple(range(len(ids))))
    odd = replace(calibration, item_ids=(*ids, *calibration.item_ids[len(ids) :]))
    image(plots.parameters_with_intervals(odd))
    image(plots.item_curves(odd, ids))
    anchors = anchors_of(fit(40), moved=len(ids))
    sound = replace(fit(40), item_ids=odd.item_ids)
    named = replace(anchors, item_ids=odd.item_ids)
    image(drawn(sound, named, link(sound, named)))


def test_markdown_holds_the_picture_and_a_harmless_alternative_text() -> None:
    png = plots.test_information(fit(5))
    text = plots.as_markdown(png, "information [math]")
    match = re.fullmatch(r"!\[information \(math\)\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)", text)
    assert match is not None
    assert base64.b64decode(match[1]) == png
