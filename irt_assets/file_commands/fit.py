"""`irt fit`: item parameters from a file of answers. No eligibility rules: every answer is used."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from irt_assets.common.arrays import Floats
from irt_assets.engines import Calibrator
from irt_assets.engines.registry import DEFAULT, spec_of
from irt_assets.file_commands.files import Answers, write_whole
from irt_assets.file_commands.tables import ParameterTable, parameter_csv
from irt_assets.responses.eligibility.rules import PublicationRules
from irt_psychometrics import Calibration, PsychometricsError, Responses
from irt_psychometrics.estimation import (
    Latent,
    LatentRule,
    Normality,
    Population,
    Shape,
    fit_em,
    fit_with_shape,
    normality,
)
from irt_psychometrics.itemfit import ItemFit, item_fit
from irt_psychometrics.items import DEFAULT_MODEL, Model, finite, item_model, log_odds_of
from irt_psychometrics.items import columns_of as columns_of_form
from irt_psychometrics.linking import AnchorSet
from irt_psychometrics.scoring import fitted_reliability
from resources.failures import PermanentFailure

ITEM_COLUMNS = (*("item", "a", "b", "c", "a_se", "b_se", "c_se"), *("n", "p_value", "infit", "outfit", "rmsd", "flags"))


def columns_of(rows: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """`ITEM_COLUMNS`, and those of the parameters that a model adds to a, b and c."""
    return tuple(dict.fromkeys(chain(ITEM_COLUMNS, *rows)))


def steps_and_log_odds(row: Mapping[str, Any]) -> dict[str, float]:
    """The steps b1, b2, … of a scored item, if it has all scores, and the log odds d1, d2, … of each score against its
    lowest; nothing of other items."""
    if row.get("max_score") is None or not row["a"]:
        return {}
    log_odds = log_odds_of(row)
    steps = columns_of_form("steps", row) if len(log_odds) > row["max_score"] else {}
    return {name: x for name, x in steps.items() if name != "a"} | {f"d{k}": x for k, x in list(log_odds.items())[1:]}


@dataclass(frozen=True)
class Fit:
    """A calibration with what a report of it needs.

    Attributes:
        item_fits: None where the fit did not converge, or its model has curves that a, b and c do not make up.
        reliability: empirical, of EAP scores over the persons who answered an item that has parameters; NaN for fewer
            than two.
        normality: the test of normal abilities; None where it cannot be made (another engine, groups, anchors, a Rasch
            model, no convergence, too many items) or was not asked for.
        shape: what was taken for the distribution of θ, where that was chosen; None where it is normal by default.
        seconds: that the engine took.
    """

    calibration: Calibration
    item_fits: ItemFit | None
    reliability: float
    normality: Normality | None
    shape: Shape | None
    seconds: float

    @property
    def reason(self) -> str:
        """Why the fit did not converge; empty where it did."""
        return self.calibration.convergence.reason

    @property
    def loose_items(self) -> list[str]:
        """Items without a flag whose difficulty is beyond the limits of a month, so that it would not publish them."""
        cal, limits = self.calibration, PublicationRules()
        loose = (np.abs(cal.b) > limits.max_abs_b) | (cal.b_se > limits.max_b_se)
        return [cal.item_ids[j] for j in np.flatnonzero(loose) if not cal.flags[j]]

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
            result["groups"] = [_group(population) for population in cal.populations]
        return result

    def _items(self) -> list[dict[str, Any]]:
        cal = self.calibration
        unknown = np.full(cal.n_items, np.nan)
        fits = self.item_fits
        columns: dict[str, Floats] = {
            "a": cal.a,
            "b": cal.b,
            "c": cal.c,
            "a_se": cal.a_se,
            "b_se": cal.b_se,
            "c_se": cal.c_se,
            "infit": unknown if fits is None else fits.infit,
            "outfit": unknown if fits is None else fits.outfit,
            "rmsd": unknown if fits is None else fits.rmsd,
        }
        rows, p_values = [], cal.p_values
        for j, item in enumerate(cal.item_ids):
            n = int(cal.n[j])
            row: dict[str, Any] = {name: finite(values[j]) for name, values in columns.items()}
            row |= {"item": item, "n": n, "p_value": finite(p_values[j])}
            row["flags"] = [flag.value for flag in cal.flags[j]]
            row = {name: row[name] for name in ITEM_COLUMNS} | cal.further_of(j)
            rows.append(row | steps_and_log_odds(row))
        return rows

    def write(self, folder: Path) -> None:
        """`params.csv` (a row per item) and `fit.json` (all of `as_dict`) in `folder`."""
        content = self.as_dict()
        write_whole(
            folder,
            {
                "params.csv": parameter_csv(content["items"], columns_of(content["items"])),
                "fit.json": json.dumps(content, ensure_ascii=False, indent=2) + "\n",
            },
        )


def fit(
    answers: Answers,
    *,
    model: Model = DEFAULT_MODEL,
    engine: Calibrator | None = None,
    anchors: ParameterTable | None = None,
    groups: Sequence[str] | None = None,
    latent: LatentRule = "normal",
) -> Fit:
    """Calibrates the items of a file, by `engine` (None: em).

    `latent`: the distribution of θ; a histogram needs engine em, auto one population without anchors, too.
    `anchors`: items that keep their parameters; the latent mean and SD are then estimated. `groups`: one label per
    person; each group has its own mean and SD, but the first in sorted order stands at the scale's origin.

    Raises PermanentFailure for an engine that cannot do this, and what the engine raises
    (PsychometricsError) where the answers cannot give a calibration at all. A fit that did not converge comes back
    with its reason.
    """
    known = None
    if anchors is not None:
        complete = bool(np.isfinite([anchors.a_se, anchors.b_se]).all())
        known = anchors.anchors(anchors.item_ids, with_errors=complete)
    models = models_of(answers.responses, model)
    if engine is not None and answers.responses.categories is not None and not spec_of(engine.name).scored:
        raise PermanentFailure(f"engine {engine.name} does not support items scored above 1: take em or mirt")
    began = time.perf_counter()
    shape = None
    if latent != "normal":
        calibration, shape = _fit_with_shape(answers.responses, model, engine, known, groups, latent)
    elif engine is None:
        calibration = fit_em(answers.responses, model=models, anchors=known, groups=groups)
    elif groups is not None:
        raise PermanentFailure(f"engine {engine.name} fits one population; for --groups take --engine {DEFAULT}")
    else:
        calibration = engine.calibrate(answers.responses, model=models, data_hash="", anchors=known)
    seconds = time.perf_counter() - began
    item_fits, of = None, calibration.item_model
    if calibration.convergence.converged and (of.logistic or not of.two_categories):
        item_fits = item_fit(answers.responses, calibration, groups=groups)
    reliability = fitted_reliability(answers.responses, calibration, groups=groups)
    tested = _normality(answers.responses, calibration) if shape is None else shape.normality
    return Fit(calibration, item_fits, reliability, tested, shape, seconds)


def models_of(responses: Responses, model: Model) -> Model | tuple[Model, ...]:
    """The model of every item where `model` is that of 0/1 and scored items alike, else of each."""
    if responses.categories is None and item_model(model).two_categories:
        return model
    of = [item_model(model).of_max_score(int(m)).name for m in responses.n_categories - 1]
    return of[0] if len(set(of)) == 1 else tuple(of)


def _normality(responses: Responses, calibration: Calibration) -> Normality | None:
    if calibration.engine != DEFAULT or not calibration.convergence.converged:
        return None
    try:
        return normality(responses, calibration)
    except PsychometricsError:
        return None


def _fit_with_shape(
    responses: Responses,
    model: Model,
    engine: Calibrator | None,
    anchors: AnchorSet | None,
    groups: Sequence[str] | None,
    latent: LatentRule,
) -> tuple[Calibration, Shape]:
    if engine is not None:
        raise PermanentFailure(f"engine {engine.name} takes θ as normal; for --latent {latent} take --engine {DEFAULT}")
    if latent == "auto" and (anchors is not None or groups is not None):
        raise PermanentFailure("--latent auto judges one population without anchors; name --latent histogram or normal")

    def fit(some: Responses, model: Model, latent: Latent, **how: Any) -> Calibration:
        return fit_em(some, model=models_of(some, model), anchors=anchors, groups=groups, latent=latent, **how)

    return fit_with_shape(fit, responses, model, latent)


def _group(population: Population) -> dict[str, Any]:
    values = ("mean", "sd", "mean_se", "sd_se")
    numbers = {name: finite(getattr(population, name)) for name in values}
    return {"group": population.name, "n_persons": population.n_persons, **numbers}
