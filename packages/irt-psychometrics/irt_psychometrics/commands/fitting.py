"""`fit`: item parameters from a file of answers."""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from irt_psychometrics.commands.answers import Answers
from irt_psychometrics.commands.output import Report, ReportTable, csv_of, rows_of, write_whole
from irt_psychometrics.commands.parameters import ParameterTable
from irt_psychometrics.core.arrays import finite
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import model_of, models_by_max_score
from irt_psychometrics.core.item_tables import T_COLUMNS
from irt_psychometrics.core.items import WHOLE_SLOPE
from irt_psychometrics.core.model_families import GRM
from irt_psychometrics.core.models import Calibration, Flag
from irt_psychometrics.core.nominal_model import NOMINAL
from irt_psychometrics.core.options import DEFAULT_MODEL, Latent, LatentRule, Model
from irt_psychometrics.core.program_forms import columns_of as columns_of_form, log_odds_of
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.wording import some_of
from irt_psychometrics.estimation import Normality, Shape, fit_em, normality
from irt_psychometrics.itemfit import ItemFit, item_fit
from irt_psychometrics.linking import AnchorSet
from irt_psychometrics.scoring import fitted_reliability

Calibrate = Callable[[Responses, Model | tuple[Model, ...], AnchorSet | None], Calibration]
"""A different engine: a function of responses, models and anchors that returns a calibration."""
ITEM_COLUMNS = (*("item", "a", "b", "c", "a_se", "b_se", "c_se"), *("n", "p_value", "infit", "outfit", "rmsd", "flags"))
LOOSE, LOOSE_WHY = "loose", "the answers hardly determine it: |b| is above 6, or SE(b) above 1"
MAX_SE = 1000.0
"""Larger standard errors are shown as unknown: they only mean that the answers do not determine the parameter."""
DOUBTFUL = 0.01
"""p value below which an assumption is reported as rejected."""


def columns_of(rows: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """`ITEM_COLUMNS`, and the columns of parameters that a model adds to a, b and c."""
    return tuple(dict.fromkeys(chain(ITEM_COLUMNS, *rows)))


def steps_and_log_odds(row: Mapping[str, Any]) -> dict[str, float]:
    """The steps b1, b2, … of a scored item that has all scores, and its log odds d1, d2, … against the lowest score.

    For a graded item these are thresholds and the log odds of at least each score; for a nominal item s of the inner
    scores and the log odds. Empty for other items.
    """
    if row.get("max_score") is None or not row["a"]:
        return {}
    if row["model"] == GRM.name:
        with suppress(PsychometricsError):  # the item lacks a score
            found = columns_of_form("steps", row) | columns_of_form("mirt", row)
            return {name: x for name, x in found.items() if name not in ("a", "a1")}
        return {}
    if row["model"] == NOMINAL.name:
        with suppress(PsychometricsError):  # the item lacks a score
            found = columns_of_form("mirt", row)
            given = ("a1", "ak0", "d0", f"ak{row['max_score']:g}")
            return {name.replace("ak", "s"): x for name, x in found.items() if name not in given}
        return {}
    log_odds = log_odds_of(row)
    steps = columns_of_form("steps", row) if len(log_odds) > row["max_score"] else {}
    return {name: x for name, x in steps.items() if name != "a"} | {f"d{k}": x for k, x in list(log_odds.items())[1:]}


@dataclass(frozen=True)
class FileFit:
    """A calibration with its fit statistics and tests.

    Attributes:
        answers: the answers that were fitted.
        calibration: the fit.
        item_fits: statistics of item fit; None if the fit did not converge, or if they are not defined for its model.
        reliability: empirical reliability of EAP scores over the persons who answered an item with parameters; NaN for
            fewer than two persons.
        normality: the test of normal abilities; None if it is not possible (another engine, groups, anchors, a Rasch
            model, no convergence, too many items) or was not made.
        shape: the choice of the distribution of θ; None if it is normal by default.
        seconds: computing time of the engine in seconds.
    """

    answers: Answers
    calibration: Calibration
    item_fits: ItemFit | None
    reliability: float
    normality: Normality | None
    shape: Shape | None
    seconds: float

    @property
    def reason(self) -> str:
        """The reason why the fit did not converge; empty if it did."""
        return self.calibration.convergence.reason

    def loose_items(self, max_abs_b: float = 6.0, max_b_se: float = 1.0) -> list[str]:
        """Items without a flag whose |b| or standard error of b exceeds these limits."""
        cal = self.calibration
        loose = (np.abs(cal.b) > max_abs_b) | (cal.b_se > max_b_se)
        return [cal.item_ids[j] for j in np.flatnonzero(loose) if not cal.flags[j]]

    @property
    def warnings(self) -> list[str]:
        """Sentence about items that the answers hardly determine, with advice that fits the model."""
        loose = self.loose_items()
        if not loose:
            return []
        simpler = "" if self.calibration.model in ("rasch", "1pl") else ", or use --model 1pl"
        message = (
            f"the answers hardly determine {len(loose)} of {self.calibration.n_items} items ({some_of(loose)}): |b| is"
            f" above 6, or SE(b) above 1, and other parameters may be as far off. Collect more answers{simpler}"
        )
        return [message]

    def as_dict(self) -> dict[str, Any]:
        cal = self.calibration
        result = {
            "model": cal.model,
            "engine": cal.engine,
            "engine_version": cal.engine_version,
            "converged": cal.convergence.converged,
            "iterations": cal.convergence.iterations,
            "loglik": finite(cal.convergence.loglik),
            "aic": finite(cal.aic),
            "bic": finite(cal.bic),
            "n_persons": cal.n_persons,
            "n_items": cal.n_items,
            "n_responses": cal.n_responses,
            "items": self._items(),
            "latent": {"mean": finite(cal.latent_mean), "sd": finite(cal.latent_sd)},
            "normality": None if self.normality is None else asdict(self.normality),
            "shape": None if self.shape is None else asdict(self.shape),
            "reliability": finite(self.reliability),
            "seconds": round(self.seconds, 3),
        }
        if len(cal.populations) > 1:
            result["groups"] = [
                {"group": group.name, "n_persons": group.n_persons}
                | {name: finite(getattr(group, name)) for name in ("mean", "sd", "mean_se", "sd_se")}
                for group in cal.populations
            ]
        return result

    def _items(self) -> list[dict[str, Any]]:
        cal, fits = self.calibration, self.item_fits
        unknown = np.full(cal.n_items, np.nan)
        columns = {
            "item": cal.item_ids,
            "a": cal.a,
            "b": cal.b,
            "c": cal.c,
            "a_se": cal.a_se,
            "b_se": cal.b_se,
            "c_se": cal.c_se,
            "n": cal.n,
            "p_value": cal.p_values,
            "infit": unknown if fits is None else fits.infit,
            "outfit": unknown if fits is None else fits.outfit,
            "rmsd": unknown if fits is None else fits.rmsd,
        }
        written = rows_of(cal.item_columns)
        rows, loose = [], self.loose_items()
        for j, row in enumerate(rows_of(columns)):
            flags = [flag.value for flag in cal.flags[j]] + [LOOSE] * (row["item"] in loose)
            row |= {"flags": flags, **cal.further_of(j)}
            row |= {name: x for name, x in written[j].items() if name not in row and x not in (None, "")}
            rows.append(row | steps_and_log_odds(row))
        return rows

    def report(self) -> Report:
        """Report on the items and the fit."""
        return _report(self.as_dict())

    def write(self, folder: Path) -> list[str]:
        """Write `params.csv` (a row for each item), `fit.json` (all of `as_dict`) and the tables of `fit_tables`.

        Returns sentences about tables that cannot be computed.
        """
        from irt_psychometrics.commands.fit_tables import fit_tables  # fits without a folder need no SciPy

        content = self.as_dict()
        tables, notes = fit_tables(self.answers, self.calibration, self.item_fits)
        write_whole(
            folder,
            {
                "params.csv": csv_of(content["items"], columns_of(content["items"])),
                "fit.json": json.dumps(content, ensure_ascii=False, indent=2) + "\n",
                **tables,
            },
        )
        return notes


def fit(
    answers: Answers,
    *,
    model: Model = DEFAULT_MODEL,
    calibrate: Calibrate | None = None,
    anchors: ParameterTable | None = None,
    groups: Sequence[str] | None = None,
    latent: LatentRule = "normal",
) -> FileFit:
    """Calibrate the items of a file by maximum marginal likelihood, or by a different engine.

    Parameters
    ----------
    answers
        The answers.
    model
        The model of items; scored items have the model of the same family for more than two scores.
    calibrate
        A different engine, which fits one population with normal abilities; None: maximum marginal likelihood.
    anchors
        Items that keep their parameters. The latent mean and SD are then estimated.
    groups
        A label for each person. Each group has its own mean and SD; the largest defines the origin of the scale.
    latent
        The distribution of θ: "normal", "histogram" or "auto". "auto" needs one population without anchors.

    Returns
    -------
    FileFit
        The calibration with its fit statistics. A fit that did not converge is returned with the reason.

    Raises
    ------
    PsychometricsError
        If a calibration of these answers is not possible.
    """
    known = None if anchors is None else anchors.anchors(anchors.item_ids, with_errors=bool(anchors.errors_known.all()))
    models = models_by_max_score(model, answers.responses.n_categories - 1)
    began = time.perf_counter()
    shape = None
    if latent != "normal":
        calibration, shape = _fit_with_shape(answers.responses, model, known, groups, latent)
    elif calibrate is None:
        calibration = fit_em(answers.responses, model=models, anchors=known, groups=groups)
    else:
        calibration = calibrate(answers.responses, models, known)
    seconds = time.perf_counter() - began
    item_fits = None
    if calibration.convergence.converged:
        item_fits = item_fit(answers.responses, calibration, groups=groups)
    reliability = fitted_reliability(answers.responses, calibration, groups=groups)
    tested = None if shape is None else shape.normality
    if shape is None and calibrate is None and calibration.convergence.converged:
        with suppress(PsychometricsError):
            tested = normality(answers.responses, calibration)
    return FileFit(answers, calibration, item_fits, reliability, tested, shape, seconds)


def _fit_with_shape(
    responses: Responses,
    model: Model,
    anchors: AnchorSet | None,
    groups: Sequence[str] | None,
    latent: LatentRule,
) -> tuple[Calibration, Shape]:
    if latent == "auto" and (anchors is not None or groups is not None):
        raise PsychometricsError(
            "--latent auto is for one population without anchors; use --latent histogram or normal"
        )

    def fit(some: Responses, model: Model, latent: Latent, **options: Any) -> Calibration:
        return fit_em(
            some,
            model=models_by_max_score(model, some.n_categories - 1),
            anchors=anchors,
            groups=groups,
            latent=latent,
            **options,
        )

    return Shape.fit(fit, responses, model, latent)


# -- the report ----------------------------------------------------------------------------------------------------


def _report(result: Mapping[str, Any]) -> Report:
    rows = result["items"]
    report: Report = [_item_table(rows)]
    for flag in dict.fromkeys(flag for row in rows for flag in row["flags"]):
        report.append(f"{flag}: {LOOSE_WHY if flag == LOOSE else Flag(flag).explanation}")
    report.append(
        f"{result['model']} by {result['engine']} {result['engine_version']}: {result['n_persons']:,} persons,"
        f" {result['n_items']:,} items, {result['n_responses']:,} responses; {result['iterations']} iterations,"
        f" {result['seconds']:.2f} s"
    )
    for group in result.get("groups", ()):
        report.append(
            f"group {group['group']}: {group['n_persons']:,} persons, θ mean {_number(group['mean'])} (SE"
            f" {_number(group['mean_se'])}), SD {_number(group['sd'])} (SE {_number(group['sd_se'])})"
        )
    latent, shape = result["latent"], result["shape"]
    histogram = shape is not None and shape["latent"] == "histogram"
    of_theta = ("θ with mean {}, SD {}" if histogram else "θ ~ N({}, {}²)").format(
        _number(latent["mean"]), _number(latent["sd"])
    )
    report.append(
        f"log-likelihood {_number(result['loglik'])}, AIC {_number(result['aic'])}, BIC {_number(result['bic'])};"
        f" {of_theta}, reliability {_number(result['reliability'])}"
    )
    return report + _theta_report(result)


def _item_table(items: Sequence[Mapping[str, Any]]) -> ReportTable:
    columns = [("a", "a"), ("SE", "a_se"), ("b", "b"), ("SE", "b_se")]
    if any(_points_of_slope(row) > 1 for row in items):
        columns.insert(2, (WHOLE_SLOPE, WHOLE_SLOPE))
    if any(row["c"] for row in items):
        columns += [("c", "c"), ("SE", "c_se")]
    columns += _columns_of_models(items)
    columns += [("p", "p_value"), ("infit", "infit"), ("outfit", "outfit"), ("RMSD", "rmsd")]
    rows = [
        (row["item"], row["n"], *(_shown(name, row.get(name)) for _, name in columns), ", ".join(row["flags"]))
        for row in ({**row, WHOLE_SLOPE: row["a"] and row["a"] * _points_of_slope(row)} for row in items)
    ]
    headings = [heading for heading, _ in columns]
    return ReportTable(
        ("item", "n", *headings, ""), rows, {"n": ","} | dict.fromkeys(headings, ".3f") | {"max_score": ".0f"}
    )


def _points_of_slope(row: Mapping[str, Any]) -> float:
    """Return the number by which an item's a is multiplied for comparison with the a of 0/1 items."""
    return row.get("max_score", 1) if row.get("model") not in (GRM.name, NOMINAL.name) else 1


def _columns_of_models(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Headings and columns of the parameters that a model adds to a, b and c.

    For scored items these are the steps with their errors, and the log odds, which are equivalent to t.
    """
    of_scores = list(dict.fromkeys(name for row in rows for name in steps_and_log_odds(row)))
    further = columns_of(rows)[len(ITEM_COLUMNS) :]
    errors = {name: f"{name}_se" for name in of_scores if f"{name}_se" in further}
    hidden = {"model", *T_COLUMNS, *of_scores, *errors.values()}
    found = [(name, name) for name in further if name not in hidden and not name.startswith("cov_")]
    for name in sorted(of_scores, key=lambda name: (name[0], int(name[1:]))):
        found += [(name, name)] + ([("SE", errors[name])] if name in errors else [])
    return found


def _shown(name: str, value: float | None) -> float | None:
    return None if name.endswith("_se") and value is not None and value > MAX_SE else value


def _theta_report(result: Mapping[str, Any]) -> Report:
    """Report the distribution of θ that was chosen, or that the test rejects a normal distribution."""
    shape, tested = result["shape"], result["normality"]
    if shape is not None:
        report: Report = [shape["why"]]
        if shape["compared"]:
            names = ("model", "latent", "loglik", "n_parameters", "aic", "bic")
            rows = [tuple(one[name] for name in names) for one in sorted(shape["compared"], key=lambda one: one["bic"])]
            formats = {"log-likelihood": ".3f", "parameters": "", "AIC": ".3f", "BIC": ".3f"}
            report.append(ReportTable(("model", "θ", *formats), rows, formats))
        return report
    if tested is None or tested["p"] >= DOUBTFUL:
        return []
    guessed = "" if model_of(result["model"]).has_parameter("c") else ", or items are guessed"
    rejected = (
        f"θ is not normal under this model (score test: χ²(2) = {tested['statistic']:.1f}, p ="
        f" {tested['p']:.1g}): {_describe_shape(tested)}{guessed}. Parameters are"
        " biased in this case: use --latent auto, which compares models and uses a histogram of θ if necessary"
    )
    return [rejected]


def _describe_shape(normality: Mapping[str, float]) -> str:
    skewness, kurtosis = normality["skewness_z"], normality["kurtosis_z"]
    if abs(skewness) >= abs(kurtosis):
        return f"abilities are skewed to the {'right' if skewness > 0 else 'left'}"
    return f"abilities have {'heavier' if kurtosis > 0 else 'lighter'} tails"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
