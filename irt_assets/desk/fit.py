"""`irt fit`: item parameters from a file of answers. No eligibility rules: what is given is fitted, or flagged."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from irt_assets.desk import Engine
from irt_assets.desk.files import Answers, write_whole
from irt_assets.desk.tables import parameter_csv
from irt_assets.engines import Calibrator
from irt_assets.engines.em import EmEngine
from irt_assets.psychometrics.models import Calibration, Floats, Model
from irt_assets.psychometrics.reliability import empirical_reliability
from irt_assets.psychometrics.scoring import Scores, eap
from resources.failures import PermanentFailure

ITEM_COLUMNS = (
    *("item", "a", "b", "c", "a_se", "b_se", "c_se"),
    *("n", "p_value", "infit", "outfit", "rmsd", "flags"),
)


@dataclass(frozen=True)
class Fit:
    """A calibration with what a report of it needs.

    Attributes:
        reliability: empirical, of EAP scores over the persons who answered an item that has parameters; NaN for fewer
            than two.
        seconds: that the engine took.
    """

    calibration: Calibration
    reliability: float
    seconds: float

    @property
    def reason(self) -> str:
        """Why the fit did not converge; empty where it did."""
        return self.calibration.convergence.reason

    def as_dict(self) -> dict[str, Any]:
        cal = self.calibration
        return {
            "model": cal.model,
            "engine": cal.engine,
            "engine_version": cal.engine_version,
            "converged": cal.convergence.converged,
            "iterations": cal.convergence.iterations,
            "loglik": number(cal.convergence.loglik),
            "aic": number(cal.aic),
            "bic": number(cal.bic),
            "n_persons": cal.n_persons,
            "n_items": cal.n_items,
            "n_responses": cal.n_responses,
            "items": self._items(),
            "latent": {"mean": number(cal.latent_mean), "sd": number(cal.latent_sd)},
            "reliability": number(self.reliability),
            "seconds": round(self.seconds, 3),
        }

    def _items(self) -> list[dict[str, Any]]:
        cal = self.calibration
        unknown = np.full(cal.n_items, np.nan)
        columns: dict[str, Floats] = {
            "a": cal.a,
            "b": cal.b,
            "c": cal.c,
            "a_se": cal.a_se,
            "b_se": cal.b_se,
            "c_se": np.where(cal.estimated & (cal.model != "3pl"), 0.0, np.nan),
            "infit": unknown,
            "outfit": unknown,
            "rmsd": unknown,
        }
        rows = []
        for j, item in enumerate(cal.item_ids):
            n = int(cal.n[j])
            row: dict[str, Any] = {name: number(values[j]) for name, values in columns.items()}
            row |= {"item": item, "n": n, "p_value": number(cal.n_correct[j] / n) if n else None}
            row["flags"] = [flag.value for flag in cal.flags[j]]
            rows.append({name: row[name] for name in ITEM_COLUMNS})
        return rows

    def write(self, folder: Path) -> None:
        """`params.csv` (a row per item) and `fit.json` (all of `as_dict`) in `folder`."""
        content = self.as_dict()
        write_whole(
            folder,
            {
                "params.csv": parameter_csv(content["items"], ITEM_COLUMNS),
                "fit.json": json.dumps(content, ensure_ascii=False, indent=2) + "\n",
            },
        )


def fit(answers: Answers, *, model: Model = "2pl", engine: Engine = "em") -> Fit:
    """Calibrates the items of a file.

    Raises PermanentFailure for an engine that is not there, and what the engine raises (PsychometricsError) where the
    answers cannot give a calibration at all. A fit that did not converge comes back with its reason.
    """
    calibrator = engine_named(engine)
    began = time.perf_counter()
    calibration = calibrator.calibrate(answers.responses, model=model, data_hash="")
    seconds = time.perf_counter() - began
    return Fit(calibration, _reliability(answers, calibration), seconds)


def engine_named(name: Engine) -> Calibrator:
    """The engine of that name; raises PermanentFailure that says how to get it where it is not there."""
    if name == "em":
        return EmEngine()
    if name not in get_args(Engine):
        raise PermanentFailure(f"no such engine: {name!r}; the engines are {', '.join(get_args(Engine))}")
    raise PermanentFailure(f"engine {name} is not part of this version of irt-assets; --engine em fits the same models")


def number(value: float) -> float | None:
    """For JSON and CSV: None for what is not a finite number."""
    value = float(value)
    return value if math.isfinite(value) else None


def _reliability(answers: Answers, cal: Calibration) -> float:
    """Of EAP scores under the latent distribution of the fit."""
    responses = answers.responses
    if not (cal.latent_sd > 0 and cal.estimated.any()):
        return math.nan
    scores = eap(responses, cal.a, cal.d, cal.c, mean=cal.latent_mean, sd=cal.latent_sd)
    informed = np.bincount(responses.person[cal.estimated[responses.item]], minlength=responses.n_persons) > 0
    return empirical_reliability(Scores(scores.theta[informed], scores.se[informed]))
