"""Blocks about simulated tests, for the Dagster UI and the page of a test (`reports.adaptive_blocks`)."""

from collections.abc import Mapping, Sequence
from typing import Any

from irt_assets.adaptive.simulations import TestSimulation
from irt_assets.blocks import Figure, Table, table
from irt_psychometrics.plots import Chart


def simulations_table(made: Sequence[TestSimulation]) -> Table:
    """Return a table with one row per simulated test."""
    formats = {"version": "", "RMSE": ".3f", "SE": ".3f", "length": ".1f", "largest exposure": ".0%", "passes": ".1%"}
    names = "rmse", "mean_se", "length", "max_exposure", "pass_rate"
    rows = [
        (each.scale_id, each.test_id, each.version, *map(each.summary.get, names), each.summary.get("why"))
        for each in made
    ]
    return table(("scale", "test", *formats, "why it cannot be given"), rows, numbers=formats)


def precision(summary: Mapping[str, Any]) -> Figure:
    """Draw the real and the reported error of θ, and the bias, by true θ."""
    found = summary["by_theta"]
    names = {"rmse": "real error (RMSE)", "mean_se": "reported standard error", "bias": "bias"}
    ends = Chart.ends_of(*(found[name] for name in names), [0.0])
    x = found["theta"]
    chart = Chart((x[0], x[-1]), ends, "true ability θ", "in units of θ", "Errors of θ by true ability.").level(0)
    for colour, (name, label) in zip(Chart.SERIES, names.items(), strict=False):
        chart.points(x, found[name], colour, label, joined=True)
    formats = {"simulated tests": ",", "θ": ".2f", **dict.fromkeys(names.values(), ".3f"), "items": ".1f"}
    columns = (found[name] for name in ("n", "theta", *names, "length"))
    numbers = table(
        [*formats], zip(*columns, strict=True), numbers=formats, caption="Tenths of the learners", small=True
    )
    return Figure(chart, "Errors of θ by true ability, in tenths of the simulated learners.", numbers=numbers)
