"""The history of a scale's linking, as a table and as a plot: any months, any anchors, any ids."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from matplotlib.image import imread

from irt_assets.calibration.linking_history import ANCHORS_SHOWN, LinkedMonth, history_plot, history_table

SOUND = LinkedMonth("2026-01", 1.05, 0.02, -0.1, 0.03, used=28)
FAILED = LinkedMonth("2026-03", error="anchors disagree")


def orange(png: bytes) -> int:
    """Pixels of the crosses' colour."""
    pixels = imread(io.BytesIO(png))
    return int(((abs(pixels[:, :, :3] - [0xD5 / 255, 0x5E / 255, 0.0])).max(axis=2) < 0.02).sum())


def test_the_table_has_the_newest_month_first_with_errors_and_names() -> None:
    history = [SOUND, replace(SOUND, month="2026-02", dropped=("k1", "k2"), unseen=3), FAILED]
    assert history_table(history).splitlines()[2:] == [
        "| 2026-03 | not linked: anchors disagree | | | | |",
        "| 2026-02 | 1.050 ± 0.020 | -0.100 ± 0.030 | 28 | k1, k2 | 3 |",
        "| 2026-01 | 1.050 ± 0.020 | -0.100 ± 0.030 | 28 | none | 0 |",
    ]


def test_each_dropped_anchor_is_a_cross_in_its_month() -> None:
    one = history_plot([SOUND, replace(SOUND, month="2026-02", dropped=("k1",))])
    two = history_plot([replace(SOUND, dropped=("k1",)), replace(SOUND, month="2026-02", dropped=("k1",))])
    assert orange(history_plot([SOUND])) == 0
    assert orange(two) == pytest.approx(2 * orange(one), rel=0.05)


@pytest.mark.parametrize(
    "history",
    [
        [],
        [SOUND],
        [FAILED],
        [SOUND, FAILED],
        [replace(SOUND, slope_se=0.0, intercept_se=0.0, used=0)],
        [replace(SOUND, month=f"{2024 + m // 12}-{m % 12 + 1:02d}") for m in range(0, 48, 2)],
        [replace(SOUND, dropped=tuple(f"$k_{j}^{{문항}}$" for j in range(3 * ANCHORS_SHOWN)))],
    ],
    ids=["none", "one", "only failed", "a gap", "the origin", "four years", "many anchors"],
)
def test_any_history_is_drawn_and_fits_its_pane(history: list[LinkedMonth]) -> None:
    png = history_plot(history)
    assert imread(io.BytesIO(png)).shape[1] == 900
    assert len(png) < 150_000
