"""Abilities as metadata of assets: a table, numbers whose trend Dagster draws, and a chart of the distribution."""

from collections.abc import Sequence

import numpy as np

from irt_assets.abilities.batch import ScaleAbilities
from irt_assets.blocks import Figure, Table, table
from irt_assets.charts import histogram
from irt_assets.common.arrays import Floats
from irt_assets.common.metadata import Entry, Metadata, metadata
from irt_assets.common.wording import some_of
from irt_psychometrics.plots import Chart, Picture
from irt_psychometrics.scoring import Scores

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def ability_metadata(measured: Sequence[ScaleAbilities]) -> Metadata:
    several = [m for m in measured if len(m.theta) > 1]
    return metadata(
        {"abilities": ability_table(measured)}, ((m.scale_id, _ability_entries(m).items()) for m in several)
    )


def _ability_entries(m: ScaleAbilities) -> dict[str, Entry]:
    return {
        "learners": len(m.theta),
        "mean θ": m.theta.mean(),
        "SD θ": m.theta.std(),
        "mean SE": m.se.mean(),
        "reliability": Scores(m.theta, m.se).reliability,
        "SD of testlet effects": m.testlet_sd,
        "scores that the values in force lack": absent_scores(m),
        "plot: θ": Figure(ability_histogram(m.theta, m.se), alt="distribution of θ"),
    }


def absent_scores(measured: ScaleAbilities) -> str:
    """Describe answers that counted as a lower score than they had, with the remedy. Returns "" if all is well."""
    if not measured.absent:
        return ""
    named = some_of([f"{item} ({n:,})" for item, n in measured.absent.items()], 10)
    return (
        f"{sum(measured.absent.values()):,} answers have a score that nobody had given when their item was calibrated. "
        f"They count as the nearest lower score: {named}. Calibrate these items again (`irt release recalibrate`)"
    )


def ability_table(measured: Sequence[ScaleAbilities]) -> Table:
    formats = {"items in force": "", "learners": ",", "mean θ": "+.3f", "SD θ": ".3f", "mean SE": ".3f"}
    formats |= {f"{q:.0%} below": "+.2f" for q in QUANTILES}
    rows = []
    for m in measured:
        if len(m.theta):
            spread = m.theta.mean(), m.theta.std(), m.se.mean(), *np.quantile(m.theta, QUANTILES)
            rows.append((m.scale_id, m.n_published, len(m.theta), *spread, ""))
        else:
            rows.append((m.scale_id, m.n_published, 0, *[""] * (len(formats) - 2), m.why))
    return table(("scale", *formats, ""), rows, numbers=formats)


def ability_histogram(theta: Floats, se: Floats) -> Picture:
    """Draw a histogram of θ, and the median and the middle 90 % of its standard errors by θ."""
    edges = np.linspace(theta.min() - 1e-9, theta.max() + 1e-9, min(40, max(5, round(len(theta) ** 0.5))) + 1)
    distribution = histogram(theta, edges, "ability θ", "learners", "number of learners by θ", height=230)
    distribution.line([theta.mean()] * 2, distribution.y, "orange")
    groups = np.searchsorted(edges, theta) - 1
    quantiles = {k: np.quantile(se[groups == k], [0.05, 0.5, 0.95]) for k in np.unique(groups)}
    low, middle, high = zip(*quantiles.values(), strict=True)
    errors = Chart(
        distribution.x,
        (0.0, 1.08 * float(se.max())),
        "ability θ",
        "standard error of θ",
        "standard errors by θ",
        height=230,
    ).points([(edges[k] + edges[k + 1]) / 2 for k in quantiles], middle, low=low, high=high)
    return Picture(
        f"{len(theta):,} learners: mean θ {theta.mean():+.2f} (orange), SD {theta.std():.2f}, mean SE {se.mean():.2f}; "
        "right: the median SE, bars: the middle 90 %",
        [distribution, errors],
        2,
    )
