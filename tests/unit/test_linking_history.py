"""Linked months: gates on the agreement of anchors and on coverage of the bank, and the history of linkings."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest

from irt_assets.blocks.markdown import markdown
from irt_assets.calibration.linking_history import ANCHORS_SHOWN, LinkedMonth, history_plot, history_table
from irt_assets.gates.coverage import Bank, coverage_gaps, error_of_linking
from irt_assets.ledger.fit_spec import LinkingConstants
from irt_assets.scales.rules import Rules
from irt_psychometrics.items import Model
from irt_psychometrics.linking import link_to_anchors
from psychometrics_testbed.chart_parts import boxes, points
from psychometrics_testbed.linked_months import INTERCEPT, SLOPE, calibration, exact, month
from tests.helpers import fit_specs


def test_anchors_disagree_if_their_variation_exceeds_the_limit() -> None:
    """b of all anchors changes by N(0, .3²). No anchor is an outlier, so most are kept, and τ's lower limit exceeds
    .15."""
    rng = np.random.default_rng(12)
    new, anchors = month(rng, n_new=5000, n_old=5000)
    found = link_to_anchors(calibration(new.a, new.b + rng.normal(0, 0.3, new.n_items) / SLOPE, new.cov_ab), anchors)
    assert (found.share_kept >= 0.7, found.tau_low > 0.15) == (True, True)
    reason = LinkingConstants.from_linking(found).disagreement(Rules().publication)
    assert "from month to month beyond their errors, at least by 0." in reason


def test_gate_reports_too_few_anchors_if_only_six_of_ten_lie_on_a_line() -> None:
    new, anchors = exact(k=10)
    b = new.b.copy()
    b[:4] += [2.0, -2.5, 3.0, -3.5]
    found = link_to_anchors(calibration(new.a, b, new.cov_ab), anchors)
    assert set(found.suspects) == set(found.anchors_dropped) == {"item00", "item01", "item02", "item03"}
    assert (found.slope, found.intercept, found.share_kept) == pytest.approx((SLOPE, INTERCEPT, 0.6), abs=1e-6)
    reason = LinkingConstants.from_linking(found).disagreement(Rules().publication)
    assert reason.startswith(
        "only 6 anchors agree with each other, 60% of the anchors with enough responses; at least 5 and 70% are needed"
    )


COV = np.array([[0.05**2, 0.0005], [0.0005, 0.04**2]])
"""Covariance of slope and intercept. The error of slope·b + intercept is smallest at b = −0.2, and 0.10 at b = −2.05
and 1.65."""


def gaps(
    b: dict[str, float],
    topics: list[str | None],
    used: list[int],
    slope: float = 1.0,
    intercept: float = 0.0,
    times: float = 1.0,
    model: Model = "2pl",
) -> list[str]:
    """Gaps in the coverage of items i0, i1, … with these `topics` by those whose numbers are `used`.

    The constants have the covariance `times` COV.
    """
    errors = dict(zip(("slope_se", "intercept_se"), np.sqrt(times * np.diag(COV)), strict=True))
    changes = {"slope": slope, "intercept": intercept, "slope_intercept_cov": times * COV[0, 1], **errors}
    anchors = {"anchors_used": [f"i{k}" for k in used]}
    constants = LinkingConstants.from_json(fit_specs.CONSTANTS | changes | anchors, "fit")
    return coverage_gaps(constants, Bank({f"i{k}": topic for k, topic in enumerate(topics)}, b), model, 0.10)


def published_difficulties(low: float, high: float) -> dict[str, float]:
    """Return difficulties whose 10th and 90th percentiles are `low` and `high`."""
    return {f"i{k}": b for k, b in enumerate(np.linspace(low - (high - low) / 8, high + (high - low) / 8, 21))}


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (1.2, 0.5)])
def test_bank_is_covered_if_its_percentiles_are_placed_with_a_small_error(slope: float, intercept: float) -> None:
    """Difficulties of the bank are b = slope·b_fit + intercept, with b_fit of the fit."""
    low, high = (slope * b + intercept for b in (-2.05, 1.65))

    def gaps_between(low: float, high: float) -> list[str]:
        return gaps(published_difficulties(low, high), ["algebra"] * 2, [0, 1], slope, intercept)

    assert error_of_linking(slope, intercept, COV, [low, high]) == pytest.approx([0.1, 0.1], abs=1e-3)
    assert gaps_between(low + 0.01, high - 0.01) == []
    error = error_of_linking(slope, intercept, COV, [low - 0.5])[0]
    (gap,) = gaps_between(low - 0.5, high - 0.01)
    assert gap.startswith(f"the anchors used place b = {low - 0.5:.2f}, the 10th percentile of the published b, with")
    assert gap.endswith(f"standard error of {error:.2f}, limit 0.10")
    assert [gap.partition(", the ")[2][:15] for gap in gaps_between(low - 1, high + 1)] == [
        "10th percentile",
        "90th percentile",
    ]


def test_coverage_counts_the_slope_bias_of_a_3pl_as_an_error() -> None:
    """At b = −2 the errors of `COV` give .098. A slope that is off by .03 moves b by .06, so the error becomes .115."""
    b = published_difficulties(-2, 1)
    assert gaps(b, ["algebra"] * 2, [0, 1]) == []
    (gap,) = gaps(b, ["algebra"] * 2, [0, 1], model="3pl")
    assert gap.startswith("the anchors used place b = -2.00, the 10th percentile")
    assert gap.endswith("with a standard error of 0.11, limit 0.10")


def test_large_topics_with_fewer_than_two_anchors_are_listed() -> None:
    b = published_difficulties(-1, 1)
    # sets are 2 of 21 items, logic 1 of 21: both below a tenth
    assert gaps(b, ["algebra"] * 18 + ["sets", "sets", "logic"], [0, 1]) == []
    assert gaps(b, ["algebra"] * 5 + ["sets", "logic", None], [0, 1, 5, 7]) == [
        "fewer than 2 anchors used from these topics, each a tenth of the bank or more: logic (0), sets (1)"
    ]


def test_published_difficulties_that_are_not_finite_are_listed_and_ignored() -> None:
    b = published_difficulties(-1, 1) | {"lost": np.nan, "far": np.inf}
    named = "2 items are published with a b that is not a number: far, lost"
    assert gaps(b, [], []) == [named]
    assert len(gaps(b, [], [], times=9)) == 3
    assert gaps({}, [], []) == []


# -- the history of a scale's linking ----------------------------------------------------------------

CHANGES = {"slope": 1.05, "slope_se": 0.02, "intercept": -0.1, "intercept_se": 0.03, "anchors_used": ["k"] * 28}
CONSTANTS = LinkingConstants.from_json(fit_specs.CONSTANTS | CHANGES, "fit")
SOUND = LinkedMonth("2026-01", CONSTANTS)
FAILED = LinkedMonth("2026-03", error="anchors disagree")


def crosses(history: list[LinkedMonth]) -> list[tuple[float, float]]:
    """Return month and row of each cross of the plot."""
    below = history_plot(history).charts[-1]
    return sorted(at for part in points(below) for at in zip(part.xs, part.ys, strict=True))


def test_table_of_linkings_lists_the_newest_month_first_with_errors_and_anchors() -> None:
    history = [SOUND, replace(SOUND, month="2026-02", dropped=("k1", "k2"), unseen=3), FAILED]
    assert markdown(history_table(history)).splitlines()[2:] == [
        "| 2026-03 | not linked: anchors disagree | | | | |",
        "| 2026-02 | 1.050 ± 0.020 | −0.100 ± 0.030 | 28 | k1, k2 | 3 |",
        "| 2026-01 | 1.050 ± 0.020 | −0.100 ± 0.030 | 28 | none | 0 |",
    ]


def test_each_dropped_anchor_is_drawn_as_a_cross_in_its_month() -> None:
    later = replace(SOUND, month="2026-02", dropped=("k2", "k1"))
    histories = [SOUND], [SOUND, later], [replace(SOUND, dropped=("k1",)), later]
    assert [crosses(history) for history in histories] == [[], [(1, 0), (1, 1)], [(0, 0), (1, 0), (1, 1)]]


def test_month_that_was_not_linked_is_grey_in_every_chart() -> None:
    for chart in history_plot([SOUND, FAILED]).charts:
        (box,) = boxes(chart)
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
def test_plot_of_any_history_fits_its_pane(history: list[LinkedMonth]) -> None:
    picture = history_plot(history)
    assert ElementTree.fromstring(picture.to_svg()).get("width") == "900"
    assert len(picture.to_markdown("history")) < 150_000
