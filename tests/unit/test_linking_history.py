"""The history of a scale's linking, as a table and as a plot: any months, any anchors, any ids."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from irt_assets.blocks.markdown import markdown
from irt_assets.calibration.linking_history import ANCHORS_SHOWN, LinkedMonth, history_plot, history_table
from irt_assets.charts import svg
from irt_assets.charts.chart import Boxes, Points
from irt_assets.ledger.fit_spec import LinkingConstants
from tests.helpers import fit_specs

CHANGES = {"slope": 1.05, "slope_se": 0.02, "intercept": -0.1, "intercept_se": 0.03, "anchors_used": ["k"] * 28}
CONSTANTS = LinkingConstants.from_json(fit_specs.CONSTANTS | CHANGES, "fit")
SOUND = LinkedMonth("2026-01", CONSTANTS)
FAILED = LinkedMonth("2026-03", error="anchors disagree")


def crosses(history: list[LinkedMonth]) -> list[tuple[float, float]]:
    """Month and row of each."""
    below = history_plot(history).charts[-1]
    return sorted(at for part in below.parts if isinstance(part, Points) for at in zip(part.xs, part.ys, strict=True))


def test_the_table_has_the_newest_month_first_with_errors_and_names() -> None:
    history = [SOUND, replace(SOUND, month="2026-02", dropped=("k1", "k2"), unseen=3), FAILED]
    assert markdown(history_table(history)).splitlines()[2:] == [
        "| 2026-03 | not linked: anchors disagree | | | | |",
        "| 2026-02 | 1.050 ± 0.020 | -0.100 ± 0.030 | 28 | k1, k2 | 3 |",
        "| 2026-01 | 1.050 ± 0.020 | -0.100 ± 0.030 | 28 | none | 0 |",
    ]


def test_each_dropped_anchor_is_a_cross_in_its_month() -> None:
    later = replace(SOUND, month="2026-02", dropped=("k2", "k1"))
    assert crosses([SOUND]) == []
    assert crosses([SOUND, later]) == [(1, 0), (1, 1)]
    assert crosses([replace(SOUND, dropped=("k1",)), later]) == [(0, 0), (1, 0), (1, 1)]


def test_a_month_that_was_not_linked_is_grey_in_every_chart() -> None:
    for chart in history_plot([SOUND, FAILED]).charts:
        (box,) = [part for part in chart.parts if isinstance(part, Boxes)]
        assert (box.xs, box.right, box.pale) == ([1.6], [2.4], True)


@pytest.mark.parametrize(
    "history",
    [
        [],
        [SOUND],
        [FAILED],
        [SOUND, FAILED],
        [
            replace(
                SOUND, constants=CONSTANTS.model_copy(update={"slope_se": 0.0, "intercept_se": 0.0, "anchors_used": ()})
            )
        ],
        [replace(SOUND, month=f"{2024 + m // 12}-{m % 12 + 1:02d}") for m in range(0, 48, 2)],
        [replace(SOUND, dropped=tuple(f"$k_{j}^{{문항}}$" for j in range(3 * ANCHORS_SHOWN)))],
    ],
    ids=["none", "one", "only failed", "a gap", "the origin", "four years", "many anchors"],
)
def test_any_history_is_drawn_and_fits_its_pane(history: list[LinkedMonth]) -> None:
    picture = history_plot(history)
    assert ElementTree.fromstring(svg.image(picture)).get("width") == "900"
    assert len(svg.as_markdown(picture, "history")) < 150_000
