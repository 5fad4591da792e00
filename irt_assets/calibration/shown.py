"""What the assets show of a month: sentences, tables, plots, and numbers whose trend Dagster draws.

A long table is Markdown, which opens in a window of its own; a short one that programs read has rows (`rows_shown`).
What does not belong here: what is computed, and drawing (see `plots`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import dagster as dg
import numpy as np
import psycopg

from irt_assets.abilities.batch import ScaleAbilities
from irt_assets.calibration import plots
from irt_assets.calibration.linking_history import history_plot, history_table, read_history
from irt_assets.calibration.month import FitOutcome, LinkOutcome
from irt_assets.calibration.testlets import sentence
from irt_assets.charts.chart import Picture
from irt_assets.charts.svg import as_markdown
from irt_assets.common.dashboard_pages import month_page
from irt_assets.common.wording import listed
from irt_assets.gates.agreement import MonthAgreement
from irt_assets.gates.model_gates import MEASURES
from irt_assets.ledger.fit_spec import ComparedMisfit, Measures
from irt_assets.ledger.fitted_items import items_of_month
from irt_assets.ledger.steps import Step
from irt_assets.psychometrics.core.models import Calibration, Flag
from irt_assets.psychometrics.estimation.shape import Shape
from irt_assets.psychometrics.fit.measure import LIMITS
from irt_assets.psychometrics.linking.placement import Linking
from irt_assets.psychometrics.scoring.abilities import Scores
from irt_assets.psychometrics.scoring.reliability import empirical_reliability
from irt_assets.responses.scales import Scale, read_scales
from resources.cluster.relational import application
from resources.dagster_schema import rows_shown
from resources.markdown import escaped, markdown_table
from resources.postgres.database import Database

Metadata = dict[str, dg.MetadataValue]
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def plot(picture: Picture, alt: str) -> dg.MetadataValue:
    return dg.MetadataValue.md(as_markdown(picture, alt))


def numbers(scale_id: str, of: Mapping[str, float]) -> Metadata:
    """Numbers that the UI shows as trends; a value that is missing in a month is left out."""
    return {
        f"{name} ({scale_id})": dg.MetadataValue.float(float(f"{x:.6g}")) for name, x in of.items() if math.isfinite(x)
    }


def decide_in(dashboard_url: str | None, month: str) -> Metadata:
    """Where people decide on a month that is held or has proposals."""
    page = dashboard_url and dg.MetadataValue.url(month_page(dashboard_url, month))
    return {"decide in": page or dg.MetadataValue.text("the dashboard, or `irt release`")}


def fit_metadata(outcomes: Sequence[FitOutcome]) -> Metadata:
    metadata: Metadata = {
        "fits": dg.MetadataValue.md(_fit_table(outcomes)),
        "flagged items": dg.MetadataValue.md(_flag_table(outcomes)),
    }
    if any(o.summed for o in outcomes):
        metadata |= application()
    for o in outcomes:
        fit = o.calibration
        if fit is None:
            continue
        where = f"{o.scale_id}, {o.engine}"
        metadata[f"items ({where})"] = dg.MetadataValue.md(_estimates_table(fit))
        metadata |= numbers(
            where,
            {
                "learners": fit.n_persons,
                "items fitted": int(fit.estimated.sum()),
                "responses": fit.n_responses,
                "log-likelihood a response": fit.convergence.loglik / max(fit.n_responses, 1),
                "seconds": round(o.seconds, 1),
            },
        )
        if o.summed:
            metadata[f"laid out on Spark ({where})"] = dg.MetadataValue.text(o.summed)
        if o.sample is not None:
            metadata[f"fit statistics rest on ({where})"] = dg.MetadataValue.text(
                f"all learners: infit, outfit, RMSD and item-rest correlations; all others on {o.sample}"
            )
        if o.shape is not None:
            metadata[f"distribution of θ ({where})"] = dg.MetadataValue.text(o.shape.why)
            if o.shape.compared:
                metadata[f"models compared ({where})"] = dg.MetadataValue.md(comparison_table(o.shape))
        if o.misfit is not None and o.misfit.was_compared:
            label = f"misfit compared with {o.misfit.reference} ({where})"
            metadata[label] = dg.MetadataValue.md(misfit_table(o.misfit))
        if o.testlets is not None:
            metadata[f"testlets ({where})"] = dg.MetadataValue.text(sentence(o.testlets))
        shown = [i for i in list(_flagged(fit))[:9] if fit.estimated[fit.item_ids.index(i)]]
        if shown:
            metadata[f"plot: curves of flagged items ({where})"] = plot(
                plots.item_curves(fit, shown), "curves of flagged items"
            )
    return metadata


def misfit_table(compared: ComparedMisfit) -> str:
    """Each measure in the reference and in the month, what holds the month, and the items that go together for it."""

    def cell(measures: Measures, name: str) -> str:
        measure = getattr(measures, name, None)
        return "" if measure is None else f"{measure.value:.3f}"

    measured = compared.growth.measured()
    rows = [
        (
            *(MEASURES[name], cell(compared.before, name), cell(compared.now, name)),
            *(f"{growth.value:+.3f}", f"{growth.low:+.3f}", f"{LIMITS[name]:g}"),
        )
        for name, growth in measured.items()
    ]
    columns = ("measure", str(compared.reference), "month", "growth", "at least", "limit")
    lines = [markdown_table(columns, rows, numeric=columns[1:]), f"\non {compared.items} items that both have"]
    lines += [
        f"\n{MEASURES[name]}: {escaped(listed(items))} answer alike beyond ability"
        for name, items in compared.together.by_measure().items()
        if items and name in measured and measured[name].low > LIMITS[name]
    ]
    return "\n".join(lines)


def comparison_table(shape: Shape) -> str:
    """The fits that were compared, best BIC first."""
    rows = [
        (
            *(one.model.upper(), one.latent, f"{one.loglik:,.1f}", f"{one.n_parameters}", f"{one.aic:,.1f}"),
            f"{one.bic:,.1f}{'' if one.converged else ' (did not converge)'}",
        )
        for one in sorted(shape.compared, key=lambda one: one.bic)
    ]
    columns = ("model", "θ", "log L", "parameters", "AIC", "BIC")
    return markdown_table(columns, rows, numeric=columns[2:])


def _estimates_table(fit: Calibration) -> str:
    """Every item of a fit that is not linked yet: flagged ones first, then by difficulty."""
    order = sorted(range(fit.n_items), key=lambda j: (not fit.flags[j], not fit.estimated[j], fit.b[j]))
    rows = [
        (
            *(fit.item_ids[j], _with_error(fit.a[j], fit.a_se[j]), _with_error(fit.b[j], fit.b_se[j])),
            *(f"{int(fit.n[j]):,}", ", ".join(flag.value for flag in fit.flags[j])),
        )
        for j in order
    ]
    columns = ("item", "a ± SE", "b ± SE", "answers", "flags")
    return markdown_table(columns, rows, numeric=columns[1:4])


def _with_error(value: float | None, se: float | None) -> str:
    if value is None or not math.isfinite(value):
        return ""
    return f"{value:.2f} ± {'?' if se is None or not math.isfinite(se) else format(se, '.2f')}"


def _flagged(calibration: Calibration) -> dict[str, tuple[Flag, ...]]:
    return {item: flags for item, flags in zip(calibration.item_ids, calibration.flags, strict=True) if flags}


def _flag_table(outcomes: Sequence[FitOutcome]) -> str:
    rows = [
        (o.scale_id, item, "; ".join(f"{flag.value}: {flag.explanation}" for flag in flags))
        for o in outcomes
        if o.calibration is not None
        for item, flags in _flagged(o.calibration).items()
    ]
    more = [("", f"… and {len(rows) - 10} more", "")] if len(rows) > 10 else []
    return markdown_table(("scale", "item", "why"), [*rows[:10], *more]) if rows else "none"


def _fit_table(outcomes: Sequence[FitOutcome]) -> str:
    rows = []
    for o in outcomes:
        if o.calibration is None:
            rows.append((o.scale_id, o.engine, "", "", "", "", f"{o.error}", f"{o.seconds:.1f}"))
            continue
        f, c = o.calibration, o.calibration.convergence
        ended = f"after {c.iterations} iterations" if c.converged else f"no: {c.reason}"
        counts = f"{f.n_persons:,}", f"{f.estimated.sum()}", f"{f.n_responses:,}"
        rows.append((o.scale_id, o.engine, *counts, f"{c.loglik:,.1f}", ended, f"{o.seconds:.1f}"))
    columns = ("scale", "engine", "learners", "items", "responses", "log-likelihood", "converged", "s")
    return markdown_table(columns, rows, numeric=(*columns[2:6], "s"))


def link_metadata(outcomes: Sequence[LinkOutcome]) -> Metadata:
    columns = ("scale", "engine", "slope", "intercept", "anchors used", "dropped", "outcome")
    rows = []
    metadata: Metadata = {}
    for o in outcomes:
        if o.placed is None or o.placed.linking is None:
            rows.append((o.scale_id, o.engine, "", "", "", "", f"{o.error}"))
            continue
        k, linked = o.placed.linking, o.placed.linked
        dropped = ", ".join(k.anchors_dropped) or "none"
        constants = f"{k.slope:.3f} ± {k.slope_se:.3f}", f"{k.intercept:+.3f} ± {k.intercept_se:.3f}"
        outcome = "not linked" if o.error else "linked"
        rows.append((o.scale_id, o.engine, *constants, f"{len(k.anchors_used)}", dropped, outcome))
        if not o.own:
            continue
        if k.diagnosis:
            metadata[f"anchors that disagree ({o.scale_id})"] = dg.MetadataValue.text(k.diagnosis)
        if o.raw is not None and o.placed.anchors is not None:
            metadata[f"plot: linking ({o.scale_id})"] = plot(
                plots.linking_scatter(o.raw, o.placed.anchors, k, agree=o.placed.anchors_agree),
                "anchors against the month's estimates",
            )
        if linked is not None:
            metadata[f"plot: parameters ({o.scale_id})"] = plot(
                plots.parameters_with_intervals(linked), "parameters with 95 % intervals"
            )
            metadata[f"plot: test information ({o.scale_id})"] = plot(
                plots.test_information(linked), "test information"
            )
        metadata |= link_numbers(o.scale_id, k)
    return {"linking": dg.MetadataValue.md(markdown_table(columns, rows, numeric=columns[2:5]))} | metadata


def link_numbers(scale_id: str, k: Linking) -> Metadata:
    return numbers(
        scale_id,
        {
            "slope": k.slope,
            "slope SE": k.slope_se,
            "intercept": k.intercept,
            "intercept SE": k.intercept_se,
            "anchors used": len(k.anchors_used),
            "anchors left out": len(k.anchors_dropped),
            "RMSE of the anchors' curves": k.rmse,
            "Q": k.q,
            "p of Q": k.q_p,
        },
    )


def parameters_metadata(database: Database, month: str) -> Metadata:
    """The items of every scale with their fit, those held back or misfitting most first."""
    metadata: Metadata = {}
    with database.connect() as connection:
        for scale in read_scales(connection).values():
            rows = _linked_items(connection, scale, month)
            if rows:
                columns = ("item", "a ± SE", "b ± SE", "answers", "right", "infit", "outfit", "RMSD", "flags")
                table = markdown_table(columns, rows, numeric=columns[1:8])
                metadata[f"items ({scale.scale_id})"] = dg.MetadataValue.md(table)
    return metadata


def _linked_items(connection: psycopg.Connection, scale: Scale, month: str) -> list[tuple[str, ...]]:
    return [
        (
            *(item, _with_error(p["a"], p["a_se"]), _with_error(p["b"], p["b_se"]), f"{n:,}"),
            *("" if x is None else format(x, ".2f") for x in (right, infit, outfit)),
            *("" if rmsd is None else format(rmsd, ".3f"), ", ".join(flags or [])),
        )
        for item, p, n, right, infit, outfit, rmsd, flags in items_of_month(connection, scale, month)
    ]


def history_metadata(database: Database, month: str) -> Metadata:
    metadata: Metadata = {}
    with database.connect() as connection:
        for scale in read_scales(connection).values():
            history = read_history(connection, scale, month)
            if history:
                metadata[f"linking history ({scale.scale_id})"] = dg.MetadataValue.md(history_table(history))
                metadata[f"plot: linking history ({scale.scale_id})"] = plot(history_plot(history), "linking history")
    return metadata


def agreement_metadata(compared: Sequence[MonthAgreement]) -> Metadata:
    agreements = [f"{m.scale.scale_id}: {m.sentence}" if len(compared) > 1 else m.sentence for m in compared]
    rows: list[tuple[str, ...]] = []
    apart: list[tuple[str, ...]] = []
    metadata: Metadata = {}
    for month in compared:
        for pair in month.pairs:
            head = month.scale.scale_id, ", ".join(pair.engines)
            for name, of in (("b", pair.b), ("a", pair.a)):
                close = f"{of.correlation:.4f}", f"{of.rmsd:.3f}", f"{of.rms_apart:.2f}", f"{of.overlap:.0%}"
                rows.append((*head, f"{len(pair.item_ids)}", name, *close))
            apart += [
                (*head, d.item_id, d.parameter, f"{d.first:.3f}", f"{d.second:.3f}", f"{d.apart:.2f}")
                for d in pair.most_apart()
            ]
            alone = {engine: list(items) for engine, items in pair.only_one.items()}
            if alone:
                key = f"items that only one could estimate ({month.scale.scale_id}, {', '.join(pair.engines)})"
                metadata[key] = rows_shown(("engine", "items"), [(e, ", ".join(items)) for e, items in alone.items()])
            if pair.item_ids:
                name = f"{month.scale.scale_id}, {' and '.join(pair.engines)}"
                metadata[f"plot: agreement ({name})"] = plot(
                    plots.agreement_scatter(pair, month.scale.rules), f"parameters by {' and '.join(pair.engines)}"
                )
    if rows:
        measures = ("correlation", "RMSD", "all apart (SE)", "95 % intervals overlap")
        pairs = markdown_table(("scale", "engines", "items", "", *measures), rows, numeric=("items", *measures))
        values = ("first", "second", "apart (SE)")
        items_apart = markdown_table(("scale", "engines", "item", "parameter", *values), apart, numeric=values)
        metadata = {
            "pairs of engines": dg.MetadataValue.md(pairs),
            "items that differ most": dg.MetadataValue.md(items_apart),
        } | metadata
    return {"agreement": dg.MetadataValue.text("; ".join(agreements))} | metadata


def step_table(taken: dict[str, dict[str, Step]]) -> str:
    rows = [
        (s.scale_id, s.month, s.state, f"{s.n_published}", f"{s.n_proposed}", f"{s.n_held}", s.why)
        for steps in taken.values()
        for s in steps.values()
    ]
    columns = ("scale", "month", "state", "published", "proposed", "held back", "why")
    return markdown_table(columns, rows, numeric=columns[3:6])


def ability_metadata(measured: Sequence[ScaleAbilities]) -> Metadata:
    metadata: Metadata = {"abilities": dg.MetadataValue.md(ability_table(measured))}
    for m in measured:
        if len(m.theta) < 2:
            continue
        metadata |= numbers(
            m.scale_id,
            {
                "learners": len(m.theta),
                "mean θ": m.theta.mean(),
                "SD θ": m.theta.std(),
                "mean SE": m.se.mean(),
                "reliability": empirical_reliability(Scores(m.theta, m.se)),
            },
        )
        if m.testlet_sd is not None:
            metadata |= numbers(m.scale_id, {"SD of testlet effects": m.testlet_sd})
        metadata[f"plot: θ ({m.scale_id})"] = plot(plots.ability_histogram(m.theta, m.se), "distribution of θ")
    return metadata


def ability_table(measured: Sequence[ScaleAbilities]) -> str:
    measures = ("items in force", "learners", "mean θ", "SD θ", "mean SE", *(f"{q:.0%} below" for q in QUANTILES))
    rows = []
    for m in measured:
        if not len(m.theta):
            rows.append((m.scale_id, f"{m.n_published}", "0", *[""] * (len(measures) - 2), m.why))
            continue
        spread = f"{m.theta.mean():+.3f}", f"{m.theta.std():.3f}", f"{m.se.mean():.3f}"
        quantiles = (f"{x:+.2f}" for x in np.quantile(m.theta, QUANTILES))
        rows.append((m.scale_id, f"{m.n_published}", f"{len(m.theta):,}", *spread, *quantiles, ""))
    return markdown_table(("scale", *measures, ""), rows, numeric=measures)
