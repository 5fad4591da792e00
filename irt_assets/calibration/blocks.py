"""Metadata of the assets of a month: sentences, tables, plots, and numbers whose trend Dagster plots.

Functions return blocks by name, which `common.metadata` converts for Dagster.
"""

from collections.abc import Iterator, Sequence

from irt_assets.blocks import DASH, Block, Cell, Details, Figure, Paragraph, Table, table, value_with_error
from irt_assets.calibration import plots
from irt_assets.calibration.linking_history import history_plot, history_table, read_history
from irt_assets.calibration.month import FitOutcome, LinkOutcome
from irt_assets.calibration.testlets import testlet_sentence
from irt_assets.common.metadata import Entry, Metadata, metadata
from irt_assets.common.wording import join_names, sentences_by_scale, with_capital, with_stop
from irt_assets.gates.advisory_checks import growth_in_words
from irt_assets.gates.agreement import MonthAgreement
from irt_assets.gates.model_gates import LIMITS, MEASURES
from irt_assets.ledger.fit_spec import ComparedMisfit, FitStatistics, Measures
from irt_assets.ledger.fitted_items import items_of_month
from irt_assets.ledger.steps import Step
from irt_assets.scales.scale import read_scales
from irt_psychometrics import Calibration
from irt_psychometrics.estimation import Shape
from irt_psychometrics.itemfit import WindowGrowth
from irt_psychometrics.items import ItemRow
from irt_psychometrics.linking import Linking
from resources.dagster_schema import row_table
from resources.postgres.database import Database

STATISTICS = ("p_value", "infit", "outfit", "rmsd")
GROWTH_CAPTION = "Growth within the month, in SDs of its learners"


def fit_metadata(outcomes: Sequence[FitOutcome]) -> Metadata:
    return metadata(
        {"fits": _fit_table(outcomes), "flagged items": _flag_table(outcomes)},
        ((f"{o.scale_id}, {o.engine}", _fit_entries(o, o.calibration)) for o in outcomes if o.calibration is not None),
    )


def _fit_entries(o: FitOutcome, fit: Calibration) -> Iterator[tuple[str, Entry]]:
    yield "items", _estimates_table(fit)
    yield "learners", fit.n_persons
    yield "items fitted", int(fit.estimated.sum())
    yield "responses", fit.n_responses
    yield "log-likelihood a response", fit.convergence.loglik / max(fit.n_responses, 1)
    yield "seconds", round(o.seconds, 1)
    yield "laid out on Spark", o.summed
    if o.spec.sample is not None:
        all_learners = "all learners: infit, outfit, RMSD and item-rest correlations"
        yield "fit statistics rest on", f"{all_learners}; all others on {o.spec.sample}"
    if o.spec.shape is not None:
        yield "distribution of θ", o.spec.shape.why
        if o.spec.shape.compared:
            yield "models compared", comparison_table(o.spec.shape)
    if o.spec.misfit is not None and o.spec.misfit.was_compared:
        yield f"misfit compared with {o.spec.misfit.reference}", tuple(misfit_blocks(o.spec.misfit))
    if o.spec.fit_statistics is not None and o.spec.fit_statistics.set.growth is not None:
        yield "growth within the month", tuple(growth_blocks(o.spec.fit_statistics, fit))
    if o.spec.testlets is not None:
        yield "testlets", testlet_sentence(o.spec.testlets)
    drawn = [i for i, flags in zip(fit.item_ids, fit.flags, strict=True) if flags][:9]
    drawn = [i for i in drawn if fit.estimated[fit.item_ids.index(i)]]
    if drawn:
        yield "plot: curves of flagged items", Figure(plots.item_curves(fit, drawn), alt="curves of flagged items")
    if o.observed:
        yield "plot: category curves", Figure(plots.category_curves(fit, o.observed), alt="category curves")


def misfit_blocks(compared: ComparedMisfit) -> Iterator[Block]:
    """Yield each misfit measure in the reference and in the month, and the items that depend on each other."""

    def value(measures: Measures, name: str) -> float | None:
        measure = getattr(measures, name, None)
        return None if measure is None else measure.value

    measured = compared.growth.known_measures()
    reference = str(compared.reference)
    formats = {reference: ".3f", "month": ".3f", "growth": "+.3f", "at least": "+.3f", "limit": "g"}
    yield table(
        ("measure", *formats),
        [
            (MEASURES[name], value(compared.before, name), value(compared.now, name))
            + (growth.value, growth.low, LIMITS[name])
            for name, growth in measured.items()
        ],
        numbers=formats,
    )
    yield Paragraph(f"on {compared.items} items that both have")
    for name, items in compared.together.by_measure().items():
        if items and name in measured and measured[name].low > LIMITS[name]:
            yield Paragraph(f"{MEASURES[name]}: {join_names(items)} answer alike beyond ability")


def growth_blocks(found: FitStatistics, fit: Calibration, most: int | None = None) -> Iterator[Block]:
    """Yield growth within the window, over all items and by item (largest |z| first, at most `most` items)."""
    growth = found.set.growth
    assert growth is not None
    if growth.r2 is None:
        yield Paragraph("No learner answered at two times.")
        return
    yield Paragraph(with_stop(with_capital(growth_in_words(growth))))
    weighted_rows: list[tuple[float, tuple[Cell, ...]]] = []
    columns = (found.items[name] for name in ("growth", "growth_se", "growth_days"))
    for item, n, estimate, se, days in zip(fit.item_ids, fit.n.tolist(), *columns, strict=True):
        if estimate is not None and se:
            z = estimate / se
            weighted_rows.append((abs(z), (item, n, days, value_with_error(estimate, se, sign=True), z)))
    rows = [row for _, row in sorted(weighted_rows, key=lambda weighted: -weighted[0])]
    if growth.estimate is not None and growth.se is not None:
        overall = value_with_error(growth.estimate, growth.se, sign=True)
        rows.insert(0, ("all items", fit.n_responses, None, overall, growth.z))
    per = f"growth in {WindowGrowth.PERIOD_DAYS:.0f} days ± SE"
    formats = {"answers": ",", "days since the first": ".1f", per: "", "z": ".1f"}
    shown = rows if most is None else rows[: most + 1]
    by_item = table(("item", *formats), shown, numbers=formats, caption=GROWTH_CAPTION)
    yield by_item if growth.outcome in ("grows", "declines") else Details("Single items, by chance alone", (by_item,))


def comparison_table(shape: Shape) -> Table:
    """Return a table of the compared fits, best BIC first."""
    rows = [
        (candidate.model.upper(), candidate.latent, candidate.loglik, candidate.n_parameters, candidate.aic)
        + (f"{candidate.bic:,.1f}{'' if candidate.converged else ' (did not converge)'}",)
        for candidate in sorted(shape.compared, key=lambda candidate: candidate.bic)
    ]
    formats = {"log L": ",.1f", "parameters": "", "AIC": ",.1f", "BIC": ""}
    return table(("model", "θ", *formats), rows, numbers=formats)


def _estimates_table(fit: Calibration) -> Table:
    """Return a table of the items of a fit before linking: flagged items first, then by difficulty."""
    order = sorted(range(fit.n_items), key=lambda j: (not fit.flags[j], not fit.estimated[j], fit.b[j]))
    scored = bool((fit.n_categories > 2).any())
    slopes = [
        ItemRow(a, b, a_se=se, further=fit.further_of(j)).comparable_slope
        for j, (a, b, se) in enumerate(zip(fit.a, fit.b, fit.a_se, strict=True))
    ]
    formats = (
        {"a ± SE": ""} | ({f"{ItemRow.WHOLE_SLOPE} ± SE": ""} if scored else {}) | {"b ± SE": "", "answers": ",.0f"}
    )
    rows = [
        (fit.item_ids[j], value_with_error(fit.a[j], fit.a_se[j]))
        + ((value_with_error(*slopes[j]),) if scored else ())
        + (value_with_error(fit.b[j], fit.b_se[j]), fit.n[j], ", ".join(flag.value for flag in fit.flags[j]))
        for j in order
    ]
    return table(("item", *formats, "flags"), rows, numbers=formats)


def _flag_table(outcomes: Sequence[FitOutcome]) -> Table:
    rows = [
        (o.scale_id, item, "; ".join(f"{flag.value}: {flag.explanation}" for flag in flags))
        for o in outcomes
        if o.calibration is not None
        for item, flags in zip(o.calibration.item_ids, o.calibration.flags, strict=True)
        if flags
    ]
    more = [("", f"… and {len(rows) - 10} more", "")] if len(rows) > 10 else []
    return table(("scale", "item", "why"), [*rows[:10], *more])


def _fit_table(outcomes: Sequence[FitOutcome]) -> Table:
    formats = {"learners": ",", "items": "", "responses": ",", "log-likelihood": ",.1f"}
    rows: list[tuple[Cell, ...]] = []
    for o in outcomes:
        if o.calibration is None:
            rows.append((o.scale_id, o.engine, *[""] * 4, f"{o.error}", o.seconds))
            continue
        f, c = o.calibration, o.calibration.convergence
        ended = f"after {c.iterations} iterations" if c.converged else f"no: {c.reason}"
        counts = f.n_persons, int(f.estimated.sum()), f.n_responses, c.loglik
        rows.append((o.scale_id, o.engine, *counts, ended, o.seconds))
    return table(("scale", "engine", *formats, "converged", "s"), rows, numbers=formats | {"s": ".1f"})


def link_metadata(outcomes: Sequence[LinkOutcome]) -> Metadata:
    return metadata({"linking": _linking_table(outcomes)}, ((o.scale_id, _link_entries(o)) for o in outcomes if o.own))


def _link_entries(o: LinkOutcome) -> Iterator[tuple[str, Entry]]:
    if o.placed is None or (linking := o.placed.linking) is None:
        return
    yield "anchors that disagree", linking.diagnosis
    if o.raw is not None and o.placed.anchors is not None:
        drawn = plots.linking_scatter(
            o.raw, o.placed.anchors, linking, agree=o.placed.used_agree, disagreement=o.placed.disagreement
        )
        yield "plot: linking", Figure(drawn, alt="anchors against the month's estimates")
    if (linked := o.placed.linked) is not None:
        parameters = plots.parameters_with_intervals(linked)
        yield "plot: parameters", Figure(parameters, alt="parameters with 95 % intervals")
        yield "plot: test information", Figure(plots.test_information(linked), alt="test information")
    yield from link_numbers(linking).items()


def link_numbers(linking: Linking) -> dict[str, Entry]:
    return {
        "slope": linking.slope,
        "slope SE": linking.slope_se,
        "intercept": linking.intercept,
        "intercept SE": linking.intercept_se,
        "anchors used": len(linking.anchors_used),
        "anchors left out": len(linking.anchors_dropped),
        "RMSE of the anchors' curves": linking.rmse,
        "Q": linking.q,
        "p of Q": linking.q_p,
        "τ of the anchors' b": linking.tau,
        "I²": linking.i2,
    }


def _linking_table(outcomes: Sequence[LinkOutcome]) -> Table:
    rows = []
    for o in outcomes:
        k = o.placed.linking if o.placed else None
        if k is None:
            rows.append((o.scale_id, o.engine, *[""] * 4, f"{o.error}"))
            continue
        constants = (
            value_with_error(k.slope, k.slope_se, 3),
            value_with_error(k.intercept, k.intercept_se, 3, sign=True),
        )
        dropped = ", ".join(k.anchors_dropped) or "none"
        rows.append(
            (o.scale_id, o.engine, *constants, f"{len(k.anchors_used)}", dropped)
            + ("not linked" if o.error else "linked",)
        )
    columns = ("scale", "engine", "slope", "intercept", "anchors used", "dropped", "outcome")
    return table(columns, rows, numbers=columns[2:5])


def parameters_metadata(database: Database, month: str) -> Metadata:
    """Tables of items with parameters and fit statistics by scale: most flags first, then largest RMSD."""
    formats = {"a ± SE": "", "b ± SE": "", "answers": ",", "right": ".2f", "infit": ".2f", "outfit": ".2f"}
    formats |= {"RMSD": ".3f"}
    found: dict[str, Entry] = {}
    with database.connect() as connection:
        for scale in read_scales(connection).values():
            rows = [
                (item, *_a_and_b(fitted.values), fitted.n, *(fitted.statistics[name] for name in STATISTICS))
                + (", ".join(fitted.flags),)
                for item, fitted in items_of_month(connection, scale, month).items()
            ]
            if rows:
                found[f"items ({scale.scale_id})"] = table(("item", *formats, "flags"), rows, numbers=formats)
    return metadata(found)


def _a_and_b(values: ItemRow | None) -> tuple[str, str]:
    return (
        (value_with_error(values.a, values.a_se), value_with_error(values.b, values.b_se)) if values else (DASH, DASH)
    )


def history_metadata(database: Database, month: str) -> Metadata:
    found: dict[str, Entry] = {}
    with database.connect() as connection:
        for scale_id, scale in read_scales(connection).items():
            if history := read_history(connection, scale, month):
                found[f"linking history ({scale_id})"] = history_table(history)
                found[f"plot: linking history ({scale_id})"] = Figure(history_plot(history), alt="linking history")
    return metadata(found)


def agreement_metadata(compared: Sequence[MonthAgreement]) -> Metadata:
    found: dict[str, Entry] = {
        "agreement": "; ".join(sentences_by_scale({m.scale.scale_id: m.sentence for m in compared})),
        **_agreement_tables(compared),
    }
    for month in compared:
        for pair in month.pairs:
            named, both = f"{month.scale.scale_id}, {', '.join(pair.engines)}", " and ".join(pair.engines)
            alone = [(engine, ", ".join(items)) for engine, items in pair.only_one.items()]
            if alone:
                found[f"items that only one could estimate ({named})"] = row_table(("engine", "items"), alone)
            if pair.item_ids:
                drawn = Figure(plots.agreement_scatter(pair, month.scale.rules), alt=f"parameters by {both}")
                found[f"plot: agreement ({month.scale.scale_id}, {both})"] = drawn
    return metadata(found)


def _agreement_tables(compared: Sequence[MonthAgreement]) -> dict[str, Table]:
    pairs = [(month.scale.scale_id, ", ".join(pair.engines), pair) for month in compared for pair in month.pairs]
    measures = {"correlation": ".4f", "RMSD": ".3f", "all apart (SE)": ".2f", "95 % intervals overlap": ".0%"}
    values = {"first": ".3f", "second": ".3f", "apart (SE)": ".2f"}
    if not pairs:
        return {}
    return {
        "pairs of engines": table(
            ("scale", "engines", "items", "", *measures),
            [
                (
                    scale,
                    engines,
                    len(pair.item_ids),
                    name,
                    measure.correlation,
                    measure.rmsd,
                    measure.rms_standardized,
                    measure.overlap,
                )
                for scale, engines, pair in pairs
                for name, measure in (("b", pair.b), ("a", pair.a))
            ],
            numbers={"items": ""} | measures,
        ),
        "items that differ most": table(
            ("scale", "engines", "item", "parameter", *values),
            [
                (scale, engines, d.item_id, d.parameter, d.first, d.second, d.apart)
                for scale, engines, pair in pairs
                for d in pair.largest_differences()
            ],
            numbers=values,
        ),
    }


def step_table(steps_by_scale: dict[str, dict[str, Step]]) -> Table:
    rows = [
        (s.scale_id, s.month, s.state, s.n_published, s.n_proposed, s.n_held, s.why)
        for steps in steps_by_scale.values()
        for s in steps.values()
    ]
    columns = ("scale", "month", "state", "published", "proposed", "held back", "why")
    return table(columns, rows, numbers=columns[3:6])
